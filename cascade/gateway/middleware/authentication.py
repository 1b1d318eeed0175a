"""Who is calling: reads the headers, and checks the key where the gateway has keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.gateway.dashboard import asks_for_page
from cascade.gateway.headers import read_headers
from cascade.gateway.hosts import names_loopback
from cascade.gateway.hub import Hub
from cascade.gateway.problems import Problem
from cascade.gateway.visits import VISIT, Visit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["AuthenticationMiddleware", "check_host", "refuse_pages"]

_OPEN = frozenset({"/healthz", "/openapi.json"})
"""Served without a key; `/healthz` then says no more than that it is alive."""


class AuthenticationMiddleware:
    """Leaves a Visit in the scope, or refuses (401).

    A key comes as `x-cascade-key`, or where the gateway's own credentials go upstream, as `Authorization: Bearer` or `x-api-key`.
    The dashboard's pages have a login of their own (`gateway.dashboard`).
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app, self._hub = app, hub
        self._forwards = hub.settings.auth == "forward"
        self._has_pages = hub.settings.dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            host = check_host(scope)
            headers = read_headers(scope["headers"])
            keys = self._hub.keys
            if keys.is_empty:
                refuse_pages(scope, host)
                scope[VISIT] = Visit(headers, is_trusted=True)
            else:
                token = headers.own.get("key", "") or ("" if self._forwards else headers.token)
                key = keys.find(token) if token else None
                if key is None and scope["path"] not in _OPEN and not (self._has_pages and asks_for_page(scope)):
                    raise Problem(401, self._message(token))
                scope[VISIT] = Visit(headers, key, is_trusted=key is not None)
        await self._app(scope, receive, send)

    def _message(self, token: str) -> str:
        where = "x-cascade-key" if self._forwards else "Authorization: Bearer, or x-api-key"
        what = "this key is unknown here, or revoked" if token else "this gateway needs one of its keys"
        return f"{what} (send casc-… as {where}; `cascade serve keys create` makes one)"


def check_host(scope: Scope) -> bytes | None:
    """The `Host`; None if a client of HTTP/1.0 sent none. Raises Problem unless there is exactly one."""
    found = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) > 1 or (not found and scope["http_version"] != "1.0"):
        raise Problem(400, "host: exactly one such header is needed")
    return found[0] if found else None


def refuse_pages(scope: Scope, host: bytes | None) -> None:
    """Without keys, any web page that a browser on this machine shows could spend the money.

    Browsers say where a page is from, but not to the page's own site: whose name may lead to this machine by now.
    """
    if any(name == b"origin" for name, _ in scope["headers"]):
        raise Problem(403, "requests of web pages need a key (make one: cascade serve keys create)")
    if host is not None and not names_loopback(host):
        raise Problem(
            403,
            "host: without keys, only requests to 127.0.0.1, localhost or [::1] are served"
            " (use such an address, or make a key: cascade serve keys create)",
        )
