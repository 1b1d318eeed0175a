"""What runs of plans cost: by role, or by the assigned rung and the one that made the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cascade.costs.plans.subtasks import RunRecord, Spent, SubtaskRecord

__all__ = ["AssignedLine", "PlanCosts", "RoleLine", "plan_costs"]


@dataclass(frozen=True, slots=True)
class RoleLine:
    """A role's money, in nano-USD, and its requests; None for the part of the executors' that lower rungs took."""

    role: str
    requests: int | None
    cost: int


@dataclass(slots=True)
class AssignedLine:
    """The subtasks of one assigned rung whose results one rung made; `final` None: there is no result.

    `requests`: their climbs. `escalated`: those whose first climb went above the assigned rung; `sent_back`: those whose first result the
    reviewer sent back. `cost`: of their climbs and reviews, of which rungs below the assigned one took `below`. `statuses`: how many are
    accepted, unsettled, failed, pending.
    """

    assigned: str
    final: str | None
    subtasks: int = 0
    requests: int = 0
    escalated: int = 0
    sent_back: int = 0
    cost: int = 0
    below: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])

    def add(self, one: SubtaskRecord) -> None:
        """Count a subtask."""
        self.subtasks += 1
        self.requests += len(one.attempts)
        self.escalated += one.escalated
        self.sent_back += one.review == "retry"
        self.cost += one.spent.whole
        self.below += one.spent.below
        self.statuses[one.status] += 1


@dataclass(frozen=True, slots=True)
class PlanCosts:
    """A period's runs. `roles`: always; `assigned`: dearest first. `subtasks`: of all runs."""

    by: Literal["assigned", "role"]
    runs: int
    subtasks: int
    roles: tuple[RoleLine, ...]
    assigned: tuple[AssignedLine, ...]

    @property
    def cost(self) -> int:
        """All of it, in nano-USD."""
        return sum(line.cost for line in self.roles)


def plan_costs(runs: Iterable[RunRecord], by: Literal["assigned", "role"], policy: str | None = None) -> PlanCosts:
    """Add up the runs of a policy; None: of all."""
    spent, asked, lines, count, subtasks = Spent(), Counter[str](), dict[tuple[str, str | None], AssignedLine](), 0, 0
    for run in runs:
        if policy not in (None, run.policy):
            continue
        count += bool(run.subtasks)
        subtasks += len(run.subtasks)
        spent.add(run.spent)
        asked.update(run.asked)
        for one in run.subtasks.values():
            key = one.assigned, one.final
            lines.setdefault(key, AssignedLine(*key)).add(one)
    roles = (
        RoleLine("planner", asked["planner"], spent.planner),
        RoleLine("executor", asked["executor"], spent.above),
        RoleLine("executor, below the assigned rung", None, spent.below),
        RoleLine("reviewer", asked["reviewer"], spent.reviewer),
        RoleLine("reviewer, control items", asked["control"], spent.control),
    )
    dearest = sorted(lines.values(), key=lambda line: (-line.cost, line.assigned, line.final or ""))
    return PlanCosts(by, count, subtasks, roles, tuple(dearest))
