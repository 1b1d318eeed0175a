"""Plan and execute: a planner splits a goal into subtasks and assigns each a rung, executors climb, a reviewer reads what they made.

part        which part of which run a request is
graph       the plan: its subtasks, what they rest on, what makes it valid
planner     what the planner is asked, and how its reply becomes a plan
executor    what an executor is asked
reviewer    what the reviewer is asked, and what it says
controls    results of which it is known whether they are right, by which the reviewer is judged
schedule    what may run now, and what came of it
result      what became of a run
hints       what the planner is told of how its earlier assignments fared

Pure, like the rest of core. `engine.planning` runs it.
"""
