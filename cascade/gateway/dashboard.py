"""The dashboard at the gateway: who may see it, and what `cascade dashboard` serves without a gateway.

Where there are keys, a login takes one of them; its session is held in the gateway's state, so that all workers know it. Without keys the
pages are for this machine alone, and read-only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra
from cascade.core.policy import Policy
from cascade.dashboard.access import Attempts, KeyHolder, Sessions, Viewer
from cascade.dashboard.app import COOKIE, Dashboard, Settings, is_dashboard
from cascade.dashboard.forms import Refused
from cascade.dashboard.pages.frame import Frame
from cascade.dashboard.pages.rendering import render
from cascade.gateway.callers import CONNECTION
from cascade.gateway.keys.values import Key
from cascade.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from cascade.gateway.hub import Hub

__all__ = ["DashboardEndpoint", "GatewayDoor", "OpenDoor", "asks_for_page", "gateway_dashboard"]

_WHY_NOT = "Without keys nobody has logged in, so modes are switched by the command (or make a key: cascade serve keys create)."


def asks_for_page(scope: Scope) -> bool:
    """Whether a request is for the dashboard: of `/` and `/dashboard` only a browser's is."""
    path: str = scope["path"]
    if path not in ("/", "/dashboard") and not path.startswith("/dashboard/"):
        return False
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    return is_dashboard(path, scope["method"], accept)


class OpenDoor:
    """Everybody may see the pages, and nobody may switch anything: for loopback."""

    async def viewer(self, request: Request) -> Viewer | None:  # noqa: ARG002 - as Door
        """Anybody."""
        return Viewer()

    async def log_in(self, key: str, place: str) -> str | None:  # noqa: ARG002
        """There are no keys."""
        return None

    async def log_out(self, session: str) -> None:
        """There are no sessions."""


class GatewayDoor:
    """The gateway's keys: as a login, or with each request as the API takes them (which may see, and not switch)."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._sessions = Sessions(hub.state, lambda number: _holder(_active(hub, number)))
        self._attempts = Attempts(hub.clocks.clock)

    async def viewer(self, request: Request) -> Viewer | None:
        """Who asks."""
        hub = self._hub
        if hub.keys.is_empty:
            return Viewer()
        token = request.cookies.get(COOKIE, "")
        found = await hub.blocking(lambda: self._sessions.find(token)) if token else None
        if found is not None:
            return found
        sent = request.headers.get("x-cascade-key") or _credential(request)
        holder = _holder(hub.keys.find(sent)) if sent else None
        return None if holder is None else Viewer(holder.name, holder.policy)

    async def log_in(self, key: str, place: str) -> str | None:
        """Begin a session. Raises Refused after too many attempts from there."""
        wait = self._attempts.wait_s(place)
        if wait > 0:
            seconds = math.ceil(wait)
            text = f"Too many attempts: try again in {seconds} seconds."
            raise Refused(429, "Too many attempts", text, {"retry-after": str(seconds)})
        holder = _holder(self._hub.keys.find(key))
        if holder is None:
            self._attempts.failed(place)
            return None
        session = await self._hub.blocking(lambda: self._sessions.begin(holder))
        return session.token

    async def log_out(self, session: str) -> None:
        """End a session."""
        await self._hub.blocking(lambda: self._sessions.end(session))


class DashboardEndpoint:
    """The ASGI application of `/` and `/dashboard/…`. Its open streams end as soon as the server does. `elsewhere`: what is said of other paths."""

    def __init__(self, make: Callable[[], Dashboard], elsewhere: str) -> None:
        self._make, self._elsewhere = make, elsewhere
        self._dashboard: Dashboard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not asks_for_page(scope):
            raise Problem(404, self._elsewhere)
        if self._dashboard is None:
            try:
                self._dashboard = self._make()
            except MissingExtra as problem:
                raise Problem(404, str(problem)) from None
        connection: Any = scope.get("extensions", {}).get(CONNECTION)
        if connection is not None:
            connection.on_shutdown = self._dashboard.streams.end
        await self._dashboard(scope, receive, send)

    def close(self) -> None:
        """Begin nothing new."""
        if self._dashboard is not None:
            self._dashboard.close()


def gateway_dashboard(hub: Hub) -> Dashboard:
    """The gateway's dashboard, over the ledger that it writes. Raises Problem if there is none, MissingExtra without jinja2."""
    from cascade.dashboard.figures import LedgerSource  # noqa: PLC0415 - loads what reports need

    if hub.settings.ledger == "off":
        raise Problem(404, "there is no dashboard without a ledger (the gateway was started with --ledger off)")
    render("problem", Frame("", 0.0), title="", text="")  # what it needs is installed, or that is said now

    def policies() -> Sequence[Policy]:
        return [one.loaded.policy for one in hub.policies.served.values()]

    source = LedgerSource(hub.settings.ledger, policies, now=hub.clocks.wall)
    settings = Settings(why_not=_WHY_NOT, wall=hub.clocks.wall, clock=hub.clocks.clock)
    return Dashboard(source, GatewayDoor(hub), settings)


def _holder(key: Key | None) -> KeyHolder | None:
    return None if key is None else KeyHolder(key.id, key.name, key.policy or "")


def _active(hub: Hub, number: str) -> Key | None:
    return next((key for key in hub.keys.all() if key.id == number and key.revoked is None), None)


def _credential(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
