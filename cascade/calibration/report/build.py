"""Make the report of a calibration. Its figures are those of the certify half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cascade.calibration.candidates import describe_comparison
from cascade.calibration.halves import HalfFigures, ItemHalf, OperatingPoint
from cascade.calibration.objectives import describe
from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.report import ChosenThresholds, ReportInput, TaskRow, input_of
from cascade.calibration.report.samples import sample_report_of
from cascade.calibration.run import Calibration
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, point_at

__all__ = ["report_of"]


def report_of(result: Calibration, advice: str, storms: Mapping[str, Any], warnings: Sequence[str] = ()) -> ReportInput:
    """The report's content. `advice`: the headline; `storms`: as in `replay --json`, at the chosen thresholds."""
    objective, choice = result.options.objective, result.choice
    loss: Loss = objective.counted if isinstance(objective, Target) else "false_confident"
    counts = result.held_out.counts()
    chosen = None
    if choice.chosen is not None and choice.certify is not None and objective is not None:
        proved = _certificate_text(choice.proof) if isinstance(choice.proof, Certified) and not result.others else None
        point = _point(result, counts, choice.chosen, choice.certify, loss)
        chosen = ChosenThresholds(point, proved, choice.certify.ci95, _by_task(result), result.learned is not None)
    notes = [f"Warning: {note}." for note in warnings]
    if objective is None:
        notes.append(f"All figures are of all {result.items:,} items.")
    else:
        every = "AUROC and ECE" + (" and the storm guard's figures" if storms and "off" not in storms else "")
        notes.append(f"Quality, cost and loss rates are of the {len(result.held_out):,} held-out items.")
        notes.append(f"{every} are of all {result.items:,} items. Objective: {describe(objective)}.")
        if result.compared is not None:
            notes.append(f"Confidence: {describe_comparison(result.compared, objective)}.")
    notes.append("The sliders move one set of thresholds for all tasks.")
    singles = None
    if result.samples:  # a rung's cost in the counts is that of its vote
        singles = {
            rung: (one.figures.quality, one.figures.cost_per_request_usd) for rung, one in choice.singles.items()
        }
    report = input_of(
        counts,
        corpus=result.manifest.name,
        synthetic=result.manifest.synthetic,
        loss=loss,
        chosen=chosen,
        singles=singles,
    )
    joint = objective is None and bool(result.ways)
    if joint:
        notes.append("The frontier is of all samples compared. The sliders are of asking each rung once.")
    return replace(
        report,
        frontier=choice.frontier if joint else report.frontier,
        sampled=sample_report_of(result),
        advice=advice,
        signals={rung: signal.fields() for rung, signal in result.signal.items()},
        tasks=_tasks(result) if choice.chosen is not None else (),
        storms=dict(storms),
        notes=tuple(notes),
        advised=objective is None or choice.advice == "cascade",
        arrived=len(result.held_out) if objective is None else len(result.tune) + len(result.held_out),
    )


def _by_task(result: Calibration) -> dict[str, tuple[float | None, ...]]:
    """The thresholds by task as `--write` writes them, including other tasks of the policy, which get the ladder's."""
    if not result.own_tasks:
        return {}
    return {task: tuple((result.thresholds | own).values()) for task, own in result.task_thresholds.items()}


def _point(result: Calibration, counts: Counts, found: OperatingPoint, held_out: HalfFigures, loss: Loss) -> Point:
    """The chosen point on the certify half. By task, its figures are of all tasks; the sliders start at the shared levels."""
    if isinstance(found, Point):
        return point_at(counts, found.at, loss)
    at = found.shared.at if found.shared else tuple(len(own) + 1 for own in counts.levels)
    lost = round(held_out.lost * held_out.items)
    shipped = tuple(held_out.shipped.values())
    return Point(at, tuple(result.thresholds.values()), held_out.quality, held_out.cost, lost, shipped)


def _certificate_text(proof: Certified) -> str:
    tested = proof.tested
    return (
        f"{describe(proof.target)}: upper bound {tested.upper_bound:.4f}, on {tested.n:,} held-out {tested.units}"
        f" ({tested.weighting})"
    )


def _tasks(result: Calibration) -> tuple[TaskRow, ...]:
    held_out, found = result.held_out, result.choice.chosen
    if not isinstance(held_out, ItemHalf) or found is None:
        return ()
    own, first = result.task_thresholds, held_out.rungs[0]
    rows: list[TaskRow] = []
    for task, half in held_out.by_task(found, "false_confident").items():
        climbed = 1 - half.shipped[first] / half.items
        thresholds = tuple(own[task].values()) if task in result.own_tasks and task in own else None
        rows.append(TaskRow(task, half.items, half.quality, half.cost_per_request_usd, half.lost, climbed, thresholds))
    return tuple(rows)
