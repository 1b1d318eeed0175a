"""Thresholds by task under one shared bound: per-task frontiers, joined exactly.

The losses allowed to each task are chosen for all tasks together: a (min,+) dynamic programme on the integer count,

    f_t(L) = min over the task's own points (l, c) of f_(t-1)(L - l) + c,

the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger: Knapsack Problems, 2004, ch. 11). A Lagrangian (one price
of a loss for all tasks) finds only the points on the convex hull, and was 8-11 % dearer on the recorded corpora. Only
tasks with many items get their own thresholds; all others share one vector, as if they were one task. Items without a
task of the policy are always among those: they have the ladder's own thresholds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, risk_path
from cascade.calibration.search.levels import CodedCorpus
from cascade.core.policy import OTHER
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats

__all__ = ["FEWEST", "ByTask", "LossOrWrong", "best_by_task", "large_tasks", "path_by_task"]

FEWEST = 500
"""Graded items that a task needs for its own thresholds: with fewer, they follow chance."""

LossOrWrong = Loss | Literal["wrong"]
"""What is counted against the bound: a loss, or every wrong answer (for a bound on quality)."""

_EVERY = 1_000_000_000  # points on a task's own path: all of them


@dataclass(frozen=True, slots=True)
class ByTask:
    """Thresholds by task. `tasks`: for each with enough items. `shared`: for all other items; None if there are none.

    `quality`: mean score. `cost`: nano-USD, all items. `losses`: how many losses, or wrong answers.
    """

    tasks: Mapping[str, Point]
    shared: Point | None
    quality: float
    cost: int
    losses: int

    def at_items(self, coded: CodedCorpus) -> Codes:
        """(N, K-1): the threshold levels for every item of `coded`, which must have the same levels.

        A task that was not there at the choice has the shared ones. Without those it ships only at the top rung: nothing
        is known of it.
        """
        rest = self.shared.at if self.shared else tuple(len(own) + 1 for own in coded.levels)
        table = np.array([self.tasks[name].at if name in self.tasks else rest for name in coded.tasks], np.int32)
        return table.reshape(len(coded.tasks), len(coded.levels))[coded.task]


def large_tasks(coded: CodedCorpus, fewest: int = FEWEST) -> frozenset[str]:
    """The tasks with at least `fewest` items."""
    sizes = np.bincount(coded.task, minlength=len(coded.tasks)).tolist()
    return frozenset(
        name for name, size in zip(coded.tasks, sizes, strict=True) if size >= max(1, fewest) and name != OTHER
    )


def best_by_task(
    coded: CodedCorpus, bound: int, counted: LossOrWrong = "false_confident", own: Collection[str] | None = None
) -> ByTask | None:
    """The least cost with at most `bound` losses (or wrong answers) in all; None if no thresholds have so few.

    `own`: the tasks with their own thresholds (None: the large ones of `coded`). For a minimum quality with scores of 0 or
    1, give `counted` "wrong" and the number of wrong answers it allows. Exact unless a task's levels are thinned (see
    `frontier.surface`).
    """
    units = _units(coded, counted, own)
    costs, choices = _joined(units, bound)
    if not len(costs) or costs[-1] == np.inf:
        return None
    return _chosen(units, choices, len(costs) - 1)


def path_by_task(
    coded: CodedCorpus,
    counted: LossOrWrong,
    most: int = 60,
    *,
    bound: int | None = None,
    own: Collection[str] | None = None,
) -> tuple[ByTask, ...]:
    """The Pareto-optimal points in losses and cost: losses ascending, cost falling; at most `most` of them.

    `bound`: the most losses considered. `own`: as in `best_by_task`. Thinned evenly by cost, as in `risk_path`.
    """
    units = _units(coded, counted, own)
    costs, choices = _joined(units, len(coded) if bound is None else bound)
    reached = np.flatnonzero(np.isfinite(costs))
    if not len(reached):
        return ()
    places = reached[np.concatenate([[True], np.diff(costs[reached]) < 0])]
    if len(places) > most:
        spent = -costs[places]
        wanted = cast("Floats", np.linspace(spent[0], spent[-1], most))
        places = places[np.unique(np.minimum(np.searchsorted(spent, wanted), len(places) - 1))]
    return tuple(_chosen(units, choices, int(place)) for place in places)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A task, or all small ones together (`name` None), with its path: losses ascending, costs falling."""

    name: str | None
    items: int
    path: tuple[Point, ...]


def _units(coded: CodedCorpus, counted: LossOrWrong, own: Collection[str] | None) -> list[_Unit]:
    chosen = large_tasks(coded) if own is None else own
    units: list[_Unit] = []
    small = np.ones(len(coded), np.bool_)
    for name, code in sorted(zip(coded.tasks, range(len(coded.tasks)), strict=True)):  # not in the order of the file
        rows = coded.task == code
        if name in chosen and rows.any():
            units.append(_Unit(name, int(rows.sum()), _path(coded.rows(rows).counts(), counted)))
            small &= ~rows
    if small.any():
        units.append(_Unit(None, int(small.sum()), _path(coded.rows(small).counts(), counted)))
    return units


def _path(counts: Counts, counted: LossOrWrong) -> tuple[Point, ...]:
    if counted == "wrong":
        return risk_path(replace(counts, false_confident=counts.wrong), "false_confident", _EVERY)
    return risk_path(counts, counted, _EVERY)


def _joined(units: Sequence[_Unit], bound: int) -> tuple[Floats, list[Any]]:
    """The least cost (nano-USD, exact below 2**53) with at most 0, 1 … losses, and each unit's point there."""
    size = min(bound, sum(unit.path[-1].losses for unit in units)) + 1
    costs, choices = np.zeros(max(0, size), np.float64), list[Any]()
    for unit in units:
        best, choice = np.full(len(costs), np.inf), np.zeros(len(costs), np.int32)
        for number, point in enumerate(unit.path):
            if point.losses >= size:
                break
            with_it = costs[: size - point.losses] + point.cost
            cheaper = with_it < best[point.losses :]
            best[point.losses :][cheaper] = with_it[cheaper]
            choice[point.losses :][cheaper] = number
        costs = best
        choices.append(choice)
    return costs, choices


def _chosen(units: Sequence[_Unit], choices: Sequence[Any], place: int) -> ByTask:
    """Trace back from the last unit to the first: its chosen point, and the losses left for the others."""
    points: list[Point] = []
    for unit, choice in zip(reversed(units), reversed(choices), strict=True):
        points.append(unit.path[int(choice[place])])
        place -= points[-1].losses
    pairs = list(zip(units, reversed(points), strict=True))
    n = sum(unit.items for unit in units)
    return ByTask(
        {unit.name: point for unit, point in pairs if unit.name is not None},
        next((point for unit, point in pairs if unit.name is None), None),
        sum(point.quality * unit.items for unit, point in pairs) / max(1, n),
        sum(point.cost for point in points),
        sum(point.losses for point in points),
    )
