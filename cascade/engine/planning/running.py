"""Runs a plan: which subtask may start is `core.planning.schedule`'s, what it is asked `core.planning`'s; this does the waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Result
from cascade.engine.planning.options import RunOptions

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["arun_plan", "run_plan"]


def run_plan(driver: Cascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`Cascade.run`."""
    raise NotImplementedError


async def arun_plan(driver: AsyncCascade, plan: Plan | Result | str, options: RunOptions) -> Result:
    """`AsyncCascade.run`."""
    raise NotImplementedError
