"""The steps of a policy that early stop decides at their confidence, for a whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core import prices
from cascade.core.early import may_close, may_ship
from cascade.core.plans import Plan
from cascade.corpora.items import RecordedReply
from cascade.replay.arrays import np
from cascade.replay.closing import CostOf, closed_cost, has_head
from cascade.replay.columns import ANSWERED, DECLINED, FAILED, NO_COST, UNRECORDED, MappedColumns, RungColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Int8s

__all__ = ["EarlyRule", "Heads", "closed_costs", "early_rungs"]

_TRUNCATED = FAILED["truncated"]
_WITH_HEAD = (ANSWERED, UNRECORDED, DECLINED, FAILED["malformed"], _TRUNCATED, FAILED["refused"])


def closed_costs(rates: prices.Rates, replies: list[RecordedReply], cost_of: CostOf) -> list[int]:
    """By reply: `closed_cost`, or NO_COST where it is not known or there is no confidence to close it at."""
    return [
        closed_cost(rates, reply, cost_of)
        if has_head(reply) and reply.can_be_priced and (cost_of == "policy" or reply.cost_usd is not None)
        else NO_COST
        for reply in replies
    ]


def early_rungs(plan: Plan) -> tuple[bool, ...]:
    """By rung: whether early stop may close a step of it, of some task."""
    policy = plan.policy
    tasks = ("", *(task.name for task in policy.tasks))
    return tuple(
        policy.early_stop and any(may_close(policy, task, index) for task in tasks) for index in range(policy.top + 1)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The replies of one rung at their confidence. (n,) each.

    known     whether the step is decided there
    declined  whether the answer is null
    cut       whether the rest was truncated, and ships all the same if the confidence lets it: it was passed on already
    """

    known: Bools
    declined: Bools
    cut: Bools


class EarlyRule:
    """Which steps a policy decides at the confidence, by rung and task."""

    def __init__(self, mapped: MappedColumns) -> None:
        plan, self._mapped = mapped.mapping.plan, mapped
        on = plan.policy.early_stop
        self._closes: list[Any] = [
            np.array([on and own is not None and may_close(plan.policy, task, index) for task in mapped.tasks], np.bool_)
            for index, own in enumerate(mapped.left)
        ]
        self._ships: Any = np.array([on and may_ship(plan.checks_for(task)) for task in mapped.tasks], np.bool_)

    def closes(self, index: int) -> bool:
        """Whether steps of this rung may be closed, of some task."""
        return index < len(self._closes) and bool(self._closes[index].any())

    def heads(self, index: int, rows: Any, replies: RungColumns) -> Heads | None:
        """The replies of a rung at their confidence; None if it is never decided there."""
        if not self.closes(index):
            return None
        task, answer = self._mapped.task[rows], replies.answer[rows]
        known = self._closes[index][task] & ~np.isnan(replies.confidence[rows]) & _among(answer, _WITH_HEAD)
        return Heads(known, known & (answer == DECLINED), known & (answer == _TRUNCATED) & self._ships[task])


def _among(answer: Int8s, codes: tuple[int, ...]) -> Bools:
    found = np.zeros(len(answer), np.bool_)
    for code in codes:
        found |= answer == code
    return found
