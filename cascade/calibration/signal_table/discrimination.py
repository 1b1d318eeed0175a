"""How well a signal ranks right above wrong answers: AUROC with an interval by groups."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from cascade.replay.arrays import np
from cascade.replay.discrimination import auroc_of
from cascade.replay.intervals import MOST_FOR_BOOTSTRAP, Interval

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Ints

__all__ = ["auroc_with_interval"]

_DRAWS = 1_000
_SEED = 20_260_106
_Z_TWO_SIDED_95 = 1.959963984540054


def auroc_with_interval(
    values: Floats, right: Bools, group: Codes, most_for_bootstrap: int = MOST_FOR_BOOTSTRAP
) -> tuple[float | None, Interval | None]:
    """AUROC of `values` (all known) and its 95 % interval.

    Up to `most_for_bootstrap` items the percentiles of a seeded bootstrap of 1,000 draws of whole groups; above that the cluster-robust
    standard error of its influence function, DeLong, E. R. et al. (1988), Biometrics 44, summed by group. None if all are
    right or all wrong; no interval for fewer than two groups.
    """
    if not len(values):
        return None, None
    levels, codes = np.unique(values, return_inverse=True)
    size, codes = len(levels), codes.reshape(-1)
    area = _area(codes, right.astype(np.float64), np.ones(len(codes)), size)
    _, which = np.unique(group, return_inverse=True)
    groups = int(which.max()) + 1
    if area is None or groups < 2:
        return area, None
    if len(values) > most_for_bootstrap:
        return area, _robust(codes, right, which, area)
    cell, inverse = np.unique(which * np.int64(size) + codes, return_inverse=True)
    every, good = np.bincount(inverse), np.bincount(inverse, right)
    level, owner = cell % size, cell // size
    chance, drawn = np.random.default_rng(_SEED), list[float]()
    for _ in range(_DRAWS):
        weight = np.bincount(chance.integers(0, groups, groups), minlength=groups)[owner]
        if (one := _area(level, good * weight, every * weight, size)) is not None:
            drawn.append(one)
    if not drawn:
        return area, None
    low, high = np.quantile(drawn, (0.025, 0.975))
    return area, (float(low), float(high))


def _area(levels: Ints, good: Floats | Ints, every: Floats | Ints, size: int) -> float | None:
    rights: Floats = np.bincount(levels, good, size).astype(np.float64)
    wrongs: Floats = np.bincount(levels, every, size).astype(np.float64) - rights
    return auroc_of(rights, wrongs)


def _robust(codes: Ints, right: Bools, which: Ints, area: float) -> Interval:
    n, size = len(codes), int(codes.max()) + 1
    rights = np.bincount(codes, right, size).astype(np.float64)
    wrongs = np.bincount(codes, minlength=size) - rights
    share = float(rights.sum()) / n
    below = ((np.cumsum(wrongs) - wrongs / 2) / float(wrongs.sum()) - area) / share
    above = (1 - (np.cumsum(rights) - rights / 2) / float(rights.sum()) - area) / (1 - share)
    influence: Floats = np.where(right, below[codes], above[codes])
    parts, groups = np.bincount(which, influence), int(which.max()) + 1
    error = sqrt(groups / (groups - 1) * float(parts @ parts)) / n
    return area - _Z_TWO_SIDED_95 * error, area + _Z_TWO_SIDED_95 * error
