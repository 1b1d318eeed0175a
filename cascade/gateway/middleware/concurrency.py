"""How many requests are answered at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.gateway.hub import Hub
from cascade.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ConcurrencyMiddleware"]

_RETRY_AFTER = (b"retry-after", b"1")


class ConcurrencyMiddleware:
    """Counts the running requests, and refuses those of the API beyond the limit (529): the SDKs wait, and come again.

    What watches the gateway (`/healthz`, `/metrics`) is never refused.
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app, self._hub, self._most = app, hub, hub.settings.limits.concurrency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        hub = self._hub
        if hub.running >= self._most:
            message = (
                f"the gateway answers {self._most} requests at a time already (come again, or raise --max-concurrency)"
            )
            raise Problem(529, message, headers=[_RETRY_AFTER])
        hub.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            hub.leave()
