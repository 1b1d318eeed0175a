"""The steps of a policy that early stop decides at their confidence, for a whole corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.early import can_close, can_ship
from cascade.core.messages import Request, Usage
from cascade.core.policy import Policy
from cascade.corpora.items import RecordedReply
from cascade.replay.arrays import np
from cascade.replay.closing import CostOf, closed_cost, has_head, reading_of
from cascade.replay.columns import DECLINED, FAILED, NO_COST, NO_HEAD, Columns, MappedColumns, RungColumns
from cascade.replay.outcomes import STOPS, Outcomes
from cascade.replay.reviews import gates_at

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Int8s

__all__ = [
    "NO_EFFECT",
    "EarlyRule",
    "EarlyStop",
    "Heads",
    "closed_costs",
    "early_rungs",
    "early_stop_of",
    "has_effect",
    "saved_at",
    "unsaid_beginnings",
]

NO_EFFECT = (
    "early stop has no effect: it needs triage in the order confidence_first, no scorer, and a rung that is asked once"
)
"""What to say where it decides nothing."""

_ANY = Request(messages=())  # a recorded request has no tools and no schema
_ENDED_BADLY = tuple((FAILED[kind], STOPS.index(kind)) for kind in FAILED if kind != "failed")


def closed_costs(
    rates: prices.Rates, replies: list[RecordedReply], cost_of: CostOf, tokens: Sequence[Usage | None]
) -> list[int]:
    """By reply: `closed_cost`, NO_COST where it is not known, or NO_HEAD where there is nothing to close it at.

    `tokens`: what each whole reply is billed, None for its recorded tokens.
    """
    return [
        NO_HEAD
        if not has_head(reply)
        else closed_cost(rates, reply, cost_of, whole)
        if reply.can_be_priced and (cost_of == "policy" or reply.cost_usd is not None)
        else NO_COST
        for reply, whole in zip(replies, tokens, strict=True)
    ]


def early_rungs(policy: Policy) -> tuple[bool, ...]:
    """By rung: whether early stop may decide there, however often the rung is asked, and whatever scores it."""
    is_on = policy.early_stop and policy.triage.order == "confidence_first"
    return (*(is_on for _ in policy.ladder[:-1]), False)


def has_effect(plan: BoundPolicy, tasks: Iterable[str]) -> bool:
    """Whether early stop decides a step of one of these tasks."""
    policy = plan.policy
    return policy.early_stop and any(
        can_close(policy, task, index, _ANY) for task in tasks for index in range(policy.top)
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
        whole = [can_ship(plan.checks_for(task), _ANY) for task in mapped.tasks]
        # What a reviewer may have to read is read whole before it ships.
        self._ships: list[Any] = [
            np.array(
                [own and gates_at(plan, task, index) is None for task, own in zip(mapped.tasks, whole, strict=True)],
                np.bool_,
            )
            for index in range(len(mapped.left))
        ]
        self._decides: list[Any] = [
            np.array(
                [
                    policy.early_stop and can_close(policy, task, index, _ANY) and (self.may_close or own)
                    for task, own in zip(mapped.tasks, ships.tolist(), strict=True)
                ],
                np.bool_,
            )
            for index, ships in enumerate(self._ships)
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
        return Heads(known, known & (answer == DECLINED), known & self._ships[index][task], ended)


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """What early stop did. `closed`: by rung, how many replies it closed. `saved`: nano-USD of what they did not write."""

    closed: Mapping[str, int]
    saved: int

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {"saved_usd": self.saved / 1e9, "closed": dict(self.closed)}


def unsaid_beginnings(columns: Columns, mapped: MappedColumns) -> str | None:
    """What to say of replies below the top that ended badly and have no confidence; None if there are none, or no early stop."""
    policy, count = mapped.mapping.plan.policy, 0
    for index in range(policy.top):
        if policy.early_stop and can_close(policy, "", index, _ANY):
            replies = columns.rungs[mapped.mapping.rungs[index]]
            ended = np.isin(replies.answer, [code for code, _ in _ENDED_BADLY])
            count += int(np.count_nonzero(ended & np.isnan(replies.confidence)))
    if not count:
        return None
    return (
        f"{count} replies ended badly and have no confidence: they climb here, as if they had not begun with one; live, a"
        " truncated one that had may ship"
    )


def early_stop_of(mapped: MappedColumns, outcomes: Outcomes) -> EarlyStop | None:
    """What early stop did; None if no step of the policy is decided early."""
    if not has_effect(mapped.mapping.plan, mapped.tasks):
        return None
    below = range(len(outcomes.closed))
    closed = {mapped.mapping.names[index]: int(np.count_nonzero(outcomes.closed[index])) for index in below}
    return EarlyStop(closed, sum(saved_at(mapped, outcomes, index) for index in below))


def saved_at(mapped: MappedColumns, outcomes: Outcomes, index: int, rows: Bools | None = None) -> int:
    """Nano-USD that the replies closed at this rung would have cost besides; `rows`: of these items alone."""
    left = mapped.left[index] if index < len(outcomes.closed) else None
    if left is None:
        return 0
    here = outcomes.closed[index] if rows is None else outcomes.closed[index] & rows
    return int((mapped.cost[index][here] - left[here]).sum())
