"""Asks the store, on a thread of its own, so that whoever asks waits for a bounded time even where a disk hangs.

After a failure nobody waits for `RETRY_S` seconds; then one request tries again. The failure is logged once, as
`response_cache_down`, and so is the recovery, as `response_cache_back`, with how many requests went without the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from cascade.forks import renew_in_children
from cascade.logs import log_event
from cascade.response_cache.flights import Flights
from cascade.response_cache.stores import AnswerStore, Stored, StoreDown

__all__ = ["RETRY_S", "WAIT_S", "AnswerCache"]

WAIT_S = 0.5
"""The longest that a request waits for the store, each time that it asks."""
RETRY_S = 5.0
"""How long nobody asks after a failure."""

_IDLE_S = 10.0  # the thread ends when nobody asked for so long

_Job = tuple[Callable[[], Any], "Future[Any]"]


class AnswerCache:
    """A store and the flights of one driver. Safe between threads, loops and forks.

    `clock`: seconds from any origin; `wall`: Unix seconds. `down` counts the requests that the store could not serve.
    """

    def __init__(
        self, store: AnswerStore, policy: str, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._store, self._policy, self._clock, self.wall = store, policy, clock, wall
        self.flights = Flights()
        self.wait_s = WAIT_S
        self.down = 0
        self._renew()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child has neither the parent's thread nor its connection."""
        self._store.renew()
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._retry_at: float | None = None
        self._told = 0  # what `down` was when it went down
        self._late: Future[Any] | None = None  # nobody waits for it any more: the store hangs until it is done

    @property
    def where(self) -> str:
        """The store's address, without secrets."""
        return self._store.where

    def find(self, key: bytes) -> Future[Any] | None:
        """Look for a key: its value, or None, will be the Future's result. None: the store is down, and is not asked."""
        return self._submit(lambda: self._store.get(key, self.wall()))

    def keep(self, stored: Stored) -> Future[Any] | None:
        """Store an answer, as `find` looks for one."""
        return self._submit(lambda: self._store.put(stored, self.wall()))

    def give_up(self, job: Future[Any]) -> None:
        """Nobody waits any longer for what `find` or `keep` returned."""
        if not job.done():
            self._late = job
            self._fail(f"it did not answer within {self.wait_s:g} s")

    def close(self) -> None:
        """Close the store's connection. It waits for a bounded time."""
        with self._lock:
            is_used = self._thread is not None
        closing = self._submit(self._store.close) if is_used else None
        if closing is not None:
            with suppress(TimeoutError):
                closing.result(self.wait_s)

    def _submit(self, function: Callable[[], Any]) -> Future[Any] | None:
        job: Future[Any] = Future()
        with self._lock:
            if not self._may_ask():
                self.down += 1
                return None
            self._jobs.put((function, job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cascade-answers", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter is ending
                    self._thread = None
                    return None
        return job

    def _may_ask(self) -> bool:
        if self._late is not None:
            if not self._late.done():
                return False
            self._late = None
        if self._retry_at is None:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        self._retry_at = now + RETRY_S  # the others do not wait
        return True

    def _run(self) -> None:
        while True:
            try:
                function, job = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._thread = None
                        return
                continue
            result = None
            try:
                result = function()
            except StoreDown as problem:
                self._fail(str(problem))
            except Exception as problem:  # noqa: BLE001 - whatever is wrong with a store, the thread serves the next request
                self._fail(type(problem).__name__)
            else:
                self._succeed()
            with suppress(InvalidStateError):  # its loop was closed, so nobody waits for it
                job.set_result(result)

    def _fail(self, problem: str) -> None:
        with self._lock:
            first = self._retry_at is None
            self._retry_at = self._clock() + RETRY_S
            self.down += 1
            if first:
                self._told = self.down - 1
        if first:
            hint = "requests are answered without it meanwhile (run `cascade doctor`)"
            log_event(
                "warning", "response_cache_down", policy=self._policy, cache=self.where, problem=problem, hint=hint
            )

    def _succeed(self) -> None:
        with self._lock:
            if self._retry_at is None:
                return
            self._retry_at, missed = None, self.down - self._told
        log_event("info", "response_cache_back", policy=self._policy, cache=self.where, missed=missed)
