"""The outcome of every item, and figures from it. `exact` and `vectorised` both produce `Outcomes`, and must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from cascade.core.storm import Change
from cascade.core.trail import NATURAL, Degraded, Reason
from cascade.replay.arrays import np
from cascade.replay.columns import MISSING, NO_COST, Columns, MappedColumns
from cascade.replay.figures import Figures, Single
from cascade.replay.reviews import NOT_REVIEWED, REJECTED, UNUSABLE, Reviews, gates_at
from cascade.replay.sums import exact_mean, exact_sum, on_grid, sums_by

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats, Int8s, Ints

__all__ = [
    "NO_RUNG",
    "REASONS",
    "STOPS",
    "Outcomes",
    "Storms",
    "cold_writes",
    "false_confident",
    "review_cost_at",
    "reviews_of",
    "scores_of",
    "singles_of",
    "tally",
    "task_figures",
    "total",
]

NO_RUNG = -1
"""Marks that no rung shipped."""

REASONS: tuple[str, ...] = ("", *get_args(Reason))
"""Reasons; a reason's code is its index, 0 is none."""

STOPS: tuple[str, ...] = ("", *get_args(Degraded))
"""What stopped a climb; its code is its index, 0 is nothing."""


@dataclass(frozen=True, slots=True)
class Storms:
    """The storm guard's changes, each with the id of the item that caused it.

    `off` says why there was no guard (None: there was one). `unwatched` counts the items without an arrival time.
    """

    off: str | None = None
    changes: tuple[tuple[str, Change], ...] = ()
    unwatched: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """For each item: the rung that shipped (or NO_RUNG), the last rung asked, what stopped the climb, and nano-USD.

    `reasons`: for each rung, the code of why the item was escalated there; 0 if it was not. `closed`: for each rung below the
    top, whether early stop closed the reply at its confidence; empty without early stop. `reviews`: for each rung below the top,
    what the review gate said of the answer, a code of `replay.reviews`; empty without a gate.
    """

    shipped: Int8s
    last: Int8s
    stopped: Int8s
    cost: Ints
    reasons: tuple[Int8s, ...]
    storms: Storms
    closed: tuple[Bools, ...] = ()
    reviews: tuple[Int8s, ...] = ()


def scores_of(columns: Columns, mapped: MappedColumns, outcomes: Outcomes) -> Floats:
    """Each item's score: that of the shipped reply, or 0 if none was shipped.

    Raises CorpusError, naming item and rung, if a shipped reply was not graded.
    """
    scores = np.zeros(len(columns), np.float64)
    for index in range(len(mapped.mapping.rungs)):
        np.copyto(scores, mapped.score(columns, index), where=outcomes.shipped == index)
    ungraded = np.isnan(scores)
    if ungraded.any():
        row = int(ungraded.argmax())
        rung = mapped.mapping.rungs[int(outcomes.shipped[row])]
        hint = "grade it, or leave the item out (--skip-bad does)"
        raise columns.error(row, f"the reply of {rung!r} has no score", hint)
    return scores


def false_confident(mapped: MappedColumns, outcomes: Outcomes, scores: Floats, right_at: float) -> Bools:
    """Which items were shipped below the top rung and are wrong."""
    shipped = outcomes.shipped
    return (scores < right_at) & (shipped != NO_RUNG) & (shipped != len(mapped.mapping.rungs) - 1)


def tally(
    columns: Columns, mapped: MappedColumns, outcomes: Outcomes, scores: Floats | None = None
) -> dict[str, Figures]:
    """The figures of each task, in order of first appearance; `total` adds them up.

    Raises CorpusError if a shipped reply was not graded.
    """
    scores = scores_of(columns, mapped, outcomes) if scores is None else scores
    tasks, rungs = len(mapped.tasks), len(mapped.mapping.rungs)
    # One table holds all counts: a pass for each figure would take ten times as long.
    task = mapped.task.astype(np.intp)
    cell = task * (rungs + 1)
    cell += outcomes.shipped
    cell += 1
    cell *= rungs
    cell += outcomes.last
    cell *= 2
    cell += scores < columns.manifest.right_at
    counts = np.bincount(cell, minlength=tasks * (rungs + 1) * rungs * 2).reshape(tasks, rungs + 1, rungs, 2)
    degraded = np.bincount(task[(outcomes.stopped != 0) & (outcomes.shipped != NO_RUNG)], minlength=tasks)
    present = np.flatnonzero(np.bincount(task, minlength=tasks))
    sums: Any = np.zeros((2, tasks), object)
    sums[:, present] = sums_by(mapped.task, *on_grid(scores))[1]
    costs = np.bincount(task, weights=outcomes.cost, minlength=tasks)  # exact: integers far below 2**53
    escalated = np.zeros((rungs, tasks, len(REASONS)), np.int64)  # the top rung never escalates
    for index, reasons in enumerate(outcomes.reasons):
        cells = np.bincount(task * len(REASONS) + reasons, minlength=tasks * len(REASONS))
        escalated[index] = cells.reshape(tasks, len(REASONS))
    return {
        name: task_figures(
            mapped, counts[n], escalated[:, n], (int(sums[0, n]), int(sums[1, n]), int(costs[n]), int(degraded[n]))
        )
        for n, name in enumerate(mapped.tasks)
    }


def task_figures(mapped: MappedColumns, counts: Ints, escalated: Ints, sums: tuple[int, int, int, int]) -> Figures:
    """The figures of one task from its counts (shipped + 1, last asked, wrong), reasons by rung, and sums.

    `sums`: of the scores, as two integers (`replay.sums`); of nano-USD; and how many were degraded.
    """
    names = mapped.mapping.names
    n, top = int(counts.sum()), len(names) - 1
    by_rung, by_last = counts.sum((1, 2)), counts.sum((0, 2))
    natural = [code for code, reason in enumerate(REASONS) if reason in NATURAL]
    reasons = {reason: int(escalated[:, code].sum()) for code, reason in enumerate(REASONS) if code}
    return Figures(
        items=n,
        quality=exact_mean(sums[0], sums[1], n),
        cost=sums[2],
        shipped={name: int(by_rung[i + 1]) for i, name in enumerate(names)},
        reached={name: int(by_last[i:].sum()) for i, name in enumerate(names)},
        escalations={name: int(escalated[i, 1:].sum()) for i, name in enumerate(names)},
        natural={name: int(escalated[i, natural].sum()) for i, name in enumerate(names)},
        reasons={reason: count for reason, count in sorted(reasons.items(), key=lambda one: -one[1]) if count},
        false_confident=int(counts[1 : top + 1, :, 1].sum()),
        wrong=int(counts[:, :, 1].sum()) + int(counts[0, :, 0].sum()),
        degraded=sums[3],
        abstained=int(by_rung[0]),
        singles={},
    )


def reviews_of(mapped: MappedColumns, outcomes: Outcomes) -> dict[str, Reviews]:
    """By rung whose answers a review gate may read: what it did there; empty without a gate."""
    made: dict[str, Reviews] = {}
    for index, codes in enumerate(outcomes.reviews):
        if not any(gates_at(mapped.mapping.plan, task, index) for task in mapped.tasks):
            continue
        asked, rejected, unusable = codes != NOT_REVIEWED, codes == REJECTED, codes == UNUSABLE
        count = [int(np.count_nonzero(one)) for one in (asked, rejected, unusable)]
        made[mapped.mapping.names[index]] = Reviews(
            count[0], count[1], count[2], review_cost_at(mapped, outcomes, index)
        )
    return made


def review_cost_at(mapped: MappedColumns, outcomes: Outcomes, index: int, rows: Bools | None = None) -> int:
    """Nano-USD of the reviews of a rung's answers; `rows`: of these items alone."""
    own = mapped.reviews[index] if index < len(outcomes.reviews) else None
    if own is None:
        return 0
    asked = outcomes.reviews[index] != NOT_REVIEWED
    return int(own.cost[asked if rows is None else asked & rows].sum())


def singles_of(columns: Columns, mapped: MappedColumns) -> dict[str, Single]:
    """Each recorded model alone: the plan's rungs by the plan's names, then the corpus's other rungs.

    A model without a reply, score or cost on some item is left out.
    """
    right_at, others = columns.manifest.right_at, [rung for rung in columns.rungs if rung not in mapped.mapping.rungs]
    costs = [mapped.single_cost(index) for index in range(len(mapped.mapping.rungs))]
    by_name = dict(zip(mapped.mapping.names, zip(mapped.mapping.rungs, costs, strict=True), strict=True))
    if mapped.mapping.cost_of == "recorded":
        by_name |= {rung: (rung, columns.rungs[rung].cost) for rung in others if rung not in by_name}
    singles: dict[str, Single] = {}
    for name, (rung, cost) in by_name.items():
        replies = columns.rungs[rung]
        known = not np.isnan(replies.score).any() and (cost != NO_COST).all() and (replies.answer != MISSING).all()
        if len(columns) and known:
            wrong = int(np.count_nonzero(replies.score < right_at))
            high, low = on_grid(replies.score)
            quality = exact_mean(exact_sum(high), exact_sum(low), len(columns))
            singles[name] = Single(quality, int(cost.sum()), wrong, rung)
    return singles


def total(parts: dict[str, Figures], singles: dict[str, Single]) -> Figures:
    """The figures of a whole corpus, from those of its tasks."""
    items = sum(part.items for part in parts.values())
    quality = sum(part.quality * part.items for part in parts.values())

    def added(which: Callable[[Figures], Mapping[str, int]]) -> dict[str, int]:
        sums: dict[str, int] = {}
        for part in parts.values():
            for name, count in which(part).items():
                sums[name] = sums.get(name, 0) + count
        return sums

    reasons = added(lambda part: part.reasons)
    return Figures(
        items=items,
        quality=quality / items if items else 0.0,
        cost=sum(part.cost for part in parts.values()),
        shipped=added(lambda part: part.shipped),
        reached=added(lambda part: part.reached),
        escalations=added(lambda part: part.escalations),
        natural=added(lambda part: part.natural),
        reasons=dict(sorted(reasons.items(), key=lambda one: -one[1])),
        false_confident=sum(part.false_confident for part in parts.values()),
        wrong=sum(part.wrong for part in parts.values()),
        degraded=sum(part.degraded for part in parts.values()),
        abstained=sum(part.abstained for part in parts.values()),
        singles=singles,
    )


def cold_writes(mapped: MappedColumns, outcomes: Outcomes) -> int | None:
    """An estimate, in nano-USD, of what cold caches added at rungs that are asked once; None where none are priced (`replay.cold`)."""
    if not mapped.climb_cost:
        return None
    return sum(
        int((mapped.call_cost(index) - mapped.single_cost(index))[outcomes.last >= index].sum())
        for index in range(len(mapped.climb_cost))
        if mapped.vote(index) is None
    )
