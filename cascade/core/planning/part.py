"""Which part of which run a request is: the ledger keeps it, and the arm is its role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Part", "Role"]

Role = Literal["planner", "executor", "reviewer"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run. `role` is also the request's arm.

    `run`: the run's id. `subtask`: its id, "" for the planner and for control items. `kind`: the subtask's task. `assigned`: the rung that
    the plan assigns. `attempt`: of this subtask, from 0. `rung`: who plans or reviews; "" for an executor, which climbs. `control`: of a
    control item of the reviewer, what is known of the result that it reads. `planned_in`: of an executor, the version of the words that its plan
    was made in; "" if a person made it.
    """

    run: str
    role: Role
    subtask: str = ""
    kind: str = ""
    assigned: str = ""
    attempt: int = 0
    rung: str = ""
    control: Literal["right", "wrong"] | None = None
    planned_in: str = ""
