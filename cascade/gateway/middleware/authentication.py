"""Who is calling: reads the headers, and checks the key where the gateway has keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.gateway.headers import read_headers
from cascade.gateway.visits import VISIT, Visit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["AuthenticationMiddleware"]


class AuthenticationMiddleware:
    """Leaves a Visit in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            scope[VISIT] = Visit(read_headers(scope["headers"]))
        await self._app(scope, receive, send)
