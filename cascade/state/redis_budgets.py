"""Budgets of many processes, by entitlement: what a process may spend, it holds before it spends it.

Redis keeps for each counter what every process is entitled to, uses and has settled (`budgets.lua`). A process says its
own numbers, which are absolute, so that a call that is lost, late or sent twice does no harm; it is granted what the next
call may cost and a slice more, at most 1 % of the limit and all slices at most a quarter of what is left. The slice is
what it may spend while Redis cannot be reached. So the sum of what all may spend never passes a hard limit:

- A lost reply: the process goes on with what it surely holds.
- A process that dies: what it held stays counted until the period ends, slice and all: nobody knows what of it was spent.
- Redis comes back empty: the first to notice begins a new epoch, and for `recovery_s` (of Redis's clock) nobody is granted
  more than it holds, while every process says again what that is. Each also says which total it saw last: what of the
  latest total nobody budgets belonged to processes that are gone, and stays counted.
- The hole that is left: spend that no living process has seen when Redis comes back empty. The ledger's seed covers it
  where it knows of it; `appendonly yes` closes it.
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
from cascade.state.seeds import Asking, reached

__all__ = ["Entitlements", "RedisTimings"]

_SCRIPT = Script("budgets.lua")
_CHUNK = 100  # counters in one call, where all are said again
_MOST_ENTRIES = 100_000
_KEEP_S = 3 * 86_400  # beyond a period's length, from the last call on
_LARGEST = 2**53 - 1  # Lua counts in doubles


@dataclass(frozen=True, slots=True)
class RedisTimings:
    """How a state in Redis behaves in time; all in seconds.

    `timeout_s`: what a call may wait for Redis. `retry_s`: from a failure to the next try. `recovery_s`: see above; above
    `retry_s` + `heartbeat_s`. `heartbeat_s`: between two looks at Redis by a process that holds something; None: never by itself.
    `idle_s`: a slice that is not used so long is given back. `at`: Unix seconds in place of the server's clock.
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
    """One counter, as this process knows it (nano-USD). `acked`, `calls`, `total`: of the last reply.

    `seed`: what the ledger knows beside what is spent here; `unsure`: it was asked, and could not say.
    """

    name: str
    who: str
    budget: ApplicableBudget
    seed: int | None
    settled: int = 0
    reserved: int = 0
    held: int = 0
    acked: int = 0
    calls: int = 0
    total: int = 0
    slice: int = 0
    told: int = 0
    touched: float = 0.0
    unsure: bool = False

    @property
    def used(self) -> int:
        return self.settled + self.reserved

    def arguments(self, hard: bool) -> tuple[str | int, ...]:
        budget = self.budget
        first, *second = (least for _, least in reached(budget))
        seed = self.seed if self.seed is not None else "-" if self.unsure else ""
        keep = int(budget.ends - budget.starts) + _KEEP_S
        return (
            self.who, min(budget.limit, _LARGEST), int(hard), seed, self.used, self.settled, self.held,
            self.acked, self.calls, self.total, keep, first, *(second or [_LARGEST]), self.told,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reply:
    """What Redis said. `parts`: of each counter, as in `budgets.lua`."""

    status: str
    index: int
    left_s: float
    parts: tuple[Any, ...] = field(default=())


class Entitlements:
    """One process's side of it. Safe between threads: one call at a time, and no lock is held while a model is asked."""

    def __init__(
        self,
        policy: str,
        connection: RedisConnection,
        clock: Callable[[], float],
        seed: Seed | None,
        timings: RedisTimings,
        most: int = _MOST_ENTRIES,
    ) -> None:
        self._prefix = f"cascade:{{{policy}}}:budget"
        self._policy, self._connection, self._clock, self._seed, self._timings = (
            policy,
            connection,
            clock,
            seed,
            timings,
        )
        self._most, self._asking, self._is_unsure = most, Asking(), False
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child is a process of its own, and holds nothing."""
        self._lock = threading.Lock()
        self._id, self._generation, self._call = secrets.token_hex(8), 0, 0
        self._epoch: str | None = None
        self._lived_through = False  # has seen Redis come back empty
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the one least lately used first
        self._holding: OrderedDict[str, _Entry] = OrderedDict()  # those with a slice
        self._unsaid: dict[str, _Entry] = {}  # what Redis has not heard yet
        self._latest = self._dropped_at = 0.0  # the latest beginning of a period seen: it cannot be earlier

    @property
    def holds(self) -> bool:
        """Whether Redis counts something of this process's."""
        return bool(self._entries)

    def held(self, budget: ApplicableBudget) -> tuple[int, int]:
        """What this process uses of a budget, and what it may use at most without asking."""
        with self._lock:
            entry = self._entries.get(budget.counter)
            return (entry.used, entry.held) if entry else (0, 0)

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As `State.reserve`. Where Redis is new to everybody, a first process waits for the recovery to end."""
        hards = [hard for _, hard in budgets]
        waited = False
        if self._is_unsure:
            self._ask_again(budgets)
        while True:
            with self._lock:
                entries = [self._take(budget) for budget, _ in budgets]
                reply = self._send("reserve", entries, hards, bound)
                if reply is None or reply.status == "stale":
                    return self._reserve_alone(entries, hards, bound)
                if reply.status == "ok":
                    for entry in entries:
                        entry.reserved += bound
                    return None
                at = reply.index - 1
                wait_s = reply.left_s if reply.status == "refused" and not (waited or self._lived_through) else 0.0
            if reply.status == "seed":
                self._ask(entries[at])
            elif wait_s > 0:
                self._timings.sleep(wait_s)
                waited = True
            else:
                return budgets[at][0]

    def _ask(self, entry: _Entry) -> None:
        """Ask the ledger, which may read a disk: outside the lock.

        What it knows holds what was spent here meanwhile, and that is not counted again; what other processes spent, while
        none of them could ask, may be: nobody can tell whether it was written by then, and a limit must hold.
        """
        settled = entry.settled
        known = self._asking.ask(self._seed, entry.budget)
        with self._lock:
            if known is None:
                self._is_unsure = entry.unsure = True
            elif entry.seed is None:
                entry.seed, entry.unsure = max(0, known - settled), False

    def _ask_again(self, budgets: Sequence[tuple[ApplicableBudget, bool]]) -> None:
        with self._lock:
            found = [self._entries.get(budget.counter) for budget, _ in budgets]
        for entry in found:
            if entry is not None and entry.unsure:
                self._ask(entry)

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
                tell, spent = part[5], int(part[6])
                for bit, (share, _) in zip((1, 2), reached(entry.budget), strict=False):
                    if tell & bit:
                        alerts.append(Alert(entry.budget, share, spent))
            return tuple(alerts)

    def heartbeat(self) -> None:
        """Look whether Redis is the one that was known; say what it has not heard; give back slices that lie idle."""
        with self._lock:
            self._drop_finished()
            if not self._entries:
                return
            now = self._clock()
            while self._holding:
                name, entry = next(iter(self._holding.items()))
                if now - entry.touched < self._timings.idle_s:
                    break
                entry.held = entry.used
                del self._holding[name]
                self._unsaid[name] = entry
            if self._unsaid:
                self._say_all("assert")
            else:
                self._send("assert", ())

    def close(self) -> None:
        """Give back every slice. What is reserved stays counted: its calls may be billed."""
        with self._lock:
            for entry in self._entries.values():
                entry.held = entry.used
            self._unsaid = dict(self._entries)
            self._say_all("close")
            self._entries.clear()
            self._holding.clear()
            self._unsaid.clear()
            self._generation += 1  # who goes on after closing begins a new account

    def _take(self, budget: ApplicableBudget) -> _Entry:
        name = budget.counter
        entry = self._entries.get(name)
        if entry is None:
            self._latest = max(self._latest, budget.starts)
            if len(self._entries) >= self._most:
                self._forget_one(budget)
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
        for names in (self._entries, self._holding, self._unsaid):
            for name in over:
                names.pop(name, None)

    def _forget_one(self, budget: ApplicableBudget) -> None:
        """Redis keeps what the one least lately used has spent; should it come again, it begins a new account."""
        idle = next((one for one in self._entries.values() if not one.reserved), None)
        if idle is None:
            return
        if not self._generation:
            log_event(
                "warning", "budget_counters_full", policy=self._policy, per=budget.scope, period=budget.period, counters=self._most,
                hint="each further one costs a second round trip",
            )  # fmt: skip
        idle.held = idle.used
        self._send("close", (idle,))
        self._generation += 1
        for names in (self._entries, self._holding, self._unsaid):
            names.pop(idle.name, None)

    def _shrink(self, entry: _Entry) -> None:
        # Said before Redis knows of it: where the reply is lost, this process counts on less than Redis keeps for it.
        if entry.held - entry.used > 2 * entry.slice:
            entry.held = entry.used + entry.slice

    def _reserve_alone(self, entries: Sequence[_Entry], hards: Sequence[bool], bound: int) -> ApplicableBudget | None:
        for entry, hard in zip(entries, hards, strict=True):
            if hard and entry.used + bound > entry.held:
                return entry.budget
        for entry in entries:
            entry.reserved += bound
            self._unsaid[entry.name] = entry
        return None

    def _send(
        self, kind: str, entries: Sequence[_Entry], hards: Sequence[bool] | None = None, bound: int = 0
    ) -> _Reply | None:
        """One call; None: Redis is down. What it grants is taken over, but for the reservation itself."""
        reply = self._call_once(kind, entries, hards or [False] * len(entries), bound)
        if reply is not None and self._unsaid and kind != "close":
            self._say_all("assert")
        return reply

    def _say_all(self, kind: str) -> None:
        while self._unsaid:
            some = tuple(self._unsaid.values())[:_CHUNK]
            if self._call_once(kind, some, [False] * len(some), 0) is None:
                return

    def _call_once(self, kind: str, entries: Sequence[_Entry], hards: Sequence[bool], bound: int) -> _Reply | None:
        self._call += 1
        at = self._timings.at
        said = self._connection.run(
            _SCRIPT,
            (f"{self._prefix}:epoch", *(f"{self._prefix}:{entry.name}" for entry in entries)),
            (
                "" if at is None else repr(at()), self._call, secrets.token_hex(8), repr(self._timings.recovery_s), kind, bound,
                *(part for entry, hard in zip(entries, hards, strict=True) for part in entry.arguments(hard)),
            ),
        )  # fmt: skip
        if said is None:
            self._unsaid.update((entry.name, entry) for entry in entries if entry.calls or entry.used)
            return None
        status, index, epoch, left_ms, *parts = cast("list[Any]", said)
        for entry in entries:
            self._unsaid.pop(entry.name, None)
        for entry, part in zip(entries, parts, strict=False):
            entry.held = entry.acked = part[0]
            entry.slice, entry.calls, entry.total = part[1], part[2], int(part[3])
            entry.told |= part[4]
            if entry.held > entry.used:
                self._holding[entry.name] = entry
                self._holding.move_to_end(entry.name)
        if epoch.decode() != self._epoch:
            if self._epoch is not None:
                self._lived_through = True
                said_now = {entry.name for entry in entries}
                self._unsaid.update((name, one) for name, one in self._entries.items() if name not in said_now)
            self._epoch = epoch.decode()
        return _Reply(status.decode(), index, left_ms / 1000, tuple(parts))
