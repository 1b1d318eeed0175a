"""Looks up in the ledger what a new budget counter starts from. Runs while a request waits, so its time is limited.

One deadline covers everything: writing this process's entries, connecting, the query. After a failure the ledger is not asked again for
a while, by any driver of the process, so that a server that hangs delays one caller once. A failure raises LedgerDown, and is never
taken for 0; the state asks again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from cascade.core.budgets import ApplicableBudget
from cascade.forks import renew_in_children
from cascade.ledger.stores import LedgerDown, NoLedger, Reader

__all__ = ["Flushable", "SpentLookup"]

_DEADLINE_S = 1.0
_RETRY_S = 10.0


class Flushable(Protocol):
    """A writer."""

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        ...

    def flush(self, timeout_s: float = ...) -> bool:
        """Write what waits; returns whether all of it was written."""
        ...


class SpentLookup:
    """One per ledger and process. `where`: its address for messages; `clock`: seconds from any origin.

    `deadline_s`: the most that a caller waits; half of it at most goes to writing what waits.
    """

    def __init__(
        self,
        where: str,
        read: Callable[[], Reader],
        writers: Callable[[], Sequence[Flushable]],
        clock: Callable[[], float] = time.monotonic,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._where, self._read, self._writers, self._clock = where, read, writers, clock
        self._deadline_s = deadline_s
        self._retry_at: float | None = None  # after a failure: not asked before then
        self._flush_at = float("-inf")
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Called by `forks` in a child process."""
        self._lock, self._one_at_a_time = threading.Lock(), threading.Lock()

    def __call__(self, claim: ApplicableBudget) -> int:
        """In nano-USD, this process's entries included; 0 if there is no ledger. Raises LedgerDown within `deadline_s`."""
        is_retry = self._is_retry()
        with self._one_at_a_time:  # if the first one hangs, those behind it fail at once
            if not is_retry and self._retry_at is not None:
                raise self._paused_error()
            try:
                known = self._query(claim, must_be_whole=is_retry)
            except NoLedger:
                known = 0
            except BaseException:
                self._retry_at = self._clock() + _RETRY_S
                raise
            self._retry_at = None
            return known

    def _is_retry(self) -> bool:
        """Whether this caller retries after a failure. Raises LedgerDown if it is too early, or another caller retries."""
        with self._lock:
            if self._retry_at is None:
                return False
            now = self._clock()
            if now < self._retry_at:
                raise self._paused_error()
            self._retry_at = now + _RETRY_S  # one caller retries, the others get LedgerDown
            return True

    def _paused_error(self) -> LedgerDown:
        return LedgerDown(f"{self._where}: could not be read a moment ago (it is tried again)")

    def _query(self, claim: ApplicableBudget, *, must_be_whole: bool) -> int:
        until = time.monotonic() + self._deadline_s
        if not self._flush() and must_be_whole:  # this process's own spend would be missing, or counted twice
            raise LedgerDown(f"{self._where}: what waits cannot be written yet (it is tried again)")
        of = claim.policy, claim.scope, claim.value, claim.starts, claim.ends
        alive = [
            writer.name for writer in self._writers()
        ]  # the bounds of their open calls are already reserved in this process
        result: Future[int] = Future()

        def query() -> None:
            try:
                reader = self._read()
                try:
                    result.set_result(reader.spent(*of, alive=alive))
                finally:
                    reader.close()
            except BaseException as problem:  # noqa: BLE001 - raised in the caller
                if not result.done():
                    result.set_exception(problem)

        try:
            # On a thread of its own: a resolver or server may hang in ways that no timeout ends.
            threading.Thread(target=query, name="cascade-seed", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down and starts no threads
            query()
        try:
            return result.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise LedgerDown(f"{self._where}: no answer within {self._deadline_s:g} s (it is tried again)") from None

    def _flush(self) -> bool:
        """Whether all entries so far are in the ledger. After a failure it is not tried again for a while."""
        if self._clock() < self._flush_at:
            return False
        until = time.monotonic() + self._deadline_s / 2
        flushed = [writer.flush(max(0.0, until - time.monotonic())) for writer in self._writers()]
        if all(flushed):
            return True
        self._flush_at = self._clock() + _RETRY_S
        return False
