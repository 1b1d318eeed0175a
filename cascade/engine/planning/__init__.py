"""Plans at work: the planner is asked, subtasks are executed and reviewed, and a run's state is kept where it can be taken up again.

options   the arguments of `plan` and `run`
making    the planner's calls
running   the runs, on threads or in asyncio
"""

from __future__ import annotations

from cascade.engine.planning.making import aplan_goal, plan_goal
from cascade.engine.planning.options import PlanOptions, RunOptions
from cascade.engine.planning.running import arun_plan, run_plan

__all__ = ["PlanOptions", "RunOptions", "aplan_goal", "arun_plan", "plan_goal", "run_plan"]
