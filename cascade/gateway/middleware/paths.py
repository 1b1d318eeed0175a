"""Only plain paths: no percent-encoding, no empty or dot segments. What is listed is served, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["PathsMiddleware"]

_TRICKS = (b"//", b"/./", b"/../", b"%", b"\\", b";")


class PathsMiddleware:
    """Refuses a path that two programs might read differently."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or b""
            if any(trick in raw for trick in _TRICKS) or raw.endswith((b"/.", b"/..")):
                raise Problem(404, "there is nothing at this path (write it plainly, such as /v1/messages)")
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)
