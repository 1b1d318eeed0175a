"""Budgets shared by many processes, by entitlement: a process reserves an amount in Redis before it may spend it.

For each counter Redis keeps what every process is entitled to, uses and has settled (`budgets.lua`). A process sends its own
totals, not increments, so a message that is lost, late or repeated does no harm. It is granted what the next call may cost
and a slice more: at most 1 % of the limit, and all slices together at most a quarter of what is left. The slice is what the
process may spend while Redis cannot be reached. The sum of what all processes may spend never exceeds a hard limit:

- A lost reply: the process goes on with what it certainly holds.
- A process that dies: what it held stays counted until the period ends, slice included, for nobody knows how much it spent.
- Redis restarts empty: the first process to notice begins a new epoch. For `recovery_s` (of Redis's clock) nobody is granted
  more than it holds, while every process sends again what that is, and the last total that it saw. What nobody claims of the
  latest total belonged to processes that have ended, and stays counted.
- Not covered: spend that no living process has seen when Redis restarts empty. The ledger's seed covers what it knows of;
  `appendonly yes` covers the rest.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cascade.core.budgets import ApplicableBudget
from cascade.forks import renew_in_children
from cascade.logs import log_event
from cascade.state import Alert, Seed
from cascade.state.circuit import RedisConnection, Script
from cascade.state.seeds import SeedReader, alert_amounts

__all__ = ["Entitlements", "RedisTimings"]

_SCRIPT = Script("budgets.lua")
_BATCH = 100  # counters in one call, where all are sent again
_MAX_ENTRIES = 100_000
_KEEP_S = 3 * 86_400  # beyond a period's length, after the last call
_MAX_EXACT = 2**53 - 1  # Lua counts in doubles


@dataclass(frozen=True, slots=True)
class RedisTimings:
    """The timings of a state in Redis, in seconds.

    `timeout_s`: how long a call may wait for Redis. `retry_s`: from a failure to the next try. `recovery_s`: see above; more
    than `retry_s` + `heartbeat_s`. `heartbeat_s`: between two heartbeats of a process that holds something; None: no thread
    sends them. `idle_s`: after this time an unused slice is given back. `at`: Unix seconds, in place of the server's clock.
    """

    timeout_s: float = 0.05
    retry_s: float = 1.0
    recovery_s: float = 3.0
    heartbeat_s: float | None = 1.0
    idle_s: float = 60.0
    at: Callable[[], float] | None = None
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Entry:
    """One counter, as this process knows it, in nano-USD. `acked`, `calls`, `total`: from the last reply.

    `seed`: what the ledger knows beyond what is spent here. `seed_unread`: reading it failed. `alerted`: a bit for each
    alert that was sent.
    """

    name: str
    owner: str
    budget: ApplicableBudget
    seed: int | None
    settled: int = 0
    reserved: int = 0
    held: int = 0
    acked: int = 0
    calls: int = 0
    total: int = 0
    slice: int = 0
    alerted: int = 0
    touched: float = 0.0
    seed_unread: bool = False

    @property
    def used(self) -> int:
        return self.settled + self.reserved

    def arguments(self, hard: bool) -> tuple[str | int, ...]:
        budget = self.budget
        first, *second = (least for _, least in alert_amounts(budget))
        seed = self.seed if self.seed is not None else "-" if self.seed_unread else ""
        keep = int(budget.ends - budget.starts) + _KEEP_S
        return (
            self.owner, min(budget.limit, _MAX_EXACT), int(hard), seed, self.used, self.settled, self.held,
            self.acked, self.calls, self.total, keep, first, *(second or [_MAX_EXACT]), self.alerted,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply of Redis. `parts`: one for each counter, as in `budgets.lua`."""

    status: str
    index: int
    left_s: float
    parts: tuple[Any, ...] = field(default=())


class Entitlements:
    """The entitlements of one process. Safe between threads; no lock is held during a call to a model."""

    def __init__(
        self,
        policy: str,
        connection: RedisConnection,
        clock: Callable[[], float],
        seed: Seed | None,
        timings: RedisTimings,
        most: int = _MAX_ENTRIES,
    ) -> None:
        self._prefix = f"cascade:{{{policy}}}:budget"
        self._policy, self._connection, self._clock, self._seed, self._timings = (
            policy,
            connection,
            clock,
            seed,
            timings,
        )
        self._most, self._seed_reader, self._has_unread_seed = most, SeedReader(), False
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child is a process of its own and holds nothing."""
        self._lock = threading.Lock()
        self._id, self._generation, self._call = secrets.token_hex(8), 0, 0
        self._epoch: str | None = None
        self._saw_restart = False  # Redis has restarted empty
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the least recently used one first
        self._with_slice: OrderedDict[str, _Entry] = OrderedDict()  # those that hold more than they use
        self._unsent: dict[str, _Entry] = {}  # changes that Redis does not know yet
        self._latest = self._dropped_at = 0.0  # the latest start of a period seen: the time is not before it

    @property
    def holds(self) -> bool:
        """Whether Redis counts anything for this process."""
        return bool(self._entries)

    def held(self, budget: ApplicableBudget) -> tuple[int, int]:
        """What this process uses of a budget, and what it may use without asking Redis."""
        with self._lock:
            entry = self._entries.get(budget.counter)
            return (entry.used, entry.held) if entry else (0, 0)

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As `State.reserve`. After a restart of Redis, a process that did not see it waits for the recovery to end."""
        hards = [hard for _, hard in budgets]
        waited = False
        if self._has_unread_seed:
            self._retry_seeds(budgets)
        while True:
            with self._lock:
                entries = [self._entry_of(budget) for budget, _ in budgets]
                reply = self._send("reserve", entries, hards, bound)
                if reply is None or reply.status == "stale":
                    return self._reserve_offline(entries, hards, bound)
                if reply.status == "ok":
                    for entry in entries:
                        entry.reserved += bound
                    return None
                at = reply.index - 1
                wait_s = reply.left_s if reply.status == "refused" and not (waited or self._saw_restart) else 0.0
            if reply.status == "seed":
                self._read_seed(entries[at])
            elif wait_s > 0:
                self._timings.sleep(wait_s)
                waited = True
            else:
                return budgets[at][0]

    def _read_seed(self, entry: _Entry) -> None:
        """Read the seed from the ledger, outside the lock, for it may read a disk.

        What was spent here meanwhile is not counted twice. What other processes spent while the ledger could not be read may
        be: nobody knows whether it was written by then, and the limit must hold.
        """
        settled = entry.settled
        known = self._seed_reader.read(self._seed, entry.budget)
        with self._lock:
            if known is None:
                self._has_unread_seed = entry.seed_unread = True
            elif entry.seed is None:
                entry.seed, entry.seed_unread = max(0, known - settled), False

    def _retry_seeds(self, budgets: Sequence[tuple[ApplicableBudget, bool]]) -> None:
        with self._lock:
            found = [self._entries.get(budget.counter) for budget, _ in budgets]
        for entry in found:
            if entry is not None and entry.seed_unread:
                self._read_seed(entry)

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        with self._lock:
            found = [entry for budget in budgets if (entry := self._entries.get(budget.counter)) is not None]
            for entry in found:
                entry.reserved = max(0, entry.reserved - bound)
                entry.settled += cost
                self._shrink(entry)
            if not found:
                return ()
            reply = self._send("settle", found)
            if reply is None:
                return ()
            alerts: list[Alert] = []
            for entry, part in zip(found, reply.parts, strict=False):
                due, spent = part[5], int(part[6])
                for bit, (share, _) in zip((1, 2), alert_amounts(entry.budget), strict=False):
                    if due & bit:
                        alerts.append(Alert(entry.budget, share, spent))
            return tuple(alerts)

    def heartbeat(self) -> None:
        """Check whether Redis has restarted, send what it does not know yet, and give back idle slices."""
        with self._lock:
            self._drop_finished()
            if not self._entries:
                return
            now = self._clock()
            while self._with_slice:
                name, entry = next(iter(self._with_slice.items()))
                if now - entry.touched < self._timings.idle_s:
                    break
                entry.held = entry.used
                del self._with_slice[name]
                self._unsent[name] = entry
            if self._unsent:
                self._send_unsent("assert")
            else:
                self._send("assert", ())

    def close(self) -> None:
        """Give back every slice. What is reserved stays counted, for its calls may be billed."""
        with self._lock:
            for entry in self._entries.values():
                entry.held = entry.used
            self._unsent = dict(self._entries)
            self._send_unsent("close")
            self._entries.clear()
            self._with_slice.clear()
            self._unsent.clear()
            self._generation += 1  # a use after closing begins a new account

    def _entry_of(self, budget: ApplicableBudget) -> _Entry:
        name = budget.counter
        entry = self._entries.get(name)
        if entry is None:
            self._latest = max(self._latest, budget.starts)
            if len(self._entries) >= self._most:
                self._evict_one(budget)
            seed = 0 if self._seed is None else None
            entry = self._entries[name] = _Entry(name, f"{self._id}.{self._generation}", budget, seed)
        entry.budget, entry.touched = budget, self._clock()
        self._entries.move_to_end(name)
        return entry

    def _drop_finished(self) -> None:
        if self._latest <= self._dropped_at:
            return
        self._dropped_at = self._latest
        over = [name for name, one in self._entries.items() if one.budget.ends <= self._latest and not one.reserved]
        for names in (self._entries, self._with_slice, self._unsent):
            for name in over:
                names.pop(name, None)

    def _evict_one(self, budget: ApplicableBudget) -> None:
        """Drop the least recently used counter. Redis keeps what it has spent; its next use begins a new account."""
        idle = next((one for one in self._entries.values() if not one.reserved), None)
        if idle is None:
            return
        if not self._generation:
            log_event(
                "warning", "budget_counters_full", policy=self._policy, per=budget.scope, period=budget.period, counters=self._most,
                hint="each further counter costs a second round trip",
            )  # fmt: skip
        idle.held = idle.used
        self._send("close", (idle,))
        self._generation += 1
        for names in (self._entries, self._with_slice, self._unsent):
            names.pop(idle.name, None)

    def _shrink(self, entry: _Entry) -> None:
        # Given up before Redis knows: if the reply is lost, this process relies on less than Redis keeps for it.
        if entry.held - entry.used > 2 * entry.slice:
            entry.held = entry.used + entry.slice

    def _reserve_offline(self, entries: Sequence[_Entry], hards: Sequence[bool], bound: int) -> ApplicableBudget | None:
        for entry, hard in zip(entries, hards, strict=True):
            if hard and entry.used + bound > entry.held:
                return entry.budget
        for entry in entries:
            entry.reserved += bound
            self._unsent[entry.name] = entry
        return None

    def _send(
        self, kind: str, entries: Sequence[_Entry], hards: Sequence[bool] | None = None, bound: int = 0
    ) -> _Reply | None:
        """One call, and what was not sent before. None: Redis is down. Takes over the grants, not the reservation itself."""
        reply = self._call_once(kind, entries, hards or [False] * len(entries), bound)
        if reply is not None and self._unsent and kind != "close":
            self._send_unsent("assert")
        return reply

    def _send_unsent(self, kind: str) -> None:
        while self._unsent:
            some = tuple(self._unsent.values())[:_BATCH]
            if self._call_once(kind, some, [False] * len(some), 0) is None:
                return

    def _call_once(self, kind: str, entries: Sequence[_Entry], hards: Sequence[bool], bound: int) -> _Reply | None:
        self._call += 1
        at = self._timings.at
        reply = self._connection.run(
            _SCRIPT,
            (f"{self._prefix}:epoch", *(f"{self._prefix}:{entry.name}" for entry in entries)),
            (
                "" if at is None else repr(at()), self._call, secrets.token_hex(8), repr(self._timings.recovery_s), kind, bound,
                *(part for entry, hard in zip(entries, hards, strict=True) for part in entry.arguments(hard)),
            ),
        )  # fmt: skip
        if reply is None:
            self._unsent.update((entry.name, entry) for entry in entries if entry.calls or entry.used)
            return None
        status, index, epoch, left_ms, *parts = cast("list[Any]", reply)
        for entry in entries:
            self._unsent.pop(entry.name, None)
        for entry, part in zip(entries, parts, strict=False):
            entry.held = entry.acked = part[0]
            entry.slice, entry.calls, entry.total = part[1], part[2], int(part[3])
            entry.alerted |= part[4]
            if entry.held > entry.used:
                self._with_slice[entry.name] = entry
                self._with_slice.move_to_end(entry.name)
        if epoch.decode() != self._epoch:
            if self._epoch is not None:
                self._saw_restart = True
                sent_now = {entry.name for entry in entries}
                self._unsent.update((name, one) for name, one in self._entries.items() if name not in sent_now)
            self._epoch = epoch.decode()
        return _Reply(status.decode(), index, left_ms / 1000, tuple(parts))
