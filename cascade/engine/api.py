"""`ask`, `plan`, `run`, their async twins and `reload`, on drivers that the process keeps between calls; and `report_outcome`, which needs none."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack, overload

from cascade.core.policy import Policy
from cascade.core.trail import Answer
from cascade.engine.arguments import AskOptions, Prompt, default_policy, lists_options
from cascade.engine.drivers import AsyncCascade, Cascade
from cascade.engine.outcomes import read_outcome, report_to
from cascade.forks import renew_in_children

if TYPE_CHECKING:
    from cascade.core.planning.graph import Plan
    from cascade.core.planning.result import Result
    from cascade.engine.planning import PlanOptions, RunOptions

__all__ = [
    "PolicyLike",
    "aask",
    "aplan",
    "arun",
    "ask",
    "plan",
    "reload",
    "report_outcome",
    "run",
    "shared_driver",
]

PolicyLike: TypeAlias = Policy | str | Path | None
_Data = TypeVar("_Data")
_Driver = TypeVar("_Driver", Cascade, AsyncCascade)


class _Shared:
    """The process's drivers, one per policy, so that connections and storm guards outlive the single call."""

    _MAX_DRIVERS = 16

    def __init__(self) -> None:
        self._drivers: dict[tuple[type[Cascade | AsyncCascade], str], Any] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def driver(self, kind: type[_Driver], policy: PolicyLike) -> _Driver:
        """The driver for a policy, made at its first use. Above the maximum the least recently used one is dropped."""
        chosen = default_policy() if policy is None else policy
        key = (kind, chosen.hash if isinstance(chosen, Policy) else repr(chosen))
        with self._lock:
            driver = self._drivers.pop(key, None)
            if driver is None:
                driver = kind(chosen)  # type: ignore[call-arg]
                while len(self._drivers) >= self._MAX_DRIVERS:  # its connections close when its last request ends
                    self._drivers.pop(next(iter(self._drivers)))
            self._drivers[key] = driver
            return driver

    def forget(self) -> None:
        """Drop all drivers. Running requests keep theirs."""
        with self._lock:
            self._drivers = {}


_shared = _Shared()


def shared_driver(kind: type[_Driver], policy: PolicyLike) -> _Driver:
    """The driver of this kind for a policy, which the process keeps between calls."""
    return _shared.driver(kind, policy)


@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: None = None, **options: Unpack[AskOptions]
) -> Answer[None]: ...
@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: type[_Data] | None, **options: Unpack[AskOptions]
) -> Answer[_Data]: ...
@overload
def ask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: object, **options: Unpack[AskOptions]
) -> Answer[Any]: ...
@lists_options
def ask(
    prompt: Prompt = "", *, policy: PolicyLike = None, response_model: Any = None, **options: Unpack[AskOptions]
) -> Answer[Any]:
    """Answer one request with the cheapest model that can be trusted with it.

    `prompt`: a string, or a list of messages as `messages.create` takes it.
    `policy`: a Policy, a path, or a shipped name (default: `CASCADE_POLICY`, else "default"). It is loaded once per
    process, as are the API key and `ANTHROPIC_BASE_URL`; `cascade.reload()` reads them again.
    `response_model`: a type that pydantic can validate; the answer's `data` is an instance of it.
    `system`: your system prompt, a string or text blocks. It stays first and unchanged.
    `task`: the request's task, if you know it.
    `checks`: functions that get the answer's text and return True if it passes, in addition to the policy's checks.
    `flags`: names that the policy's signals can test.
    `metadata`: strings by name. They stay on the answer and in the ledger, and budgets and rollouts can use them.
    `user_id` is also sent to the API as its `metadata.user_id`, so use an opaque id, not a name or an address. The rest
    is not sent to the API.
    `max_tokens`: limits the answer, in place of the rung's own.
    `cache`: True: an earlier answer to an equal request may be returned, and this one is kept for that, if the policy has
    `cache`. False: neither. Left out: as the policy says.
    `session`: the name of a conversation. Every rung is told what `cascade.run` decided in it before, by the same policy and for the same
    metadata `key`, `user_id` and `customer`; a policy's `sticky` may go by it, too. Choose a name that nobody else has.
    `deadline_s`: seconds for the whole climb, in place of the policy's. It starts once the SDK is imported and the clients
    are made: the first request of a process takes a second or two longer (`Cascade.prepare` does that in advance).

    Raises RequestError, PolicyError or MissingKey before anything is paid. RequestError also names what to use in place of
    an unknown keyword. Raises UpstreamRejected, AllRungsFailed, BudgetExceeded or DeadlineExceeded with the trail of what
    was tried and paid. In asyncio use `aask`: this function blocks the loop.
    """
    return _shared.driver(Cascade, policy).ask(prompt, response_model=response_model, **options)


@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: None = None, **options: Unpack[AskOptions]
) -> Answer[None]: ...
@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: type[_Data] | None, **options: Unpack[AskOptions]
) -> Answer[_Data]: ...
@overload
async def aask(
    prompt: Prompt, *, policy: PolicyLike = None, response_model: object, **options: Unpack[AskOptions]
) -> Answer[Any]: ...
@lists_options
async def aask(
    prompt: Prompt = "", *, policy: PolicyLike = None, response_model: Any = None, **options: Unpack[AskOptions]
) -> Answer[Any]:
    """`ask` for asyncio: the same arguments and errors."""
    return await _shared.driver(AsyncCascade, policy).ask(prompt, response_model=response_model, **options)


def plan(goal: str, *, policy: PolicyLike = None, **options: Unpack[PlanOptions]) -> Plan:
    """Have a rung plan a goal: subtasks, what each rests on, and the rung that each is assigned. Nothing of it is run yet.

    `inputs`: what the work is about, texts by name. The planner sees their names, lengths and beginnings; the executors whole
    texts, by reference. `max_usd`, `deadline_s`: for planning. `metadata`: as of `ask`. `session`: what was decided in this
    conversation before is shown to the planner.

    Raises RequestError, PolicyError, ConfigurationError or MissingKey before anything is paid; PlanError if the planner made no plan
    that can be run, even after it was told what is wrong; BudgetExceeded, DeadlineExceeded, UpstreamRejected.
    """
    return _shared.driver(Cascade, policy).plan(goal, **options)


async def aplan(goal: str, *, policy: PolicyLike = None, **options: Unpack[PlanOptions]) -> Plan:
    """`plan` for asyncio: the same arguments and errors."""
    return await _shared.driver(AsyncCascade, policy).plan(goal, **options)


def run(plan: Plan | Result | str, *, policy: PolicyLike = None, **options: Unpack[RunOptions]) -> Result:
    """Run a plan; of a goal, plan it first. A Result that was stopped is taken up again.

    Each subtask climbs the ladder from the first rung; the one it is assigned is the lowest whose answer stands. What its executor is
    unsure of, and a share of the rest, is read by a reviewer, and made again one rung up if that says so.

    `inputs`: texts by name, which the plan refers to.
    `run`: a name under which the run is kept on the disk, with its inputs and results, in `CASCADE_HOME/runs`. The same name takes it up
    again, whatever ended it: what had ended is not paid again, and what had failed without cost is tried again.
    `max_usd`: what the whole run may spend, in all its lives. `deadline_s`: seconds for this one.
    `concurrency`: requests at a time (8). `metadata`: as of `ask`, for every request.
    `session`: a conversation. The run is shown what was decided in it before, and what it decides is kept for it.

    What becomes of a subtask is in the Result, failures too. Raises what `plan` raises, before the first subtask is run.
    """
    return _shared.driver(Cascade, policy).run(plan, **options)


async def arun(plan: Plan | Result | str, *, policy: PolicyLike = None, **options: Unpack[RunOptions]) -> Result:
    """`run` for asyncio: the same arguments and errors."""
    return await _shared.driver(AsyncCascade, policy).run(plan, **options)


def reload() -> None:
    """Make the next `ask` and `aask` read their policy files and the environment again.

    Running requests are not affected. The storm guard and other state in memory start again, from the ledger if there is
    one. A `Cascade` of your own is not affected: make a new one. Modules named by checks are not imported again.
    """
    _shared.forget()


def report_outcome(
    request_id: str, right: bool | float, *, note: str | None = None, ledger: str | Path | None = None
) -> None:
    """Report whether an answer was right, once you know: it was corrected, its ticket was opened again, its test passed.

    `request_id`: the answer's own. `right`: True, False, or a number from 0 (wrong) to 1 (right). The audit believes it before
    any grader; the newest report on an answer counts. `note`: why, in words; it is kept if the ledger holds the request's
    texts. `ledger`: the address of the ledger that the request is on (default: `CASCADE_LEDGER`, else the file under
    `CASCADE_HOME`).

    Raises RequestError for an invalid argument, ConfigurationError if the ledger is off, LedgerError if there is none or it cannot be
    written.
    """
    report_to(read_outcome(request_id, right, note, at=time.time()), None if ledger is None else str(ledger))
