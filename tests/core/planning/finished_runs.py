"""Results of runs, as a run leaves them."""

from __future__ import annotations

from typing import Any

from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Result, ReviewerStanding, SubtaskResult

GOAL = "Compare the vendors."


def finished_run(run: str = "run-1", *, names: str = "Acme and Bolt", goal: str = GOAL, **more: Any) -> Result:
    """A run of three subtasks: one accepted, one unsettled, and a draft that failed for want of time."""
    plan = Plan(
        goal,
        (
            Subtask("names", "List the vendors.", ("report",), "haiku"),
            Subtask("prices", "Find their prices.", ("report", "names"), "sonnet"),
            Subtask("draft", "Write the comparison.", ("prices",), "sonnet"),
        ),
        ("report",),
    )
    subtasks = {
        "names": SubtaskResult("names", "haiku", "accepted", names, rung="haiku"),
        "prices": SubtaskResult(
            "prices", "sonnet", "unsettled", '{"acme": 9}', {"acme": 9}, "opus", why="the report has no price of Bolt"
        ),
        "draft": SubtaskResult("draft", "sonnet", "failed", why="AllRungsFailed", rests_on=("prices",)),
    }
    return Result(plan, subtasks, run, **more)


def long_run(run: str, *, subtasks: int, characters: int, text: str = "é") -> Result:
    """A run with so many accepted subtasks, each of whose texts is so long."""
    names = [f"part_{number}" for number in range(subtasks)]
    words = text * characters
    plan = Plan(words, tuple(Subtask(name, words, (), "haiku") for name in names))
    results = {name: SubtaskResult(name, "haiku", "accepted", f"{name} {words}", rung="haiku") for name in names}
    return Result(plan, results, run, reviewer=ReviewerStanding(why=words))
