"""How good each rung's confidence is: discrimination (AUROC), calibration (ECE), and the gain over random escalation.

All figures are of the replies that have a confidence and may ship by it; the others climb under any thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.calibration.search.counts import Counts
from cascade.calibration.search.levels import Coded
from cascade.replay.arrays import np
from cascade.replay.intervals import MOST_FOR_BOOTSTRAP, Interval

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats, Ints

__all__ = ["MOST_BINS", "Signal", "auroc_of", "bins_of", "ece_of", "gain_over_random", "signals", "tallied_signals"]

MOST_BINS = 24
"""Levels that are looked at one by one; where there are more, neighbours stand together in bins of equal mass."""

_DRAWS = 1_000
_SEED = 20_260_104
_Z_TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Signal:
    """One rung's. `items` are those it was measured on.

    auroc     the chance that a right reply is more confident than a wrong one, ties ½; None: all right, or all wrong
    ece       |accuracy - mean confidence| in each bin of `bins_of`, weighted by its items; None without items, as the means
    levels    how many distinct confidences there are
    gain      mean score that escalating the least confident share adds over the same share at random, mean over all
              shares; `gain_ci95` by groups, None where fewer than two leave nothing to draw from
    """

    items: int
    auroc: float | None
    ece: float | None
    levels: int
    accuracy: float | None
    mean_confidence: float | None
    gain: float
    gain_ci95: Interval | None

    @property
    def beats_random(self) -> bool:
        """Only where the whole interval is above 0: without one nothing is known."""
        return self.gain_ci95 is not None and self.gain_ci95[0] > 0

    def fields(self) -> dict[str, Any]:
        """As `calibrate --json` has it."""
        return {
            "auroc": self.auroc,
            "ece": self.ece,
            "levels": self.levels,
            "accuracy": self.accuracy,
            "mean_confidence": self.mean_confidence,
            "beats_random": self.beats_random,
            "beats_random_ci95": list(self.gain_ci95) if self.gain_ci95 else None,
        }


_NOTHING = Signal(0, None, None, 0, None, None, 0.0, None)


def signals(coded: Coded) -> dict[str, Signal]:
    """By rung; the top one is asked plainly and has none."""
    return {rung: _signal(coded, index) for index, rung in enumerate(coded.rungs[: coded.top])}


def tallied_signals(counts: Counts) -> dict[str, Signal]:
    """The same from a table of counts, which has no groups, and no spread of what escalating adds: no interval."""
    made: dict[str, Signal] = {}
    for index, (rung, levels) in enumerate(zip(counts.rungs, counts.levels, strict=False)):
        codes, size = counts.codes[:, index], len(levels)
        own = (codes >= 1) & (codes <= size)
        sums = (counts.items, counts.wrong[:, index])
        items, wrongs = (np.bincount(codes[own] - 1, some[own], size).astype(np.float64) for some in sums)
        gains = np.bincount(codes[own] - 1, (counts.score[:, index + 1] - counts.score[:, index])[own], size)
        gain = _area(items, gains) if items.any() else 0.0
        made[rung] = _signal_of(levels, items, items - wrongs, gain, None)
    return made


def _signal(coded: Coded, index: int) -> Signal:
    levels, every = coded.levels[index], coded.codes[:, index]
    rows = np.flatnonzero((every >= 1) & (every <= len(levels)))
    if not len(rows):
        return _NOTHING
    codes, alone = every[rows] - 1, coded.alone[rows, index]
    counts = np.bincount(codes, minlength=len(levels)).astype(np.float64)
    rights: Floats = np.bincount(codes, alone >= coded.right_at, len(levels)).astype(np.float64)
    gains = coded.alone[rows, index + 1] - alone
    return _signal_of(levels, counts, rights, *gain_over_random(codes, gains, coded.group[rows]))


def _signal_of(levels: Floats, counts: Floats, rights: Floats, gain: float, ci95: Interval | None) -> Signal:
    n = float(counts.sum())
    if not n:
        return _NOTHING
    return Signal(
        items=round(n),
        auroc=auroc_of(rights, counts - rights),
        ece=ece_of(rights, counts, levels),
        levels=int(np.count_nonzero(counts)),
        accuracy=float(rights.sum() / n),
        mean_confidence=float((counts * levels).sum() / n),
        gain=gain,
        gain_ci95=ci95,
    )


def bins_of(items: Ints | Floats) -> list[int]:
    """Where each bin starts: an index into the levels, ascending, of which `items` has the counts.

    Up to MOST_BINS levels that anything has are a bin each: self-reports clump, and a level is what is compared with the
    threshold. Of more, neighbours join until they hold more than a MOST_BINS-th of the items; no level is cut in two.
    """
    share = items.sum() / MOST_BINS if np.count_nonzero(items) > MOST_BINS else 0
    starts, held, is_full = list[int](), 0.0, True
    for index, count in enumerate(items.tolist()):
        if is_full:
            starts.append(index)
            held = 0.0
        held += count
        is_full = held > share
    return starts


def ece_of(rights: Floats, counts: Floats, levels: Floats) -> float:
    """The expected calibration error, from the right ones and all at each level: levelwise, or in bins of equal mass.

    Bins of equal mass: Nixon, J., Dusenberry, M., Zhang, L., Jerfel, G. and Tran, D. (2019), Measuring calibration in
    deep learning, CVPR Workshops. It is not debiased. A bin's own chance counts as error: m items of accuracy p that mean
    what they say show about sqrt(2 p (1 - p) / (pi m)), so with 24 bins a perfect confidence shows some 0.02 at n = 5,000
    and 0.05 at n = 1,000 (one bin an item: 1/3). In bins of equal mass that is less than of equal width: Roelofs, R.,
    Cain, N., Shlens, J. and Mozer, M. C. (2022), Mitigating bias in calibration error estimation, AISTATS.
    """
    starts = bins_of(counts)
    return float(np.abs(np.add.reduceat(rights - counts * levels, starts)).sum() / counts.sum())


def auroc_of(rights: Floats, wrongs: Floats) -> float | None:
    """From the right and the wrong ones at each level, levels ascending: the Mann-Whitney statistic with mid-ranks.

    Hanley, J. A. and McNeil, B. J. (1982), Radiology 143. None where there are none of one kind.
    """
    pairs = float(rights.sum()) * float(wrongs.sum())
    below = np.cumsum(wrongs) - wrongs
    return float((rights * (below + wrongs / 2)).sum() / pairs) if pairs else None


def gain_over_random(codes: Codes, gains: Floats, group: Codes) -> tuple[float, Interval | None]:
    """The area between two curves of mean score over the share that is escalated, and its 95 % interval.

    One escalates by confidence, least first (of equals at random); the other, a straight line, at random. `codes` are
    levels from 0, `gains` what escalating adds to each item's score. Escalating a share s adds mean(gain; rank < s), so
    the area is -mean(gain x (mid-rank - ½)), mid-ranks from 0 to 1.

    The interval is of the groups: up to 100,000 items a seeded bootstrap of 1,000 draws, ranks drawn anew; above it
    the cluster-robust error of the influence function (as `corpora.intervals`, whose sources it shares).
    """
    size = int(codes.max()) + 1
    _, which = np.unique(group, return_inverse=True)
    groups = int(which.max()) + 1
    area = _area(np.bincount(codes, minlength=size), np.bincount(codes, gains, size))
    if groups < 2:
        return area, None
    if len(codes) > MOST_FOR_BOOTSTRAP:
        return area, _robust(codes, gains, which, area)
    # One cell for each level in each group: a draw weighs the cells, so its cost hangs on them and not on the items.
    cell, inverse = np.unique(which * np.int64(size) + codes, return_inverse=True)
    items, sums = np.bincount(inverse), np.bincount(inverse, gains)
    level, owner = cell % size, cell // size
    chance = np.random.default_rng(_SEED)
    drawn = np.empty(_DRAWS, np.float64)
    for number in range(_DRAWS):
        weight = np.bincount(chance.integers(0, groups, groups), minlength=groups)[owner]
        drawn[number] = _area(np.bincount(level, items * weight, size), np.bincount(level, sums * weight, size))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return area, (float(low), float(high))


def _area(counts: Any, sums: Any) -> float:
    n = float(counts.sum())
    ranks = (np.cumsum(counts) - counts / 2) / n
    return -float((sums * (ranks - 0.5)).sum()) / n


def _robust(codes: Codes, gains: Floats, which: Ints, area: float) -> Interval:
    n, groups = len(codes), int(which.max()) + 1
    counts, sums = np.bincount(codes).astype(np.float64), np.bincount(codes, gains)
    ranks = (np.cumsum(counts) - counts / 2) / n
    above = (sums.sum() - np.cumsum(sums) + sums / 2) / n  # what an item more at a level takes from those above it
    influence = -(gains * (ranks[codes] - 0.5) + above[codes]) + gains.mean() / 2
    influence -= influence.mean()
    parts = np.bincount(which, influence, groups)
    error = float(np.sqrt(groups / (groups - 1) * (parts @ parts))) / n
    return area - _Z_TWO_SIDED_95 * error, area + _Z_TWO_SIDED_95 * error
