"""The writer: one per ledger and process. It accepts pending entries from any thread and writes them in order.

    batched   a daemon thread writes 100 ms after the first entry came, or as soon as there are many
    commit    a blocking caller performs the write: all that waits, in one transaction, on its own thread (`commit`). If another
              thread is writing, or the caller cannot block, the daemon thread does it. Callers continue once it is durable.

With `batched`, the outcome of a request that will be audited is waited for as well; the thread writes it at once.

Whoever writes holds the write lock (`lock`).

A ledger that is down delays nobody: waiting callers continue, entries stay in a bounded buffer, and the failed transaction is tried
again unchanged at growing intervals. Entries that do not fit are counted and logged. The last tenth of the buffer is reserved for
requests that have entries in it already, so that requests are dropped whole where possible.

A fork waits until the thread has disconnected, because two processes must not share a connection. The child writes under a new
name; entries that waited belong to the parent.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from cascade.forks import renew_in_children
from cascade.hooks import Wait
from cascade.ledger.hook import PendingEntries
from cascade.ledger.stores import Store
from cascade.ledger.writing import process_hooks
from cascade.ledger.writing.commit import CommitFuture
from cascade.ledger.writing.limits import Bounds, Times
from cascade.ledger.writing.transactions import REST_S, Writing

__all__ = ["Writer"]

_FORK_WAITS_S = 3.0  # a write that hangs must not block a fork for ever


_TIMES, _BOUNDS = Times(), Bounds()


class Writer(Writing):
    """Accepts pending entries from any thread. `connect` makes the store at the first entry, on the thread that writes it.

    `where`: the ledger's address without a password, for events. `commits`: see the module. `callers_write`: whether who waits may
    write by himself; not where a write may take longer than he is willing to wait.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        *,
        where: str,
        commits: bool,
        callers_write: bool = True,
        times: Times = _TIMES,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        super().__init__(connect, where, times, bounds)
        self.commits, self._callers_write = commits, callers_write and commits
        renew_in_children(self)
        process_hooks.register(self)

    def renew_lock(self) -> None:
        """Called by `forks` in a child process: start again under another name."""
        self._write_lock.abandon_in_child()
        self._reset()

    def put(self, pending: PendingEntries) -> Wait | None:
        """Accept entries. Returns what to wait for, with `commit` or if it will be audited, unless the ledger is down. Never blocks on the disk."""
        count, context, wait = pending.entries, pending.context, None
        with self._lock:
            room = self._bounds.waiting * (9 if pending.first else 10) // 10 - self._entries
            taken = count <= room and not context.lost
            if taken:
                if (self.commits or pending.is_awaited) and not self._down:
                    wait = pending.wait = CommitFuture(self)
                if not self._entries:
                    self._oldest_at = self._times.ticks()
                self._waiting.append(pending)
                self._put += 1
                before, self._entries = self._entries, self._entries + count
                if (not before and not self._polls) or before < self._bounds.transaction <= self._entries:
                    self._notify()
            else:
                context.lost = True
                self._drops.drop(count)
        if not taken:
            self._report_drops()
        return wait

    def write_until(self, wait: Wait) -> None:
        """Write on the caller's thread until this future is done; if that is impossible, the writer's thread does it.

        Raises only what interrupts the caller (KeyboardInterrupt); the thread then writes what is left.
        """
        # Called from a `redact` function, this thread holds the lock already, and must not release it here.
        write_lock, is_writing = self._write_lock, False
        try:
            with self._lock:
                if wait.done():
                    return
                hindered = (
                    write_lock.holder is not None
                    or self._pauses
                    or self._down
                    or self._abandoned
                    or self._thread is None
                )
                if hindered or not self._callers_write:
                    self._write_soon()
                    return
                write_lock.holder, is_writing = threading.get_ident(), True
            while not wait.done():
                self._write()
        except BaseException:
            if is_writing:
                write_lock.disconnect()  # the connection's state is unknown; what was encoded is written again unchanged
            raise
        finally:
            if is_writing:
                with self._lock:
                    write_lock.holder = None
                    if self._wants_lock or self._has_urgent_work() or self._pauses or self._closing:
                        self._work.notify()

    def keep(self, days: int | None) -> None:
        """Remove texts after so many days. If several policies share the ledger, the shortest time applies."""
        if days is None:
            return
        with self._lock:
            if self._keep_days is None or days < self._keep_days:
                self._keep_days, self._sweep_at = days, float("-inf")
                self._work.notify()

    def write_soon(self) -> None:
        """Start writing what waits; does not wait for it."""
        with self._lock:
            self._write_soon()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Write what waits now; True once it is written. Gives up if the ledger turns out to be down."""
        with self._lock:
            if self._write_lock.is_held_here:
                return False  # called from a `redact` function: it would wait for itself
            self._write_soon()
            target, failures = self._put, self._failures
            self._settled.wait_for(lambda: self._done >= target or self._failures != failures, timeout_s)
            return self._done >= target

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits, end the thread, disconnect; True if all was written.

        After `timeout_s` the rest is abandoned, counted and logged. Later entries start the writer again, after a loss under
        another name, because the last transaction may or may not have been committed.
        """
        with self._lock:
            if self._thread is not None and not self._write_lock.is_held_here:
                self._write_soon()
                self._closing = True
                self._work.notify()
                self._settled.wait_for(lambda: self._thread is None, timeout_s)
            left, self._entries = self._entries, 0
            if left:
                self._abandoned = True
                self._abandon(self._waiting)
                self._waiting.clear()
                self._drops.drop(left)
                self._drops.reported_at = None  # report this at once
            self._work.notify()
        self._report_drops()
        return not left

    def pause(self) -> None:
        """Before a fork: disconnect until `resume`."""
        with self._lock:
            self._pauses += 1
            if self._thread is not None and not self._write_lock.is_held_here:
                self._work.notify()
                self._settled.wait_for(lambda: self._is_paused or self._thread is None, _FORK_WAITS_S)

    def resume(self) -> None:
        """After a fork, in the parent: continue."""
        with self._lock:
            self._pauses -= 1
            self._work.notify()

    def wake(self) -> None:
        """Make the thread look at the clock."""
        with self._lock:
            self._work.notify()

    def _notify(self) -> None:
        if self._thread is not None:
            self._work.notify()
            return
        self._rest_at = self._times.ticks() + REST_S
        self._thread = threading.Thread(target=self._run, name="cascade-ledger", daemon=True)
        self._thread.start()
        process_hooks.thread_started()

    def _write_soon(self) -> None:
        if self._urgent != self._put or self._write_lock.transaction is not None:
            self._urgent = self._put
            self._retry_at = float("-inf")
            # Else the holder of the write lock looks when it releases it.
            if self._write_lock.holder is None or self._thread is None:
                self._notify()

    def _has_urgent_work(self) -> bool:
        return self._write_lock.transaction is not None or bool(self._write_lock.taken) or self._urgent > self._done

    # Below: run by the writer's thread only.

    def _run(self) -> None:
        write_lock = self._write_lock
        try:
            while True:
                while self._wait_for_work():
                    if self._pauses:
                        self._pause()
                    else:
                        self._report_drops()
                        self._write()
                        if write_lock.transaction is None:
                            self._sweep()
                    with self._lock:
                        write_lock.holder = None
                write_lock.disconnect()
                with self._lock:
                    write_lock.holder = None
                    if self._abandoned:
                        self._restart()
                    if not self._entries:  # else an entry came meanwhile
                        self._thread = None
                        return
        finally:
            with self._lock:
                if write_lock.is_held_here:
                    write_lock.holder = None
                self._thread, self._closing = None, False
                self._settled.notify_all()

    def _restart(self) -> None:
        self._abandon(self._write_lock.restart(secrets.token_hex(8)))
        self._abandoned, self._down, self._interval = False, False, 0.0

    def _wait_for_work(self) -> bool:
        """Wait, and return holding the write lock: True if there is work, False to end."""
        with self._lock:
            while True:
                if self._write_lock.holder is not None:
                    self._wants_lock = True
                    self._work.wait()
                    self._wants_lock = False
                    continue
                now = self._times.ticks()
                seconds = self._seconds(now)
                if self._pauses or self._abandoned or (seconds is not None and seconds <= 0):
                    break
                rests = seconds is None and not self._entries
                if not self._entries and (self._closing or (rests and now >= self._rest_at)):
                    self._write_lock.holder = threading.get_ident()
                    return False
                self._sleep(self._rest_at - now if rests else seconds)
            self._write_lock.holder = threading.get_ident()
            return bool(self._pauses) or not self._abandoned

    def _sleep(self, seconds: float | None) -> None:
        """Until notified, or for so long. While callers write their own entries, they need not wake the thread."""
        came, self._last_put = self._put != self._last_put, self._put
        if came and self._callers_write and self._write_lock.transaction is None:
            self._polls = True
            seconds = min(seconds if seconds is not None else self._bounds.linger_s, self._bounds.linger_s)
        self._times.wait(self._work, seconds)
        self._polls = False

    def _seconds(self, now: float) -> float | None:
        """Seconds until there is work; None: not before a notification."""
        due: list[float] = []
        write_lock = self._write_lock
        if write_lock.transaction is not None:
            due.append(self._retry_at - now)
        elif self._waiting or write_lock.taken:
            hurry = write_lock.taken or self._urgent > self._done or self._closing
            full = self._entries >= self._bounds.transaction
            due.append(0.0 if hurry or full else self._oldest_at + self._bounds.linger_s - now)
        if self._keep_days is not None and write_lock.transaction is None and not self._closing:
            due.append(self._sweep_at - now)
        unreported = self._drops.seconds(now)
        if unreported is not None:
            due.append(unreported)
        return min(due, default=None)

    def _pause(self) -> None:
        self._write_lock.disconnect()
        with self._lock:
            self._is_paused = True
            self._settled.notify_all()
            while self._pauses:
                self._work.wait()
            self._is_paused = False
