"""Reads a ledger beside an event loop: in few threads, each figure once for all who ask at the same time, and again after a second or two.

A ledger that is slow keeps its readers waiting, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["Busy", "Reading"]

_THREADS: Final = 2
_MOST_WAITING: Final = 64
_MOST_KEPT: Final = 64

_T = TypeVar("_T")


class Busy(Exception):
    """The ledger does not answer in time, or too many ask it already."""


@dataclass(slots=True)
class _Kept:
    found: asyncio.Future[Any]
    until: float


class Reading:
    """Belongs to one event loop. `keep_s`: how long a figure is shown again; `patience_s`: how long a page waits for one."""

    def __init__(self, clock: Callable[[], float], *, keep_s: float = 1.5, patience_s: float = 20.0) -> None:
        self._clock, self._keep_s, self._patience_s = clock, keep_s, patience_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dashboard")
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._waiting = 0

    async def read(self, key: Hashable, function: Callable[[], _T]) -> _T:
        """What the function returns, or did a moment ago for the same key. Raises Busy, and what the function raises."""
        kept = self._kept.get(key)
        if kept is None or (kept.found.done() and (kept.until <= self._clock() or kept.found.exception() is not None)):
            kept = _Kept(self._start(function), float("inf"))
            kept.found.add_done_callback(lambda _: self._arrived(kept))
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return await self._wait(kept.found)

    async def run(self, function: Callable[[], _T]) -> _T:
        """What the function returns, made in one of the threads. Raises Busy, and what it raises."""
        return await self._wait(self._start(function))

    def _start(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        if self._waiting >= _MOST_WAITING:
            raise Busy("too many pages are being made already")
        self._waiting += 1
        started = asyncio.get_running_loop().run_in_executor(self._threads, function)
        started.add_done_callback(self._done)
        return started

    def _done(self, found: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not found.cancelled():
            found.exception()  # it is read here, too: whoever waited for it may have gone

    def _arrived(self, kept: _Kept) -> None:
        kept.until = self._clock() + self._keep_s

    async def _wait(self, found: asyncio.Future[_T]) -> _T:
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(found)
        except TimeoutError:
            raise Busy(f"the ledger has not answered for {self._patience_s:g} seconds") from None

    def close(self) -> None:
        """Begin nothing new."""
        self._threads.shutdown(wait=False, cancel_futures=True)
