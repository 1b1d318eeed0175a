"""How good each rung's confidence is: discrimination (AUROC), calibration (ECE), and the gain over random escalation.

All figures are of the replies that have a confidence and may ship by it. All other replies climb under any thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.calibration.search.counts import Counts
from cascade.calibration.search.levels import CodedCorpus
from cascade.replay.arrays import np
from cascade.replay.discrimination import auroc_of
from cascade.replay.intervals import MOST_FOR_BOOTSTRAP, Interval

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats, Ints

__all__ = ["MOST_BINS", "Signal", "bins_of", "counted_signals", "ece_of", "gain_over_random", "signals"]

MOST_BINS = 24
"""Up to this many levels, each is a bin of its own; more are joined into bins of equal mass."""

_DRAWS = 1_000
_SEED = 20_260_104
_Z_TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Signal:
    """How good one rung's confidence is, on `items` replies. Figures are None without items.

    auroc     the chance that a right reply has a higher confidence than a wrong one, ties ½; None: all right, or all wrong
    ece       |accuracy - mean confidence| in each bin of `bins_of`, weighted by its items
    levels    the number of distinct confidences
    gain      the mean score added by escalating the least confident share over escalating the same share at random,
              averaged over all shares; `gain_ci95`: by groups, None for fewer than two groups
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
        """Whether the whole interval is above 0. False without an interval."""
        return self.gain_ci95 is not None and self.gain_ci95[0] > 0

    def fields(self) -> dict[str, Any]:
        """The fields of `calibrate --json`."""
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


def signals(coded: CodedCorpus) -> dict[str, Signal]:
    """By rung below the top; the top rung is asked without triage and has no confidence."""
    return {rung: _signal(coded, index) for index, rung in enumerate(coded.rungs[: coded.top])}


def counted_signals(counts: Counts) -> dict[str, Signal]:
    """The same from a table of counts, without an interval: counts have neither groups nor single gains."""
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


def _signal(coded: CodedCorpus, index: int) -> Signal:
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
    """Where each bin starts: indices into the levels. `items`: how many items each level has, levels ascending.

    Up to MOST_BINS levels with items are one bin each: self-reports clump, and thresholds are compared with levels. With
    more, neighbours are joined until a bin holds more than a MOST_BINS-th of the items. No level is split.
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
    """The expected calibration error, from the right replies and all replies at each level, in the bins of `bins_of`.

    Bins of equal mass: Nixon, J., Dusenberry, M., Zhang, L., Jerfel, G. and Tran, D. (2019), Measuring calibration in
    deep learning, CVPR Workshops. It is not debiased. A bin's sampling error counts as error: m
    items of accuracy p with a perfect confidence show about sqrt(2 p (1 - p) / (pi m)), so with 24 bins a perfect
    confidence shows some 0.02 at n = 5,000 and 0.05 at n = 1,000 (one bin per item: 1/3). In bins of equal mass that is less than of equal width: Roelofs, R.,
    Cain, N., Shlens, J. and Mozer, M. C. (2022), Mitigating bias in calibration error estimation, AISTATS.
    """
    starts = bins_of(counts)
    return float(np.abs(np.add.reduceat(rights - counts * levels, starts)).sum() / counts.sum())


def gain_over_random(codes: Codes, gains: Floats, group: Codes) -> tuple[float, Interval | None]:
    """The area between two curves of mean score over the share that is escalated, and its 95 % interval.

    One escalates by confidence, least first (ties at random); the other, a straight line, at random. `codes` are
    levels from 0, `gains` what escalating adds to each item's score. Escalating a share s adds mean(gain; rank < s), so
    the area is -mean(gain x (mid-rank - ½)), mid-ranks from 0 to 1.

    The interval is clustered by group: up to 100,000 items a seeded bootstrap of 1,000 draws, with ranks recomputed in each;
    above that the cluster-robust standard error of the influence function (as in `replay.intervals`, with its sources).
    """
    size = int(codes.max()) + 1
    _, which = np.unique(group, return_inverse=True)
    groups = int(which.max()) + 1
    area = _area(np.bincount(codes, minlength=size), np.bincount(codes, gains, size))
    if groups < 2:
        return area, None
    if len(codes) > MOST_FOR_BOOTSTRAP:
        return area, _robust(codes, gains, which, area)
    # One cell for each level in each group: a draw weights the cells, so its cost depends on them, not on the items.
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
    above = (
        sums.sum() - np.cumsum(sums) + sums / 2
    ) / n  # the effect of one more item at a level on the ranks above it
    influence = -(gains * (ranks[codes] - 0.5) + above[codes]) + gains.mean() / 2
    influence -= influence.mean()
    parts = np.bincount(which, influence, groups)
    error = float(np.sqrt(groups / (groups - 1) * (parts @ parts))) / n
    return area - _Z_TWO_SIDED_95 * error, area + _Z_TWO_SIDED_95 * error
