"""What a driver asks before each call: whether every budget that applies has room for it.

    gate.open(task, metadata) ─> BudgetReservation            one a request
    reservation.may_wait() ─> bool                       admit may take a round trip or a query: not on an event loop
    reservation.admit(bound, first=…) ─> None | Refusal  None: the call may be made, and its bound is reserved
    reservation.settle(bound, cost)                      it was made; reservation.release(bound): it was not

Where the state is remote each of these is at most one round trip (`gate.is_remote`: an event loop must not wait for it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from cascade.budgets.notices import Notices, places_of
from cascade.core import prices
from cascade.core.budgets import Claim, Refusal, Span, claims_of, upper_bound, usd_text
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Policy
from cascade.core.policy.operations import Limits
from cascade.core.triage import Prompt
from cascade.policy.budgets import zone_of
from cascade.state import State

__all__ = ["BudgetReservation", "Gate", "bound_of"]

_ALONE = " (the shared state cannot be reached, and this process holds no more of it: `cascade doctor` looks)"
_SOFT = "; a soft limit: the first rung is asked all the same"


def bound_of(rates: prices.Rates, prompt: Prompt, attempts: int) -> int:
    """The most that a rung may cost with all the attempts it is allowed, in nano-USD.

    Only of a reply that is streamed is each attempt that breaks off billed.
    """
    return upper_bound(rates, prompt) * (attempts if prompt.max_tokens > STREAMS_ABOVE else 1)


@dataclass(frozen=True, slots=True)
class _Budget:
    """One of the policy's budgets, ready: its zone, and which of those that add up the same spend it is, by span.

    `observed_of`: it bounds what is put to the ladder beside this policy's baseline.
    """

    limits: Limits
    book: str
    zone: tzinfo
    places: Mapping[Span, int]
    observed_of: str | None = None

    def marked(self, claim: Claim) -> Claim:
        """The claim, as the state and the ledger must know it."""
        if self.observed_of is not None:  # the ledger has it under the policy's own name, by its arm
            return replace(claim, policy=self.observed_of, scope="arm", value="shadow")
        return replace(claim, nth=self.places[claim.span]) if self.places[claim.span] else claim


class Gate:
    """All budgets of a policy. `wall`: Unix seconds.

    `mode: observe` has one more, for what is put to the ladder beside the baseline: `observe.daily_usd`.
    """

    def __init__(
        self, policy: Policy, state: State, notices: Notices, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._state, self._notices, self._wall, self.policy = state, notices, wall, policy.name
        places = places_of(policy.budget)
        self._budgets = tuple(
            _Budget(limits, policy.name, zone_of(limits.timezone), spans)
            for limits, spans in zip(policy.budget, places, strict=True)
        )
        self._observed = self._budgets
        if policy.observe.daily_usd is not None:
            zone = policy.budget[0].timezone if policy.budget else "UTC"
            limits = Limits(daily_usd=policy.observe.daily_usd, on_exhausted="reject", timezone=zone)
            self._observed += (_Budget(limits, f"{policy.name}/observe", zone_of(zone), {"daily": 0}, policy.name),)

    @property
    def has_budgets(self) -> bool:
        """Whether the policy has any budget: without one nothing need be asked."""
        return bool(self._budgets)

    @property
    def is_down(self) -> bool:
        """Whether what is shared cannot be reached."""
        return self._state.is_down

    @property
    def is_remote(self) -> bool:
        """Whether asking may take a round trip."""
        return self._state.is_remote

    def open(self, task: str, metadata: Mapping[str, str], *, observed: bool = False) -> BudgetReservation:
        """One request's reservation. `observed`: it is put to the ladder beside the baseline's answer."""
        return BudgetReservation(self, self._observed if observed else self._budgets, task, metadata)

    def claims(self, budgets: tuple[_Budget, ...], task: str, metadata: Mapping[str, str]) -> tuple[Claim, ...]:
        """The counters of these budgets that a call made now falls under."""
        now = self._wall()
        return tuple(
            one.marked(claim)
            for one in budgets
            for claim in claims_of(one.limits, one.book, task, metadata, datetime.fromtimestamp(now, one.zone))
        )

    def may_wait(self, claims: tuple[Claim, ...]) -> bool:
        """Whether to decide on these may take a round trip, or a query of the ledger."""
        return self._state.may_wait(claims)

    def reserve(self, claims: tuple[Claim, ...], bound: int, *, first: bool) -> Claim | None:
        """Reserve `bound` in all of them, or name the one that refuses."""
        flagged = tuple((claim, _is_hard(claim.on_exhausted, first=first)) for claim in claims)
        refused = self._state.reserve(flagged, bound)
        if refused is not None:
            self._notices.tell_refusal(refused, bound)
        return refused

    def settle(self, claims: tuple[Claim, ...], bound: int, cost: int) -> None:
        """Give back what was reserved in them, count what was spent, and tell who wants to know."""
        for alert in self._state.settle(claims, bound, cost):
            self._notices.tell(alert)

    def tell_call(self, limits: Limits, limit: int, spent: int) -> None:
        """A request has spent more than a budget that only tells allows it."""
        self._notices.tell_call(limits, limit, spent)


class BudgetReservation:
    """One request's: used by one climb, one call at a time. It does nothing where no budget applies."""

    __slots__ = ("_budgets", "_calls", "_claims", "_gate", "_metadata", "_spent", "_task", "_told")

    def __init__(self, gate: Gate, budgets: tuple[_Budget, ...], task: str, metadata: Mapping[str, str]) -> None:
        self._gate, self._budgets, self._task, self._metadata = gate, budgets, task, metadata
        self._calls = tuple(
            (one.limits, int(one.limits.call_usd * 1_000_000_000)) for one in budgets if one.limits.call_usd is not None
        )
        self._spent = 0
        self._claims: tuple[Claim, ...] = ()
        self._told: set[int] = set()

    @property
    def has_budgets(self) -> bool:
        """Whether any budget may apply: without one nobody need know what a call may cost."""
        return bool(self._budgets)

    @property
    def spent(self) -> int:
        """What this request has spent so far, in nano-USD."""
        return self._spent

    def may_wait(self) -> bool:
        """Whether the next `admit` may take a round trip, or a query of the ledger; False where no budget applies.

        An event loop lets a thread do it then. A `settle` takes at most what `is_remote` says.
        """
        if not self._budgets:
            return False
        claims = self._gate.claims(self._budgets, self._task, self._metadata)
        return bool(claims) and self._gate.may_wait(claims)

    def admit(self, bound: int, *, first: bool) -> Refusal | None:
        """Reserve `bound` nano-USD for a call; a Refusal where a budget has no room: the call must not be made.

        `first`: it is the climb's first call, which a budget with `hold` lets pass. A budget with `alert` lets all pass.
        Each admission is followed by one `settle` or `release`, whatever becomes of the call.
        """
        for limits, limit in self._calls:
            if _is_hard(limits.on_exhausted, first=first) and self._spent + bound > limit:
                soft = _SOFT if limits.on_exhausted == "hold" else ""
                return Refusal(
                    f"the budget of {self._gate.policy} a request, {usd_text(limit)}, has no room for a call that may"
                    f" cost {usd_text(bound)} beside the {usd_text(self._spent)} spent{soft}"
                )
        claims = self._gate.claims(self._budgets, self._task, self._metadata) if self._budgets else ()
        if not claims:
            return None
        refused = self._gate.reserve(claims, bound, first=first)
        if refused is None:
            self._claims = claims
            return None
        soft = _SOFT if refused.on_exhausted == "hold" else ""
        alone = _ALONE if self._gate.is_down else ""
        return Refusal(f"{refused.description}, has no room for a call that may cost {usd_text(bound)}{alone}{soft}")

    def settle(self, bound: int, cost: int) -> None:
        """The call that was admitted with `bound` has cost `cost`; it counts in the period it was admitted in."""
        claims, self._claims = self._claims, ()
        self._spent += cost
        if claims:
            self._gate.settle(claims, bound, cost)
        for number, (limits, limit) in enumerate(self._calls):
            if limits.on_exhausted == "alert" and self._spent > limit and number not in self._told:
                self._told.add(number)
                self._gate.tell_call(limits, limit, self._spent)

    def release(self, bound: int) -> None:
        """The call that was admitted with `bound` was not made."""
        self.settle(bound, 0)


def _is_hard(on_exhausted: str, *, first: bool) -> bool:
    return on_exhausted == "reject" or (on_exhausted == "hold" and not first)
