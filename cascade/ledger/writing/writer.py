"""The writer: one a ledger and process takes what tracks hand over and writes it, in order.

    batched   a daemon thread writes what waits 100 ms after the first of it came, or as soon as it is many
    commit    who waits for a row writes all that waits, in one transaction, on his own thread (`pledges`); where somebody
              is writing already, or he cannot wait, the thread does it. Who waits goes on when it is durable.

Either holds the pen while he writes (`pens`), and there is one.

A ledger that is down holds nobody up: those who wait go on, hand-overs wait in a bounded buffer, and the transaction that
failed is tried again as it was, at growing intervals. What finds no room is counted and told. A request is dropped whole
where it can be: the last tenth of the buffer is for requests that have rows in it already.

A fork waits for the thread to have the pen, and to disconnect: a connection must not be there twice. The child writes as a writer of its own;
what waited is its parent's.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from cascade.forks import renew_in_children
from cascade.hooks import Wait
from cascade.ledger.hook import HandOver
from cascade.ledger.stores import Store
from cascade.ledger.writing import process_hooks as exits
from cascade.ledger.writing.commit import CommitFuture
from cascade.ledger.writing.limits import Bounds, Times
from cascade.ledger.writing.transactions import REST_S, Writing

__all__ = ["Writer"]

_FORK_WAITS_S = 3.0  # a write that hangs must not hold a fork for ever


_TIMES, _BOUNDS = Times(), Bounds()


class Writer(Writing):
    """Takes hand-overs from any thread. `connect` makes the store when there is a first row, on whichever thread writes it.

    `where`: the ledger's address without a password, for events. `commits`: see the module. `led`: whether who waits may
    write by himself; not where a write may take longer than he is willing to wait.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        *,
        where: str,
        commits: bool,
        led: bool = True,
        times: Times = _TIMES,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        super().__init__(connect, where, times, bounds)
        self.commits, self._led = commits, led and commits
        renew_in_children(self)
        exits.remember(self)

    def renew_lock(self) -> None:
        """For `forks`: in a child all begins anew, under another name."""
        self._pen.leave_behind()
        self._begin()

    def put(self, hand_over: HandOver) -> Wait | None:
        """Take a hand-over. With `commit`: what to wait for, unless the ledger is down. Never blocks on the disk."""
        count, asked, wait = hand_over.entries, hand_over.asked, None
        with self._lock:
            room = self._bounds.waiting * (9 if hand_over.first else 10) // 10 - self._entries
            taken = count <= room and not asked.lost
            if taken:
                if self.commits and not self._down:
                    wait = hand_over.wait = CommitFuture(self)
                if not self._entries:
                    self._first_at = self._times.ticks()
                self._waiting.append(hand_over)
                self._put += 1
                before, self._entries = self._entries, self._entries + count
                if (not before and not self._looks) or before < self._bounds.transaction <= self._entries:
                    self._notify()
            else:
                asked.lost = True
                self._losses.drop(count)
        if not taken:
            self._tell_losses()
        return wait

    def lead(self, wait: Wait) -> None:
        """Write on the caller's own thread, until this wait is over; where that cannot be, have the writer's thread do it.

        Raises nothing but what interrupts the caller (KeyboardInterrupt): then what was to be written still is, by the thread.
        """
        pen, leads = self._pen, False  # a `redact` that asks comes here with the pen in hand: it is not his to lay down
        try:
            with self._lock:
                if wait.done():
                    return
                hindered = (
                    pen.holder is not None or self._holders or self._down or self._gave_up or self._thread is None
                )
                if hindered or not self._led:
                    self._urge()
                    return
                pen.holder, leads = threading.get_ident(), True
            while not wait.done():
                self._write()
        except BaseException:
            if leads:
                pen.disconnect()  # who knows where it was interrupted; what was composed is written again as it is
            raise
        finally:
            if leads:
                with self._lock:
                    pen.holder = None
                    if self._wants_pen or self._stuck_or_urged() or self._holders or self._ending:
                        self._work.notify()

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
            if self._pen.mine:
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
            if self._thread is not None and not self._pen.mine:
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
            if self._thread is not None and not self._pen.mine:
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
        self._rest_at = self._times.ticks() + REST_S
        self._thread = threading.Thread(target=self._run, name="cascade-ledger", daemon=True)
        self._thread.start()
        exits.started()

    def _urge(self) -> None:
        if self._urged != self._put or self._pen.stuck is not None:
            self._urged = self._put
            self._retry_at = float("-inf")
            if self._pen.holder is None or self._thread is None:  # else who has the pen looks when he lays it down
                self._notify()

    def _stuck_or_urged(self) -> bool:
        return self._pen.stuck is not None or bool(self._pen.taken) or self._urged > self._done

    # Below, the thread's own.

    def _run(self) -> None:
        pen = self._pen
        try:
            while True:
                while self._wait_for_work():
                    if self._holders:
                        self._park()
                    else:
                        self._tell_losses()
                        self._write()
                        if pen.stuck is None:
                            self._sweep()
                    with self._lock:
                        pen.holder = None
                pen.disconnect()
                with self._lock:
                    pen.holder = None
                    if self._gave_up:
                        self._begin_anew()
                    if not self._entries:  # else something came meanwhile
                        self._thread = None
                        return
        finally:
            with self._lock:
                if pen.mine:
                    pen.holder = None
                self._thread, self._ending = None, False
                self._settled.notify_all()

    def _begin_anew(self) -> None:
        self._give_up(self._pen.begin_anew(secrets.token_hex(8)))
        self._gave_up, self._down, self._interval = False, False, 0.0

    def _wait_for_work(self) -> bool:
        """Returns, with the pen, when there is something to do; False: end."""
        with self._lock:
            while True:
                if self._pen.holder is not None:
                    self._wants_pen = True
                    self._work.wait()
                    self._wants_pen = False
                    continue
                now = self._times.ticks()
                seconds = self._seconds(now)
                if self._holders or self._gave_up or (seconds is not None and seconds <= 0):
                    break
                rests = seconds is None and not self._entries
                if not self._entries and (self._ending or (rests and now >= self._rest_at)):
                    self._pen.holder = threading.get_ident()
                    return False
                self._sleep(self._rest_at - now if rests else seconds)
            self._pen.holder = threading.get_ident()
            return bool(self._holders) or not self._gave_up

    def _sleep(self, seconds: float | None) -> None:
        """Until a notice, or for so long. While rows come in and are written by those who wait, none of them need wake it."""
        came, self._seen = self._put != self._seen, self._put
        if came and self._led and self._pen.stuck is None:
            self._looks = True
            seconds = min(seconds if seconds is not None else self._bounds.linger_s, self._bounds.linger_s)
        self._times.wait(self._work, seconds)
        self._looks = False

    def _seconds(self, now: float) -> float | None:
        """When there is something to do: in so many seconds; None: not before a notice."""
        due: list[float] = []
        pen = self._pen
        if pen.stuck is not None:
            due.append(self._retry_at - now)
        elif self._waiting or pen.taken:
            hurry = pen.taken or self._urged > self._done or self._ending
            full = self._entries >= self._bounds.transaction
            due.append(0.0 if hurry or full else self._first_at + self._bounds.linger_s - now)
        if self._keep_days is not None and pen.stuck is None and not self._ending:
            due.append(self._sweep_at - now)
        untold = self._losses.seconds(now)
        if untold is not None:
            due.append(untold)
        return min(due, default=None)

    def _park(self) -> None:
        self._pen.disconnect()
        with self._lock:
            self._parked = True
            self._settled.notify_all()
            while self._holders:
                self._work.wait()
            self._parked = False
