"""The planner's calls: a goal becomes a plan, after one repair at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cascade.budgets.allowance import RunAllowance
from cascade.core.errors import AllRungsFailed, PlanError
from cascade.core.planning.graph import Plan, plan_faults, plan_of
from cascade.core.planning.part import Part
from cascade.core.planning.planner import Broken, planner_request, read_plan, stale_hints
from cascade.core.policy.planning import Planning
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments, new_id
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.planning.journal import Journal
from cascade.engine.planning.options import PlanOptions, read_goal, read_options, require_planning
from cascade.engine.runtime import Runtime
from cascade.hooks import Ended, cost_of_end
from cascade.logs import log_event

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["Making", "Planned", "amake_plan", "aplan_goal", "check_plan", "make_plan", "new_plan_id", "plan_goal"]

_SHORTEST_S = 1e-3  # of a deadline that has passed
_ATTEMPTS = 2  # one repair
_REPAIRABLE = {"malformed": "the reply is not JSON", "truncated": "the reply was cut off at the rung's max_tokens: plan fewer subtasks, in fewer words"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it cost to make, and the ids of the planner's requests on the ledger."""

    plan: Plan
    cost_nanousd: int
    request_ids: tuple[str, ...]


def plan_goal(driver: Cascade, goal: str, options: PlanOptions) -> Plan:
    """`Cascade.plan`."""
    warn_of_blocking()
    return make_plan(driver, _making(driver._runtime, goal, options)).plan  # pyright: ignore[reportPrivateUsage]


async def aplan_goal(driver: AsyncCascade, goal: str, options: PlanOptions) -> Plan:
    """`AsyncCascade.plan`."""
    return (await amake_plan(driver, _making(driver._runtime, goal, options))).plan  # pyright: ignore[reportPrivateUsage]


def _making(runtime: Runtime, goal: str, options: PlanOptions) -> Making:
    read = read_options(options)
    require_planning(runtime.policy, runtime.mode())
    ends_at = None if read.deadline_s is None else runtime.options.clock() + read.deadline_s
    return Making(
        runtime, read_goal(goal), read.inputs or {}, RunAllowance(read.limit), new_plan_id(), ends_at, read.metadata
    )


def make_plan(driver: Cascade, making: Making) -> Planned:
    """Ask the planner. Raises PlanError, and what `respond` raises."""
    while True:
        try:
            come: Answer[Any] | AllRungsFailed = driver.respond(making.arguments())
        except AllRungsFailed as failed:
            come = failed
        if (planned := making.read(come)) is not None:
            return planned


async def amake_plan(driver: AsyncCascade, making: Making) -> Planned:
    """As `make_plan`."""
    while True:
        try:
            come: Answer[Any] | AllRungsFailed = await driver.respond(making.arguments())
        except AllRungsFailed as failed:
            come = failed
        if (planned := making.read(come)) is not None:
            return planned


def new_plan_id() -> str:
    """The id of a run that only plans."""
    return new_id().replace("casc_", "plan_")


def check_plan(runtime: Runtime, plan: Plan, inputs: Mapping[str, str]) -> None:
    """Raises PlanError if a given plan cannot be run under the driver's policy with these inputs."""
    _, form = plan_of(plan.to_dict())
    faults = form or tuple(plan_faults(plan, runtime.policy, tuple(inputs), compile_schema=runtime.plan.compile_schema))
    if faults:
        raise PlanError(f"the plan cannot be run: {'; '.join(faults)}", faults=faults, given=True)


@dataclass(slots=True)
class Making:
    """How one goal becomes a plan, without the waiting: `arguments` to be answered, then `read` what came of them, until that is a plan.

    `run_id`: of the run that the requests belong to. `money`: what that may spend. `ends_at`: its deadline, on the driver's clock.
    `decided`: earlier in the same session. `journal`: of the run, if it has one. `cost_nanousd`: what was paid so far.
    """

    runtime: Runtime
    goal: str
    inputs: Mapping[str, str]
    money: RunAllowance
    run_id: str
    ends_at: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    decided: str = ""
    journal: Journal | None = None
    cost_nanousd: int = field(default=0, init=False)
    _broken: Broken | None = field(default=None, init=False)
    _ids: list[str] = field(default_factory=list[str], init=False)

    def arguments(self) -> Arguments:
        """The planner's next request."""
        runtime, request_id = self.runtime, new_id()
        policy = runtime.policy
        if not self._ids and (stale := stale_hints(policy)):
            hint = "make them again with `cascade plan hints`: the planner is not told them"
            log_event("warning", "plan_hints_stale", policy=policy.name, changed=list(stale), hint=hint)
        allowance = self.money.of("planner", request_id)

        def ended(end: Ended) -> None:
            cost = cost_of_end(end)
            self.cost_nanousd += cost
            allowance.end(cost)
            if self.journal is not None:
                self.journal.ended(request_id, cost)

        if self.journal is not None:
            self.journal.requested(request_id, "planner", attempt=len(self._ids))
        self._ids.append(request_id)
        request = planner_request(
            self.goal, self.inputs, policy, decided=self.decided, broken=self._broken, rates=runtime.plan.rates
        )
        left = None if self.ends_at is None else max(self.ends_at - runtime.options.clock(), _SHORTEST_S)
        return Arguments(
            replace(request, id=request_id, metadata=self.metadata),
            None if left is None or left >= policy.deadline_s else left,
            on_end=ended,
            is_message=False,
            part=Part(self.run_id, "planner", attempt=len(self._ids) - 1, rung=(policy.plan or Planning()).planner),
            allowance=allowance,
        )

    def read(self, come: Answer[Any] | AllRungsFailed) -> Planned | None:
        """The plan; None: ask again. Raises PlanError after the repair, and the failure where asking again would not help."""
        runtime = self.runtime
        if isinstance(come, Answer) and come.text is not None:
            plan, faults = read_plan(
                come, self.goal, tuple(self.inputs), runtime.policy, compile_schema=runtime.plan.compile_schema
            )
            if plan is not None:
                return Planned(plan, self.cost_nanousd, tuple(self._ids))
        else:
            kind = come.steps[-1].verdict.kind if come.steps else ""
            if kind not in _REPAIRABLE:
                raise come if isinstance(come, AllRungsFailed) else self._failed((f"the planner's call: {kind}",))
            faults = (_REPAIRABLE[kind],)
        if len(self._ids) == _ATTEMPTS:
            raise self._failed(faults)
        self._broken = Broken(come.text if isinstance(come, Answer) else None, faults)
        return None

    def _failed(self, faults: tuple[str, ...]) -> PlanError:
        rung = (self.runtime.policy.plan or Planning()).planner
        told = f"the planner ({rung}) made no plan that can be run, not even in the repair: {'; '.join(faults)}"
        hint = "say more in the goal, name a stronger rung as plan.planner, or write the plan yourself"
        return PlanError(f"{told} ({hint})", faults=faults, cost_nanousd=self.cost_nanousd)
