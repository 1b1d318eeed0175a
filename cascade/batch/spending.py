"""What a run may spend: the policy's budgets, and the run's own limit, which holds across restarts.

A call is admitted, at the most that it may cost, before it is sent, and settled when its outcome is known. The limit of the run is counted in
its own store. The policy's budgets are counted by the state, as live: what is under way is reserved there while a process drives the run, and again by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

from cascade.batch.climbing import Known, Wanted
from cascade.batch.items import Item, ItemStore
from cascade.budgets.gate import BudgetReservation, Gate, bound_of
from cascade.core import prices
from cascade.core.budgets import Refusal, usd_text

__all__ = ["RunBudget"]


class RunBudget:
    """One per driver. `limit`: of the run, in nano-USD; None: no limit of its own. For one thread at a time."""

    def __init__(self, gate: Gate, store: ItemStore, limit: int | None) -> None:
        self._gate, self._store, self._limit = gate, store, limit
        self._spent, self._reserved = store.money() if self.is_active else (0, 0)
        self._of_item: dict[int, BudgetReservation] = {}
        self._known: dict[
            str, tuple[int, int]
        ] = {}  # calls under way that are reserved in the state, by this process: item, bound
        self.refused = 0

    @property
    def is_active(self) -> bool:
        """Whether anything limits the run. Otherwise nothing is counted."""
        return self._limit is not None or self._gate.has_budgets

    def admit(self, item: Item, task: str, call: Wanted) -> Refusal | None:
        """Reserve the most that the call may cost. A Refusal: it must not be sent."""
        if not self.is_active:
            return None
        bound = bound_of(call.rates, call.prompt, 1)  # what is sent again was not billed before
        was_admitted = self._store.admitted(call.key)
        if self._limit is not None and not was_admitted and self._spent + self._reserved + bound > self._limit:
            self.refused += 1
            return Refusal(
                f"the limit of the batch run, {usd_text(self._limit)}, has no room for a call that may cost {usd_text(bound)}"
                f" on top of {usd_text(self._spent)} spent and up to {usd_text(self._reserved)} under way"
            )
        refusal = self._reserve(item, task, call, bound, was_admitted=was_admitted)
        if refusal is not None and not was_admitted:
            self.refused += 1
            return refusal
        if not was_admitted:
            self._store.admit(call.key, bound)
            self._reserved += bound
        return None

    def _reserve(self, item: Item, task: str, call: Wanted, bound: int, *, was_admitted: bool) -> Refusal | None:
        if not self._gate.has_budgets or call.key in self._known:
            return None
        reservation = self._of_item.get(item.n)
        if reservation is None:
            reservation = self._of_item[item.n] = self._gate.open(task, item.request.metadata)
        refusal = reservation.admit(bound, first=call.is_first or was_admitted)
        if refusal is None:
            self._known[call.key] = item.n, bound
        return refusal

    def settle(self, item: Item, known: Sequence[Known]) -> None:
        """Count what these calls of an item cost; those that were counted before are left out."""
        for call in known:
            cost = prices.total(call.rates, call.outcome.billed)
            bound = self._store.settle(call.key, cost)
            if bound is None:
                continue
            self._spent, self._reserved = self._spent + cost, self._reserved - bound
            if call.key in self._known:
                _, reserved = self._known.pop(call.key)
                self._of_item[item.n].settle(reserved, cost)

    def close(self) -> None:
        """Give back what is reserved for calls under way: whoever drives the run next reserves it again."""
        for number, bound in self._known.values():
            if (reservation := self._of_item.get(number)) is not None:
                reservation.settle(bound, 0)
        self._known.clear()

    def forget(self, number: int) -> None:
        """The item is done."""
        self._of_item.pop(number, None)
