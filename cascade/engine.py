"""The live drivers: `Cascade` and `AsyncCascade`, two short loops around one climb, and the `ask` that opens one.

ask → load policy → signals → climb ⇄ claude → answer
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cascade.certificates import warn_of_changes
from cascade.checks import CallerCheck, bind_callables
from cascade.claude import AsyncClaude, Claude, schema_of
from cascade.core.climb import Ask, Climb, Observation, climb
from cascade.core.decision import Situation
from cascade.core.errors import RequestError
from cascade.core.ladder import LONGEST_S
from cascade.core.messages import Block, Failure, Reply, Request, read_messages
from cascade.core.policy import OTHER, Policy
from cascade.core.trail import Answer
from cascade.core.triage import build_prompt
from cascade.forks import renew_in_children
from cascade.loading import load_policy
from cascade.plans import make_plan
from cascade.state.guard import MemoryGuard

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["AsyncCascade", "Cascade", "Prompt", "aask", "ask", "default_policy"]

Prompt = str | Sequence[Block]
"""A text, or a list of messages in the Messages API's shape (images and documents are passed through)."""


def default_policy() -> str:
    """The policy used where none is named: `CASCADE_POLICY`, else "default"."""
    return os.environ.get("CASCADE_POLICY") or "default"


_MOST_TOLD = 1024  # unknown tasks; a caller who names one a customer must not fill the memory


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments of one `ask`, as they came."""

    prompt: Prompt
    system: str | Sequence[Block] | None
    task: str | None
    response_model: type[BaseModel] | None
    checks: Sequence[CallerCheck]
    flags: Sequence[str]
    metadata: Mapping[str, str] | None
    max_tokens: int | None

    def request(self) -> Request:
        """The request they make; RequestError where they do not make one."""
        if self.system is not None and not isinstance(self.system, (str, list, tuple)):
            raise RequestError(f"system: a text or a list of text blocks is needed, not {type(self.system).__name__}")
        if isinstance(self.flags, str):
            raise RequestError(f"flags: a list of names is needed, e.g. flags=[{self.flags!r}]")
        if self.max_tokens is not None and type(self.max_tokens) is not int:
            raise RequestError(f"max_tokens: a whole number is needed, not {type(self.max_tokens).__name__}")
        if self.response_model is not None and not hasattr(self.response_model, "model_validate_json"):
            raise RequestError("response_model: a pydantic class is needed (a subclass of pydantic.BaseModel)")
        return Request(
            messages=read_messages(self.prompt),
            system=tuple(self.system) if isinstance(self.system, (list, tuple)) else self.system,
            task=self.task,
            flags=frozenset(self.flags),
            schema=_schema(self.response_model) if self.response_model is not None else None,
            max_tokens=self.max_tokens,
            metadata=dict(self.metadata or {}),
            id=f"casc_{uuid.uuid4().hex}",
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """One request on its way: its climb, and when its time is out."""

    climb: Climb
    request: Request
    started: float
    time_out_at: float


class _Base:
    """What the two drivers share: the plan, the guard and the clock. Nothing here talks to a model."""

    def __init__(
        self, policy: Policy | str | Path | None, clock: Callable[[], float], chance: random.Random | None
    ) -> None:
        chosen = default_policy() if policy is None else policy
        self.policy = chosen if isinstance(chosen, Policy) else load_policy(chosen)
        self._plan = make_plan(self.policy)
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._told: set[str] = set()
        self._guard = MemoryGuard(self.policy.name, self.policy.storm_guard, clock, self._plan.escalation)
        warn_of_changes(self.policy, self._plan.stale)

    def _start(self, asked: _Asked, request: Request, deadline_s: float | None) -> _Job:
        started = self._clock()
        running = climb(
            self._plan,
            request,
            checks=bind_callables(asked.checks),
            accept=asked.response_model.model_validate_json if asked.response_model is not None else None,
        )
        return _Job(running, request, started, started + (deadline_s or self.policy.deadline_s))

    def _read(self, asked: _Asked, deadline_s: float | None) -> Request:
        """What is asked; RequestError where it cannot be."""
        if deadline_s is not None:
            number = isinstance(deadline_s, (int, float)) and not isinstance(deadline_s, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
            if not number or not 0 < deadline_s <= LONGEST_S:
                raise RequestError(f"deadline_s: {deadline_s!r} is not a number of seconds, above 0 and up to a day")
        self._look_up(asked.task)
        return asked.request()

    def _look_up(self, task: str | None) -> None:
        """Say once of a task that the policy has nothing for it: it may be a label, or a typo that loses a floor."""
        if (
            task is None
            or not self.policy.tasks
            or task == OTHER
            or task in self._told
            or len(self._told) >= _MOST_TOLD
        ):
            return
        self._told.add(task)
        names = [known.name for known in self.policy.tasks]
        if task not in names:
            import structlog  # noqa: PLC0415 - rarely needed, and not free to import

            meant = get_close_matches(task, names, n=1)
            hint = {"did_you_mean": meant[0]} if meant else {}
            structlog.get_logger("cascade").warning("task_unknown", policy=self.policy.name, task=task, **hint)

    def _time_out_at(self, job: _Job, ask: Ask) -> float:
        """When this rung must be done: the rungs above one that hangs must have half of the time left to them."""
        if ask.index == self.policy.top:
            return job.time_out_at
        now = self._clock()
        return now + (job.time_out_at - now) / 2

    def _situation(self, job: _Job, observation: Observation) -> Situation:
        action = self._guard.observe(observation)
        storm = None if action == "alert" else action
        return Situation(storm, "deadline" if self._clock() >= job.time_out_at else None)

    def _finish(self, job: _Job, answer: Answer) -> Answer:
        return replace(answer, latency_s=self._clock() - job.started)


class Cascade(_Base):
    """A policy at work: `ask` answers a request with the cheapest rung that can be trusted with it.

    `policy`: a Policy, a path, or a shipped policy's name. `client`: any sync client of the SDK; without one, one is
    made from the environment (`ANTHROPIC_API_KEY`) at the first request. Safe to share between threads; also a context
    manager. Raises PolicyError where the policy cannot be used.
    """

    def __init__(
        self,
        policy: Policy | str | Path | None = None,
        *,
        client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        super().__init__(policy, clock, chance)
        self._claude = Claude(self.policy.retry, client, clock=self._clock, chance=self._chance)

    def ask(  # noqa: PLR0913 - the public contract
        self,
        prompt: Prompt,
        *,
        system: str | Sequence[Block] | None = None,
        task: str | None = None,
        response_model: type[BaseModel] | None = None,
        checks: Sequence[CallerCheck] = (),
        flags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """Answer one request; the arguments and errors of `cascade.ask`."""
        asked = _Asked(prompt, system, task, response_model, checks, flags, metadata, max_tokens)
        request = self._read(asked, deadline_s)
        self._claude.prepare(self.policy.ladder)
        job = self._start(asked, request, deadline_s)
        steps = job.climb
        with closing(steps):
            try:
                wanted = next(steps)
                while True:
                    if isinstance(wanted, Ask):
                        wanted = steps.send(self._call(job, wanted))
                    else:
                        wanted = steps.send(self._situation(job, wanted))
            except StopIteration as done:
                return self._finish(job, done.value)

    def _call(self, job: _Job, wanted: Ask) -> Reply | Failure:
        return self._claude.call(build_prompt(self.policy, wanted.index, job.request), self._time_out_at(job, wanted))

    def close(self) -> None:
        """Close the connections made here. A client that was given stays open."""
        self._claude.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCascade(_Base):
    """`Cascade` for asyncio: the same arguments, the same rule, awaited. One client per event loop.

    `checks` are plain functions and run on the loop.
    """

    def __init__(
        self,
        policy: Policy | str | Path | None = None,
        *,
        client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        super().__init__(policy, clock, chance)
        self._claude = AsyncClaude(self.policy.retry, client, clock=self._clock, chance=self._chance)

    async def ask(  # noqa: PLR0913 - the public contract
        self,
        prompt: Prompt,
        *,
        system: str | Sequence[Block] | None = None,
        task: str | None = None,
        response_model: type[BaseModel] | None = None,
        checks: Sequence[CallerCheck] = (),
        flags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """Answer one request; the arguments and errors of `cascade.ask`."""
        asked = _Asked(prompt, system, task, response_model, checks, flags, metadata, max_tokens)
        request = self._read(asked, deadline_s)
        await self._claude.prepare(self.policy.ladder)
        job = self._start(asked, request, deadline_s)
        steps = job.climb
        with closing(steps):
            try:
                wanted = next(steps)
                while True:
                    if isinstance(wanted, Ask):
                        wanted = steps.send(await self._call(job, wanted))
                    else:
                        wanted = steps.send(self._situation(job, wanted))
            except StopIteration as done:
                return self._finish(job, done.value)

    async def _call(self, job: _Job, wanted: Ask) -> Reply | Failure:
        prompt = build_prompt(self.policy, wanted.index, job.request)
        return await self._claude.call(prompt, self._time_out_at(job, wanted))

    async def aclose(self) -> None:
        """Close the connections made here for the running loop. A client that was given stays open."""
        await self._claude.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


_Driver = TypeVar("_Driver", bound=_Base)


class _Shared:
    """The process's drivers, one a policy: their connections and their storm guards outlive the single call."""

    _MOST = 16

    def __init__(self) -> None:
        self._drivers: dict[tuple[type[_Base], str], Any] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def driver(self, kind: type[_Driver], policy: Policy | str | Path | None) -> _Driver:
        """The driver for a policy, made when first asked for; the one least lately used goes when there are too many."""
        chosen = default_policy() if policy is None else policy
        key = (kind, chosen.hash if isinstance(chosen, Policy) else repr(chosen))
        with self._lock:
            driver = self._drivers.pop(key, None)
            if driver is None:
                driver = kind(chosen)  # type: ignore[call-arg]
                while len(self._drivers) >= self._MOST:  # its connections close with its last user
                    self._drivers.pop(next(iter(self._drivers)))
            self._drivers[key] = driver
            return driver


_shared = _Shared()


def ask(  # noqa: PLR0913 - the public contract
    prompt: Prompt,
    *,
    system: str | Sequence[Block] | None = None,
    task: str | None = None,
    policy: Policy | str | Path | None = None,
    response_model: type[BaseModel] | None = None,
    checks: Sequence[CallerCheck] = (),
    flags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    deadline_s: float | None = None,
) -> Answer:
    """Answer one request with the cheapest model that can be trusted with it.

    `prompt`: a text or a list of messages. `system`: your system prompt; it stays first and unchanged. `task`: the
    class of input, where you know it. `policy`: a Policy, a path, or a shipped name (default: `CASCADE_POLICY`, else
    "default"); loaded once a process. `response_model`: a pydantic class; the answer's `data` is an instance of it.
    `checks`: functions of the answer's text that return True where it passes, beside the policy's. `flags`: names for
    the policy's signals. `metadata`: names for your books; it stays on the answer. `max_tokens`: bounds the answer, in
    place of the rung's own. `deadline_s`: for the whole climb, in place of the policy's.

    Raises RequestError, PolicyError or MissingKey before anything is paid; UpstreamRejected, AllRungsFailed or
    DeadlineExceeded with the trail of what was tried and paid.
    """
    return _shared.driver(Cascade, policy).ask(
        prompt,
        system=system,
        task=task,
        response_model=response_model,
        checks=checks,
        flags=flags,
        metadata=metadata,
        max_tokens=max_tokens,
        deadline_s=deadline_s,
    )


async def aask(  # noqa: PLR0913 - the public contract
    prompt: Prompt,
    *,
    system: str | Sequence[Block] | None = None,
    task: str | None = None,
    policy: Policy | str | Path | None = None,
    response_model: type[BaseModel] | None = None,
    checks: Sequence[CallerCheck] = (),
    flags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    deadline_s: float | None = None,
) -> Answer:
    """`ask` for asyncio."""
    return await _shared.driver(AsyncCascade, policy).ask(
        prompt,
        system=system,
        task=task,
        response_model=response_model,
        checks=checks,
        flags=flags,
        metadata=metadata,
        max_tokens=max_tokens,
        deadline_s=deadline_s,
    )


@lru_cache(maxsize=128)
def _schema(response_model: type[BaseModel]) -> dict[str, Any]:
    return schema_of(response_model)
