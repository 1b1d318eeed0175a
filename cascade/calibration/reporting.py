"""A calibration as the page that people tune with: its numbers are those of the certify half, which the search never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cascade.calibration.calibrating import Calibration
from cascade.calibration.certificate import Certified
from cascade.calibration.counts import Loss
from cascade.calibration.frontier import point_at
from cascade.calibration.objectives import told
from cascade.calibration.report import Chosen, ReportInput, TaskRow, input_of
from cascade.corpora.arrays import np

__all__ = ["report_of"]


def report_of(result: Calibration, advice: str, storms: Mapping[str, Any]) -> ReportInput:
    """What the report shows. `advice`: the headline; `storms`: as `replay --json` has them, at the chosen thresholds."""
    objective = result.wish.objective
    shown = result.coded if objective is None else result.coded.rows(~result.tunes)
    loss: Loss = (
        "regression" if objective is not None and getattr(objective, "loss", "") == "regression" else "false_confident"
    )
    counts = shown.counts()
    chosen = None
    if result.chosen is not None and objective is not None:
        proved = told(objective) if isinstance(result.proof, Certified) else None
        ci95 = result.certify.ci95 if result.certify else None
        chosen = Chosen(point_at(counts, result.chosen.at, loss), proved, ci95)
    part = "all items" if objective is None else f"the {len(shown):,} items that the search never saw"
    notes = [f"Every figure is of {part}; the sliders move one set of thresholds for all tasks."]
    if objective is not None:
        notes.append(f"Wanted: {told(objective)}.")
    given = input_of(counts, corpus=result.manifest.name, synthetic=result.manifest.synthetic, loss=loss, chosen=chosen)
    return replace(
        given,
        advice=advice,
        signals={rung: signal.fields() for rung, signal in result.signal.items()},
        tasks=_tasks(result) if result.chosen is not None else (),
        storms=dict(storms),
        notes=tuple(notes),
    )


def _tasks(result: Calibration) -> tuple[TaskRow, ...]:
    assert result.chosen is not None
    held, at = result.coded.rows(~result.tunes), result.chosen.at
    rows: list[TaskRow] = []
    for code, task in enumerate(held.tasks):
        part = held.rows(held.task == code)
        if not len(part):
            continue
        lost = float(part.losses(at, "false_confident").mean())
        climbed = float(np.mean(part.shipped(at) > 0))
        cost = float(part.costs(at).mean()) / 1e9
        rows.append(TaskRow(task, len(part), float(part.scores(at).mean()), cost, lost, climbed))
    return tuple(rows)
