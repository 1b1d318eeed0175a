"""The engine's own path over a corpus: `replay_item` for every item, its trails written down as the columns hold them.

Slower than `vectorised` and in nothing else different; a property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.core.errors import CorpusError
from cascade.core.storm import Change, Guard
from cascade.core.trail import Step
from cascade.corpora.items import Item
from cascade.replay.arrays import np
from cascade.replay.columns import PolicyMapping, no_cost
from cascade.replay.driver import Tell, replay_item
from cascade.replay.outcomes import NOBODY, REASONS, STOPS, Outcomes, Storms

if TYPE_CHECKING:
    from cascade.replay.arrays import Whole

__all__ = ["ExactRun"]

_REASONS = {reason: code for code, reason in enumerate(REASONS)}
_STOPS = {stop: code for code, stop in enumerate(STOPS)}


class ExactRun:
    """Takes a corpus in pieces, in the order of its rows. With a storm guard it keeps the items: they climb at the end.

    Raises CorpusError where the rule reaches a reply that was not recorded or priced.
    """

    def __init__(self, lens: PolicyMapping, source: str = "corpus") -> None:
        self._lens, self._source = lens, source
        # A climb that has nothing to ship is a value here, not an error: the next item wants its turn.
        policy = lens.plan.policy.model_copy(update={"exhausted": "abstain"})
        self._plan = replace(lens.plan, policy=policy)
        self._settings = lens.plan.policy.storm_guard
        self._kept: list[Item] = []
        self._rows: list[tuple[int, ...]] = []

    def take(self, items: Sequence[Item]) -> None:
        """Climb for these items, or keep them for the order of arrival."""
        if self._settings is not None:
            self._kept += items
        else:
            self._rows += [self._climbed(item) for item in items]

    def outcomes(self) -> Outcomes:
        """What became of all of them."""
        storms = Storms(off="no storm guard in the policy")
        if self._settings is not None:
            storms = self._climb_in_order(Guard(self._settings, self._plan.escalation))
        width = 4 + len(self._lens.rungs) - 1
        table: Whole = np.array(self._rows, np.int64).reshape(len(self._rows), width)
        shipped, last, stopped, *reasons = (table[:, n].astype(np.int8) for n in range(width - 1))
        return Outcomes(shipped, last, stopped, table[:, -1].copy(), tuple(reasons), storms)

    def _climb_in_order(self, guard: Guard) -> Storms:
        timed = [(item.at, row) for row, item in enumerate(self._kept) if item.at is not None]
        made: dict[int, tuple[int, ...]] = {}
        changes: list[tuple[str, Change]] = []
        for _, row in sorted(timed):
            item = self._kept[row]
            made[row] = self._climbed(item, guard, lambda change, name=item.id: changes.append((name, change)))
        self._rows = [made.get(row) or self._climbed(item) for row, item in enumerate(self._kept)]
        if not timed:
            return Storms(off="no arrival times")
        return Storms(None, tuple(changes), len(self._kept) - len(timed))

    def _climbed(self, item: Item, guard: Guard | None = None, tell: Tell | None = None) -> tuple[int, ...]:
        lens = self._lens
        try:
            answer = replay_item(self._plan, item, cost_of=lens.cost_of, guard=guard, rungs=lens.rungs, tell=tell)
        except CorpusError as problem:  # the item does not know its file
            raise CorpusError(
                problem.problem, where=f"{self._source}:{item.line}", item=problem.item, hint=problem.hint
            ) from None
        for step in answer.steps:
            reply = item.reply(lens.rungs[step.index])
            known = reply.cost_usd is not None if lens.cost_of == "recorded" else reply.can_be_priced
            if not known:
                raise no_cost(lens, step.index, item.id, f"{self._source}:{item.line}")
        return _coded(answer.steps, answer.rung, answer.degraded or answer.abstained, lens)


def _coded(steps: tuple[Step, ...], rung: str | None, stop: str | None, lens: PolicyMapping) -> tuple[int, ...]:
    reasons = [0] * (len(lens.rungs) - 1)
    shipped, cost = NOBODY, 0
    for step in steps:
        cost += step.cost_nanousd
        if step.reason is not None:
            reasons[step.index] = _REASONS[step.reason]
        if step.rung == rung:
            shipped = step.index
    return (shipped, steps[-1].index, _STOPS[stop or ""], *reasons, cost)
