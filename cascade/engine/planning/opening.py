"""How a run begins: its arguments are read, and what is there of it already is taken up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.budgets.allowance import RunAllowance
from cascade.core.errors import ConfigurationError, PlanError, RequestError
from cascade.core.planning.controls import ControlDone
from cascade.core.planning.graph import Plan, plan_faults
from cascade.core.planning.result import Attempt, Result
from cascade.core.planning.schedule import Schedule
from cascade.core.policy import Policy
from cascade.engine.planning.execution import Execution, RunTerms
from cascade.engine.planning.journal import Head, Journal
from cascade.engine.planning.options import RunOptions
from cascade.engine.runtime import Runtime
from cascade.engine.unsupported import check_keywords

__all__ = ["OpenedRun", "open_run"]

_CONCURRENCY, _MOST_AT_ONCE = 8, 100
_KNOWN = ("plan", "inputs", "max_usd", "deadline_s", "metadata", "session", "run", "concurrency")


@dataclass(slots=True)
class OpenedRun:
    """A run whose arguments are read. `plan` None: its goal is still to be planned. `ends_at`: its deadline, on the driver's clock."""

    runtime: Runtime
    goal: str
    plan: Plan | None
    inputs: Mapping[str, str]
    id: str
    money: RunAllowance
    concurrency: int
    ends_at: float | None
    metadata: Mapping[str, str]
    journal: Journal | None = None
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict[str, Sequence[Attempt]])
    unbelieved: str = ""

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
        schedule = Schedule(
            plan, policy, attempts=self.attempts, controls=controls, unbelieved=self.unbelieved
        )  # fmt: skip
        terms = RunTerms(
            plan, self.inputs, self.runtime, self.id, self.ends_at, self.metadata
        )  # fmt: skip
        return Execution(terms, schedule, self.money, self.journal)

    def close(self) -> None:
        """Another process may take the run up."""
        if self.journal is not None:
            self.journal.close()


def open_run(runtime: Runtime, given: Plan | Result | str, options: RunOptions) -> OpenedRun:
    """Read the arguments, and take up what is there. Raises ConfigurationError, RequestError, PlanError before anything is paid."""
    check_keywords(options, _KNOWN)
    _require_planning(runtime.policy, runtime.mode())
    opened = _read(runtime, given, options)
    if opened.plan is not None:
        _require_valid(opened.plan, runtime, opened.inputs)
    name = options.get("run")
    if name is not None:
        _take_up(opened, Journal.open(name), given, has_inputs=options.get("inputs") is not None)
    return opened


def _read(runtime: Runtime, given: Any, options: RunOptions) -> OpenedRun:
    if not isinstance(given, (Plan, Result, str)):
        raise RequestError(f"run: a {type(given).__name__} cannot be run (give a goal, a Plan or a Result)")
    plan = given if isinstance(given, Plan) else given.plan if isinstance(given, Result) else None
    goal = plan.goal if plan is not None else str(given)
    if not goal.strip():
        raise RequestError("goal: it is empty")
    inputs = _inputs(options.get("inputs"))
    deadline_s, now = _positive("deadline_s", options.get("deadline_s"), "seconds"), runtime.options.clock()
    max_usd = _positive("max_usd", options.get("max_usd"), "USD")
    opened = OpenedRun(
        runtime, goal, plan, inputs or {}, f"run_{uuid.uuid4().hex}",
        RunAllowance(None if max_usd is None else int(max_usd * 1_000_000_000)), _concurrency(options.get("concurrency")),
        None if deadline_s is None else now + deadline_s, _metadata(options.get("metadata")),
    )  # fmt: skip
    if isinstance(given, Result):
        _take_up_result(opened, given, inputs)
    return opened


def _take_up_result(opened: OpenedRun, given: Result, inputs: Mapping[str, str] | None) -> None:
    """Go on from a Result, in memory."""
    policy, changed = opened.runtime.policy, list[str]()
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


def _take_up(opened: OpenedRun, journal: Journal, given: Plan | Result | str, *, has_inputs: bool) -> None:
    """Begin the journal, or go on from what it holds."""
    try:
        if journal.head is None:
            _begin(opened, journal, given)
        else:
            _require_same(opened, journal, journal.head, given, has_inputs=has_inputs)
    except BaseException:
        journal.close()
        raise
    head = journal.head
    assert head is not None
    limit, opened.money = opened.money.limit, journal.money
    opened.money.limit, opened.money.book, opened.journal = limit, journal, journal
    opened.id, opened.plan, opened.inputs = head.run, journal.plan, head.inputs
    opened.attempts = journal.attempts


def _begin(opened: OpenedRun, journal: Journal, given: Plan | Result | str) -> None:
    if isinstance(given, Result):
        hint = "leave run= out, or give its plan"
        raise ConfigurationError(f"{journal.path}: there is no such run, and a Result is taken up in memory ({hint})")
    policy = opened.runtime.policy
    journal.begin(Head(opened.id, opened.goal, opened.plan, opened.inputs, policy.name, policy.hash))


def _require_same(
    opened: OpenedRun, journal: Journal, head: Head, given: Plan | Result | str, *, has_inputs: bool
) -> None:
    """Raises ConfigurationError where a run was begun with something else."""
    policy, changed = opened.runtime.policy, list[str]()
    if opened.goal != head.goal:
        changed.append("another goal")
    elif isinstance(given, Plan) and given != journal.plan:
        changed.append("another plan" if journal.plan is not None else "a goal, which is not planned yet")
    elif isinstance(given, Result) and given.id != head.run:
        changed.append(f"another run ({head.run})")
    if has_inputs and opened.inputs != head.inputs:
        names = sorted(
            name for name in {*opened.inputs, *head.inputs} if opened.inputs.get(name) != head.inputs.get(name)
        )
        changed.append(f"other inputs ({', '.join(names)})")
    if head.policy_hash != policy.hash:
        changed.append(f"another policy ({head.policy} {head.policy_hash}, now {policy.name} {policy.hash})")
    if changed:
        hint = "give what it was begun with, or another name"
        raise ConfigurationError(f"{journal.path}: this run was begun with {' and '.join(changed)} ({hint})")


def _require_valid(plan: Plan, runtime: Runtime, inputs: Mapping[str, str]) -> None:
    faults = tuple(plan_faults(plan, runtime.policy, tuple(inputs), compile_schema=runtime.plan.compile_schema))
    if faults:
        error = PlanError(f"the plan cannot be run: {'; '.join(faults)}", faults=faults)
        error.exit_code = 2  # nothing was asked and nothing was paid
        raise error


def _require_planning(policy: Policy, mode: str) -> None:
    if policy.plan is None:
        raise ConfigurationError(
            f"policy {policy.name} has no plan block (add `plan: {{}}`, or use the shipped policy `planning`)"
        )
    if mode != "enforce":
        raise ConfigurationError(
            f"policy {policy.name} is in mode {mode}: a plan has no baseline that could answer (run it with mode: enforce)"
        )


def _inputs(given: Any) -> dict[str, str] | None:
    if given is not None and not _are_texts(given):
        raise RequestError("inputs: must be texts by name, e.g. inputs={'report': text}")
    return None if given is None else dict(given)


def _metadata(given: Any) -> dict[str, str]:
    if given is not None and not _are_texts(given):
        raise RequestError("metadata: names and values must be strings, e.g. metadata={'customer': 'c-17'}")
    return dict(given or {})


def _are_texts(given: Any) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(text, str)
        for pair in given.items()  # pyright: ignore[reportUnknownVariableType]
        for text in pair  # pyright: ignore[reportUnknownVariableType]
    )


def _positive(name: str, given: Any, unit: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < float("inf"):
        raise RequestError(f"{name}: {given!r} must be a number above 0, in {unit}")
    return given


def _concurrency(given: Any) -> int:
    if given is None:
        return _CONCURRENCY
    if type(given) is not int or not 1 <= given <= _MOST_AT_ONCE:
        raise RequestError(f"concurrency: {given!r} must be a whole number from 1 to {_MOST_AT_ONCE}")
    return given
