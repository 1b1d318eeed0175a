"""What a report is made of: one frozen value, most of which the table of counts gives by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade.calibration.search.baselines import random_mix
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, frontier, point_at
from cascade.calibration.signal import bins_of
from cascade.replay.arrays import np
from cascade.replay.mapping import THRESHOLD

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["Chosen", "Level", "ReportInput", "TaskRow", "guess_of", "input_of", "reliability_of", "singles_of"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The thresholds that calibrate chose, as they do on the report's counts.

    `certificate`: what was proved of them, in words; None: nothing. `quality_ci95` is of the mean score. `by_task`: the
    tasks that have thresholds of their own, by rung below the top; then `point` has the others', and all tasks' figures.
    `scored`: they are thresholds of a learned score, not of what the rungs say themselves.
    """

    point: Point
    certificate: str | None
    quality_ci95: tuple[float, float] | None = None
    by_task: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, "tuple[float | None, ...]"])
    scored: bool = False


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task at the chosen thresholds; rates are shares of its items, the cost is in USD."""

    task: str
    items: int
    quality: float
    cost_per_request: float
    false_confident_rate: float
    escalation_rate: float
    thresholds: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """What one level of a rung's confidence is worth: `items` replies at it, `right` of them. Joined: from `low` on."""

    low: float
    high: float
    items: int
    right: int


@dataclass(frozen=True, slots=True, eq=False)
class ReportInput:
    """Everything on the page. Names may be anyone's: they are escaped there.

    `advice` is the headline, one sentence; `advised` False: it warns, for a cascade is not what it says. `baselines`: quality and USD per request by name, e.g. "single:opus",
    "random_mix". `signals`: by rung, as `calibrate --json` has them. `storms`: as `replay --json` has them,
    of `arrived` requests (None: not known).
    """

    title: str
    corpus: str
    synthetic: bool
    advice: str
    counts: Counts
    loss: Loss
    frontier: tuple[Point, ...]
    baselines: Mapping[str, tuple[float, float]]
    chosen: Chosen | None = None
    signals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    tasks: tuple[TaskRow, ...] = ()
    storms: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    advised: bool = True
    arrived: int | None = None

    @property
    def by_task(self) -> bool:
        """Whether tasks have thresholds of their own, so that the sliders' one set for all is not what was chosen."""
        return self.chosen is not None and bool(self.chosen.by_task)


def input_of(
    counts: Counts,
    *,
    corpus: str,
    synthetic: bool,
    loss: Loss = "false_confident",
    chosen: Chosen | None = None,
) -> ReportInput:
    """As much of a report as the counts alone give; the rest is put in with `dataclasses.replace`."""
    point = chosen.point if chosen else point_at(counts, guess_of(counts), loss)
    singles = singles_of(counts)
    baselines = {f"single:{rung}": own for rung, own in singles.items()}
    baselines["random_mix"] = random_mix(point.shipped, list(singles.values()))
    top = list(singles.values())[-1]
    saved = 1 - point.cost / counts.n / 1e9 / top[1] if top[1] else 0.0
    proved = "certified" if chosen and chosen.certificate else "nothing of it certified"
    advice = (
        f"Quality {point.quality:.3f} against {top[0]:.3f} of {counts.rungs[-1]} alone, "
        f"{abs(saved):.0%} {'cheaper' if saved >= 0 else 'dearer'}, {proved}."
    )
    title = f"{corpus}: thresholds"
    return ReportInput(title, corpus, synthetic, advice, counts, loss, frontier(counts, loss), baselines, chosen)


def guess_of(counts: Counts) -> tuple[int, ...]:
    """The levels that a threshold of 0.80 on every rung stands for: where everyone starts."""
    return tuple(int(np.searchsorted(own, THRESHOLD)) + 1 for own in counts.levels)


def singles_of(counts: Counts) -> dict[str, tuple[float, float]]:
    """Every rung by itself: quality, and USD per request."""
    n = max(1, counts.n)
    return {
        rung: (float(counts.alone[index]) / n, int(counts.cost[:, index].sum()) / n / 1e9)
        for index, rung in enumerate(counts.rungs)
    }


def reliability_of(counts: Counts, rung: int) -> tuple[tuple[Level, ...], int]:
    """What each level of a rung's confidence is worth over all items, and how many replies have no level at all."""
    codes, own = counts.codes[:, rung], counts.levels[rung]
    size = len(own)
    items: Ints = np.bincount(codes, counts.items, size + 2).astype(np.int64)
    wrong: Ints = np.bincount(codes, counts.wrong[:, rung], size + 2).astype(np.int64)
    starts = bins_of(items[1 : size + 1])  # as the rung's ECE is counted
    levels: list[Level] = []
    for first, end in zip(starts, [*starts[1:], size], strict=False):
        held, lost = int(items[first + 1 : end + 1].sum()), int(wrong[first + 1 : end + 1].sum())
        levels.append(Level(float(own[first]), float(own[end - 1]), held, held - lost))
    return tuple(levels), int(items[0] + items[size + 1])
