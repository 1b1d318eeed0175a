"""Writing a transaction, whoever does it: what becomes of it where it is durable, and where it failed."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from cascade.ledger.hook import HandOver
from cascade.ledger.records import Batch
from cascade.ledger.stores import LedgerDown, Store
from cascade.ledger.writing.commit import let_go
from cascade.ledger.writing.drops import Losses, tell
from cascade.ledger.writing.limits import Bounds, Times
from cascade.ledger.writing.lock import WriteLock

__all__ = ["REST_S", "Writing"]

_SWEEP_S, _DAY_S = 3_600.0, 86_400.0
REST_S = 60.0
"""After so long without a row the thread ends and disconnects; the next row begins anew."""


class Writing:
    """What a `Writer` is and does while it writes. All but the pen is under its lock; what begins with `_` is the writer's."""

    def __init__(self, connect: Callable[[], Store], where: str, times: Times, bounds: Bounds) -> None:
        self.where = where
        self._connect, self._times, self._bounds = connect, times, bounds
        self._keep_days: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # the thread waits on it
        self._settled = threading.Condition(self._lock)  # others wait on it, for the thread
        self._thread: threading.Thread | None = None
        self._pen = WriteLock(secrets.token_hex(8), self._connect, self._tell)
        self._waiting: list[HandOver] = []
        self._entries = 0  # handed over, and not yet written or given up
        self._first_at = 0.0
        self._put: int = 0  # hand-overs: all
        self._done: int = 0  # those written
        self._urged: int = 0  # those that must be written now
        self._failures = 0
        self._down = self._ending = self._gave_up = self._parked = False
        self._looks = self._wants_pen = False  # what the thread sleeps for: to look soon by itself, or to have the pen
        self._seen: int = 0  # `_put` when it last looked
        self._holders = 0
        self._retry_at: float = 0.0
        self._rest_at: float = 0.0
        self._interval: float = 0.0
        self._caught_up = 0  # entries written since it was down
        self._losses = Losses()
        self._sweep_at = float("-inf")

    @property
    def name(self) -> str:
        """The writer's name in the ledger."""
        return self._pen.name

    @property
    def dropped(self) -> int:
        """Entries that were not written, and will not be."""
        return self._losses.total

    @property
    def waiting(self) -> int:
        """Entries that wait to be written."""
        return self._entries

    @property
    def withheld(self) -> int:
        """Texts that were not stored, because `redact` failed on them."""
        return self._pen.composer.withheld

    def _give_up(self, hand_overs: Iterable[HandOver]) -> None:
        for one in hand_overs:
            one.asked.lost = True
            self._done += 1

    def _write(self) -> None:
        """Write one transaction, if it is time for one. The holder's of the pen."""
        pen = self._pen
        with self._lock:
            if pen.stuck is not None and self._retry_at > self._times.ticks():
                return
            taken = deque((*pen.taken, *self._waiting))
            pen.taken, self._waiting = (
                taken,
                [],
            )  # at one stroke: Ctrl-C comes between calls, and nothing may be there twice
        if pen.stuck is None:
            unwritable = pen.compose(self._bounds.transaction)
            if unwritable:
                with self._lock:
                    self._losses.drop(sum(one.entries for one in unwritable))
        if pen.stuck is None:  # for the types: it was made just now
            return
        batch, told = pen.stuck
        try:
            pen.write(batch)
        except Exception as problem:  # noqa: BLE001 - whatever a driver raises: rows wait, and the thread lives on
            self._fell(problem)
        else:
            self._stood(batch, told)

    def _stood(self, batch: Batch, told: list[HandOver]) -> None:
        """The transaction is durable."""
        with self._lock:
            self._pen.stuck = None
            if not self._gave_up:  # else they are not counted any more
                self._entries -= sum(one.entries for one in told)
            self._first_at = self._times.ticks()
            self._rest_at = self._first_at + REST_S
            caught_up = None
            if self._interval:
                self._down = False
                self._caught_up += len(batch.entries)
                if not self._pen.taken:
                    caught_up = {"rows": self._caught_up, "dropped": self._losses.since_down}
                    self._interval, self._caught_up, self._losses.since_down, self._losses.untold = 0.0, 0, 0, 0
        let_go(told)
        if caught_up is not None:
            self._tell("ledger_back", **caught_up)
        with self._lock:  # whoever flushes finds it told
            self._done += len(told)
            self._settled.notify_all()

    def _fell(self, problem: Exception) -> None:
        """The transaction failed: nobody waits for it, and it is tried again as it is."""
        with self._lock:
            first, self._down = not self._interval, True
            self._interval = min(self._interval * 2 or self._bounds.retry_s, self._bounds.longest_retry_s)
            self._retry_at = self._times.ticks() + self._interval
            pen = self._pen
            held_up = [*(pen.stuck[1] if pen.stuck else ()), *pen.taken, *self._waiting]
            if first:
                self._losses.since_down, self._losses.told_at = 0, None
        let_go(held_up)
        self._pen.disconnect()
        if first:
            self._tell(
                "ledger_down",
                problem=_words(problem),
                hint="answers are given all the same; rows wait in memory, and are lost if the process ends before it is back",
            )
        with self._lock:
            self._failures += 1
            self._settled.notify_all()

    def _sweep(self) -> None:
        """Remove what is older than `keep_days`, once an hour."""
        with self._lock:
            days, now = self._keep_days, self._times.ticks()
            if days is None or now < self._sweep_at:
                return
            self._sweep_at = now + _SWEEP_S
        try:
            self._pen.opened().remove_content(self._times.now() - days * _DAY_S)
        except Exception as problem:  # noqa: BLE001 - as above
            self._pen.disconnect()
            self._tell("ledger_sweep_failed", problem=_words(problem))

    def _tell_losses(self) -> None:
        with self._lock:
            now = self._times.ticks()
            rows = self._losses.take(now) if self._losses.seconds(now) == 0.0 else 0
        if rows:
            self._tell("ledger_dropped", rows=rows, total=self.dropped)

    def _tell(self, event: str, **details: Any) -> None:
        tell(event, ledger=self.where, **details)


def _words(problem: Exception) -> str:
    """What a failure says of itself; one that is not the ledger's own might quote a row."""
    return str(problem) if isinstance(problem, LedgerDown) else type(problem).__name__
