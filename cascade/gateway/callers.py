"""The caller's side of one exchange: notices that it has gone, and does not wait for one that reads too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Message, Scope, Send

__all__ = ["CONNECTION", "Caller", "Connection"]

CONNECTION = "cascade.connection"
"""In the scope's extensions: the caller's Connection."""


class Connection(Protocol):
    """What the server's protocol tells of a caller's connection. It costs nothing while all is well: no task, no timer."""

    on_lost: Callable[[], None] | None
    """Called when the connection is lost, if it is set."""
    on_shutdown: Callable[[], None] | None
    """Called when the server is about to end, if it is set: for a response that has no end of its own."""

    @property
    def is_lost(self) -> bool:
        """Whether the caller has gone."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the caller has yet to take what was sent: another piece would have to wait."""
        ...

    @property
    def has_body(self) -> bool:
        """Whether a piece of the body, or its end, has arrived and waits to be received."""
        ...

    def abort(self) -> None:
        """Reset the connection."""
        ...


class Caller:
    """A context in which the running task is cancelled as soon as the caller disconnects.

    `gone`: it has disconnected, or takes its response too slowly. Leaving the context with that cancellation ends the
    cancellation: what follows runs to its end. `send` gives the caller `seconds` to take each piece.
    """

    __slots__ = ("_connection", "_seconds", "_send", "_task", "gone", "is_slow", "started")

    def __init__(self, scope: Scope, send: Send, seconds: float) -> None:
        self._connection: Connection = scope["extensions"][CONNECTION]
        self._send, self._seconds = send, seconds
        self._task: asyncio.Task[Any] | None = None
        self.gone = False
        self.is_slow = False
        self.started = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._connection.on_lost = self._lost
        if self._connection.is_lost:
            self._lost()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._connection.on_lost = None
        if self.is_slow and kind is not None and issubclass(kind, TimeoutError):
            return True
        if self.gone and kind is not None and issubclass(kind, asyncio.CancelledError):
            assert self._task is not None
            self._task.uncancel()
            return True
        return False

    async def send(self, message: Message) -> None:
        """Send a piece of the response. A caller that does not take it in time loses its connection: TimeoutError."""
        if self._connection.is_full:
            await self._send_slowly(message)
        else:
            await self._send(message)  # it is passed to the socket at once
        self.started = True

    async def _send_slowly(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            self.gone = self.is_slow = True
            self._connection.on_lost = None
            self.abort()
            if self._task is not None and asyncio.current_task() is not self._task:
                self._task.cancel()  # it was a ping that the caller did not take
            raise

    def abort(self) -> None:
        """Reset the caller's connection: what it has received is not the whole response."""
        self._connection.abort()

    def _lost(self) -> None:
        self.gone = True
        if self._task is not None:
            self._task.cancel()
