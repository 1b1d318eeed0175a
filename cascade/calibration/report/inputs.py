"""The content of a report as one frozen value; most of it follows from the table of counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade.calibration.report.samples import SampleReport
from cascade.calibration.search.baselines import random_mix
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, frontier, point_at
from cascade.calibration.signal import bins_of
from cascade.calibration.signal_table import SignalTable
from cascade.replay.arrays import np
from cascade.replay.mapping import THRESHOLD

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = [
    "ChosenThresholds",
    "Level",
    "ReportInput",
    "TaskRow",
    "guess_of",
    "input_of",
    "reliability_of",
    "singles_of",
]


@dataclass(frozen=True, slots=True)
class ChosenThresholds:
    """The thresholds that calibrate chose, with their figures on the report's counts.

    certificate   what was certified, in words; None: nothing
    quality_ci95  of the mean score
    by_task       by task with its own thresholds, those by rung below the top; `point` then has the shared thresholds, and the
                  figures of all tasks
    scored        whether they are thresholds of a learned score, not of the self-reports
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
    """One level of a rung's confidence, or several joined from `low` to `high`: `items` replies, `right` of them right."""

    low: float
    high: float
    items: int
    right: int


@dataclass(frozen=True, slots=True, eq=False)
class ReportInput:
    """Everything on the page. Names are untrusted text; the template escapes them.

    advice     the headline, one sentence; `advised` False: it advises against the cascade, and is shown as a warning
    baselines  quality and USD per request by name, e.g. "single:opus", "random_mix"
    signals    by rung, as in `calibrate --json`
    storms     as in `replay --json`, of `arrived` requests (None: not known)
    measured   what each signal is worth on the tune half; None: not measured
    """

    title: str
    corpus: str
    synthetic: bool
    advice: str
    counts: Counts
    loss: Loss
    frontier: tuple[Point, ...]
    baselines: Mapping[str, tuple[float, float]]
    chosen: ChosenThresholds | None = None
    signals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    tasks: tuple[TaskRow, ...] = ()
    storms: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    advised: bool = True
    arrived: int | None = None
    measured: SignalTable | None = None
    sampled: SampleReport = field(default_factory=SampleReport)

    @property
    def by_task(self) -> bool:
        """Whether tasks have their own thresholds, which the sliders' one set for all tasks cannot show."""
        return self.chosen is not None and bool(self.chosen.by_task)


def input_of(
    counts: Counts,
    *,
    corpus: str,
    synthetic: bool,
    loss: Loss = "false_confident",
    chosen: ChosenThresholds | None = None,
    singles: Mapping[str, tuple[float, float]] | None = None,
) -> ReportInput:
    """The part of a report that follows from the counts; add the rest with `dataclasses.replace`.

    `singles`: each model's quality, and USD per request, where the counts do not have them: their costs are of votes, a
    single model is asked once. None: `singles_of` the counts.
    """
    point = chosen.point if chosen else point_at(counts, guess_of(counts), loss)
    singles = singles or singles_of(counts)
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
    """The levels of the default threshold, 0.80, on every rung."""
    return tuple(int(np.searchsorted(own, THRESHOLD)) + 1 for own in counts.levels)


def singles_of(counts: Counts) -> dict[str, tuple[float, float]]:
    """Every rung alone: quality, and USD per request."""
    n = max(1, counts.n)
    costs = counts.cost.sum(axis=0) if counts.alone_cost is None else counts.alone_cost
    return {
        rung: (float(counts.alone[index]) / n, int(costs[index]) / n / 1e9) for index, rung in enumerate(counts.rungs)
    }


def reliability_of(counts: Counts, rung: int) -> tuple[tuple[Level, ...], int]:
    """How often a rung is right at each level of its confidence; and how many replies have no level."""
    codes, own = counts.codes[:, rung], counts.levels[rung]
    size = len(own)
    items: Ints = np.bincount(codes, counts.items, size + 2).astype(np.int64)
    wrong: Ints = np.bincount(codes, counts.wrong[:, rung], size + 2).astype(np.int64)
    starts = bins_of(items[1 : size + 1])  # as the rung's ECE is counted
    levels: list[Level] = []
    for first, end in zip(starts, [*starts[1:], size], strict=False):
        n, lost = int(items[first + 1 : end + 1].sum()), int(wrong[first + 1 : end + 1].sum())
        levels.append(Level(float(own[first]), float(own[end - 1]), n, n - lost))
    return tuple(levels), int(items[0] + items[size + 1])
