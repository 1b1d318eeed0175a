"""Whether a review gate pays for itself: the same search on the tune half with the gate and without it, at one objective.

Both are searched over one set of thresholds for all tasks. For a loss rate both may have as many losses as the chosen thresholds,
be they by task, have on the tune half; where none were chosen, as many as the rate allows. Nothing is tested here: it compares two searches on the items that they were made on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import TYPE_CHECKING, Any

from cascade.calibration.halves import ItemHalf, OperatingPoint
from cascade.calibration.objectives import Budget, MinQuality, Objective, loss_of, wanted_quality
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.search.frontier import Point, frontier, risk_path
from cascade.calibration.search.levels import code_columns
from cascade.core.bound_policy import ReviewGate
from cascade.policy.editing import threshold_text
from cascade.replay.columns import Columns, MappedColumns
from cascade.replay.reviews import has_reviews

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = ["GateFigures", "GateWorth", "ungated", "worth_of_gate"]

_EVERY = 1_000_000_000  # points of a path: all of them


@dataclass(frozen=True, slots=True)
class GateFigures:
    """The best thresholds of one search, with their figures on the tune half. `loss_rate`: of the objective's loss."""

    thresholds: tuple[float | None, ...]
    cost_per_request_usd: float
    quality: float
    loss_rate: float

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "thresholds": list(self.thresholds),
            "cost_per_request_usd": self.cost_per_request_usd,
            "quality": self.quality,
            "loss_rate": self.loss_rate,
        }


@dataclass(frozen=True, slots=True)
class GateWorth:
    """A gate, and the best thresholds with it and without it; None where none meet the objective.

    `pays`: whether it is cheaper with the gate; for a budget, better.
    """

    gate: ReviewGate
    with_gate: GateFigures | None
    without: GateFigures | None
    pays: bool

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        found = {"with": self.with_gate, "without": self.without}
        parts = {name: one.fields() if one else None for name, one in found.items()}
        return {"rung": self.gate.rung, "below": self.gate.below, **parts, "pays": self.pays}

    def text(self, rungs: Sequence[str]) -> str:
        """In one sentence."""
        gate = f"review by {self.gate.rung} below {threshold_text(self.gate.below)}"
        verdict = "pays" if self.pays else "does not pay"
        with_gate, without = (_told(one, rungs) for one in (self.with_gate, self.without))
        return f"the review gate {verdict} ({gate}; on the tuning half): with it {with_gate}; without it {without}"


def _told(found: GateFigures | None, rungs: Sequence[str]) -> str:
    if found is None:
        return "no thresholds meet the objective"
    at = ", ".join(f"{rung} {threshold_text(one)}" for rung, one in zip(rungs, found.thresholds, strict=False))
    cost = f"{1e3 * found.cost_per_request_usd:.4f} USD per 1,000"
    return f"{cost}, quality {found.quality:.4f}, losses {found.loss_rate:.2%} (at {at})"


def ungated(view: MappedColumns) -> MappedColumns:
    """The view under the same policy without its review gates."""
    plan = replace(view.mapping.plan, reviews={}, shared_review=None)
    return replace(view, mapping=replace(view.mapping, plan=plan), reviews=())


def worth_of_gate(
    columns: Columns, view: MappedColumns, is_tune: Bools, objective: Objective | None, chosen: OperatingPoint | None
) -> GateWorth | None:
    """What a policy's gate is worth at an objective; None without a gate, or an objective. `chosen`: the thresholds that were chosen with it."""
    plan = view.mapping.plan
    if objective is None or not has_reviews(plan):
        return None
    gate = plan.shared_review or next(iter(plan.reviews.values()))
    halves = [ItemHalf(code_columns(columns, one).rows(is_tune)) for one in (view, ungated(view))]
    n, loss = len(halves[0]), loss_of(objective)
    most = floor(objective.alpha * n) if isinstance(objective, Target) else 0
    if chosen is not None:
        most = int(halves[0].losses(chosen, loss).sum())
    found = [_best(half, objective, most) for half in halves]
    with_gate, without = (
        None
        if point is None
        else GateFigures(point.thresholds, point.cost / 1e9 / n, point.quality, float(half.losses(point, loss).mean()))
        for point, half in zip(found, halves, strict=True)
    )
    return GateWorth(gate, with_gate, without, _pays(with_gate, without, objective))


def _best(half: ItemHalf, objective: Objective, most: int) -> Point | None:
    counts = half.counts()
    if isinstance(objective, Target):
        path = risk_path(counts, objective.counted, _EVERY)
        return next((point for point in reversed(path) if point.losses <= most), None)
    points = frontier(counts)
    if isinstance(objective, Budget):
        return next((point for point in reversed(points) if point.cost <= objective.usd * 1e9 * len(half)), None)
    assert isinstance(objective, MinQuality)
    wanted = wanted_quality(objective, float(counts.alone[-1]) / max(1, counts.n))
    return next((point for point in points if point.quality >= wanted), None)


def _pays(with_gate: GateFigures | None, without: GateFigures | None, objective: Objective) -> bool:
    if with_gate is None or without is None:
        return with_gate is not None
    if isinstance(objective, Budget):
        return with_gate.quality > without.quality
    return with_gate.cost_per_request_usd < without.cost_per_request_usd
