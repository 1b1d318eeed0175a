"""The planner's calls: a goal becomes a plan, after one repair at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.budgets.allowance import Allowance, RunAllowance
from cascade.core.budgets import usd_text
from cascade.core.errors import AllRungsFailed, BudgetExceeded, DeadlineExceeded, PlanError
from cascade.core.planning.graph import Plan, faults_text, plan_faults, plan_of
from cascade.core.planning.part import Part
from cascade.core.planning.planner import Broken, planner_request, read_plan, stale_hints
from cascade.core.policy.planning import Planning
from cascade.core.trail import Answer, Step
from cascade.engine.arguments import Arguments, new_id
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.planning.options import PlanOptions, RunArguments, read_goal, read_options, require_planning
from cascade.engine.runtime import Runtime
from cascade.hooks import Ended, cost_of_end
from cascade.logs import log_event

if TYPE_CHECKING:
    from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["Making", "Planned", "amake_plan", "aplan_goal", "check_plan", "make_plan", "new_plan_id", "plan_goal"]

_ATTEMPTS = 2  # one repair
_REPAIRABLE = {"malformed": "the reply is not JSON", "truncated": "the reply was cut off at the rung's max_tokens: plan fewer subtasks, in fewer words"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it cost to make, and the ids of the planner's requests on the ledger."""

    plan: Plan
    cost_nanousd: int
    request_ids: tuple[str, ...]


def plan_goal(driver: Cascade, goal: str, options: PlanOptions) -> Planned:
    """`Cascade.plan`, with what it cost."""
    warn_of_blocking("plan")
    return make_plan(driver, _making(driver._runtime, goal, options))  # pyright: ignore[reportPrivateUsage]


async def aplan_goal(driver: AsyncCascade, goal: str, options: PlanOptions) -> Planned:
    """`AsyncCascade.plan`, with what it cost."""
    return await amake_plan(driver, _making(driver._runtime, goal, options))  # pyright: ignore[reportPrivateUsage]


def _making(runtime: Runtime, goal: str, options: PlanOptions) -> Making:
    given = read_options(options)
    return Making(runtime, read_goal(goal), given, RunAllowance(given.limit), new_plan_id())


def make_plan(driver: Cascade, making: Making) -> Planned:
    """Ask the planner. Raises PlanError, and what `respond` raises."""
    while True:
        try:
            come: Answer[Any] | AllRungsFailed = driver.respond(making.arguments())
        except AllRungsFailed as failed:
            come = failed
        except BudgetExceeded as refused:
            raise making.refused(refused) from None
        if (planned := making.read(come)) is not None:
            return planned


async def amake_plan(driver: AsyncCascade, making: Making) -> Planned:
    """As `make_plan`."""
    while True:
        try:
            come: Answer[Any] | AllRungsFailed = await driver.respond(making.arguments())
        except AllRungsFailed as failed:
            come = failed
        except BudgetExceeded as refused:
            raise making.refused(refused) from None
        if (planned := making.read(come)) is not None:
            return planned


def new_plan_id() -> str:
    """The id of a run that only plans."""
    return new_id().replace("casc_", "plan_")


def check_plan(runtime: Runtime, plan: Plan, inputs: Mapping[str, str]) -> None:
    """Raises PlanError if a given plan cannot be run under the driver's policy with these inputs."""
    try:
        _, form = plan_of(plan.to_dict())
    except (AttributeError, TypeError, ValueError):  # something that has not even a plan's types
        form = ("it is no plan (make it of Subtask, texts, tuples of texts and JSON Schemas that are mappings)",)
    faults = form or tuple(plan_faults(plan, runtime.policy, tuple(inputs), compile_schema=runtime.plan.compile_schema))
    if faults:
        raise PlanError(f"the plan cannot be run: {faults_text(faults)}", faults=faults, given=True)


class Making:
    """How one goal becomes a plan, without the waiting: `arguments` to be answered, then `read` what came of them, until that is a plan.

    `run_id`: of the run that the requests belong to. `money`: what that may spend. `decided`: earlier in the same session. Raises
    ConfigurationError if the policy has no plans.
    """

    def __init__(
        self, runtime: Runtime, goal: str, given: RunArguments, money: RunAllowance, run_id: str, *, decided: str = ""
    ) -> None:
        require_planning(runtime.policy, runtime.mode())
        self._runtime, self._goal, self._given, self._money, self._run_id = runtime, goal, given, money, run_id
        self._decided, self._inputs = decided, given.inputs or {}
        clock = runtime.options.clock
        self._ends_at = None if given.deadline_s is None else clock() + given.deadline_s
        self._broken: Broken | None = None
        self._allowance: Allowance | None = None
        self._cost, self._ids, self._steps = 0, list[str](), tuple[Step, ...]()

    @property
    def cost_nanousd(self) -> int:
        """What was paid so far."""
        return self._cost

    def arguments(self) -> Arguments:
        """The planner's next request. Raises DeadlineExceeded if it is too late for one."""
        runtime, request_id = self._runtime, new_id()
        left = None if self._ends_at is None else self._ends_at - runtime.options.clock()
        if left is not None and left <= 0:
            raise DeadlineExceeded(f"the deadline of {self._given.deadline_s} s passed before there was a plan")
        if not self._ids and (stale := stale_hints(runtime.policy)):
            hint = "make them again with `cascade plan hints`: the planner is not told them"
            log_event("warning", "plan_hints_stale", policy=runtime.policy.name, changed=list(stale), hint=hint)
        self._ids.append(request_id)
        self._allowance = self._money.of("planner", request_id)
        request = planner_request(
            self._goal,
            self._inputs,
            runtime.policy,
            decided=self._decided,
            broken=self._broken,
            rates=runtime.plan.rates,
        )
        if left is not None and left >= runtime.policy.deadline_s:
            left = None  # the policy's is nearer
        return Arguments(
            replace(request, id=request_id, metadata=self._given.metadata),
            left,
            on_end=self._ended,
            is_message=False,
            part=Part(
                self._run_id, "planner", attempt=len(self._ids) - 1, rung=(runtime.policy.plan or Planning()).planner
            ),
            allowance=self._allowance,
        )

    def _ended(self, end: Ended) -> None:
        cost = cost_of_end(end)
        self._cost += cost
        if self._allowance is not None:
            self._allowance.end(cost)

    def read(self, come: Answer[Any] | AllRungsFailed) -> Planned | None:
        """The plan; None: ask again. Raises PlanError after the repair, and the failure where asking again would not help."""
        runtime = self._runtime
        if isinstance(come, Answer) and come.text is not None:
            plan, faults = read_plan(
                come, self._goal, tuple(self._inputs), runtime.policy, compile_schema=runtime.plan.compile_schema
            )
            if plan is not None:
                return Planned(plan, self._cost, tuple(self._ids))
        else:
            kind = come.steps[-1].verdict.kind if come.steps else ""
            if kind not in _REPAIRABLE:
                raise come if isinstance(come, AllRungsFailed) else self._failed((f"its call ended {kind}",))
            faults = (_REPAIRABLE[kind],)
        self._steps += come.steps
        if len(self._ids) == _ATTEMPTS:
            raise self._failed(faults)
        self._broken = Broken(come.text if isinstance(come, Answer) else None, faults)
        return None

    def refused(self, error: BudgetExceeded) -> BudgetExceeded:
        """The error for a call that no budget has room for: before the repair a plan was paid for that cannot be run."""
        if self._broken is None:
            return error
        done = f"the plan that {usd_text(self._cost)} were paid for cannot be run, and it is not repaired"
        message = f"{error.refused}: {done}: {'; '.join(self._broken.faults)}"
        return BudgetExceeded(message, refused=error.refused, steps=self._steps)

    def _failed(self, faults: tuple[str, ...]) -> PlanError:
        rung = (self._runtime.policy.plan or Planning()).planner
        repaired = ", not even in the repair" if len(self._ids) == _ATTEMPTS else ""
        told = f"the planner ({rung}) made no plan that can be run{repaired}: {faults_text(faults)}"
        hint = "say more in the goal, name a stronger rung as plan.planner, or write the plan yourself"
        return PlanError(f"{told} ({hint})", faults=faults, cost_nanousd=self._cost)
