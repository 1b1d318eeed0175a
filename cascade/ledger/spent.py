"""What the ledger knows to be spent, for a budget's counter that is new: asked on a request's way, so it must not hold it up.

All of it (the writer's rows, connecting, the query) has one deadline. A ledger that failed is left alone for a while, for
all drivers of the process: one that hangs costs one caller once. That it cannot say is not 0: LedgerDown is raised, and the
state asks again.
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

__all__ = ["Flushed", "Seeding"]

_DEADLINE_S = 1.0
_RETRY_S = 10.0


class Flushed(Protocol):
    """A writer."""

    @property
    def name(self) -> str:
        """Its own, as the ledger has it."""
        ...

    def flush(self, timeout_s: float = ...) -> bool:
        """Have what waits written; whether it is."""
        ...


class Seeding:
    """A ledger's, for the whole process. `where`: its address as it may be told; `clock`: seconds from any origin.

    `deadline_s`: the most that a caller waits; half of it for what the writers still have to write.
    """

    def __init__(
        self,
        where: str,
        read: Callable[[], Reader],
        writers: Callable[[], Sequence[Flushed]],
        clock: Callable[[], float] = time.monotonic,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._where, self._read, self._writers, self._clock = where, read, writers, clock
        self._deadline_s = deadline_s
        self._retry_at: float | None = None  # it failed, and is left alone until then
        self._flush_at = float("-inf")
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def __call__(self, claim: ApplicableBudget) -> int:
        """In nano-USD, also what this process has handed over; 0 where there is no ledger. Raises LedgerDown within `deadline_s`."""
        is_try = self._may_ask()
        with self._turn:  # one at a time: where it hangs, those who wait behind need not find out for themselves
            if not is_try and self._retry_at is not None:
                raise self._resting()
            try:
                known = self._ask(claim, must_be_whole=is_try)
            except NoLedger:
                known = 0
            except BaseException:
                self._retry_at = self._clock() + _RETRY_S
                raise
            self._retry_at = None
            return known

    def _may_ask(self) -> bool:
        """Whether this is the one who tries a ledger that failed; LedgerDown: nobody should now."""
        with self._lock:
            if self._retry_at is None:
                return False
            now = self._clock()
            if now < self._retry_at:
                raise self._resting()
            self._retry_at = now + _RETRY_S  # the others go on without
            return True

    def _resting(self) -> LedgerDown:
        return LedgerDown(f"{self._where}: could not be read a moment ago (it is tried again)")

    def _ask(self, claim: ApplicableBudget, *, must_be_whole: bool) -> int:
        until = time.monotonic() + self._deadline_s
        if not self._flush() and must_be_whole:  # it would count what this process has spent as if others had
            raise LedgerDown(f"{self._where}: what waits cannot be written yet (it is tried again)")
        of = claim.policy, claim.scope, claim.value, claim.starts, claim.ends
        alive = [writer.name for writer in self._writers()]  # their calls under way are reserved here
        said: Future[int] = Future()

        def ask() -> None:
            try:
                reader = self._read()
                try:
                    said.set_result(reader.spent(*of, alive=alive))
                finally:
                    reader.close()
            except BaseException as problem:  # noqa: BLE001 - it is the caller's to raise
                if not said.done():
                    said.set_exception(problem)

        try:
            # Of its own: a resolver or a server that hangs has ways to do so that no time-out ends.
            threading.Thread(target=ask, name="cascade-seed", daemon=True).start()
        except RuntimeError:  # the interpreter is going down, and lets none begin
            ask()
        try:
            return said.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise LedgerDown(f"{self._where}: no answer within {self._deadline_s:g} s (it is tried again)") from None

    def _flush(self) -> bool:
        """Whether all that was handed over is in the ledger; one that cannot be written is not waited for each time."""
        if self._clock() < self._flush_at:
            return False
        until = time.monotonic() + self._deadline_s / 2
        flushed = [writer.flush(max(0.0, until - time.monotonic())) for writer in self._writers()]
        if all(flushed):
            return True
        self._flush_at = self._clock() + _RETRY_S
        return False
