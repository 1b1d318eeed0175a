"""Runs built by hand, for the page."""

from __future__ import annotations

from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.part import Role
from cascade.core.planning.result import Attempt, PlanReview, Result, ReviewerStanding, SubtaskResult
from cascade.core.prepared import Assessment

__all__ = ["GOAL", "made"]

GOAL = "Compare the vendors"


def made(*, goal: str = GOAL, said: str = "The table.", name: str = "table") -> Result:
    """A run with a subtask of every status, one of them answered on its second attempt; `said`: the texts of models and people."""
    plan = Plan(
        goal,
        (
            Subtask("names", "List the names.", ("notes",), "haiku", said),
            Subtask(name, said, ("notes", "names"), "haiku", "Plain extraction.", schema={"type": "object"}),
            Subtask("prices", "List the prices.", ("notes",), "haiku", "Plain."),
            Subtask("themes", "Find what they share.", (name, "prices"), "sonnet", "Needs judgement."),
            Subtask("translation", "Translate.", ("names",), "opus", "Hard."),
            Subtask("letter", "Write it.", ("translation",), "sonnet", "A letter."),
            Subtask("report", "Write it all.", ("themes", "names"), "sonnet", "Prose."),
        ),
        ("notes",),
        planner="sonnet",
    )
    high, medium, low = (Assessment(level, said) for level in ("high", "medium", "low"))
    first = Attempt(
        0,
        "r1",
        300,
        "haiku",
        said,
        None,
        0.9,
        None,
        medium,
        PlanReview("retry", said, "v1", 50),
        "",
        0,
        (("haiku", 300),),
    )
    second = Attempt(
        1,
        "r2",
        900,
        "sonnet",
        said,
        None,
        0.93,
        None,
        high,
        PlanReview("accept", said, "v2", 50),
        "",
        1,
        (("sonnet", 900),),
    )
    climbed = Attempt(
        0, "r3", 1_300, "sonnet", said, None, 0.9, None, low, PlanReview("escalate", said, "v3", 60), "", 0,
        (("haiku", 300), ("sonnet", 1_000)),
    )  # fmt: skip
    plain = Attempt(0, "r4", 200, "haiku", said, None, 0.95, None, high, None, "", 0, (("haiku", 200),))
    results = (
        SubtaskResult("names", "haiku", "accepted", said, None, "haiku", (plain,)),
        SubtaskResult(name, "haiku", "accepted", said, {}, "sonnet", (first, second)),
        SubtaskResult("prices", "haiku", "unsettled", said, None, "haiku", (plain,), said),
        SubtaskResult("themes", "sonnet", "accepted", said, None, "sonnet", (climbed,), "", ("prices",)),
        SubtaskResult("translation", "opus", "failed", why="no rung answered", attempts=(Attempt(0, "r5", 0, error=said),)),
        SubtaskResult("letter", "sonnet", "skipped", why="it rests on translation"),
        SubtaskResult("report", "sonnet", "pending"),
    )  # fmt: skip
    costs: dict[Role, int] = {"planner": 400, "executor": 2_900, "reviewer": 160}
    return Result(
        plan, {one.id: one for one in results}, "run-1", costs, "budget", ReviewerStanding(why=said), (said,),
    )  # fmt: skip
