"""The steps of a policy that early stop decides at their confidence, for a whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core import prices
from cascade.core.early import can_close, can_ship
from cascade.core.messages import Request
from cascade.core.plans import Plan
from cascade.corpora.items import RecordedReply
from cascade.replay.arrays import np
from cascade.replay.closing import CostOf, closed_cost, has_head, reading_of
from cascade.replay.columns import DECLINED, FAILED, NO_COST, NO_HEAD, MappedColumns, RungColumns
from cascade.replay.outcomes import STOPS

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Int8s

__all__ = ["EarlyRule", "Heads", "closed_costs", "early_rungs"]

_ANY = Request(messages=())  # a recorded request has no tools and no schema
_ENDED_BADLY = tuple((FAILED[kind], STOPS.index(kind)) for kind in ("truncated", "refused"))


def closed_costs(rates: prices.Rates, replies: list[RecordedReply], cost_of: CostOf) -> list[int]:
    """By reply: `closed_cost`, NO_COST where it is not known, or NO_HEAD where there is nothing to close it at."""
    return [
        NO_HEAD
        if not has_head(reply)
        else closed_cost(rates, reply, cost_of)
        if reply.can_be_priced and (cost_of == "policy" or reply.cost_usd is not None)
        else NO_COST
        for reply in replies
    ]


def early_rungs(plan: Plan) -> tuple[bool, ...]:
    """By rung: whether early stop may decide a step of it, of some task."""
    policy = plan.policy
    tasks = ("", *(task.name for task in policy.tasks))
    return tuple(
        policy.early_stop and any(can_close(policy, task, index, _ANY) for task in tasks)
        for index in range(policy.top + 1)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The replies of one rung at their confidence. (n,) each.

    known     whether the step is decided there
    declined  whether the answer is null
    ships     whether the answer ships there, if the confidence lets it: whatever comes after it
    ended     how the reply ended if that is not well, as a code of `outcomes.STOPS`; else 0
    """

    known: Bools
    declined: Bools
    ships: Bools
    ended: Int8s


class EarlyRule:
    """Which steps a policy decides at the confidence, by rung and task.

    `may_close`: whether it closes what escalates; where not, early stop only ships.
    """

    def __init__(self, mapped: MappedColumns) -> None:
        plan, self._mapped = mapped.mapping.plan, mapped
        policy = plan.policy
        self.may_close = reading_of(policy).may_close
        ships = [can_ship(plan.checks_for(task), _ANY) for task in mapped.tasks]
        self._ships: Any = np.array(ships, np.bool_)
        self._decides: list[Any] = [
            np.array(
                [
                    policy.early_stop and can_close(policy, task, index, _ANY) and (self.may_close or own)
                    for task, own in zip(mapped.tasks, ships, strict=True)
                ],
                np.bool_,
            )
            for index in range(len(mapped.left))
        ]

    def heads(self, index: int, rows: Any, replies: RungColumns) -> Heads | None:
        """The replies of a rung at their confidence; None if it is never decided there."""
        if index >= len(self._decides) or (left := self._mapped.left[index]) is None or not self._decides[index].any():
            return None
        task, answer = self._mapped.task[rows], replies.answer[rows]
        known = self._decides[index][task] & (left[rows] != NO_HEAD)
        ended = np.zeros(len(answer), np.int8)
        for code, stop in _ENDED_BADLY:
            ended[answer == code] = stop
        return Heads(known, known & (answer == DECLINED), known & self._ships[task], ended)
