"""The state in memory: the guard of one driver, and the budgets' counters of one process.

Drivers of one policy name and one home share their books: two of them in a process must not spend a budget twice. A
forked child keeps what was settled; the calls in flight are its parent's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.core.budgets import Claim
from cascade.core.climb import Observation
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action
from cascade.forks import renew_in_children
from cascade.home import home
from cascade.logs import log_event
from cascade.state import Alert, Seed
from cascade.state.claims import Asking, reached
from cascade.state.memory_guard import MemoryGuard

__all__ = ["BudgetCounters", "MemoryState", "process_counters"]

_MOST_COUNTERS = 100_000  # some 40 MB: a workflow per customer must not fill the memory


@dataclass(slots=True)
class _Tally:
    """One counter, in nano-USD. `told`: the shares that were. `seeded`: what the ledger knows is in it."""

    ends: float
    settled: int
    seeded: bool
    reserved: int = 0
    told: set[float] = field(default_factory=set[float])


class BudgetCounters:
    """What was spent and reserved of each counter: exact, and safe between threads.

    A finished period's counters go when a claim of a later one is seen (the claims tell the time) and nothing of them
    is reserved. In a period up to `most` are kept; those that come after share one counter per budget, which may refuse
    early but can never be overspent, and that is told.
    """

    def __init__(self, most: int = _MOST_COUNTERS) -> None:
        self._most = most
        self._tallies: dict[str, _Tally] = {}
        self._asking = Asking()
        self._now = 0.0  # the latest beginning of a period seen: it cannot be earlier
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()
        for tally in self._tallies.values():
            tally.reserved = 0

    def spent(self, counter: str) -> tuple[int, int]:
        """What is settled and what is reserved of a counter; zeros where it is not known."""
        with self._lock:
            tally = self._tallies.get(counter)
            return (tally.settled, tally.reserved) if tally else (0, 0)

    def knows(self, claims: Sequence[Claim]) -> bool:
        """Whether nothing need be asked to decide on these."""
        with self._lock:
            return not any(self._must_ask(claim) for claim in claims)

    def reserve(self, claims: Sequence[tuple[Claim, bool]], bound: int, seed: Seed | None) -> Claim | None:
        """As `State.reserve`. `seed` is asked outside the lock, and what it says counts once.

        Where it cannot say, the counter goes on with what is spent here, and it is asked again at the next reservation.
        """
        with self._lock:
            missing = [(claim, self._settled(claim)) for claim, _ in claims if self._must_ask(claim)]
        seeds: dict[str, int] = {}
        for claim, settled in missing:
            known = self._asking.ask(seed, claim)
            if known is None:
                break  # nor can it say more of the others
            seeds[claim.counter] = max(0, known - settled)  # what was spent here is in the ledger as well
        with self._lock:
            tallies = [self._take(claim, seeds.get(claim.counter)) for claim, _ in claims]
            for tally, (claim, hard) in zip(tallies, claims, strict=True):
                if hard and tally.settled + tally.reserved + bound > claim.limit:
                    return claim
            for tally in tallies:
                tally.reserved += bound
        return None

    def settle(self, claims: Sequence[Claim], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        alerts: list[Alert] = []
        with self._lock:
            for claim in claims:
                tally = self._find(claim)
                if tally is None:
                    continue  # of a period that is over, in a child that was forked meanwhile
                tally.reserved = max(0, tally.reserved - bound)
                tally.settled += cost
                for share, least in reached(claim):
                    if tally.settled >= least and share not in tally.told:
                        tally.told.add(share)
                        alerts.append(Alert(claim, share, tally.settled))
        return tuple(alerts)

    def _find(self, claim: Claim) -> _Tally | None:
        return self._tallies.get(claim.counter) or self._tallies.get(_shared_name(claim))

    def _must_ask(self, claim: Claim) -> bool:
        tally = self._find(claim)
        return tally is None or not tally.seeded

    def _settled(self, claim: Claim) -> int:
        tally = self._find(claim)
        return 0 if tally is None else tally.settled

    def _take(self, claim: Claim, more: int | None) -> _Tally:
        """Its tally, with what the ledger knows beside what is spent here (None: it could not say)."""
        tally = self._find(claim)
        if tally is None:
            tally = self._begin(claim)
        if more is not None and not tally.seeded:
            tally.seeded = True
            tally.settled += more
            # Whoever spent it was told; only what is spent here is told here.
            tally.told.update(share for share, least in reached(claim) if more >= least)
        return tally

    def _begin(self, claim: Claim) -> _Tally:
        name = claim.counter
        if claim.starts > self._now:
            self._now = claim.starts
            over = [key for key, one in self._tallies.items() if one.ends <= self._now and not one.reserved]
            for key in over:
                del self._tallies[key]
        if len(self._tallies) >= self._most:
            name = _shared_name(claim)
            _tell_full(claim, self._most)
        tally = self._tallies[name] = _Tally(claim.ends, 0, seeded=False)
        return tally


def _shared_name(claim: Claim) -> str:
    return f"{claim.policy}/{claim.scope}|*|{claim.span}|{claim.period}|{claim.nth}"


def _tell_full(claim: Claim, most: int) -> None:
    log_event(
        "error",
        "budget_counters_full",
        policy=claim.policy,
        per=claim.scope,
        period=claim.period,
        counters=most,
        hint=f"more values of {claim.scope!r} than counters are kept for: the rest share one budget until the period ends",
    )


class _Registry:
    """The process's counters, by home and policy name. They outlive the drivers: a new one must not start at zero."""

    def __init__(self) -> None:
        self._counters: dict[tuple[Path, str], BudgetCounters] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def books(self, key: tuple[Path, str]) -> BudgetCounters:
        """Made when first asked for."""
        with self._lock:
            return self._counters.setdefault(key, BudgetCounters())


_registry = _Registry()


def process_counters(policy: str) -> BudgetCounters:
    """The counters that this process keeps for a policy's name, at today's home."""
    return _registry.books((home().absolute(), policy))


class MemoryState:
    """What the decisions of one process share. `clock`: seconds from any origin, for the guard."""

    is_remote = False
    is_down = False

    def __init__(
        self, policy: Policy, escalation: Escalation, clock: Callable[[], float], *, seed: Seed | None = None
    ) -> None:
        self._guard = MemoryGuard(policy.name, policy.storm_guard, clock, escalation)
        self._counters = process_counters(policy.name)
        self._seed = seed

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        return self._guard.observe(observation)

    def may_wait(self, claims: Sequence[Claim]) -> bool:
        """As `State.may_wait`: the ledger is asked of a counter that is new here."""
        return self._seed is not None and not self._counters.knows(claims)

    def reserve(self, claims: Sequence[tuple[Claim, bool]], bound: int) -> Claim | None:
        """As `State.reserve`."""
        return self._counters.reserve(claims, bound, self._seed)

    def settle(self, claims: Sequence[Claim], bound: int, cost: int) -> tuple[Alert, ...]:
        """As `State.settle`."""
        return self._counters.settle(claims, bound, cost)

    def close(self) -> None:
        """Nothing is held that others wait for."""
