"""The routes of the dashboard: an ASGI application for `/` and `/dashboard/…`, at the gateway and by `cascade dashboard`.

Every page is made in a thread (`reading`); what a browser may do with it is said in its headers: no script or style but the dashboard's own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from cascade.core.errors import CascadeError, LedgerError
from cascade.dashboard.access import Viewer
from cascade.dashboard.choosing import read_choice
from cascade.dashboard.forms import Refused, check_origin, page_address, read_form, wants_page
from cascade.dashboard.pages.frame import Choice, Frame
from cascade.dashboard.pages.rendering import asset, render
from cascade.dashboard.reading import Busy, Reading
from cascade.dashboard.source import Source
from cascade.dashboard.streams import FullHouse, Streams
from cascade.dashboard.switching import WORDS, ask, modes_of, switch
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import Receive, Scope, Send

__all__ = ["COOKIE", "Dashboard", "Door", "Settings", "is_dashboard"]

COOKIE: Final = "cascade_session"

_SAFE: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with less, forms would not say where they come from
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_BUCKET_S: Final = 900
_FRONT: Final = ("/", "/dashboard")


class Door(Protocol):
    """Who may come in."""

    async def viewer(self, request: Request) -> Viewer | None:
        """Who asks; None: they have to log in."""
        ...

    async def log_in(self, key: str, place: str) -> str | None:
        """Begin a session, and return what its cookie holds; None: it is no key. Raises Refused for too many attempts from there."""
        ...

    async def log_out(self, session: str) -> None:
        """End a session."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """`default`: the period that is shown first. `why_not`: why modes cannot be switched here. `wall`, `clock`: Unix seconds; seconds from any origin."""

    default: str = "24h"
    why_not: str = ""
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    look_s: float = 2.0


def is_dashboard(path: str, method: str, accept: str) -> bool:
    """Whether a request is for a page, and not for the API: at `/` and `/dashboard` only a browser's."""
    if path.startswith("/dashboard/"):
        return True
    return path in _FRONT and method in ("GET", "HEAD") and wants_page(accept)


class Dashboard:
    """The application. Belongs to one event loop; `ended` has what is called when a stream's connection is to end."""

    def __init__(self, source: Source, door: Door, settings: Settings | None = None) -> None:
        self._source, self._door, self._settings = source, door, settings or Settings()
        self._reading = Reading(self._settings.clock)
        self.streams = Streams(self._look, look_s=self._settings.look_s)
        self._pages: Mapping[tuple[str, str], Callable[[Request, Viewer], Awaitable[Response]]] = {
            ("GET", "/"): self._overview,
            ("GET", "/dashboard/model"): self._model,
            ("GET", "/dashboard/request"): self._request,
            ("GET", "/dashboard/modes"): self._modes,
            ("GET", "/dashboard/mode"): self._confirm,
            ("POST", "/dashboard/mode"): self._switch,
            ("POST", "/dashboard/logout"): self._log_out,
            ("GET", "/dashboard/events"): self._events,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = await self._problem(refused.status, refused.title, str(refused))
            response.headers.update(refused.headers)
        except Busy as busy:
            response = await self._problem(503, "The ledger is slow", f"{busy} (load the page again in a moment)")
        except LedgerError as error:
            response = await self._problem(503, "The ledger cannot be read", str(error))
        except CascadeError as error:
            response = await self._problem(400, "This cannot be shown", str(error))
        for name, value in _SAFE.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    def close(self) -> None:
        """Begin nothing new."""
        self._reading.close()

    async def _answer(self, request: Request) -> Response:
        path, method = request.url.path, "GET" if request.method == "HEAD" else request.method
        if path.startswith("/dashboard/static/") and method == "GET":
            return _static(path.rpartition("/")[2], request.url.query)
        if path in ("/dashboard", "/dashboard/") and method == "GET":
            return RedirectResponse("/", 303)
        if path == "/dashboard/login" and method in ("GET", "POST"):
            return await self._log_in(request) if method == "POST" else await self._ask_key(request)
        served = [one for one, at in self._pages if at == path] or ["GET", "POST"] * (path == "/dashboard/login")
        if not served:
            raise Refused(404, "Not found", "There is no such page.")
        if method not in served or (path == "/dashboard/events" and request.method == "HEAD"):
            raise Refused(405, "Not here", f"{method} is not served here.", {"allow": ", ".join(served)})
        viewer = await self._door.viewer(request)
        if viewer is None:
            if method == "GET" and path != "/dashboard/events":
                return RedirectResponse(f"/dashboard/login?{_next(request)}", 303)
            raise Refused(401, "Log in", "This needs a login.")
        try:
            return await self._pages[method, path](request, viewer)
        except LedgerError:
            if viewer.policy:  # its text has the ledger's address
                raise Refused(503, "The ledger cannot be read", "Who runs the gateway can see why.") from None
            raise

    # Pages

    async def _overview(self, request: Request, viewer: Viewer) -> Response:
        choice, period = self._choice(request, viewer)
        version = await self._look()
        if choice.policy:
            page = await self._reading.read(
                ("policy", choice.policy, period, version), partial(self._source.policy, choice.policy, period)
            )
            found = page.overview
        else:
            page, found = (
                None,
                await self._reading.read(("overview", period, version), partial(self._source.overview, period)),
            )
        frame = self._frame(viewer, choice, found.made_at, version)
        names = {one.name for one in found.by_policy} | {one.policy for one in found.modes}
        frame = replace(
            frame, label=period.label, page="overview", policies=_policies(names | set(frame.policies), viewer)
        )
        return await self._html("overview", frame, found=found, policy_page=page)

    async def _model(self, request: Request, viewer: Viewer) -> Response:
        choice, period = self._choice(request, viewer)
        name = request.query_params.get("name", "")
        version = await self._look()
        key = ("model", name, period, choice.policy, version)
        found = await self._reading.read(key, partial(self._source.model, name, period, choice.policy))
        frame = replace(self._frame(viewer, choice, found.made_at, version), label=period.label)
        return await self._html("model", frame, found=found)

    async def _request(self, request: Request, viewer: Viewer) -> Response:
        choice, _ = self._choice(request, viewer)
        name = request.query_params.get("id", "")
        row = await self._reading.run(partial(self._source.request, name)) if name else None
        if row is None or (viewer.policy and row.policy != viewer.policy):
            raise Refused(404, "Not found", f"The ledger has no request {name[:80]!r}.")
        return await self._html("request", self._frame(viewer, choice), row=row)

    async def _modes(self, request: Request, viewer: Viewer) -> Response:
        choice, _ = self._choice(request, viewer)
        seen = [one for one in self._source.policies if viewer.policy in ("", one.name)]
        modes = await self._reading.run(lambda: modes_of(seen))
        frame = replace(self._frame(viewer, choice), page="modes")
        return await self._html(
            "modes", frame, modes=modes, words=WORDS, why_not=self._why_not(viewer), switch_link=_switch_link
        )

    def _why_not(self, viewer: Viewer) -> str:
        if viewer.policy:
            return "This key is bound to one policy: it does not switch modes."
        if viewer.name:
            return "The key came with this request, and not by a login: modes are switched after a login."
        return self._settings.why_not

    async def _confirm(self, request: Request, viewer: Viewer) -> Response:
        self._check_switch(viewer)
        word, policy = request.query_params.get("mode", ""), request.query_params.get("policy", "")
        asked = await self._reading.run(lambda: ask(word, policy, self._source.policies))
        return await self._html("confirm", replace(self._frame(viewer, Choice()), page="modes"), asked=asked)

    async def _switch(self, request: Request, viewer: Viewer) -> Response:
        form = await self._own_form(request, viewer)
        self._check_switch(viewer)
        word, policy = form.get("mode", ""), form.get("policy", "")
        await self._reading.run(lambda: (ask(word, policy, self._source.policies), switch(word, policy)))
        log_event("warning", "mode_switched", policy=policy or "all", mode=word, by=viewer.name)
        return RedirectResponse("/dashboard/modes", 303)

    # Live updates

    async def _events(self, request: Request, viewer: Viewer) -> Response:
        try:
            events = self.streams.enter(await self._still(request, viewer))
        except FullHouse:
            raise Refused(503, "Busy", "Too many pages are live already.", {"retry-after": "30"}) from None
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _still(self, request: Request, viewer: Viewer) -> Callable[[], Awaitable[bool]]:
        async def still() -> bool:
            now = await self._door.viewer(request)
            return now is not None and now.policy == viewer.policy

        return still

    async def _look(self) -> str:
        """The version of what can be shown now; a relative period moves on every quarter of an hour. "" if the ledger cannot be read.

        It is read before the figures, and they are kept by it: a page never shows figures that are older than its version.
        """
        try:
            version = await self._reading.read("version", self._source.version)
        except (CascadeError, Busy):
            return ""
        return f"{version}:{int(self._settings.wall() // _BUCKET_S)}"

    # Logging in and out

    async def _ask_key(self, request: Request, problem: str = "", *, after: str = "", status: int = 200) -> Response:
        if not problem and await self._door.viewer(request) is not None:
            return RedirectResponse("/", 303)
        target = after or page_address(request.query_params.get("next", ""))
        # Not in the threads that read: a ledger that hangs keeps nobody from logging in.
        return HTMLResponse(render("login", Frame("", self._settings.wall()), problem=problem, next=target), status)

    async def _log_in(self, request: Request) -> Response:
        check_origin(request.headers)
        form = await read_form(request)
        target = page_address(form.get("next", ""))
        try:
            session = await self._door.log_in(
                form.get("key", "").strip(), request.client.host if request.client else ""
            )
        except Refused as refused:
            response = await self._ask_key(request, str(refused), after=target, status=refused.status)
            response.headers.update(refused.headers)
            return response
        if session is None:
            text = "This key is unknown here, or revoked."
            return await self._ask_key(request, text, after=target, status=403)
        response = RedirectResponse(target, 303)
        response.set_cookie(
            COOKIE,
            session,
            path="/",
            secure=_is_secure(request.headers, request.url.scheme),
            httponly=True,
            samesite="strict",
        )
        return response

    async def _log_out(self, request: Request, viewer: Viewer) -> Response:
        await self._own_form(request, viewer)
        await self._door.log_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/dashboard/login", 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    async def _own_form(self, request: Request, viewer: Viewer) -> Mapping[str, str]:
        """The form, if it is from a page that this viewer was shown."""
        check_origin(request.headers)
        form = await read_form(request)
        if not viewer.sent(form.get("csrf", "")):
            raise Refused(403, "Not from here", "This form is not of your session: load the page again.")
        return form

    @staticmethod
    def _check_switch(viewer: Viewer) -> None:
        if not viewer.may_switch:
            raise Refused(
                403, "Read-only", "Modes are switched here only after a login with a key that is not bound to a policy."
            )

    # Around a page

    def _choice(self, request: Request, viewer: Viewer) -> tuple[Choice, Any]:
        choice, period = read_choice(request.query_params, self._settings.wall(), self._settings.default)
        return (choice.of(viewer.policy) if viewer.policy else choice), period

    def _frame(self, viewer: Viewer, choice: Choice, made_at: float | None = None, version: str = "") -> Frame:
        return Frame(
            "" if viewer.policy else self._source.where, self._settings.wall() if made_at is None else made_at, choice, viewer=viewer.name, csrf=viewer.csrf,
            may_switch=viewer.may_switch, version=version, policies=_policies({one.name for one in self._source.policies}, viewer),
        )  # fmt: skip

    async def _html(self, template: str, frame: Frame, *, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(await self._reading.run(partial(render, template, frame, **values)), status)

    async def _problem(self, status: int, title: str, text: str) -> Response:
        return HTMLResponse(render("problem", Frame("", self._settings.wall()), title=title, text=text), status)


def _static(name: str, query: str) -> Response:
    found = asset(name)
    if found is None:
        raise Refused(404, "Not found", "There is no such file.")
    kept = "public, max-age=31536000, immutable" if query == found.mark else "no-cache"
    return Response(found.body, media_type=found.kind, headers={"cache-control": kept})


def _policies(names: set[str], viewer: Viewer) -> tuple[str, ...]:
    return () if viewer.policy else tuple(sorted(names))


def _next(request: Request) -> str:
    return Choice("").link("", next=page_address(f"{request.url.path}?{request.url.query}")).removeprefix("?")


def _switch_link(word: str, policy: str) -> str:
    return Choice("").link("/dashboard/mode", mode=word, policy=policy)


def _is_secure(headers: Headers, scheme: str) -> bool:
    """Whether the browser came by https: to us, or to what stands before us."""
    origin, forwarded = headers.get("origin", ""), headers.get("x-forwarded-proto", "")
    return scheme == "https" or origin.startswith("https://") or forwarded.split(",")[0].strip() == "https"
