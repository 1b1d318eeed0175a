"""The exact frontier of a ladder: every vector of thresholds at once, by prefix sums over the table of counts.

A climb goes past rung k if every code so far is below its threshold's level a_k. So the sum of scores is

    Q(a) = Σ q_1 + Σ_k Σ over c_1 < a_1 … c_k < a_k of (q_(k+1) - q_k)

and so are cost and losses: K-1 tables of 1 … K-1 dimensions, summed along every axis. That takes O(N + Π m_k) for all
thresholds together; trying them one by one takes O(N) for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, cast

from cascade.calibration.search.counts import Counts, Loss, cells_of, thresholds_of
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats, Ints

__all__ = [
    "CELLS",
    "QUANTILES",
    "Loss",
    "Point",
    "Surface",
    "frontier",
    "point_at",
    "quantile_levels",
    "risk_path",
    "spread",
    "surface",
    "thinned_levels",
]

CELLS = 4_000_000
"""The most vectors of thresholds evaluated together; with more, the rungs' levels are thinned to quantiles."""

QUANTILES = 512
"""The most levels that a thinned rung keeps: on continuous scores this costs at most 0.15 %."""

_BUCKETS = 1 << 12


@dataclass(frozen=True, slots=True)
class Point:
    """One vector of thresholds and its figures on the items counted.

    `at`: the level's number at each rung below the top, len(levels)+1 for `never`. `quality`: mean score. `cost`: nano-USD,
    all items. `losses`: how many items have the loss. `shipped`: how many climbs end at each rung. `way`: which of several
    ways to look at the items (`halves.JointHalf`) the levels are of.
    """

    at: tuple[int, ...]
    thresholds: tuple[float | None, ...]
    quality: float
    cost: int
    losses: int
    shipped: tuple[int, ...]
    way: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Sums over all items for every vector of thresholds: arrays of K-1 dimensions.

    Index i on axis k is threshold level steps[k][i]. `thinned`: for each rung how many quantile levels were kept; None if all
    levels were.
    """

    counts: Counts
    steps: tuple[Ints, ...]
    quality: Floats
    cost: Floats
    losses: Floats
    thinned: tuple[int | None, ...]


def surface(counts: Counts, loss: Loss, *, cells: int = CELLS) -> Surface:
    """Quality, cost and losses of every vector of thresholds; of quantile levels if there are more than `cells`."""
    steps, thinned = _steps(counts, cells)
    codes, shape = _coarse(counts, steps), tuple(len(own) for own in steps)
    lost = counts.lost(loss)
    quality, cost, losses = (np.full(shape, float(one[:, 0].sum())) for one in (counts.score, counts.cost, lost))
    for rung in range(len(shape)):
        radices = [size + 1 for size in shape[: rung + 1]]
        cell = cells_of(codes, radices)
        gains: tuple[Any, ...] = (
            counts.score[:, rung + 1] - counts.score[:, rung],
            counts.cost[:, rung + 1] if counts.left is None else _climbing(counts, rung),
            np.subtract(lost[:, rung + 1], lost[:, rung], dtype=np.float64),
        )
        for whole, gain in zip((quality, cost, losses), gains, strict=True):
            table = _below(np.bincount(cell, gain, prod(radices)).reshape(radices))
            np.add(whole, table.reshape(*table.shape, *([1] * (len(shape) - rung - 1))), out=whole)
    return Surface(counts, steps, quality, cost, losses, thinned)


def _climbing(counts: Counts, rung: int) -> Ints:
    """(M,): what a climb pays that goes past this rung and ends at the next, less what it pays if it ends here."""
    return counts.cost[:, rung + 1] + counts.passed[:, rung] - counts.cost[:, rung]


def thinned_levels(counts: Counts, *, cells: int = CELLS) -> tuple[int | None, ...]:
    """For each rung below the top, how many quantile levels are searched; None if all levels are."""
    return _steps(counts, cells)[1]


def frontier(counts: Counts, loss: Loss = "false_confident") -> tuple[Point, ...]:
    """The Pareto-optimal vectors of thresholds in cost and quality: both ascending."""
    whole = surface(counts, loss)
    return _points(whole, _pareto(whole.cost, -whole.quality, whole.losses))


def risk_path(counts: Counts, loss: Loss, most: int = 60) -> tuple[Point, ...]:
    """The Pareto-optimal vectors in losses and cost: losses ascending, cost falling; at most `most` of them.

    If there are more, those are kept whose costs are spread most evenly, including both ends.
    """
    whole = surface(counts, loss)
    chosen = _pareto(whole.losses, whole.cost, -whole.quality)
    return _points(whole, chosen[spread(whole.cost.ravel()[chosen], most)])


def spread(costs: Floats, most: int) -> Ints:
    """The places of at most `most` of these falling costs, those spread most evenly, including both ends."""
    if len(costs) <= most:
        return np.arange(len(costs))
    wanted = cast("Floats", np.linspace(-costs[0], -costs[-1], most))
    return np.unique(np.minimum(np.searchsorted(-costs, wanted), len(costs) - 1))


def point_at(counts: Counts, at: Sequence[int], loss: Loss = "false_confident") -> Point:
    """The figures of these threshold levels, in one pass over the table of counts."""
    top, ends = len(counts.rungs) - 1, np.full(len(counts), len(counts.rungs) - 1, np.int64)
    for index in reversed(range(top)):
        ends[counts.codes[:, index] >= at[index]] = index
    score, cost, losses, shipped = 0.0, 0, 0, [0] * (top + 1)
    lost = counts.lost(loss)
    for index in range(top + 1):
        here = ends == index
        score += float(counts.score[here, index].sum())
        losses += int(lost[here, index].sum())
        cost += int(counts.cost[ends >= index if counts.left is None else here, index].sum())
        if counts.left is not None and index < top:
            cost += int(counts.left[ends > index, index].sum())
        shipped[index] = int(counts.items[here].sum())
    thresholds = thresholds_of(counts.levels, at)
    return Point(tuple(int(one) for one in at), thresholds, score / max(1, counts.n), cost, losses, tuple(shipped))


def _steps(counts: Counts, cells: int) -> tuple[tuple[Ints, ...], tuple[int | None, ...]]:
    """The threshold levels to search on each rung; and how many they are, None if all."""
    sizes = [len(own) + 1 for own in counts.levels]
    if prod(sizes) <= cells:
        return tuple(np.arange(1, size + 1) for size in sizes), (None,) * len(sizes)
    keep = QUANTILES
    while keep > 1 and prod(min(size, keep + 1) for size in sizes) > cells:
        keep -= 1
    steps = [
        np.arange(1, size + 1) if size <= keep + 1 else np.append(quantile_levels(counts, rung, keep), size)
        for rung, size in enumerate(sizes)
    ]
    thinned = tuple(None if len(own) == size else len(own) - 1 for own, size in zip(steps, sizes, strict=True))
    return tuple(steps), thinned


def quantile_levels(counts: Counts, rung: int, keep: int) -> Ints:
    """At most `keep` of the rung's levels, with about equally many items between them, including the lowest."""
    size = len(counts.levels[rung])
    mass = np.bincount(counts.codes[:, rung], counts.items, size + 2)[1 : size + 1]
    below = np.cumsum(mass) - mass
    wanted = np.linspace(0.0, float(mass.sum()), keep, endpoint=False)
    return np.unique(np.clip(np.searchsorted(below, wanted, "right"), 1, size))


def _coarse(counts: Counts, steps: Sequence[Ints]) -> Ints:
    """(M, K-1): at how many of the rung's threshold levels each row's code ships."""
    codes = np.empty(counts.codes.shape, np.int64, order="F")
    for rung, own in enumerate(steps):
        renumbered = np.searchsorted(own, np.arange(len(counts.levels[rung]) + 2), "right")
        codes[:, rung] = renumbered[counts.codes[:, rung]]
    return codes


def _below(table: Any) -> Floats:
    """The sums over all codes below each threshold. The last code (always ends at the rung) is below none."""
    table = table[tuple(slice(0, size - 1) for size in table.shape)]
    for axis in range(table.ndim):
        table = np.cumsum(table, axis=axis)
    return table


def _pareto(first: Floats, second: Floats, third: Floats) -> Ints:
    """The flat indices where `second` falls strictly as `first` rises; ties by least `third`, then highest thresholds."""
    a, b, c = first.ravel(), second.ravel(), third.ravel()
    kept = _not_clearly_dominated(a, b)
    a, b, c = a[kept], b[kept], c[kept]
    order = np.lexsort((-kept, c, b, a))
    best = np.minimum.accumulate(b[order])
    return kept[order[np.concatenate([[True], best[1:] < best[:-1]])]]


def _not_clearly_dominated(a: Floats, b: Floats) -> Ints:
    """All indices except those that one in a lower bucket of `a` beats in `b`: few remain, so sorting is cheap."""
    low, high = float(a.min()), float(a.max())
    bucket = ((a - low) * ((_BUCKETS - 1) / max(high - low, 1e-300))).astype(np.intp)
    least = np.full(_BUCKETS, np.inf)
    np.minimum.at(least, bucket, b)
    before = np.concatenate([[np.inf], np.minimum.accumulate(least)[:-1]])
    return np.flatnonzero(b < before[bucket])


def _points(whole: Surface, places: Ints) -> tuple[Point, ...]:
    counts, grid = whole.counts, np.unravel_index(places, whole.cost.shape)
    at = np.stack([own[where] for own, where in zip(whole.steps, grid, strict=True)], axis=1)
    passed = [np.full(len(places), counts.n, np.int64)]  # how many climbs reach each rung
    codes = _coarse(counts, whole.steps)
    for rung in range(len(whole.steps)):
        radices = [len(own) + 1 for own in whole.steps[: rung + 1]]
        table = _below(np.bincount(cells_of(codes, radices), counts.items, prod(radices)).reshape(radices))
        passed.append(table[grid[: rung + 1]].astype(np.int64))
    shipped = np.stack([*(here - up for here, up in pairwise(passed)), passed[-1]], axis=1)
    n = max(1, counts.n)
    columns: list[list[Any]] = [
        [tuple(one) for one in at.tolist()],
        list(zip(*(_thresholds_at(own, at[:, rung]) for rung, own in enumerate(counts.levels)), strict=True)),
        (whole.quality.ravel()[places] / n).tolist(),
        whole.cost.ravel()[places].astype(np.int64).tolist(),
        whole.losses.ravel()[places].astype(np.int64).tolist(),
        [tuple(ends) for ends in shipped.tolist()],
    ]
    return tuple(map(Point, *columns))


def _thresholds_at(levels: Floats, at: Ints) -> list[float | None]:
    """The thresholds of these level numbers at one rung."""
    return [None if value == np.inf else value for value in np.append(levels, np.inf)[at - 1].tolist()]
