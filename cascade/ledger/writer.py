"""The writer: one daemon thread a ledger and process that takes what tracks hand over and writes it, in order.

    batched   what waits is written 100 ms after the first of it came, or as soon as it is many
    commit    at once, and all that waits goes into one transaction; who waits for it goes on when it is durable

A ledger that is down holds nobody up: those who wait go on, hand-overs wait in a bounded buffer, and the transaction that
failed is tried again as it was, at growing intervals. What finds no room is counted and told. A request is dropped whole
where it can be: the last tenth of the buffer is for requests that have rows in it already.

A fork waits for the thread to disconnect: a connection must not be there twice. The child writes as a writer of its own;
what waited is its parent's.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cascade.forks import renew_in_children
from cascade.hooks import Wait
from cascade.ledger import exits
from cascade.ledger.bounds import Bounds, Times
from cascade.ledger.composing import Composer
from cascade.ledger.losses import Losses, tell
from cascade.ledger.records import Batch
from cascade.ledger.stores import LedgerDown, Store
from cascade.ledger.tracking import HandOver

__all__ = ["Writer"]

_SWEEP_S, _DAY_S = 3_600.0, 86_400.0
_REST_S = 60.0  # after so long without a row the thread ends and disconnects; the next row begins anew
_FORK_WAITS_S = 3.0  # a write that hangs must not hold a fork for ever


_TIMES, _BOUNDS = Times(), Bounds()


class Writer:
    """Takes hand-overs from any thread. `connect` makes the store, on the writer's own thread, when there is a first row.

    `where`: the ledger's address without a password, for events. `commits`: see the module.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        *,
        where: str,
        commits: bool,
        times: Times = _TIMES,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        self.where, self.commits = where, commits
        self._connect, self._times, self._bounds = connect, times, bounds
        self._keep_days: int | None = None
        self._store: Store | None = None
        self.renew_lock()
        renew_in_children(self)
        exits.remember(self)

    def renew_lock(self) -> None:
        """For `forks`: in a child all begins anew, under another name."""
        if self._store is not None:  # the parent's thread did not get to close it
            exits.inherit(self._store)
        self._store = None
        self.name = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # the thread waits on it
        self._settled = threading.Condition(self._lock)  # others wait on it, for the thread
        self._thread: threading.Thread | None = None
        self._composer = Composer(self.name, self._tell)
        self._waiting: list[HandOver] = []
        self._taken: deque[HandOver] = deque()  # the thread's own
        self._stuck: tuple[Batch, list[HandOver]] | None = None  # what is to be written next, once it was composed
        self._entries = 0  # handed over, and not yet written or given up
        self._first_at = 0.0
        self._put = self._done = self._urged = 0  # hand-overs: all, those written, those that must be written now
        self._failures = 0
        self._down = self._ending = self._gave_up = self._parked = False
        self._holders = 0
        self._retry_at = self._interval = self._rest_at = 0.0
        self._caught_up = 0  # entries written since it was down
        self._losses = Losses()
        self._sweep_at = float("-inf")

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
        return self._composer.withheld

    def put(self, hand_over: HandOver) -> Wait | None:
        """Take a hand-over. With `commit`: what to wait for, unless the ledger is down. Never blocks on the disk."""
        count, asked, wait = hand_over.entries, hand_over.asked, None
        with self._lock:
            room = self._bounds.waiting * (9 if hand_over.first else 10) // 10 - self._entries
            taken = count <= room and not asked.lost
            if taken:
                if self.commits and not self._down:
                    wait = hand_over.wait = Future()
                    wait.set_running_or_notify_cancel()  # nobody may cancel what is being written
                if not self._entries:
                    self._first_at = self._times.ticks()
                self._waiting.append(hand_over)
                self._put += 1
                before, self._entries = self._entries, self._entries + count
                if wait is not None or not before or before < self._bounds.transaction <= self._entries:
                    self._notify()
            else:
                asked.lost = True
                self._losses.drop(count)
        if not taken:
            self._tell_losses()
        return wait

    def keep(self, days: int | None) -> None:
        """Remove texts after so many days; of several policies that share the ledger, the shortest time holds for all."""
        if days is None:
            return
        with self._lock:
            if self._keep_days is None or days < self._keep_days:
                self._keep_days, self._sweep_at = days, float("-inf")
                self._work.notify()

    def urge(self) -> None:
        """Have what waits written now; does not wait for it."""
        with self._lock:
            self._urge()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Have what waits written now; True when it is. Gives up where the ledger turns out to be down."""
        with self._lock:
            if threading.current_thread() is self._thread:
                return False  # a `redact` that asks: it would wait for itself
            self._urge()
            target, failures = self._put, self._failures
            self._settled.wait_for(lambda: self._done >= target or self._failures != failures, timeout_s)
            return self._done >= target

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits, end the thread, disconnect; True when all was written.

        After `timeout_s` what still waits is given up, counted and told. A later hand-over begins anew; after a loss under
        another name, for nobody can tell how the last transaction ended.
        """
        with self._lock:
            if self._thread is not None and threading.current_thread() is not self._thread:
                self._urge()
                self._ending = True
                self._work.notify()
                self._settled.wait_for(lambda: self._thread is None, timeout_s)
            left, self._entries = self._entries, 0
            if left:
                self._gave_up = True
                self._give_up(self._waiting)
                self._waiting.clear()
                self._losses.drop(left)
                self._losses.told_at = None  # the last word
            self._work.notify()
        self._tell_losses()
        return not left

    def hold(self) -> None:
        """Before a fork: disconnect, and stay so until `release`."""
        with self._lock:
            self._holders += 1
            if self._thread is not None and threading.current_thread() is not self._thread:
                self._work.notify()
                self._settled.wait_for(lambda: self._parked or self._thread is None, _FORK_WAITS_S)

    def release(self) -> None:
        """After a fork, in the parent: go on."""
        with self._lock:
            self._holders -= 1
            self._work.notify()

    def wake(self) -> None:
        """Have the thread look at the clock."""
        with self._lock:
            self._work.notify()

    def _notify(self) -> None:
        if self._thread is not None:
            self._work.notify()
            return
        self._rest_at = self._times.ticks() + _REST_S
        self._thread = threading.Thread(target=self._run, name="cascade-ledger", daemon=True)
        self._thread.start()
        exits.started()

    def _urge(self) -> None:
        if self._urged != self._put or self._stuck is not None:
            self._urged = self._put
            self._retry_at = float("-inf")
            self._notify()

    # Below, the thread's own.

    def _run(self) -> None:
        try:
            while True:
                while self._wait_for_work():
                    if self._holders:
                        self._park()
                        continue
                    self._tell_losses()
                    self._write()
                    if self._stuck is None:
                        self._sweep()
                self._disconnect()
                with self._lock:
                    if self._gave_up:
                        self._begin_anew()
                    if not self._entries:  # else something came meanwhile
                        self._thread = None
                        return
        finally:
            with self._lock:
                self._thread, self._ending = None, False
                self._settled.notify_all()

    def _begin_anew(self) -> None:
        self._give_up([*(self._stuck[1] if self._stuck else ()), *self._taken])
        self._stuck, self._gave_up, self._down, self._interval = None, False, False, 0.0
        self._taken.clear()
        self.name = secrets.token_hex(8)
        self._composer.begin(self.name)

    def _give_up(self, hand_overs: Iterable[HandOver]) -> None:
        for one in hand_overs:
            one.asked.lost = True
            self._done += 1

    def _wait_for_work(self) -> bool:
        """Returns when there is something to do; False: end."""
        with self._lock:
            while not self._holders:
                if self._gave_up:
                    return False
                now = self._times.ticks()
                seconds = self._seconds(now)
                if seconds is not None and seconds <= 0:
                    break
                if not self._entries and (self._ending or (seconds is None and now >= self._rest_at)):
                    return False
                rests = seconds is None and not self._entries
                self._times.wait(self._work, self._rest_at - now if rests else seconds)
            return True

    def _seconds(self, now: float) -> float | None:
        """When there is something to do: in so many seconds; None: not before a notice."""
        due: list[float] = []
        if self._stuck is not None:
            due.append(self._retry_at - now)
        elif self._waiting or self._taken:
            hurry = self.commits or self._taken or self._urged > self._done or self._ending
            full = self._entries >= self._bounds.transaction
            due.append(0.0 if hurry or full else self._first_at + self._bounds.linger_s - now)
        if self._keep_days is not None and self._stuck is None and not self._ending:
            due.append(self._sweep_at - now)
        untold = self._losses.seconds(now)
        if untold is not None:
            due.append(untold)
        return min(due, default=None)

    def _write(self) -> None:
        """Write one transaction, if it is time for one."""
        with self._lock:
            if self._stuck is not None and self._retry_at > self._times.ticks():
                return
            self._taken.extend(self._waiting)
            self._waiting.clear()
        if self._stuck is None:
            batch, told, unwritable = self._composer.compose(self._taken, self._bounds.transaction)
            self._stuck = batch, told
            with self._lock:
                self._losses.drop(sum(one.entries for one in unwritable))
        batch, told = self._stuck
        try:
            if batch.entries:
                self._opened().write(batch)
        except Exception as problem:  # noqa: BLE001 - whatever a driver raises: rows wait, and the thread lives on
            self._fell(problem)
        else:
            self._stood(batch, told)

    def _opened(self) -> Store:
        if self._store is None:
            store = self._connect()
            store.open(self.name)
            self._store = store
        return self._store

    def _stood(self, batch: Batch, told: list[HandOver]) -> None:
        """The transaction is durable."""
        with self._lock:
            self._stuck = None
            if not self._gave_up:  # else they are not counted any more
                self._entries -= sum(one.entries for one in told)
            self._first_at = self._times.ticks()
            self._rest_at = self._first_at + _REST_S
            caught_up = None
            if self._interval:
                self._down = False
                self._caught_up += len(batch.entries)
                if not self._taken:
                    caught_up = {"rows": self._caught_up, "dropped": self._losses.since_down}
                    self._interval, self._caught_up, self._losses.since_down, self._losses.untold = 0.0, 0, 0, 0
        _let_go(told)
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
            held_up = [*(self._stuck[1] if self._stuck else ()), *self._taken, *self._waiting]
            if first:
                self._losses.since_down, self._losses.told_at = 0, None
        _let_go(held_up)
        self._disconnect()
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
            self._opened().remove_content(self._times.now() - days * _DAY_S)
        except Exception as problem:  # noqa: BLE001 - as above
            self._disconnect()
            self._tell("ledger_sweep_failed", problem=_words(problem))

    def _park(self) -> None:
        self._disconnect()
        with self._lock:
            self._parked = True
            self._settled.notify_all()
            while self._holders:
                self._work.wait()
            self._parked = False

    def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):  # it may be broken, which is why it is closed
                store.close()

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


def _let_go(hand_overs: Iterable[HandOver]) -> None:
    for one in hand_overs:
        wait, one.wait = one.wait, None
        if wait is not None and not wait.done():
            wait.set_result(None)
