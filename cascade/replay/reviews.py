"""The recorded reviews of a policy's review gate, as columns.

A review was recorded of every answer that passed its other checks. The rule asks for it only where the answer would ship and its
confidence is below the gate's `below`, so which of them are read, and paid for, depends on the thresholds (`vectorised.Rule`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import ConfigurationError
from cascade.core.policy import OTHER
from cascade.corpora.items import RecordedReply, RecordedReview
from cascade.replay.arrays import ColumnBuilder, np
from cascade.replay.closing import CostOf

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats, Int8s, Ints

__all__ = [
    "ACCEPTED",
    "NOT_REVIEWED",
    "NO_REVIEW",
    "REJECTED",
    "REVIEW_HINT",
    "UNUSABLE",
    "ReviewColumns",
    "Reviews",
    "ReviewsBuilder",
    "gates_at",
    "has_reviews",
    "no_review",
    "no_review_cost",
    "refuse_voted_reviews",
    "review_code",
    "review_cost",
]

NOT_REVIEWED, ACCEPTED, REJECTED, UNUSABLE, NO_REVIEW = range(5)
"""Codes of a review: no gate reviews the answer; what the reviewer said of it; or a gate does, and no review was recorded."""

_NO_COST = -1

REVIEW_HINT = "record it (`cascade record` with this policy), or leave the review out of its checks"


@dataclass(frozen=True, slots=True, eq=False)
class ReviewColumns:
    """The reviews of one rung's answers, (N,) each. `code`: see above. `cost`: nano-USD, -1 if not known.

    `below`: the confidence from which the gate lets an answer of the item's task pass unreviewed.
    """

    code: Int8s
    cost: Ints
    below: Floats


@dataclass(frozen=True, slots=True)
class Reviews:
    """What a gate did at one rung in a replay. `cost`: nano-USD of the reviews."""

    asked: int
    rejected: int
    unusable: int
    cost: int

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "asked": self.asked,
            "rejected": self.rejected,
            "unusable": self.unusable,
            "cost_usd": self.cost / 1e9,
        }


def gates_at(plan: BoundPolicy, task: str, index: int) -> tuple[int, float] | None:
    """The reviewer's index and the gate's `below`, for an answer of the rung at `index`; None if none reviews it."""
    gate = plan.review_of(task)
    return (gate.index, gate.below) if gate is not None and index < gate.index else None


def has_reviews(plan: BoundPolicy) -> bool:
    """Whether answers to some requests are reviewed."""
    return plan.shared_review is not None or bool(plan.reviews)


def refuse_voted_reviews(plan: BoundPolicy) -> None:
    """Raises ConfigurationError for a gate over a rung that is asked more than once: its samples have no reviews."""
    policy = plan.policy
    asked = {
        policy.ladder[index].rung
        for task in (OTHER, *(task.name for task in policy.tasks))
        for index, samples in enumerate(policy.route(task).samples)
        if samples is not None and gates_at(plan, task, index) is not None
    }
    if asked:
        names = " and ".join(sorted(asked))
        raise ConfigurationError(
            f"policy {policy.name} has a review gate over {names}, asked more than once: a review of a vote's answer is neither"
            " recorded nor replayed in this version (ask rungs that are reviewed once, or leave the review out)"
        )


def review_code(review: RecordedReview | None, reviewer: str) -> int:
    """The code of a recorded review. `reviewer`: the corpus's name of the rung that the gate asks."""
    if review is None or review.rung != reviewer:
        return NO_REVIEW
    return UNUSABLE if review.accepted is None else ACCEPTED if review.accepted else REJECTED


def review_cost(review: RecordedReview, rates: prices.Rates, cost_of: CostOf) -> int | None:
    """What a review cost, in nano-USD; None if it is not known."""
    if cost_of == "recorded":
        return None if review.cost_usd is None else round(review.cost_usd * 1e9)
    return prices.cost(rates, review.tokens) if review.can_be_priced else None


def no_review(rung: str, reviewer: str) -> str:
    """What to say of a review that the rule asks for and that was not recorded."""
    return f"no review by {reviewer!r} of the reply of rung {rung!r} was recorded"


def no_review_cost(rung: str, cost_of: CostOf) -> str:
    """What to say of a review whose cost is not known."""
    return f"the review of the reply of {rung!r} has no {'cost_usd' if cost_of == 'recorded' else 'usage'}"


class ReviewsBuilder:
    """Builds the reviews of one rung of a plan. `rungs`: the corpus's names of the plan's rungs."""

    def __init__(self, plan: BoundPolicy, index: int, rungs: Sequence[str], cost_of: CostOf) -> None:
        self._plan, self._index, self._rungs = plan, index, rungs
        self._cost_of: CostOf = cost_of
        self._gates: dict[str, tuple[int, float] | None] = {}
        self._code, self._cost, self._below = (ColumnBuilder(kind) for kind in (np.int8, np.int64, np.float64))

    def add(self, tasks: Sequence[str], replies: Sequence[RecordedReply]) -> None:
        """Add the next items' replies."""
        codes, costs, belows = list[int](), list[int](), list[float]()
        for task, reply in zip(tasks, replies, strict=True):
            if task not in self._gates:
                self._gates[task] = gates_at(self._plan, task, self._index)
            code, cost, below = NOT_REVIEWED, 0, 0.0
            if (gate := self._gates[task]) is not None:
                code, below = review_code(reply.review, self._rungs[gate[0]]), gate[1]
                if reply.review is not None and code != NO_REVIEW:
                    known = review_cost(reply.review, self._plan.rates[gate[0]], self._cost_of)
                    cost = _NO_COST if known is None else known
            codes.append(code)
            costs.append(cost)
            belows.append(below)
        self._code.add(codes)
        self._cost.add(costs)
        self._below.add(belows)

    def build(self) -> ReviewColumns:
        """The columns so far."""
        return ReviewColumns(self._code.array(), self._cost.array(), self._below.array())
