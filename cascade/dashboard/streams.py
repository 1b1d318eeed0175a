"""Live updates: server-sent events that say when the ledger has grown. One look at the ledger serves all who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final
from weakref import WeakSet

__all__ = ["FullHouse", "Streams"]

_LOOK_S: Final = 2.0
_PING_S: Final = 15.0
_MOST: Final = 64


class FullHouse(Exception):
    """As many streams are open as there may be, or the server is about to end."""


class _Place:
    """A stream's place among them, from when it may begin; free again when nothing holds it: a stream may be dropped before its first event."""

    __slots__ = ("__weakref__",)


class Streams:
    """The open streams of one process. `look`: reads the ledger's version; "" if it cannot be read just now.

    Belongs to one event loop. Nothing is read while nobody watches.
    """

    def __init__(self, look: Callable[[], Awaitable[str]], *, look_s: float = _LOOK_S, most: int = _MOST) -> None:
        self._look, self._look_s, self._most = look, look_s, most
        self._places: WeakSet[_Place] = WeakSet()
        self._version = ""
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._places)

    def enter(self, still: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
        """A stream's events. `still`: whether its reader may go on, asked before each of them. Raises FullHouse."""
        if self.open >= self._most or self._ended:
            raise FullHouse
        place = _Place()
        self._places.add(place)
        return self._events(still, place)

    async def _events(self, still: Callable[[], Awaitable[bool]], place: _Place) -> AsyncGenerator[bytes]:
        try:
            if self._looking is None:
                self._looking = asyncio.create_task(self._watch())
            sent = ""
            yield b"retry: 3000\n\n"
            while not self._ended and await still():
                news = self._news
                if self._version and self._version != sent:
                    sent = self._version
                    yield f"event: version\ndata: {sent}\n\n".encode()
                    continue
                try:
                    async with asyncio.timeout(_PING_S):
                        await news.wait()
                except TimeoutError:
                    yield b": nothing new\n\n"
        finally:
            self._places.discard(place)
            if not self._places and self._looking is not None:
                self._looking.cancel()
                self._looking, self._version = None, ""

    async def _watch(self) -> None:
        while True:
            version = await self._look()
            if version and version != self._version:
                self._version = version
                self._tell()
            await asyncio.sleep(self._look_s)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def end(self) -> None:
        """End all streams, and begin none any more."""
        self._ended = True
        self._tell()
