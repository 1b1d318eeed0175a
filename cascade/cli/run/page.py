"""A run as one self-contained HTML page: the graph of its plan, and every subtask with its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade import pages
from cascade.cli.output import one_line, usd
from cascade.cli.run.picture import COLOURS, draw, fate, rungs_of
from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Result, SubtaskResult

__all__ = ["RungCost", "costs_by_rung", "render_page", "write_page"]

_ASSETS = Path(__file__).parent / "assets"
_STATUSES = ("accepted", "unsettled", "failed", "skipped", "pending")


@dataclass(frozen=True, slots=True)
class RungCost:
    """What the executors' calls of one rung cost, in nano-USD. `below`: the part below the assigned rung, which climbs begin with."""

    rung: str
    calls: int
    cost: int
    below: int


def write_page(run: Result | Plan, path: Path, *, ladder: Sequence[str] = ()) -> None:
    """Write the page of a run, or of a plan that has not been run; readable by its owner alone. `ladder`: the rungs, lowest first.

    Raises MissingExtra without jinja2, ConfigurationError if `path` cannot be written.
    """
    pages.write(path, render_page(run, ladder=ladder), "--html")


def render_page(run: Result | Plan, *, ladder: Sequence[str] = ()) -> str:
    """The page. It has no script and needs no network."""
    result = run if isinstance(run, Result) else _not_run(run)
    template, styles = _ASSETS / "run.html.j2", [pages.BASE_STYLE, _ASSETS / "run.css"]
    return pages.render(template, lambda: _values(result, ladder), styles, filters={"usd": usd, "fate": fate})


def costs_by_rung(result: Result, rungs: Sequence[str]) -> tuple[RungCost, ...]:
    """What the executors' calls cost, by rung, lowest first; rungs that were not called are left out. `rungs`: see `rungs_of`."""
    place = {rung: number for number, rung in enumerate(rungs)}
    calls, costs, below = (dict.fromkeys(rungs, 0) for _ in range(3))
    for one in result.subtasks.values():
        for attempt in one.attempts:
            for rung, cost in attempt.rungs:
                calls[rung] += 1
                costs[rung] += cost
                below[rung] += cost if place[rung] < place.get(one.assigned, 0) else 0
    return tuple(RungCost(rung, calls[rung], costs[rung], below[rung]) for rung in rungs if calls[rung])


def _not_run(plan: Plan) -> Result:
    return Result(plan, {one.id: SubtaskResult(one.id, one.rung, "pending") for one in plan.subtasks})


def _values(result: Result, ladder: Sequence[str]) -> dict[str, Any]:
    rungs = rungs_of(result, ladder)
    is_run = bool(result.id) or any(one.attempts for one in result.subtasks.values())
    return {
        "result": result,
        "plan": result.plan,
        "rungs": [(rung, number % COLOURS) for number, rung in enumerate(rungs)],
        "is_run": is_run,
        "status": _status(result) if is_run else f"{len(result.plan.subtasks)} subtasks, not run yet",
        "todo": [one_line(line) for line in _todo(result)],
        "by_rung": costs_by_rung(result, rungs),
        "drawn": draw(result, rungs),
        "subtasks": [(one, result.subtasks[one.id]) for one in result.plan.subtasks],
    }


def _status(result: Result) -> str:
    counts = {status: len(result.of(status)) for status in _STATUSES}
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{len(result.plan.subtasks)} subtasks: {listed}; {usd(result.cost_nanousd)} USD"


def _todo(result: Result) -> list[str]:
    """What its reader must know before relying on the result."""
    lines = [f"{one.id} is {one.status}: {one.why or 'no reason was given'}"
             for one in result.subtasks.values() if one.status in ("unsettled", "failed", "skipped")]  # fmt: skip
    if rests_on := result.final.rests_on:
        lines.append(f"the final result rests on what is unsettled: {', '.join(rests_on)}")
    if result.stopped:
        lines.append(f"the run was stopped by its {result.stopped}; it can be taken up again")
    if not result.reviewer.believed:
        lines.append(f"the reviewer is not believed: {result.reviewer.why}")
    return [*lines, *result.notes]
