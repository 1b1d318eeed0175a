"""The tables of `cascade run`: a plan with what it may cost, and what became of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cascade.cli.output import one_line, stderr, stdout, table, usd
from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Result, SubtaskResult
from cascade.engine.planning.forecasting import Forecast

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_forecast", "print_result"]

_NONE = "-"
_LONGEST = 60  # characters of an instruction


def print_forecast(plan: Plan, costs: Mapping[str, Forecast], planning: int) -> None:
    """The plan on stdout, with what each subtask may cost."""
    shown = table(
        "subtask",
        "rung",
        "task",
        "given",
        "about USD",
        "at most USD",
        "instruction",
        right=("about USD", "at most USD"),
    )
    for one in plan.subtasks:
        cost, given = costs[one.id], ", ".join(one.inputs) or _NONE
        words = one_line(" ".join(one.instruction.split()))
        words = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
        shown.add_row(one.id, one.rung, one.kind, given, usd(cost.estimate), usd(cost.most), words)
    stdout.print(shown)
    whole = sum(costs.values(), Forecast(0, 0))
    stdout.print(f"about {usd(whole.estimate)} USD, at most {usd(whole.most)} USD; the result is that of {plan.final}")
    if planning:
        stderr.print(f"planning cost {usd(planning)} USD")


def print_result(result: Result, where: Console = stderr) -> None:
    """What became of each subtask, and what was paid for it."""
    shown = table("subtask", "assigned", "final", "status", "review", "cost USD", right=("cost USD",))
    for one in result.plan.subtasks:
        come = result.subtasks[one.id]
        shown.add_row(one.id, one.rung, come.rung or _NONE, come.status, _review(come), usd(come.cost_nanousd))
    where.print(shown)
    for one in result.plan.subtasks:
        come = result.subtasks[one.id]
        if come.status != "accepted" and come.why:
            where.print(f"{one.id}: {come.status}: {one_line(come.why)}")
        if come.rests_on:
            where.print(f"{one.id}: rests on results that are not settled: {', '.join(come.rests_on)}")
    by_role = ", ".join(f"{role} {usd(cost)}" for role, cost in result.costs.items())
    where.print(f"{usd(result.cost_nanousd)} USD ({by_role or 'nothing was asked'})")
    made = sum(attempt.cost_nanousd for come in result.subtasks.values() for attempt in come.attempts)
    if (cut_off := result.costs.get("executor", 0) - made) > 0:
        where.print(f"{usd(cut_off)} USD of it were paid for climbs that were cut off; they begin anew")
    if result.reviewer.controls or not result.reviewer.believed:
        where.print(f"reviewer: {one_line(str(result.reviewer))}")
    for note in result.notes:
        where.print(one_line(note))


def _review(come: SubtaskResult) -> str:
    """Its reviews in turn, as in "retry, accept"; without one, what its executor said of it."""
    said = ", ".join(one.review.verdict for one in come.attempts if one.review is not None)
    if said or come.assessment is None:
        return said or _NONE
    return f"not drawn ({come.assessment.level})"
