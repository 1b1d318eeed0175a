"""How a run begins: its arguments are read, and what is there of it already is taken up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cascade.budgets.allowance import RunAllowance
from cascade.core.errors import ConfigurationError
from cascade.core.planning.controls import ControlDone
from cascade.core.planning.graph import Plan, plan_of
from cascade.core.planning.result import Attempt, Result
from cascade.core.planning.schedule import Schedule, to_go_on_from
from cascade.engine.planning.execution import Execution, RunTerms
from cascade.engine.planning.journal import Head, Journal
from cascade.engine.planning.making import Making, check_plan
from cascade.engine.planning.options import RunArguments, RunOptions, read_goal, read_options, require_planning
from cascade.engine.runtime import Runtime

__all__ = ["OpenedRun", "open_run", "read_run"]


@dataclass(slots=True)
class OpenedRun:
    """A run whose arguments are read. `plan` None: its goal is still to be planned. `ends_at`: its deadline, on the driver's clock.

    `decided`: what was decided in its conversation before.
    """

    runtime: Runtime
    given: RunArguments
    goal: str
    plan: Plan | None
    inputs: Mapping[str, str]
    id: str
    money: RunAllowance
    ends_at: float | None = None
    decided: str = ""
    journal: Journal | None = None
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict[str, Sequence[Attempt]])
    unbelieved: str = ""

    def making(self) -> Making:
        """What makes its plan, within its money and time."""
        given = replace(self.given, inputs=dict(self.inputs))
        return Making(self.runtime, self.goal, given, self.money, self.id, decided=self.decided)

    def planned(self, plan: Plan) -> None:
        """Its goal has been planned."""
        self.plan = plan
        if self.journal is not None:
            self.journal.planned(plan)

    def execution(self, controls: Sequence[ControlDone] = ()) -> Execution:
        """The run, ready to be driven. `controls`: what the reviewer said of control items before. Raises PlanError."""
        plan, policy = self.plan, self.runtime.policy
        assert plan is not None, "a goal is planned first"
        if not controls and self.journal is not None:  # a driver without a ledger forgets them
            controls = self.journal.controls
        attempts = {name: to_go_on_from(made) for name, made in self.attempts.items()}
        schedule = Schedule(
            plan, policy, attempts=attempts, controls=controls, unbelieved=self.unbelieved
        )  # fmt: skip
        terms = RunTerms(
            plan, self.inputs, self.runtime, self.id, self.ends_at, self.given.metadata, self.decided
        )  # fmt: skip
        return Execution(terms, schedule, self.money, self.journal)

    def close(self) -> None:
        """Another process may take the run up."""
        if self.journal is not None:
            self.journal.close()


def read_run(runtime: Runtime, options: RunOptions) -> RunArguments:
    """The arguments of a run. Raises RequestError, and ConfigurationError where the policy has no plans."""
    given = read_options(options, of=RunOptions)
    require_planning(runtime.policy, runtime.mode())
    return given


def open_run(runtime: Runtime, plan: Plan | Result | str, given: RunArguments) -> OpenedRun:
    """Begin a run, or take up what is there of it. Raises ConfigurationError, RequestError, PlanError before anything is paid."""
    opened = _read(runtime, plan, given)
    if isinstance(plan, Result):
        _take_up_result(opened, plan)
    if given.run is not None:
        _take_up(opened, Journal.open(given.run), plan)
    else:
        _check(opened)
    return opened


def _read(runtime: Runtime, plan: Plan | Result | str, given: RunArguments) -> OpenedRun:
    found = plan.plan if isinstance(plan, Result) else plan if isinstance(plan, Plan) else None
    goal = found.goal if found is not None else read_goal(plan)
    ends_at = None if given.deadline_s is None else runtime.options.clock() + given.deadline_s
    money, run_id = RunAllowance(given.limit), f"run_{uuid.uuid4().hex}"
    return OpenedRun(runtime, given, goal, found, given.inputs or {}, run_id, money, ends_at)


def _take_up_result(opened: OpenedRun, given: Result) -> None:
    """Go on from a Result, in memory."""
    policy, changed, inputs = opened.runtime.policy, list[str](), opened.given.inputs
    if inputs is not None and inputs != given.inputs:
        changed.append("other inputs")
    if given.policy_hash and given.policy_hash != policy.hash:
        changed.append(f"another policy ({given.policy_hash}, now {policy.hash})")
    if changed:
        raise ConfigurationError(
            f"run {given.id}: it was begun with {' and '.join(changed)} (give what it was begun with)"
        )
    known = {str(role): cost for role, cost in given.costs.items()}
    opened.money = RunAllowance(opened.money.limit, known, given.maybe_nanousd)
    opened.id, opened.inputs = given.id or opened.id, given.inputs
    opened.attempts = {name: one.attempts for name, one in given.subtasks.items()}
    opened.unbelieved = given.reviewer.why


def _take_up(opened: OpenedRun, journal: Journal, plan: Plan | Result | str) -> None:
    """Begin the journal, or go on from what it holds."""
    try:
        if journal.head is None:
            _begin(opened, journal, plan)
        else:
            _require_same(opened, journal, journal.head, plan)
    except BaseException:
        journal.close()
        raise
    head = journal.head
    assert head is not None
    limit, opened.money = opened.money.limit, journal.money
    opened.money.limit, opened.money.book, opened.journal = limit, journal, journal
    opened.id, opened.plan, opened.inputs = head.run, journal.plan, head.inputs
    opened.attempts, opened.unbelieved = journal.attempts, journal.unbelieved


def _check(opened: OpenedRun) -> None:
    if opened.plan is not None:
        check_plan(opened.runtime, opened.plan, opened.inputs)


def _begin(opened: OpenedRun, journal: Journal, plan: Plan | Result | str) -> None:
    if isinstance(plan, Result):
        hint = "leave run= out, or give its plan"
        raise ConfigurationError(f"{journal.path}: there is no such run, and a Result is taken up in memory ({hint})")
    _check(opened)
    policy = opened.runtime.policy
    journal.begin(Head(opened.id, opened.goal, opened.plan, opened.inputs, policy.name, policy.hash))


def _require_same(opened: OpenedRun, journal: Journal, head: Head, plan: Plan | Result | str) -> None:
    """Raises ConfigurationError where a run was begun with something else."""
    policy, changed = opened.runtime.policy, list[str]()
    if opened.goal != head.goal:
        changed.append("another goal")
    elif isinstance(plan, Plan) and plan_of(plan.to_dict())[0] != journal.plan:  # lists where a plan has tuples, too
        changed.append("another plan" if journal.plan is not None else "a goal, which is not planned yet")
    elif isinstance(plan, Result) and plan.id != head.run:
        changed.append(f"another Result ({head.run})")
    given = opened.given.inputs
    if given is not None and given != head.inputs:
        names = sorted(name for name in {*given, *head.inputs} if given.get(name) != head.inputs.get(name))
        changed.append(f"other inputs ({', '.join(names)})")
    if head.policy_hash != policy.hash:
        changed.append(f"another policy ({head.policy} {head.policy_hash}, now {policy.name} {policy.hash})")
    if changed:
        hint = "give what it was begun with, or another name"
        raise ConfigurationError(f"{journal.path}: this run was begun with {' and '.join(changed)} ({hint})")
