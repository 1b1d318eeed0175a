"""The state in memory: the storm guard of one driver; the budget counters and the remembered values of one process.

Drivers with the same policy name and the same home share counters and values, so that two of them cannot spend a budget twice, and
a new driver knows the loops of the one before it. A forked child keeps what was settled; running calls are its parent's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cascade.core.budgets import ApplicableBudget
from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action, Tripped
from cascade.forks import renew_in_children
from cascade.logs import log_event
from cascade.state import Alert, Seed, Told
from cascade.state.memory_guard import MemoryGuard
from cascade.state.registry import ProcessRegistry
from cascade.state.seeds import SeedReader, alert_amounts
from cascade.state.values import digest_of, process_values

__all__ = ["BudgetCounters", "MemoryState", "process_counters"]

_MAX_COUNTERS = 100_000  # about 40 MB: a workflow per customer must not fill the memory


@dataclass(slots=True)
class _Counter:
    """One counter, in nano-USD. `alerted`: the shares notified already. `seeded`: it includes what the ledger knows."""

    ends: float
    settled: int
    seeded: bool
    reserved: int = 0
    alerted: set[float] = field(default_factory=set[float])


class BudgetCounters:
    """What was spent and reserved of each counter: exact, and safe between threads.

    A finished period's counters are dropped when a later period begins and nothing is reserved in them. Up to `most` are
    kept at a time. Above that the new ones share one counter per budget, which may refuse early but cannot be overspent;
    this is logged.
    """

    def __init__(self, most: int = _MAX_COUNTERS) -> None:
        self._most = most
        self._by_name: dict[str, _Counter] = {}
        self._seed_reader = SeedReader()
        self._now = 0.0  # the latest start of a period seen: the time is not before it
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()
        for counter in self._by_name.values():
            counter.reserved = 0

    def spent(self, name: str) -> tuple[int, int]:
        """What is settled and what is reserved of a counter; zeros if it is not known."""
        with self._lock:
            counter = self._by_name.get(name)
            return (counter.settled, counter.reserved) if counter else (0, 0)

    def knows(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """Whether these can be decided without asking the ledger."""
        with self._lock:
            return not any(self._needs_seed(budget) for budget in budgets)

    def reserve(
        self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int, seed: Seed | None
    ) -> ApplicableBudget | None:
        """As `State.reserve`. `seed` is called outside the lock, and its amount counts once.

        If it fails, the counter goes on with what is spent here, and the next reservation calls it again.
        """
        with self._lock:
            missing = [(budget, self._settled(budget)) for budget, _ in budgets if self._needs_seed(budget)]
        seeds: dict[str, int] = {}
        for budget, settled in missing:
            known = self._seed_reader.read(seed, budget)
            if known is None:
                break  # it would fail for the others too
            seeds[budget.counter] = max(0, known - settled)  # what was spent here is in the ledger too
        with self._lock:
            counters = [self._seeded(budget, seeds.get(budget.counter)) for budget, _ in budgets]
            for counter, (budget, hard) in zip(counters, budgets, strict=True):
                if hard and counter.settled + counter.reserved + bound > budget.limit:
                    return budget
            for counter in counters:
                counter.reserved += bound
        return None

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        alerts: list[Alert] = []
        with self._lock:
            for budget in budgets:
                counter = self._find(budget)
                if counter is None:
                    continue  # its period is over, in a child that was forked meanwhile
                counter.reserved = max(0, counter.reserved - bound)
                counter.settled += cost
                for share, least in alert_amounts(budget):
                    if counter.settled >= least and share not in counter.alerted:
                        counter.alerted.add(share)
                        alerts.append(Alert(budget, share, counter.settled))
        return tuple(alerts)

    def _find(self, budget: ApplicableBudget) -> _Counter | None:
        return self._by_name.get(budget.counter) or self._by_name.get(_shared_name(budget))

    def _needs_seed(self, budget: ApplicableBudget) -> bool:
        counter = self._find(budget)
        return counter is None or not counter.seeded

    def _settled(self, budget: ApplicableBudget) -> int:
        counter = self._find(budget)
        return 0 if counter is None else counter.settled

    def _seeded(self, budget: ApplicableBudget, more: int | None) -> _Counter:
        """The budget's counter, with what the ledger knows beyond what is spent here (None: it could not be read)."""
        counter = self._find(budget)
        if counter is None:
            counter = self._add(budget)
        if more is not None and not counter.seeded:
            counter.seeded = True
            counter.settled += more
            # The process that spent it has sent these alerts.
            counter.alerted.update(share for share, least in alert_amounts(budget) if more >= least)
        return counter

    def _add(self, budget: ApplicableBudget) -> _Counter:
        name = budget.counter
        if budget.starts > self._now:
            self._now = budget.starts
            over = [key for key, one in self._by_name.items() if one.ends <= self._now and not one.reserved]
            for key in over:
                del self._by_name[key]
        if len(self._by_name) >= self._most:
            name = _shared_name(budget)
            _log_full(budget, self._most)
        counter = self._by_name[name] = _Counter(budget.ends, 0, seeded=False)
        return counter


def _shared_name(budget: ApplicableBudget) -> str:
    return f"{budget.policy}/{budget.scope}|*|{budget.span}|{budget.period}|{budget.nth}"


def _log_full(budget: ApplicableBudget, most: int) -> None:
    log_event(
        "error",
        "budget_counters_full",
        policy=budget.policy,
        per=budget.scope,
        period=budget.period,
        counters=most,
        hint=f"more values of {budget.scope!r} than counters are kept: the rest share one counter until the period ends",
    )


process_counters = ProcessRegistry(BudgetCounters).get
"""The counters that this process keeps for a policy's name, at the current home."""


class MemoryState:
    """The state of one process. `clock`: seconds from any origin, for the storm guard and for what expires."""

    is_remote = False
    is_down = False

    def __init__(
        self,
        policy: Policy,
        escalation: Escalation,
        clock: Callable[[], float],
        *,
        seed: Seed | None = None,
        told: Told | None = None,
    ) -> None:
        self._guard = MemoryGuard(policy.name, policy.storm_guard, clock, escalation, told)
        self._counters = process_counters(policy.name)
        self._values = process_values(policy.name)
        self._clock = clock
        self._seed = seed

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        return self._guard.observe(observation)

    def tripped(self) -> tuple[Tripped, ...]:
        """As `State.tripped`."""
        return self._guard.tripped()

    def expect(self, escalation: Escalation) -> None:
        """As `State.expect`."""
        self._guard.expect(escalation)

    def may_wait(self, budgets: Sequence[ApplicableBudget]) -> bool:
        """As `State.may_wait`: for a new counter the ledger is queried."""
        return self._seed is not None and not self._counters.knows(budgets)

    def reserve(self, budgets: Sequence[tuple[ApplicableBudget, bool]], bound: int) -> ApplicableBudget | None:
        """As `State.reserve`."""
        return self._counters.reserve(budgets, bound, self._seed)

    def settle(self, budgets: Sequence[ApplicableBudget], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        return self._counters.settle(budgets, bound, cost)

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """As `State.remember`."""
        self._values.remember([digest_of(key) for key in keys], value, ttl_s, self._clock())

    def recall(self, keys: Sequence[str]) -> str | None:
        """As `State.recall`."""
        found = self._values.recall([digest_of(key) for key in keys], self._clock())
        return found[1] if found is not None else None

    def close(self) -> None:
        """Nothing is shared, so nothing is given back."""
