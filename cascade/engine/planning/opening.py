"""How a run begins: its arguments are read, and what is already there is taken up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.budgets.allowance import RunAllowance
from cascade.core.errors import ConfigurationError, PlanError, RequestError
from cascade.core.planning.graph import Plan, plan_faults
from cascade.core.planning.result import Attempt, Result, ReviewerStanding
from cascade.core.planning.schedule import Schedule
from cascade.core.policy import Policy
from cascade.engine.planning.execution import Execution, RunTerms
from cascade.engine.planning.options import RunOptions
from cascade.engine.runtime import Runtime
from cascade.engine.unsupported import check_keywords

__all__ = ["OpenedRun", "open_run"]

_CONCURRENCY = 8
_KNOWN = ("plan", "inputs", "max_usd", "deadline_s", "metadata", "session", "run", "concurrency")


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that is ready to be driven."""

    execution: Execution
    concurrency: int


def open_run(runtime: Runtime, given: Plan | Result | str, options: RunOptions) -> OpenedRun:
    """Read the arguments, and take up what is there. Raises ConfigurationError, RequestError, PlanError before anything is paid."""
    check_keywords(options, _KNOWN)
    policy = runtime.policy
    _require_planning(policy, runtime.mode())
    inputs = _inputs(options.get("inputs"))
    if isinstance(given, str):
        raise ConfigurationError("goals cannot be run yet: give a plan")
    if isinstance(given, Result):
        plan, run_id, inputs = given.plan, given.id, inputs or dict(given.inputs)
        attempts = {name: one.attempts for name, one in given.subtasks.items()}
        known, maybe, standing = given.costs, given.maybe_nanousd, given.reviewer
    else:
        plan, run_id, attempts = given, f"run_{uuid.uuid4().hex}", dict[str, tuple[Attempt, ...]]()
        known, maybe, standing = dict[str, int](), 0, ReviewerStanding()
    faults = tuple(plan_faults(plan, policy, tuple(inputs)))
    if faults:
        raise PlanError(f"the plan cannot be run: {'; '.join(faults)}", faults=faults)
    deadline_s = options.get("deadline_s")
    terms = RunTerms(
        plan, inputs, policy, run_id, runtime.options.clock,
        None if deadline_s is None else runtime.options.clock() + deadline_s, options.get("metadata"),
    )  # fmt: skip
    money = RunAllowance(_limit(options.get("max_usd")), {str(role): cost for role, cost in known.items()}, maybe)
    schedule = Schedule(plan, policy, attempts=attempts, standing=standing)
    return OpenedRun(Execution(terms, schedule, money), _concurrency(options.get("concurrency")))


def _require_planning(policy: Policy, mode: str) -> None:
    if policy.plan is None:
        raise ConfigurationError(
            f"policy {policy.name} has no plan block (add `plan: {{}}`, or use the shipped policy `planning`)"
        )
    if mode != "enforce":
        raise ConfigurationError(
            f"policy {policy.name} is in mode {mode}: a plan has no baseline that could answer (run it with mode: enforce)"
        )


def _inputs(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(text, str) for pair in given.items() for text in pair):  # pyright: ignore[reportUnknownVariableType]
        raise RequestError("inputs: must be texts by name, e.g. inputs={'report': text}")
    return dict(given)  # pyright: ignore[reportUnknownArgumentType]


def _limit(max_usd: Any) -> int | None:
    if max_usd is None:
        return None
    if isinstance(max_usd, bool) or not isinstance(max_usd, (int, float)) or not 0 < max_usd < float("inf"):
        raise RequestError(f"max_usd: {max_usd!r} must be an amount above 0, in USD")
    return int(max_usd * 1_000_000_000)


def _concurrency(given: Any) -> int:
    if given is None:
        return _CONCURRENCY
    if type(given) is not int or not 1 <= given <= 100:
        raise RequestError(f"concurrency: {given!r} must be a whole number from 1 to 100")
    return given
