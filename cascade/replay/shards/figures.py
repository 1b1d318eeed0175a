"""Figures of a replay from cells and their outcomes, as `replay.outcomes` has them from items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.replay.arrays import np
from cascade.replay.columns import MISSING, NO_COST, UNRECORDED
from cascade.replay.figures import Figures, Single
from cascade.replay.outcomes import NO_RUNG, REASONS, Outcomes, task_figures
from cascade.replay.shards.columns import CellColumns
from cascade.replay.sums import exact_mean, exact_sum, sums_by

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["shipped_sums", "silent_replies", "singles_of_cells", "tally_cells"]


def shipped_sums(rows: CellColumns, outcomes: Outcomes, sums: dict[str, Ints]) -> Ints:
    """(M,): of sums by rung, those of the rung that shipped; 0 where none did."""
    made = np.zeros(len(rows.items), np.int64)
    for index, rung in enumerate(rows.mapped.mapping.rungs):
        np.copyto(made, sums[rung], where=outcomes.shipped == index)
    return made


def tally_cells(rows: CellColumns, outcomes: Outcomes) -> dict[str, Figures]:
    """As `tally`, of cells."""
    mapped = rows.mapped
    tasks, rungs = len(mapped.tasks), len(mapped.mapping.rungs)
    task = mapped.task.astype(np.intp)
    wrong = shipped_sums(rows, outcomes, rows.wrong)
    if rows.columns.manifest.right_at > 0.0:  # no answer scores 0
        wrong = np.where(outcomes.shipped == NO_RUNG, rows.items, wrong)
    place = ((task * (rungs + 1) + outcomes.shipped + 1) * rungs + outcomes.last) * 2
    counts = np.zeros(tasks * (rungs + 1) * rungs * 2, np.int64)
    np.add.at(counts, place, rows.items - wrong)
    np.add.at(counts, place + 1, wrong)
    counts = counts.reshape(tasks, rungs + 1, rungs, 2)
    degraded = np.zeros(tasks, np.int64)
    is_degraded = (outcomes.stopped != 0) & (outcomes.shipped != NO_RUNG)
    np.add.at(degraded, task[is_degraded], rows.items[is_degraded])
    escalated = np.zeros((rungs, tasks, len(REASONS)), np.int64)
    for index, reasons in enumerate(outcomes.reasons):
        np.add.at(escalated[index], (task, reasons), rows.items)
    high, low = (shipped_sums(rows, outcomes, sums) for sums in (rows.high, rows.low))
    _, (highs, lows, costs) = sums_by(mapped.task, high, low, outcomes.cost)
    return {
        name: task_figures(
            mapped, counts[n], escalated[:, n], (int(highs[n]), int(lows[n]), int(costs[n]), int(degraded[n]))
        )
        for n, name in enumerate(mapped.tasks)
    }


def singles_of_cells(rows: CellColumns) -> dict[str, Single]:
    """As `singles_of`, of cells."""
    columns, mapped, n = rows.columns, rows.mapped, rows.n
    mapping = mapped.mapping
    by_name = {
        name: (rung, mapped.single_cost(index))
        for index, (name, rung) in enumerate(zip(mapping.names, mapping.rungs, strict=True))
    }
    if mapping.cost_of == "recorded":
        others = [rung for rung in columns.rungs if rung not in mapping.rungs and rung not in by_name]
        by_name |= {rung: (rung, columns.rungs[rung].cost) for rung in others}
    singles: dict[str, Single] = {}
    for name, (rung, cost) in by_name.items():
        replies = columns.rungs[rung]
        known = not np.isnan(replies.score).any() and (cost != NO_COST).all() and (replies.answer != MISSING).all()
        if n and known:
            quality = exact_mean(exact_sum(rows.high[rung]), exact_sum(rows.low[rung]), n)
            singles[name] = Single(quality, exact_sum(cost), exact_sum(rows.wrong[rung]), rung)
    return singles


def silent_replies(rows: CellColumns) -> int:
    """How many replies of the policy's rungs were recorded without their text."""
    return sum(
        int(rows.items[rows.columns.rungs[rung].answer == UNRECORDED].sum()) for rung in rows.mapped.mapping.rungs
    )
