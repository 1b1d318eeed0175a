"""What a key may spend a day (`--daily-usd`), over all policies and passed-through requests.

The most that a request may cost is reserved before it begins: for a climb, the sum over all of its rungs. What it did cost is
settled at its end. The day is UTC's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from cascade.core.budgets import ApplicableBudget, usd_text
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.prices import Rates, cost
from cascade.gateway.keys.values import Key
from cascade.gateway.problems import Problem
from cascade.logs import log_event
from cascade.state import Seed, State
from cascade.state.opening import open_state

__all__ = ["KeyBudgets", "Reservation", "open_gateway_state", "relay_bound"]

_ACCOUNT = "gateway"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is reserved for one request, in nano-USD."""

    budgets: tuple[ApplicableBudget, ...]
    bound: int


class KeyBudgets:
    """The budgets of all keys. `wall`: Unix seconds."""

    def __init__(self, state: State, wall: Callable[[], float]) -> None:
        self._state, self._wall = state, wall

    @property
    def is_remote(self) -> bool:
        """Whether a decision takes a round trip."""
        return self._state.is_remote

    def reserve(self, key: Key, bound: int) -> Reservation:
        """Reserve the most that a request may cost. Raises Problem (429) if the key's budget has no room for it.

        It may take a round trip, or a query of the ledger.
        """
        budgets = (self._budget(key),)
        refused = self._state.reserve([(budget, True) for budget in budgets], bound)
        if refused is not None:
            raise Problem(
                429,
                f"the daily budget of key {key.name}, {usd_text(refused.limit)}, has no room for a request that may cost"
                f" {usd_text(bound)} (it begins anew at midnight UTC)",
            )
        return Reservation(budgets, bound)

    def settle(self, reservation: Reservation, cost: int) -> None:
        """What the request did cost, in nano-USD."""
        for alert in self._state.settle(reservation.budgets, reservation.bound, cost):
            spent, limit = usd_text(alert.spent), usd_text(alert.budget.limit)
            log_event("warning", "key_budget", key=alert.budget.value, share=alert.share, spent=spent, limit=limit)

    def _budget(self, key: Key) -> ApplicableBudget:
        assert key.daily_usd is not None
        day = datetime.fromtimestamp(self._wall(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        ends = day + timedelta(days=1)
        return ApplicableBudget(
            f"{_ACCOUNT}/key={key.id}", _ACCOUNT, "key", key.id, "daily", day.strftime("%Y-%m-%d"), day.timestamp(),
            ends.timestamp(), int(key.daily_usd * 1_000_000_000), 0.8, "reject",
        )  # fmt: skip


class _Limit(msgspec.Struct, gc=False):
    max_tokens: int = 0


_read_limit = msgspec.json.Decoder(_Limit).decode
_OVERHEAD_TOKENS = 1_024  # what the API adds to a prompt
_FETCHED_TOKENS = 1_000_000  # a document that the body only names: no context window is larger


def relay_bound(rates: Rates, body: bytes) -> int:
    """The most that a passed-through request may cost, in nano-USD: no token is shorter than a byte.

    Raises Problem if its `max_tokens` cannot be read.
    """
    try:
        most = max(0, _read_limit(body).max_tokens)
    except (msgspec.DecodeError, RecursionError):
        raise Problem(400, "max_tokens: a whole number is needed") from None
    tokens = len(body) + _OVERHEAD_TOKENS
    if b'"document"' in body:
        tokens += _FETCHED_TOKENS
    return max(cost(rates, Usage(tokens, most)), cost(rates, Usage(0, most, cache_write_1h=tokens)))


def open_gateway_state(
    address: str | None, policies: Callable[[], Sequence[str]], lookup: Seed | None, clock: Callable[[], float]
) -> State:
    """The state that belongs to the gateway itself, not to one of its policies: what keys have spent, and answers.

    `policies`: under which names the ledger has what keys have spent; `lookup`: asks it.
    """

    def spent(claim: ApplicableBudget) -> int:
        assert lookup is not None
        return sum(lookup(replace(claim, policy=policy)) for policy in policies())

    policy = Policy.model_construct(None, version=1, name=_ACCOUNT)
    return open_state(address, policy, Escalation(), clock, seed=None if lookup is None else spent)
