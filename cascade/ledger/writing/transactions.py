"""One transaction: writing it, and what follows from success and failure."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from cascade.ledger.hook import PendingEntries
from cascade.ledger.records import Batch
from cascade.ledger.stores import LedgerDown, Store
from cascade.ledger.writing.commit import release_waiters
from cascade.ledger.writing.drops import Drops, log_warning
from cascade.ledger.writing.limits import Bounds, Times
from cascade.ledger.writing.lock import WriteLock

__all__ = ["REST_S", "Writing"]

_SWEEP_S, _DAY_S = 3_600.0, 86_400.0
REST_S = 60.0
"""After so long without an entry the thread disconnects and ends; the next entry starts another."""


class Writing:
    """The state of a `Writer`, and how it writes a transaction. Everything but the write lock is guarded by `_lock`."""

    def __init__(self, connect: Callable[[], Store], where: str, times: Times, bounds: Bounds) -> None:
        self.where = where
        self._connect, self._times, self._bounds = connect, times, bounds
        self._keep_days: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # the thread waits for work
        self._settled = threading.Condition(self._lock)  # others wait for the thread
        self._thread: threading.Thread | None = None
        self._write_lock = WriteLock(secrets.token_hex(8), self._connect, self._log)
        self._waiting: list[PendingEntries] = []
        self._entries = 0  # accepted, and not yet written or abandoned
        self._oldest_at = 0.0
        self._put: int = 0  # pending entries accepted
        self._done: int = 0  # of them, written or abandoned
        self._urgent: int = 0  # of them, to be written now
        self._failures = 0
        self._down = self._closing = self._abandoned = self._is_paused = False
        self._polls = self._wants_lock = (
            False  # the thread sleeps until it looks again, or until the write lock is free
        )
        self._last_put: int = 0  # `_put` when the thread last looked
        self._pauses = 0
        self._retry_at: float = 0.0
        self._rest_at: float = 0.0
        self._interval: float = 0.0
        self._caught_up = 0  # entries written since it was down
        self._drops = Drops()
        self._sweep_at = float("-inf")

    @property
    def name(self) -> str:
        """The writer's name in the ledger."""
        return self._write_lock.name

    @property
    def dropped(self) -> int:
        """Entries that will not be written."""
        return self._drops.total

    @property
    def waiting(self) -> int:
        """Entries waiting to be written."""
        return self._entries

    @property
    def withheld(self) -> int:
        """Texts that were not stored because `redact` failed."""
        return self._write_lock.encoder.withheld

    def _abandon(self, entries: Iterable[PendingEntries]) -> None:
        for one in entries:
            one.context.lost = True
            self._done += 1

    def _write(self) -> None:
        """Write one transaction, if one is due. Only for the holder of the write lock."""
        write_lock = self._write_lock
        with self._lock:
            if write_lock.transaction is not None and self._retry_at > self._times.ticks():
                return
            taken = deque((*write_lock.taken, *self._waiting))
            # In one statement: Ctrl-C comes between calls, and no entry may be in both.
            write_lock.taken, self._waiting = taken, []
        if write_lock.transaction is None:
            unwritable = write_lock.encode_next(self._bounds.transaction)
            if unwritable:
                with self._lock:
                    self._drops.drop(sum(one.entries for one in unwritable))
        if write_lock.transaction is None:  # for the type checker: it was just encoded
            return
        batch, included = write_lock.transaction
        try:
            write_lock.write(batch)
        except Exception as problem:  # noqa: BLE001 - whatever the driver raises: entries wait, and the thread goes on
            self._failed(problem)
        else:
            self._succeeded(batch, included)

    def _succeeded(self, batch: Batch, included: list[PendingEntries]) -> None:
        """The transaction is durable."""
        with self._lock:
            self._write_lock.transaction = None
            if not self._abandoned:  # else they were already subtracted
                self._entries -= sum(one.entries for one in included)
            self._oldest_at = self._times.ticks()
            self._rest_at = self._oldest_at + REST_S
            caught_up = None
            if self._interval:
                self._down = False
                self._caught_up += len(batch.entries)
                if not self._write_lock.taken:
                    caught_up = {"rows": self._caught_up, "dropped": self._drops.since_down}
                    self._interval, self._caught_up, self._drops.since_down, self._drops.unreported = 0.0, 0, 0, 0
        release_waiters(included)
        if caught_up is not None:
            self._log("ledger_back", **caught_up)
        with self._lock:  # after the event is logged, so that a flush sees it
            self._done += len(included)
            self._settled.notify_all()

    def _failed(self, problem: Exception) -> None:
        """The transaction failed: waiting callers continue, and it is tried again unchanged."""
        with self._lock:
            first, self._down = not self._interval, True
            self._interval = min(self._interval * 2 or self._bounds.retry_s, self._bounds.longest_retry_s)
            self._retry_at = self._times.ticks() + self._interval
            write_lock = self._write_lock
            held_up = [
                *(write_lock.transaction[1] if write_lock.transaction else ()),
                *write_lock.taken,
                *self._waiting,
            ]
            if first:
                self._drops.since_down, self._drops.reported_at = 0, None
        release_waiters(held_up)
        self._write_lock.disconnect()
        if first:
            self._log(
                "ledger_down",
                problem=_error_text(problem),
                hint="requests are still answered; entries wait in memory and are lost if the process exits before the ledger is back",
            )
        with self._lock:
            self._failures += 1
            self._settled.notify_all()

    def _sweep(self) -> None:
        """Remove texts older than `keep_days`, once an hour."""
        with self._lock:
            days, now = self._keep_days, self._times.ticks()
            if days is None or now < self._sweep_at:
                return
            self._sweep_at = now + _SWEEP_S
        try:
            self._write_lock.opened().remove_content(self._times.now() - days * _DAY_S)
        except Exception as problem:  # noqa: BLE001 - as above
            self._write_lock.disconnect()
            self._log("ledger_sweep_failed", problem=_error_text(problem))

    def _report_drops(self) -> None:
        with self._lock:
            now = self._times.ticks()
            rows = self._drops.take(now) if self._drops.seconds(now) == 0.0 else 0
        if rows:
            self._log("ledger_dropped", rows=rows, total=self.dropped)

    def _log(self, event: str, **details: Any) -> None:
        log_warning(event, ledger=self.where, **details)


def _error_text(problem: Exception) -> str:
    """The error's text; only its class if it is not a LedgerDown, because it might quote a row."""
    return str(problem) if isinstance(problem, LedgerDown) else type(problem).__name__
