"""Cross-validated loss rates of the path's points, from the tune half alone.

The cheapest point for a given number of losses was selected, so its loss rate on the tune half is biased downwards; more
so the more thresholds there were to choose from (a learned score has thousands). So the search is repeated on four fifths
of the groups, and the point it finds for the same loss rate is evaluated on the last fifth; each fifth in turn. Stone, M.
(1974), Cross-validatory choice and assessment of statistical predictions, JRSS B 36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cascade.calibration.bounds import Sample, sample_of
from cascade.calibration.halves import ItemHalf, JointHalf, OperatingPoint, SplitHalf
from cascade.calibration.search.counts import Loss
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes

__all__ = ["FOLDS", "ExpectedLosses", "expected_losses", "folds_of"]

FOLDS = 5
_ENOUGH = 100_000  # items: from here on the bias is about a thousandth, and cross-validation takes long

ExpectedLosses = Callable[[int], Sample]
"""From a point's index in the path to its expected losses, by unit."""


def expected_losses(
    path: Sequence[OperatingPoint],
    tune: SplitHalf,
    loss: Loss,
    search: Callable[[ItemHalf | JointHalf], Sequence[OperatingPoint]],
) -> ExpectedLosses:
    """Cross-validated losses of `path`, which `search` found on `tune`. In-sample for counts and above 100,000 items."""
    if not isinstance(tune, (ItemHalf, JointHalf)) or len(tune) > _ENOUGH:
        return lambda index: tune.sample(path[index], loss)
    folds = folds_of(tune.group)
    pairs = [(fold, tune.rows(folds != fold)) for fold in range(int(folds.max(initial=-1)) + 1)]
    paths = [(fold, len(rest), search(rest)) for fold, rest in pairs if len(rest)]

    def expected(index: int) -> Sample:
        rate = path[index].losses / len(tune)
        lost = np.zeros(len(tune), np.bool_)
        for fold, n, found in paths:
            # The nearest, not the nearest below: with clumped levels one point has slightly different rates in each fold.
            nearest = min(found, key=lambda one: abs(one.losses - rate * n))
            lost[folds == fold] = tune.rows(folds == fold).losses(nearest, loss)
        return sample_of(lost, tune.group)

    return expected


def folds_of(group: Codes, seed: int = 0, folds: int = FOLDS) -> Codes:
    """(n,): each row's fold, from 0. A group is never split."""
    there, which = np.unique(group, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(there))
    return (order % min(folds, max(1, len(there))))[which].astype(np.int32)
