"""The planner's calls: a goal becomes a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.core.planning.graph import Plan
from cascade.engine.planning.options import PlanOptions

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["aplan_goal", "plan_goal"]


def plan_goal(driver: Cascade, goal: str, options: PlanOptions) -> Plan:
    """`Cascade.plan`."""
    raise NotImplementedError


async def aplan_goal(driver: AsyncCascade, goal: str, options: PlanOptions) -> Plan:
    """`AsyncCascade.plan`."""
    raise NotImplementedError
