"""Checks a request's budgets before each call, reserves the most that the call may cost, and settles it afterwards.

    gate.open(task, metadata) ─> BudgetReservation       one per request
    reservation.may_wait() ─> bool                       whether `admit` may take a round trip or a query
    reservation.admit(bound, first=…) ─> None | Refusal  None: the call may be made, and its bound is reserved
    reservation.settle(bound, cost)                      what the call cost; 0 if it was not made

With a remote state each of these takes at most one round trip, so an event loop runs them in a thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from cascade.budgets.allowance import Allowance
from cascade.budgets.notices import Notices, number_budgets
from cascade.core import prices
from cascade.core.budgets import ApplicableBudget, Refusal, Span, applicable_budgets, upper_bound, usd_text
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Policy
from cascade.core.policy.operations import Limits
from cascade.core.triage import Prompt
from cascade.policy.budgets import zone_of
from cascade.state import State

__all__ = ["BudgetReservation", "Gate", "bound_of"]

_STATE_DOWN = " (the shared state cannot be reached, and this process has used up its share: run `cascade doctor`)"
_SOFT_LIMIT = "; a soft limit: the first rung is still called"


def bound_of(rates: prices.Rates, prompt: Prompt, attempts: int, *, streamed: bool = False) -> int:
    """The most that a rung may cost with all the attempts it is allowed, in nano-USD.

    Only streamed replies are billed for each attempt that breaks off. `streamed`: this one is, whatever its length.
    """
    return upper_bound(rates, prompt) * (attempts if streamed or prompt.max_tokens > STREAMS_ABOVE else 1)


@dataclass(frozen=True, slots=True)
class _Budget:
    """One entry of the policy's `budget` list.

    `nth`: by span, how many entries before it add up the same spend. `observed_policy`: set for `observe.daily_usd`, to
    the name of the policy whose shadow requests it limits.
    """

    limits: Limits
    account: str
    zone: tzinfo
    nth: Mapping[Span, int]
    observed_policy: str | None = None

    def applicable(self, task: str, metadata: Mapping[str, str], now: float) -> tuple[ApplicableBudget, ...]:
        """What applies to a call made at `now`, in Unix seconds: none, or one for each span that has a limit."""
        at = datetime.fromtimestamp(now, self.zone)
        return tuple(self._labelled(one) for one in applicable_budgets(self.limits, self.account, task, metadata, at))

    def _labelled(self, budget: ApplicableBudget) -> ApplicableBudget:
        if self.observed_policy is not None:  # the ledger records this spend under the policy's own name, by its arm
            return replace(budget, policy=self.observed_policy, scope="arm", value="shadow")
        return replace(budget, nth=self.nth[budget.span])


class Gate:
    """All budgets of a policy. `wall`: Unix seconds.

    With `mode: observe`, `observe.daily_usd` is one more, for the shadow requests.
    """

    def __init__(
        self, policy: Policy, state: State, notices: Notices, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._state, self._notices, self._wall, self.policy = state, notices, wall, policy.name
        self._budgets = tuple(
            _Budget(limits, policy.name, zone_of(limits.timezone), nth)
            for limits, nth in zip(policy.budget, number_budgets(policy.budget), strict=True)
        )
        self._shadow_budgets = self._budgets
        if policy.observe.daily_usd is not None:
            zone = policy.budget[0].timezone if policy.budget else "UTC"
            limits = Limits(daily_usd=policy.observe.daily_usd, on_exhausted="reject", timezone=zone)
            self._shadow_budgets += (_Budget(limits, f"{policy.name}/observe", zone_of(zone), {}, policy.name),)

    @property
    def has_budgets(self) -> bool:
        """Whether the policy has any budget."""
        return bool(self._budgets)

    @property
    def is_down(self) -> bool:
        """Whether the shared state cannot be reached."""
        return self._state.is_down

    def open(
        self, task: str, metadata: Mapping[str, str], *, is_shadow: bool = False, allowance: Allowance | None = None
    ) -> BudgetReservation:
        """The reservation of one request. `is_shadow`: `observe.daily_usd` applies to it too. `allowance`: of the run that it is part of."""
        return BudgetReservation(self, self._shadow_budgets if is_shadow else self._budgets, task, metadata, allowance)

    def applicable(
        self, budgets: tuple[_Budget, ...], task: str, metadata: Mapping[str, str]
    ) -> tuple[ApplicableBudget, ...]:
        """What applies to a call made now."""
        now = self._wall()
        return tuple(applicable for budget in budgets for applicable in budget.applicable(task, metadata, now))

    def may_wait(self, budgets: tuple[ApplicableBudget, ...]) -> bool:
        """Whether to decide on these may take a round trip, or a query of the ledger."""
        return self._state.may_wait(budgets)

    def reserve(self, budgets: tuple[ApplicableBudget, ...], bound: int, *, first: bool) -> ApplicableBudget | None:
        """Reserve `bound` in all of them, or return the one that refuses."""
        flagged = tuple((budget, _is_hard(budget.on_exhausted, first=first)) for budget in budgets)
        refused = self._state.reserve(flagged, bound)
        if refused is not None:
            self._notices.notify_refusal(refused, bound)
        return refused

    def settle(self, budgets: tuple[ApplicableBudget, ...], bound: int, cost: int) -> None:
        """Give back what was reserved, count what was spent, and send the alerts that are due."""
        for alert in self._state.settle(budgets, bound, cost):
            self._notices.notify(alert)

    def notify_overspent_call(self, limits: Limits, limit: int, spent: int) -> None:
        """Send the alert that a request has spent more than `call_usd`; both amounts in nano-USD."""
        self._notices.notify_overspent_call(limits, limit, spent)


class BudgetReservation:
    """The budgets of one request. It does nothing where no budget applies.

    Several calls may be admitted before they are settled: the samples of a wave.
    """

    __slots__ = (
        "_admitted", "_alerted", "_allowance", "_budgets", "_call_limits", "_gate", "_metadata", "_pending", "_spent", "_task",
    )  # fmt: skip

    def __init__(
        self,
        gate: Gate,
        budgets: tuple[_Budget, ...],
        task: str,
        metadata: Mapping[str, str],
        allowance: Allowance | None = None,
    ) -> None:
        self._allowance = allowance
        self._gate, self._budgets, self._task, self._metadata = gate, budgets, task, metadata
        self._call_limits = tuple(
            (one.limits, int(one.limits.call_usd * 1_000_000_000)) for one in budgets if one.limits.call_usd is not None
        )
        self._spent = 0
        self._pending = 0  # bounds of the calls that are admitted and not settled, in nano-USD
        self._admitted: deque[tuple[ApplicableBudget, ...]] = deque()  # where each of them is reserved
        self._alerted: set[int] = set()

    @property
    def has_budgets(self) -> bool:
        """Whether any budget may apply. Without one, nobody needs the bound of a call."""
        return bool(self._budgets) or self._allowance is not None

    @property
    def spent(self) -> int:
        """What this request has spent so far, in nano-USD."""
        return self._spent

    def may_wait(self) -> bool:
        """Whether the next `admit` may take a round trip, or a query of the ledger; False where no budget applies.

        An event loop then runs it in a thread. `settle` takes a round trip only with a remote state (`State.is_remote`).
        """
        if not self._budgets:
            return False
        applicable = self._gate.applicable(self._budgets, self._task, self._metadata)
        return bool(applicable) and self._gate.may_wait(applicable)

    def admit(self, bound: int, *, first: bool) -> Refusal | None:
        """Reserve `bound` nano-USD for a call. A Refusal means that the call must not be made.

        `first`: it is the climb's first call, which a budget with `hold` always admits. A budget with `alert` admits all.
        Each admission is followed by one `settle`, whatever becomes of the call, in the order of admission.
        """
        for limits, limit in self._call_limits:
            if _is_hard(limits.on_exhausted, first=first) and self._spent + self._pending + bound > limit:
                soft = _SOFT_LIMIT if limits.on_exhausted == "hold" else ""
                return Refusal(
                    f"the budget of {self._gate.policy} per request, {usd_text(limit)}, has no room for a call that may"
                    f" cost {usd_text(bound)} on top of the {usd_text(self._spent)} spent{self._under_way()}{soft}",
                )
        if self._allowance is not None and (refusal := self._allowance.admit(bound)) is not None:
            return refusal
        applicable = self._gate.applicable(self._budgets, self._task, self._metadata) if self._budgets else ()
        refused = self._gate.reserve(applicable, bound, first=first) if applicable else None
        if refused is not None and self._allowance is not None:
            self._allowance.settle(bound, 0)
        if refused is None:
            self._admitted.append(applicable)
            self._pending += bound
            return None
        soft = _SOFT_LIMIT if refused.on_exhausted == "hold" else ""
        down = _STATE_DOWN if self._gate.is_down else ""
        return Refusal(f"{refused.description}, has no room for a call that may cost {usd_text(bound)}{down}{soft}")

    def settle(self, bound: int, cost: int) -> None:
        """The first admitted call that is not settled yet, with `bound`, cost `cost`: 0 if it was not made.

        It counts in the period in which it was admitted.
        """
        reserved = self._admitted.popleft()
        self._pending -= bound
        self._spent += cost
        if self._allowance is not None:
            self._allowance.settle(bound, cost)
        if reserved:
            self._gate.settle(reserved, bound, cost)
        for number, (limits, limit) in enumerate(self._call_limits):
            if limits.on_exhausted == "alert" and self._spent > limit and number not in self._alerted:
                self._alerted.add(number)
                self._gate.notify_overspent_call(limits, limit, self._spent)

    def _under_way(self) -> str:
        return f", with up to {usd_text(self._pending)} under way" if self._pending else ""


def _is_hard(on_exhausted: str, *, first: bool) -> bool:
    return on_exhausted == "reject" or (on_exhausted == "hold" and not first)
