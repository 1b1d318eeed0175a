"""The cost of a ladder at a share of the gap, and the interval of the difference between two ladders at equal quality.

The gap is between the first rung alone and the best single model. A ladder with more distinct confidences has more thresholds
to choose from, and looks better on the rows it was chosen on. So thresholds are chosen on four fifths of the groups and
evaluated on the last fifth, each in turn: Stone, M. (1974), JRSS B 36. The search aims at many shares of the gap of the groups
that it sees, and beyond; the cost at a share is the least cost of an aim whose evaluation reaches it. Nothing is interpolated.

Intervals are percentiles of a seeded bootstrap of 1,000 draws of whole groups, both ladders on the same draws, with gap, quality
and costs counted anew in each. Above 2,000 groups, blocks of groups that are put together at random are drawn instead: their
sums have the same variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from cascade.calibration.proof.power import folds_of
from cascade.calibration.search.frontier import Point, frontier
from cascade.calibration.search.levels import CodedCorpus
from cascade.calibration.signal_table.figures import SHARES, CostAt, Oracle
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats, Ints
    from cascade.replay.intervals import Interval

__all__ = ["Difference", "Sweep", "Yardstick"]

_AIMS = 160
_DRAWS = 1_000
_SEED = 20_260_107
_BLOCKS = 2_000
_ENOUGH = 100_000  # items: from here on the optimism of in-sample figures is about a thousandth
_TINY = 1e-9
_ANY = -1e9  # an aim below every quality: the cheapest point

_BEYOND = (0.25, 0.5, 0.75, 1.0)
"""How far from the levels of best quality to `never`: on other groups levels above the best may be needed. The last one
always climbs to the top.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One or several ladders that are searched together, at rising aims at quality.

    cost, score  (A, B): out-of-fold sums by aim and block of groups; nano-USD and scores
    shipped      (A, K): how many requests end at each rung
    ways         (A,): the ladder that the aim's point is of, on all items
    """

    cost: Floats
    score: Floats
    shipped: Ints
    ways: Ints


@dataclass(frozen=True, slots=True)
class Difference:
    """Cost minus cost, both over the best single model's, at equal quality. The interval is None for fewer than two groups."""

    value: float
    ci95: Interval | None

    @property
    def is_less(self) -> bool:
        """Whether the whole interval is below 0. False without an interval."""
        return self.ci95 is not None and self.ci95[1] < 0

    @property
    def is_more(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.ci95 is not None and self.ci95[0] > 0


class Yardstick:
    """The single models of some items, against which ladders on the same items are measured.

    best         the index of the single model of best quality, the cheapest of equals
    qualities    each model alone; `prices`: nano-USD, all items
    out_of_fold  whether thresholds are chosen on other groups than they are evaluated on
    has_costs    whether there is a gap to close, and a price to compare with
    """

    def __init__(self, plain: CodedCorpus) -> None:
        n, self._plain = len(plain), plain
        folds = folds_of(plain.group)
        self._folds = folds if n <= _ENOUGH else np.zeros_like(folds)
        self.out_of_fold = len(np.unique(self._folds)) > 1
        self.qualities: tuple[float, ...] = tuple((plain.alone.sum(0) / n).tolist())
        self.prices: tuple[int, ...] = tuple(plain.cost.sum(0).tolist())
        places = range(len(plain.rungs))
        self.best = min(places, key=lambda place: (-self.qualities[place], self.prices[place]))
        self.gap = self.qualities[self.best] - self.qualities[0]
        self.has_costs = self.gap > _TINY and self.prices[self.best] > 0
        _, which = np.unique(plain.group, return_inverse=True)
        self.groups = int(which.max()) + 1
        chance = np.random.default_rng(_SEED)
        blocks = min(self.groups, _BLOCKS)
        self._block = (chance.permutation(self.groups) % blocks)[which.reshape(-1)]
        self._blocks = blocks
        self._drawn: Floats = np.ones((1 + (_DRAWS if blocks > 1 else 0), blocks))
        for draw in range(1, len(self._drawn)):
            self._drawn[draw] = np.bincount(chance.integers(0, blocks, blocks), minlength=blocks)
        first, best = (self._drawn @ self._summed(plain.alone[:, one]) for one in (0, self.best))
        self._first, self._gaps = first, best - first
        self._spent = np.maximum(1.0, self._drawn @ self._summed(plain.cost[:, self.best]))  # a draw may miss all costs

    def sweep(self, ladders: Sequence[CodedCorpus]) -> Sweep:
        """The ladders searched together: at each aim the cheapest of all their points."""
        whole = _union(ladders)
        aims = _aims_of(whole)
        shape = (len(aims) + len(_BEYOND), self._blocks)
        cost, score = np.zeros(shape), np.zeros(shape)
        shipped = np.zeros((shape[0], len(self._plain.rungs)), np.int64)
        for fold in np.unique(self._folds).tolist():
            inside = self._folds == fold
            found, aimed = whole, aims
            if self.out_of_fold:
                found, aimed = _union([one.rows(~inside) for one in ladders]), self._aims_on(~inside, aims)
            parts = [one.rows(inside) for one in ladders]
            way, best = found[-1]
            ats = [(which, point.at) for which, point in _reaching(found, aimed)]
            ats += [(way, _beyond(best.at, parts[way], share)) for share in _BEYOND]
            self._evaluate(parts, inside, ats, (cost, score, shipped))
        ways = [way for way, _ in _reaching(whole, aims)] + [whole[-1][0]] * len(_BEYOND)
        return Sweep(cost, score, shipped, np.array(ways))

    def _aims_on(self, rows: Bools, aims: Floats) -> Floats:
        """The aims on some of the items: at the same shares of their own gap, as groups differ in how hard they are."""
        alone = self._plain.alone[rows]
        first, gap = float(alone[:, 0].mean()), float(alone[:, self.best].mean() - alone[:, 0].mean())
        scale = max(0.0, gap) / self.gap if self.gap > _TINY else 1.0
        return first + (aims - self.qualities[0]) * scale

    def _evaluate(
        self,
        parts: Sequence[CodedCorpus],
        inside: Bools,
        ats: Sequence[tuple[int, tuple[int, ...]]],
        sums: tuple[Floats, Floats, Ints],
    ) -> None:
        """Add one fold's evaluation of each aim's ladder and levels."""
        cost, score, shipped = sums
        block = self._block[inside]
        made: dict[tuple[int, tuple[int, ...]], tuple[Floats, Floats, Ints]] = {}
        for aim, (way, at) in enumerate(ats):
            if (way, at) not in made:
                part = parts[way]
                sums_of = (np.bincount(block, one, self._blocks) for one in (part.costs(at), part.scores(at)))
                spent, scored = (one.astype(np.float64) for one in sums_of)
                made[way, at] = spent, scored, np.bincount(part.shipped(at), minlength=shipped.shape[1])
            spent, scored, ends = made[way, at]
            cost[aim] += spent
            score[aim] += scored
            shipped[aim] += ends

    def costs(self, sweep: Sweep) -> tuple[CostAt, ...]:
        """The cost at each of SHARES; empty without `has_costs`."""
        return tuple(self.cost(sweep, share) for share in SHARES) if self.has_costs else ()

    def cost(self, sweep: Sweep, share: float) -> CostAt:
        """The cost at a share of a gap above 0."""
        place = self._place(sweep, share)
        if place is None:
            return CostAt(share, None)
        shipped = (sweep.shipped[place] / len(self._plain)).tolist()
        return CostAt(share, float(sweep.cost[place].sum() / self._spent[0]), tuple(shipped))

    def way(self, sweep: Sweep, share: float) -> int:
        """Which of the ladders is taken at a share of the gap; the first where it is not reached."""
        place = self._place(sweep, share)
        return 0 if place is None else int(sweep.ways[place])

    def _place(self, sweep: Sweep, share: float) -> int | None:
        reached = sweep.score.sum(1) >= self._first[0] + share * self._gaps[0] - _TINY
        spent = np.where(reached, sweep.cost.sum(1), np.inf)
        return int(spent.argmin()) if reached.any() else None

    def difference(self, sweep: Sweep, other: Sweep, share: float) -> Difference:
        """The cost of `sweep` minus the cost of `other`. What does not reach the share counts as always climbing."""
        drawn = self._drawn_costs(sweep, share) - self._drawn_costs(other, share)
        if len(drawn) == 1:
            return Difference(float(drawn[0]), None)
        low, high = np.quantile(drawn[1:], (0.025, 0.975))
        return Difference(float(drawn[0]), (float(low), float(high)))

    def _drawn_costs(self, sweep: Sweep, share: float) -> Floats:
        cost, score = self._drawn @ sweep.cost.T, self._drawn @ sweep.score.T
        reached = score >= (self._first + share * self._gaps)[:, None] - _TINY
        least = np.where(reached, cost, np.inf).min(1)
        return np.where(np.isfinite(least), least, cost[:, -1]) / self._spent

    def oracle(self) -> Oracle:
        """The floor: each item ends at the first rung whose answer no rung above betters."""
        plain, top = self._plain, self._plain.top
        best_above = np.maximum.accumulate(plain.alone[:, ::-1], axis=1)[:, ::-1]
        ends = (plain.alone >= best_above).argmax(1)
        spent = float(np.where(np.arange(top + 1) <= ends[:, None], plain.cost, 0).sum())
        quality = float(np.take_along_axis(plain.alone, ends[:, None], 1).mean())
        shipped = np.bincount(ends, minlength=top + 1) / len(plain)
        return Oracle(spent / float(self._spent[0]), quality, tuple(shipped.tolist()))

    def _summed(self, values: Floats | Ints) -> Floats:
        sums: Floats = np.bincount(self._block, values, self._blocks).astype(np.float64)
        return sums


def _union(ladders: Sequence[CodedCorpus]) -> list[tuple[int, Point]]:
    """The Pareto-optimal points of all ladders together, each with its ladder's number: cost and quality ascending."""
    points = [(way, point) for way, one in enumerate(ladders) for point in frontier(one.counts())]
    points.sort(key=lambda found: (found[1].cost, -found[1].quality, found[0]))
    best, kept = -np.inf, list[tuple[int, Point]]()
    for way, point in points:
        if point.quality > best:
            best = point.quality
            kept.append((way, point))
    return kept


def _beyond(at: tuple[int, ...], coded: CodedCorpus, share: float) -> tuple[int, ...]:
    """Levels between these and `never`."""
    return tuple(level + ceil(share * (len(own) + 1 - level)) for level, own in zip(at, coded.levels, strict=True))


def _aims_of(points: Sequence[tuple[int, Point]]) -> Floats:
    """Any quality, the points' qualities, and those halfway between them; of many points about _AIMS, spread most evenly.

    Halfway to the point before, a point is found again on other groups where its quality is a little lower.
    """
    qualities: Floats = np.array([point.quality for _, point in points])
    if 2 * len(qualities) <= _AIMS:
        halfway = (qualities[1:] + qualities[:-1]) / 2
        return np.concatenate([[_ANY], np.sort(np.concatenate([qualities, halfway]))])
    wanted = np.linspace(float(qualities[0]), float(qualities[-1]), _AIMS)
    return np.concatenate([[_ANY], qualities[np.unique(np.searchsorted(qualities, wanted - _TINY))]])


def _reaching(points: Sequence[tuple[int, Point]], aims: Floats) -> list[tuple[int, Point]]:
    """For each aim the cheapest point of at least this quality, else the one of best quality."""
    qualities: Floats = np.array([point.quality for _, point in points])
    places = np.minimum(np.searchsorted(qualities, aims - _TINY), len(points) - 1)
    return [points[place] for place in places.tolist()]
