"""What became of every item, whoever drove: the columns that the engine's path and the vectorised one must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from cascade.core.storm import Change
from cascade.core.trail import NATURAL, Degraded, Reason
from cascade.replay.arrays import np
from cascade.replay.columns import MISSING, NO_COST, Columns, View
from cascade.replay.figures import Figures, Single

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats, Small, Truths, Whole

__all__ = [
    "NOBODY",
    "REASONS",
    "STOPS",
    "Outcomes",
    "Storms",
    "false_confident",
    "scores_of",
    "singles_of",
    "tally",
    "total",
]

NOBODY = -1
"""Stands for the rung that shipped where none did."""

REASONS: tuple[str, ...] = ("", *get_args(Reason))
"""Codes of reasons: the index of each; 0 is none."""

STOPS: tuple[str, ...] = ("", *get_args(Degraded))
"""Codes of what stopped a climb: the index of each; 0 is nothing."""


@dataclass(frozen=True, slots=True)
class Storms:
    """What the storm guard told: its changes, each with the id of the item at which it came.

    `off` says why there was no guard, where there was none; `unwatched` counts the items without an arrival time.
    """

    off: str | None = None
    changes: tuple[tuple[str, Change], ...] = ()
    unwatched: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """An item each: the rung that shipped (or NOBODY), the last one asked, what stopped the climb, nano-USD spent.

    `reasons`: for each rung why it sent the item up, 0 where it did not.
    """

    shipped: Small
    last: Small
    stopped: Small
    cost: Whole
    reasons: tuple[Small, ...]
    storms: Storms


def scores_of(columns: Columns, view: View, outcomes: Outcomes) -> Floats:
    """Each item's score: that of the reply that shipped, 0 where none did.

    Raises CorpusError, naming item and rung, where a reply that shipped was not graded.
    """
    scores = np.zeros(len(columns), np.float64)
    for index, rung in enumerate(view.lens.rungs):
        np.copyto(scores, columns.rungs[rung].score, where=outcomes.shipped == index)
    ungraded = np.isnan(scores)
    if ungraded.any():
        row = int(ungraded.argmax())
        rung = view.lens.rungs[int(outcomes.shipped[row])]
        hint = "grade it, or leave the item out (--skip-bad does)"
        raise columns.error(row, f"the reply of {rung!r} has no score", hint)
    return scores


def false_confident(view: View, outcomes: Outcomes, scores: Floats, right_at: float) -> Truths:
    """Which items were shipped below the top rung, and wrong."""
    shipped = outcomes.shipped
    return (scores < right_at) & (shipped != NOBODY) & (shipped != len(view.lens.rungs) - 1)


def tally(columns: Columns, view: View, outcomes: Outcomes, scores: Floats | None = None) -> dict[str, Figures]:
    """The figures of each task, in the order in which the tasks appear; `total` adds them up.

    Raises CorpusError where a reply that shipped was not graded.
    """
    scores = scores_of(columns, view, outcomes) if scores is None else scores
    tasks, rungs = len(view.tasks), len(view.lens.rungs)
    # Everything that is counted is one cell of a table: a pass for each figure would take ten times as long.
    task = view.task.astype(np.intp)
    cell = task * (rungs + 1)
    cell += outcomes.shipped
    cell += 1
    cell *= rungs
    cell += outcomes.last
    cell *= 2
    cell += scores < columns.manifest.right_at
    counts = np.bincount(cell, minlength=tasks * (rungs + 1) * rungs * 2).reshape(tasks, rungs + 1, rungs, 2)
    degraded = np.bincount(task[(outcomes.stopped != 0) & (outcomes.shipped != NOBODY)], minlength=tasks)
    sums = np.bincount(task, weights=scores, minlength=tasks)
    costs = np.bincount(task, weights=outcomes.cost, minlength=tasks)  # exact: whole numbers far below 2**53
    sent_up = np.zeros((rungs, tasks, len(REASONS)), np.int64)  # nobody is sent up from the top
    for index, reasons in enumerate(outcomes.reasons):
        cells = np.bincount(task * len(REASONS) + reasons, minlength=tasks * len(REASONS))
        sent_up[index] = cells.reshape(tasks, len(REASONS))
    return {
        name: _figures(view, counts[n], sent_up[:, n], (float(sums[n]), int(costs[n]), int(degraded[n])))
        for n, name in enumerate(view.tasks)
    }


def _figures(view: View, counts: Whole, sent_up: Whole, sums: tuple[float, int, int]) -> Figures:
    """The figures of one task from its counts (shipped + 1, last asked, wrong), reasons by rung, and sums."""
    names = view.lens.names
    n, top = int(counts.sum()), len(names) - 1
    by_rung, by_last = counts.sum((1, 2)), counts.sum((0, 2))
    natural = [code for code, reason in enumerate(REASONS) if reason in NATURAL]
    reasons = {reason: int(sent_up[:, code].sum()) for code, reason in enumerate(REASONS) if code}
    return Figures(
        items=n,
        quality=sums[0] / n if n else 0.0,
        cost=sums[1],
        shipped={name: int(by_rung[i + 1]) for i, name in enumerate(names)},
        reached={name: int(by_last[i:].sum()) for i, name in enumerate(names)},
        escalations={name: int(sent_up[i, 1:].sum()) for i, name in enumerate(names)},
        natural={name: int(sent_up[i, natural].sum()) for i, name in enumerate(names)},
        reasons={reason: count for reason, count in sorted(reasons.items(), key=lambda one: -one[1]) if count},
        false_confident=int(counts[1 : top + 1, :, 1].sum()),
        wrong=int(counts[:, :, 1].sum()) + int(counts[0, :, 0].sum()),
        degraded=sums[2],
        abstained=int(by_rung[0]),
        singles={},
    )


def singles_of(columns: Columns, view: View) -> dict[str, Single]:
    """Every recorded model by itself: the plan's rungs by their names there, then the corpus's others.

    A model of which some item has no reply, score or cost is left out: nothing is guessed.
    """
    right_at, others = columns.manifest.right_at, [rung for rung in columns.rungs if rung not in view.lens.rungs]
    spoken = dict(zip(view.lens.names, zip(view.lens.rungs, view.cost, strict=True), strict=True))
    if view.lens.cost_of == "recorded":
        spoken |= {rung: (rung, columns.rungs[rung].cost) for rung in others if rung not in spoken}
    found: dict[str, Single] = {}
    for name, (rung, cost) in spoken.items():
        replies = columns.rungs[rung]
        total = float(replies.score.sum())
        if len(columns) and total == total and (cost != NO_COST).all() and (replies.answer != MISSING).all():  # noqa: PLR0124
            wrong = int(np.count_nonzero(replies.score < right_at))
            found[name] = Single(total / len(columns), int(cost.sum()), wrong, rung)
    return found


def total(parts: dict[str, Figures], singles: dict[str, Single]) -> Figures:
    """The figures of a whole corpus from those of its tasks."""
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
