"""95 % intervals of a mean over grouped items. Groups are resampled, not items.

Items of one group (ten runs of one question, one customer's tickets) are not independent. Intervals that ignore this
are several times too narrow.

Up to 100,000 items: a seeded grouped bootstrap, percentiles of 1,000 draws; Davison, A. C. and Hinkley, D. V. (1997),
Bootstrap Methods and their Application, 3.8. Above that: the cluster-robust standard error; Liang, K.-Y. and
Zeger, S. L. (1986), Biometrika 73, with the factor G / (G - 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats

__all__ = ["MOST_FOR_BOOTSTRAP", "Interval", "interval_of"]

Interval = tuple[float, float]

MOST_FOR_BOOTSTRAP = 100_000
"""Items. Above this, the standard error gives the same interval in a hundredth of the time."""

_DRAWS = 1_000
_SEED = 20_260_101
_AT_ONCE = 1 << 20  # numbers drawn at once, to bound memory
_Z_TWO_SIDED_95 = 1.959963984540054


def interval_of(values: Floats, group: Codes, most_for_bootstrap: int = MOST_FOR_BOOTSTRAP) -> Interval | None:
    """The 95 % interval of the mean of `values`; None for fewer than two groups."""
    _, which = np.unique(group, return_inverse=True)
    sums: Floats = np.bincount(which, weights=values).astype(np.float64)
    counts: Floats = np.bincount(which).astype(np.float64)
    if len(sums) < 2:
        return None
    if len(values) > most_for_bootstrap:
        return _robust(sums, counts)
    return _bootstrap(sums, counts)


def _bootstrap(sums: Floats, counts: Floats) -> Interval:
    chance, groups = np.random.default_rng(_SEED), len(sums)
    alike = bool((counts == counts[0]).all())
    means: list[Any] = []
    piece = max(1, _AT_ONCE // groups)
    for start in range(0, _DRAWS, piece):
        drawn = chance.integers(0, groups, (min(piece, _DRAWS - start), groups), np.int32)
        weight = groups * counts[0] if alike else counts[drawn].sum(1)
        means.append(sums[drawn].sum(1) / weight)
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _robust(sums: Floats, counts: Floats) -> Interval:
    n, groups = float(counts.sum()), len(sums)
    mean = float(sums.sum()) / n
    residuals = sums - mean * counts
    error = math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / n
    return mean - _Z_TWO_SIDED_95 * error, mean + _Z_TWO_SIDED_95 * error
