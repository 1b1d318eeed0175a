"""One half of the split (tune or certify), from single items or from a table of counts.

`ItemHalf` has groups, tasks and confidence intervals. `JointHalf` is several of them, of the same items. `CountedHalf` has sums only. They are enough for a certificate if
every item is a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, Protocol

from cascade.calibration.bounds import Sample, counted_sample, sample_of
from cascade.calibration.search.by_task import ByTask
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, frontier, point_at, risk_path, spread
from cascade.calibration.search.levels import CodedCorpus
from cascade.replay.arrays import np
from cascade.replay.intervals import Interval, interval_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

    Values = Any

__all__ = ["CountedHalf", "HalfFigures", "ItemHalf", "JointHalf", "OperatingPoint", "SplitHalf", "lost_alone"]

_CLOSELY = 400  # points of one way's path: enough that one is near any loss rate
_Z_TWO_SIDED_95 = 1.959963984540054

OperatingPoint = Point | ByTask
"""Thresholds that a search found, with their figures: one vector for all tasks, or one for each large task."""


@dataclass(frozen=True, slots=True)
class HalfFigures:
    """The figures of a cascade, or of one model, on some items.

    quality          mean score; `ci95`: its 95 % interval, by groups, None if it cannot be computed
    cost             nano-USD, all items together
    false_confident  share of the items shipped below the top rung and wrong
    lost             share of the items with the loss in question
    shipped          by rung, how many items ship there
    """

    items: int
    quality: float
    ci95: Interval | None
    cost: int
    false_confident: float
    lost: float
    shipped: Mapping[str, int]

    @property
    def cost_per_request_usd(self) -> float:
        """The mean cost, in USD."""
        return self.cost / 1e9 / self.items if self.items else 0.0


class SplitHalf(Protocol):
    """One half. Both halves share their levels, so an operating point found on one applies to the other."""

    @property
    def rungs(self) -> tuple[str, ...]:
        """The ladder's rungs, cheapest first."""
        ...

    @property
    def right_at(self) -> float:
        """A score below this is wrong."""
        ...

    @property
    def units(self) -> int:
        """The number of independent units."""
        ...

    def __len__(self) -> int:
        """The number of items."""
        ...

    def counts(self) -> Counts:
        """The table of counts."""
        ...

    def frontier(self) -> tuple[Point, ...]:
        """The Pareto-optimal points in cost and quality, both ascending."""
        ...

    def risk_path(self, loss: Loss, most: int = 60) -> tuple[Point, ...]:
        """The Pareto-optimal points in losses, ascending, and cost, falling; at most `most` of them."""
        ...

    def shares_groups_with(self, other: SplitHalf) -> bool:
        """Whether some group has items in both halves."""
        ...

    def sample(self, found: OperatingPoint, loss: Loss) -> Sample:
        """The units' losses at an operating point."""
        ...

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """The units' losses if this rung alone answers every request."""
        ...

    def figures(self, found: OperatingPoint, loss: Loss) -> HalfFigures:
        """The figures at an operating point."""
        ...

    def figures_alone(self, rung: int, loss: Loss) -> HalfFigures:
        """The figures if this rung alone answers every request."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ItemHalf:
    """A half of which every item is known."""

    coded: CodedCorpus

    @property
    def rungs(self) -> tuple[str, ...]:
        """As `SplitHalf`."""
        return self.coded.rungs

    @property
    def right_at(self) -> float:
        """As `SplitHalf`."""
        return self.coded.right_at

    @property
    def units(self) -> int:
        """The number of groups."""
        return len(np.unique(self.coded.group))

    def __len__(self) -> int:
        return len(self.coded)

    def counts(self) -> Counts:
        """As `SplitHalf`."""
        return self.coded.counts()

    def frontier(self) -> tuple[Point, ...]:
        """As `SplitHalf`."""
        return frontier(self.counts())

    def risk_path(self, loss: Loss, most: int = 60) -> tuple[Point, ...]:
        """As `SplitHalf`."""
        return risk_path(self.counts(), loss, most)

    def rows(self, which: Bools) -> ItemHalf:
        """Some of the items."""
        return ItemHalf(self.coded.rows(which))

    @property
    def group(self) -> Any:
        """(N,): each item's group."""
        return self.coded.group

    def losses(self, found: OperatingPoint, loss: Loss) -> Bools:
        """(N,): which items are lost at an operating point."""
        return self.coded.losses(self.at(found), loss)

    def at(self, found: OperatingPoint) -> Any:
        """The threshold levels: one vector for all items, or (N, K-1), one for each."""
        return found.at if isinstance(found, Point) else found.at_items(self.coded)

    def shares_groups_with(self, other: SplitHalf) -> bool:
        """As `SplitHalf`."""
        return isinstance(other, ItemHalf) and bool(np.intersect1d(self.coded.group, other.coded.group).size)

    def sample(self, found: OperatingPoint, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return sample_of(self.losses(found, loss), self.coded.group)

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return sample_of(lost_alone(self.coded, rung, loss), self.coded.group)

    def figures(self, found: OperatingPoint, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        coded, at = self.coded, self.at(found)
        ends = np.bincount(coded.shipped(at), minlength=len(coded.rungs)).tolist()
        lost = coded.losses(at, "false_confident"), coded.losses(at, loss)
        return self._figures(coded.scores(at), int(coded.costs(at).sum()), lost, ends)

    def figures_alone(self, rung: int, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        ends = [len(self) if number == rung else 0 for number in range(len(self.rungs))]
        lost = lost_alone(self.coded, rung, "false_confident"), lost_alone(self.coded, rung, loss)
        coded = self.coded
        return self._figures(coded.model_score[:, rung], int(coded.model_cost[:, rung].sum()), lost, ends)

    def by_task(self, found: OperatingPoint, loss: Loss) -> dict[str, HalfFigures]:
        """The figures of each task that has items in this half."""
        parts = {task: self.coded.rows(self.coded.task == code) for code, task in enumerate(self.coded.tasks)}
        return {task: ItemHalf(part).figures(found, loss) for task, part in parts.items() if len(part)}

    def _figures(self, scores: Values, cost: int, lost: tuple[Bools, Bools], ends: list[int]) -> HalfFigures:
        shipped = dict(zip(self.rungs, ends, strict=True))
        ci95 = interval_of(scores, self.coded.group)
        return HalfFigures(
            len(self), float(scores.mean()), ci95, cost, float(lost[0].mean()), float(lost[1].mean()), shipped
        )


@dataclass(frozen=True, slots=True, eq=False)
class JointHalf:
    """The same items looked at in several ways, such as votes of different samples; a point names its way.

    Single models are the same in all ways: figures without a point are the first way's.
    """

    ways: tuple[ItemHalf, ...]

    @property
    def rungs(self) -> tuple[str, ...]:
        """As `SplitHalf`."""
        return self.ways[0].rungs

    @property
    def right_at(self) -> float:
        """As `SplitHalf`."""
        return self.ways[0].right_at

    @property
    def units(self) -> int:
        """The number of groups."""
        return self.ways[0].units

    @property
    def group(self) -> Any:
        """(N,): each item's group."""
        return self.ways[0].group

    def __len__(self) -> int:
        return len(self.ways[0])

    def counts(self) -> Counts:
        """The first way's table of counts."""
        return self.ways[0].counts()

    def frontier(self) -> tuple[Point, ...]:
        """The union of the ways' frontiers, less the points that another way beats."""
        found = sorted(
            self._all(lambda way: way.frontier()), key=lambda one: (one.cost, -one.quality, one.losses, one.way)
        )
        kept: list[Point] = []
        for point in found:
            if not kept or point.quality > kept[-1].quality:
                kept.append(point)
        return tuple(kept)

    def risk_path(self, loss: Loss, most: int = 60) -> tuple[Point, ...]:
        """The union of the ways' paths, less the points that another way beats; at most `most` of them."""
        found = self._all(lambda way: way.risk_path(loss, _CLOSELY))
        kept: list[Point] = []
        for point in sorted(found, key=lambda one: (one.losses, one.cost, -one.quality, one.way)):
            if not kept or point.cost < kept[-1].cost:
                kept.append(point)
        costs: Any = np.array([point.cost for point in kept], np.float64)
        places: list[int] = spread(costs, most).tolist()
        return tuple(kept[place] for place in places)

    def _all(self, search: Callable[[ItemHalf], Sequence[Point]]) -> list[Point]:
        return [replace(point, way=number) for number, way in enumerate(self.ways) for point in search(way)]

    def rows(self, which: Bools) -> JointHalf:
        """Some of the items."""
        return JointHalf(tuple(way.rows(which) for way in self.ways))

    def way_of(self, found: OperatingPoint) -> ItemHalf:
        """The items as the point looks at them."""
        return self.ways[found.way if isinstance(found, Point) else 0]

    def losses(self, found: OperatingPoint, loss: Loss) -> Bools:
        """(N,): which items are lost at an operating point."""
        return self.way_of(found).losses(found, loss)

    def shares_groups_with(self, other: SplitHalf) -> bool:
        """As `SplitHalf`."""
        return isinstance(other, JointHalf) and self.ways[0].shares_groups_with(other.ways[0])

    def sample(self, found: OperatingPoint, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return self.way_of(found).sample(found, loss)

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return self.ways[0].sample_alone(rung, loss)

    def figures(self, found: OperatingPoint, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        return self.way_of(found).figures(found, loss)

    def figures_alone(self, rung: int, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        return self.ways[0].figures_alone(rung, loss)


@dataclass(frozen=True, slots=True, eq=False)
class CountedHalf:
    """A half of which only the counts are known; every item is a unit of its own."""

    tally: Counts

    @property
    def rungs(self) -> tuple[str, ...]:
        """As `SplitHalf`."""
        return self.tally.rungs

    @property
    def right_at(self) -> float:
        """As `SplitHalf`."""
        return self.tally.right_at

    @property
    def units(self) -> int:
        """The number of items."""
        return len(self)

    def __len__(self) -> int:
        return self.tally.n

    def counts(self) -> Counts:
        """As `SplitHalf`."""
        return self.tally

    def frontier(self) -> tuple[Point, ...]:
        """As `SplitHalf`."""
        return frontier(self.tally)

    def risk_path(self, loss: Loss, most: int = 60) -> tuple[Point, ...]:
        """As `SplitHalf`."""
        return risk_path(self.tally, loss, most)

    def shares_groups_with(self, other: SplitHalf) -> bool:
        """False for another half: counts have no groups, and tables with groups of several items are never certified."""
        return other is self

    def sample(self, found: OperatingPoint, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return counted_sample(self._point(found, loss).losses, len(self))

    def sample_alone(self, rung: int, loss: Loss) -> Sample:
        """As `SplitHalf`."""
        return counted_sample(self._lost_alone(rung, loss), len(self))

    def figures(self, found: OperatingPoint, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        point = self._point(found, loss)
        false_confident = self._point(found, "false_confident").losses / len(self)
        shipped = dict(zip(self.rungs, point.shipped, strict=True))
        ci95 = self._interval(point.quality * len(self))
        return HalfFigures(
            len(self), point.quality, ci95, point.cost, false_confident, point.losses / len(self), shipped
        )

    def figures_alone(self, rung: int, loss: Loss) -> HalfFigures:
        """As `SplitHalf`."""
        n, sums = len(self), float(self.tally.alone[rung])
        false_confident, lost = (self._lost_alone(rung, one) / n for one in ("false_confident", loss))
        shipped = {name: n if number == rung else 0 for number, name in enumerate(self.rungs)}
        cost = int(self.tally.cost[:, rung].sum())
        return HalfFigures(n, sums / n, self._interval(sums), cost, false_confident, lost, shipped)

    def _point(self, found: OperatingPoint, loss: Loss) -> Point:
        assert isinstance(found, Point)  # counts have no tasks, so no search by task runs on them
        return point_at(self.tally, found.at, loss)

    def _lost_alone(self, rung: int, loss: Loss) -> int:
        if rung == len(self.rungs) - 1:
            return 0
        return int(self.tally.regressed[:, rung].sum()) if loss == "regression" else int(self.tally.alone_wrong[rung])

    def _interval(self, right: float) -> Interval | None:
        """Wilson's interval if all scores are 0 or 1; else None, since the sums do not give the variance."""
        tally = self.tally
        if not len(self) or bool((tally.score != tally.items[:, None] - tally.wrong).any()):
            return None
        # Wilson, E. B. (1927), JASA 22. In closed form: scipy.stats takes longer to import than a search takes.
        n, z2 = len(self), _Z_TWO_SIDED_95**2
        hits = round(right)
        middle, half = hits + z2 / 2, sqrt(z2) * sqrt(hits * (n - hits) / n + z2 / 4)
        return max(0.0, (middle - half) / (n + z2)), min(1.0, (middle + half) / (n + z2))


def lost_alone(coded: CodedCorpus, rung: int, loss: Loss) -> Bools:
    """(N,): the items that one model loses if it alone answers every request.

    A model below the top ships all its answers below the top, so all its wrong answers are `false_confident`. The top
    model has no loss of either kind, by definition.
    """
    wrong = coded.model_score[:, rung] < coded.right_at
    if rung == coded.top:
        return np.zeros(len(coded), np.bool_)
    return wrong & (coded.alone[:, coded.top] >= coded.right_at) if loss == "regression" else wrong
