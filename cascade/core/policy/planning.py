"""What a policy says of plans: who plans, who reviews, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field, Strict

from cascade.core.policy.base import Fault, Frozen, Name, Text

__all__ = ["MOST_SUBTASKS", "PlanPrompts", "Planning", "plan_faults"]

MOST_SUBTASKS = 100
"""Of a plan, under any policy."""


class PlanPrompts(Frozen):
    """Prompts of one's own for the roles of a plan. In a file: names of text files beside the policy. In code: the texts."""

    planner: Text | None = None
    """Default: built in."""
    executor: Text | None = None
    """Default: built in."""
    reviewer: Text | None = None
    """Default: built in."""


class Planning(Frozen):
    """How a goal is planned, and how the results of its subtasks are reviewed."""

    planner: Name = "sonnet"
    """The rung that makes plans."""
    reviewer: Name = "sonnet"
    """The rung that reviews results."""
    max_subtasks: Annotated[int, Strict(), Field(ge=1, le=MOST_SUBTASKS)] = 12
    """The most subtasks of a plan."""
    max_retries: Annotated[int, Strict(), Field(ge=0, le=10)] = 2
    """How often a result that the reviewer sent back is made again, each time one rung up."""
    review_high: Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    """The share of the results which their executor is sure of that are reviewed. The others are, always."""
    hints: Text | None = None
    """In a file: the name of a file beside the policy, written by `cascade plan hints`. In code: `Hints.to_text()`. The planner is told them as long as
    they are of the words in force."""
    prompts: PlanPrompts = PlanPrompts()


def plan_faults(plan: Planning | None, rungs: Sequence[str]) -> Iterator[Fault]:
    """The broken invariants of `plan`. `rungs`: the ladder's names."""
    if plan is None:
        return
    for key, name in (("planner", plan.planner), ("reviewer", plan.reviewer)):
        if name not in rungs:
            yield Fault(("plan", key), f"there is no rung {name!r} on the ladder", f"use one of {', '.join(rungs)}")
