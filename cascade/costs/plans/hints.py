"""A report → the hints that the planner is told."""

from __future__ import annotations

from cascade.core.planning.hints import HintRow, Hints, stale_roles
from cascade.costs.plans.report import PlanLine, PlanReport

__all__ = ["hints_of"]


def hints_of(report: PlanReport, made: str, previous: Hints | None = None) -> Hints:
    """The hints that a report gives. `made`: the day.

    Only what is shown beyond chance becomes a hint: failures above the limit, or within it. Rows of the `previous` hints stay, with their day,
    where the report says neither, unless the words have changed since: a planner that follows a hint makes no new figures for it.
    """
    rows = {(line.kind, line.assigned): _row(line, line.advice) for line in report.lines if line.advice is not None}
    if previous is not None and previous.policy == report.policy and not stale_roles(previous, report.versions):
        for row in previous.rows:
            if not _holds_at(row, previous.limit, report.limit):
                continue
            kept = row if row.since is not None else row.model_copy(update={"since": previous.made})
            rows.setdefault((row.task, row.rung), kept)
    place = {rung: index for index, rung in enumerate(report.ladder)}
    ordered = sorted(rows.values(), key=lambda row: (row.task, place.get(row.rung, len(place))))
    return Hints(
        version=1, policy=report.policy, made=made, limit=report.limit, prompts=dict(report.versions), rows=tuple(ordered)
    )  # fmt: skip


def _holds_at(row: HintRow, made_at: float, limit: float) -> bool:
    """Whether what was shown at one limit holds at another: being above it, at a lower one; being within it, at a higher one."""
    return made_at <= limit if row.advice == row.rung else made_at >= limit


def _row(line: PlanLine, advice: str) -> HintRow:
    low, high = line.interval
    return HintRow(
        task=line.kind, rung=line.assigned, subtasks=line.cell.subtasks, failed=line.failed,
        interval=(round(low, 4), round(high, 4)), advice=advice,
    )  # fmt: skip
