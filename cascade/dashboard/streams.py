"""Live updates: server-sent events that say when the ledger has grown. One look at the ledger serves all who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Final

__all__ = ["FullHouse", "Streams"]

_LOOK_S: Final = 2.0
_PING_S: Final = 15.0
_MOST: Final = 64


class FullHouse(Exception):
    """As many streams are open as there may be."""


class Streams:
    """The open streams of one process. `look`: reads the ledger's version; "" if it cannot be read just now.

    Belongs to one event loop. Nothing is read while nobody watches.
    """

    def __init__(self, look: Callable[[], Awaitable[str]], *, look_s: float = _LOOK_S, most: int = _MOST) -> None:
        self._look, self._look_s, self._most = look, look_s, most
        self._open = 0
        self._version = ""
        self._changed = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open

    def enter(self) -> AsyncGenerator[bytes]:
        """A stream's events; closing it leaves. Raises FullHouse."""
        if self._open >= self._most:
            raise FullHouse
        self._open += 1
        return self._events()

    async def _events(self) -> AsyncGenerator[bytes]:
        if self._looking is None:
            self._looking = asyncio.create_task(self._watch())
        sent = ""
        try:
            yield b"retry: 3000\n\n"
            while not self._ended:
                if self._version and self._version != sent:
                    sent = self._version
                    yield f"event: version\ndata: {sent}\n\n".encode()
                    continue
                try:
                    async with asyncio.timeout(_PING_S), self._changed:
                        await self._changed.wait()
                except TimeoutError:
                    yield b": nothing new\n\n"
        finally:
            self._open -= 1
            if not self._open and self._looking is not None:
                self._looking.cancel()
                self._looking, self._version = None, ""

    async def _watch(self) -> None:
        while True:
            version = await self._look()
            if version and version != self._version:
                self._version = version
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(self._look_s)

    async def close(self) -> None:
        """End all streams."""
        self._ended = True
        async with self._changed:
            self._changed.notify_all()
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
