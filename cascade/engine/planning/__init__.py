"""Plans at work: the planner is asked, subtasks are executed and reviewed, and a run's state is kept where it can be taken up again.

options      the arguments of `plan` and `run`
making       the planner's calls
forecasting  what a plan may cost
opening      how a run begins, or is taken up again
execution    the state of a run, without the waiting
running      the runs, on threads or in asyncio
journal      a run on the disk
standing     what is known of a reviewer between runs
"""

from __future__ import annotations

from cascade.engine.planning.making import aplan_goal, plan_goal
from cascade.engine.planning.options import PlanOptions, RunOptions
from cascade.engine.planning.running import arun_plan, run_plan

__all__ = ["PlanOptions", "RunOptions", "aplan_goal", "arun_plan", "plan_goal", "run_plan"]
