"""The caller's side of one exchange: notices that it has gone, and does not wait for one that reads too slowly."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["ABORT", "Caller"]

ABORT = "cascade.abort"
"""In the scope's extensions: a function that resets the caller's connection at once."""


class Caller:
    """A context in which the running task is cancelled as soon as the caller disconnects.

    `gone`: it has disconnected, or takes its response too slowly. Leaving the context with that cancellation ends the
    cancellation: what follows runs to its end. `send` gives the caller `seconds` to take each piece.
    """

    __slots__ = ("_listening", "_receive", "_scope", "_seconds", "_send", "_task", "gone", "is_slow", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope, self._receive, self._send, self._seconds = scope, receive, send, seconds
        self._task: asyncio.Task[Any] | None = None
        self._listening: asyncio.Task[None] | None = None
        self.gone = False
        self.is_slow = False
        self.started = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._listening = asyncio.create_task(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.stop_listening()
        if self.is_slow and kind is not None and issubclass(kind, TimeoutError):
            return True
        if self.gone and kind is not None and issubclass(kind, asyncio.CancelledError):
            assert self._task is not None
            self._task.uncancel()
            return True
        return False

    def stop_listening(self) -> None:
        """Before the last piece goes out: the server reports the end of a response as a disconnection, too."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def send(self, message: Message) -> None:
        """Send a piece of the response. A caller that does not take it in time loses its connection: TimeoutError."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            self.gone = self.is_slow = True
            self.abort()
            if self._task is not None and asyncio.current_task() is not self._task:
                self._task.cancel()  # it was a ping that the caller did not take
            raise
        self.started = True

    def abort(self) -> None:
        """Reset the caller's connection: what it has received is not the whole response."""
        abort = self._scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._listening is not None and self._task is not None:
            self._task.cancel()
