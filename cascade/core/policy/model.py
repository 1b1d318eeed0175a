"""The policy: a ladder of rungs, thresholds, tasks, checks and guards, as frozen values that check their invariants.

YAML and files are `cascade.policy.loading`'s. A Policy made in code is checked like one from a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, Strict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from cascade.core.policy.base import Fault, Frozen, Name, Price, Seconds, Text, Threshold
from cascade.core.policy.certificate import Certificate, certificate_faults
from cascade.core.policy.checks import Check, review_faults
from cascade.core.policy.economy import (
    Handoff,
    HandoffKey,
    Prepare,
    PrepareKey,
    PromptCache,
    ResponseCache,
    economy_faults,
    planning_faults,
)
from cascade.core.policy.ladder import Budget, Rung, asked_as, ladder_faults, sample_faults
from cascade.core.policy.operations import Audit, Ledger, LedgerKey, Limits, Mode, Observe, Rollout, Sticky
from cascade.core.policy.planning import Planning, plan_faults
from cascade.core.policy.samples import Order, Samples
from cascade.core.policy.scorer import Scoring, scorer_faults

__all__ = [
    "OTHER",
    "Budget",
    "Certificate",
    "Check",
    "Fault",
    "Policy",
    "Price",
    "Retry",
    "Route",
    "Rung",
    "StormGuard",
    "Task",
    "Triage",
    "When",
]

OTHER = "other"
"""The task of a request that matches no task of the policy."""

_Count = Annotated[int, Strict(), Field(ge=1)]
_Words = Annotated[str, Strict(), StringConstraints(pattern=r"\S")]


def _whole(value: object) -> object:
    return value if type(value) is int else None  # True and 1.0 equal 1 in Python, but are mistakes in a policy


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, (dict, Limits)) else value


class Triage(Frozen):
    """How the rungs below the top are asked."""

    order: Order = "confidence_first"
    """In which order the model writes its confidence and answer. `steps`: brief reasoning, answer, confidence. `doubt`: its
    best alternative and what would make it wrong, answer, confidence."""
    prompt: Text | None = None
    """In a file: the name of a text file beside the policy. In code: the text itself. Default: built in."""


class When(Frozen):
    """A test on a request. Several keys in one mapping must all hold."""

    model_config = ConfigDict(populate_by_name=True)

    pattern: Text | None = None
    """A regular expression (RE2, case-blind) found in the user's text."""
    words: tuple[_Words, ...] | None = Field(default=None, min_length=1)
    """Any of these words or phrases, whole and case-blind, in the user's text."""
    min_tokens: Annotated[int, Strict(), Field(ge=0)] | None = None
    """The turns have at least this many tokens (characters / 4); the system prompt is not counted."""
    max_tokens: Annotated[int, Strict(), Field(ge=0)] | None = None
    """The turns have at most this many tokens (characters / 4); the system prompt is not counted."""
    flag: Name | None = None
    """A flag the caller gave, or the built-in `tampering`."""
    any: tuple[When, ...] | None = Field(default=None, min_length=1)
    all: tuple[When, ...] | None = Field(default=None, min_length=1)
    not_: When | None = Field(default=None, alias="not")

    @model_validator(mode="after")
    def _not_empty(self) -> When:
        if not self.model_fields_set:
            raise PydanticCustomError("empty_when", "an empty test matches nothing: give it a key, or leave `when` out")
        return self


class Task(Frozen):
    """A class of input with rules of its own."""

    name: Name
    when: When | None = None
    """Without it only a caller's `task=` selects it."""
    floor: Name | None = None
    """The lowest rung whose answer stands. One from below it is returned only if everything above fails, marked degraded."""
    ceiling: Name | None = None
    """The highest rung that is asked."""
    thresholds: dict[Name, Threshold] = Field(default_factory=dict[str, "float | None"])
    """Thresholds that replace the ladder's, by rung."""
    samples: dict[Name, Samples | None] = Field(default_factory=dict[str, "Samples | None"])
    """Samples that replace the ladder's, by rung; null: ask that rung once."""
    checks: tuple[Check, ...] = ()
    """Beside the policy's own. A review takes the place of the policy's."""
    grader: Text | None = None
    """Who grades this task's answers in the audit, in place of `audit.grader`."""
    cache: Annotated[bool, Strict()] | None = None
    """true: equal requests have equal answers, so the response cache is used (needs the policy's `cache`). false: never."""
    prepare: PrepareKey | None = None
    """In place of the policy's; `none`: nothing."""
    handoff: HandoffKey | None = None
    """In place of the policy's; `none`: nothing."""


class StormGuard(Frozen):
    """Watches each task's escalation rate at each rung. The reason for each default is in the documentation (Concepts)."""

    rate: Annotated[float, Strict(), Field(gt=0, lt=1, allow_inf_nan=False)] = 0.35
    """The rate of escalation that still counts as normal."""
    window: _Count = 500
    """Requests looked at by the windowed test."""
    min_samples: _Count = 200
    """Fewest requests for the windowed test, and for a release."""
    dwell_s: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] = 60.0
    """Stays tripped at least this long."""
    on_trip: Literal["escalate", "hold", "alert"] = "escalate"
    """escalate: the rung's answers go one rung up. hold: the climb stops below the top. alert: only says so."""
    max_trip_s: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)] = 3600.0
    """Tripped for longer than this: the limit is wrong, the action falls back to alert."""
    max_extra_usd_per_hour: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] | None = None
    """What `escalate` may add in any hour; then it falls back to alert."""

    @model_validator(mode="after")
    def _window_holds_samples(self) -> StormGuard:
        if self.min_samples > self.window:
            raise PydanticCustomError("window", "min_samples must not exceed window")
        return self


class Retry(Frozen):
    """Retrying one rung, inside the deadline of the climb."""

    attempts: Annotated[int, Strict(), Field(ge=1, le=20)] = 4
    """HTTP attempts per rung, the first one included."""
    max_wait_s: Seconds = 30.0
    """The longest wait between two attempts; also the cap on retry-after."""


@dataclass(frozen=True, slots=True)
class Route:
    """What the ladder means for one task: by rung a threshold and samples, and the indices of its floor and ceiling.

    `by_agreement`: for each rung, whether the agreement of its samples alone decides; its threshold is None then. `prepare`: what is
    done to a long conversation. `handoff`: what passes between rungs.
    """

    thresholds: tuple[float | None, ...]
    floor: int
    ceiling: int
    samples: tuple[Samples | None, ...] = ()
    by_agreement: tuple[bool, ...] = ()
    prepare: Prepare | None = None
    handoff: Handoff | None = None

    def decides(self, index: int) -> bool:
        """Whether answers of the rung at `index` may ship on their own: it has a threshold, or its samples' agreement."""
        return self.thresholds[index] is not None or self.by_agreement[index]


class Policy(Frozen):
    """A policy, version 1: what `cascade` may do with a request, and when it must climb."""

    version: Annotated[Literal[1], BeforeValidator(_whole)]
    name: Name
    ladder: tuple[Rung, ...] = Field(min_length=2, max_length=16)
    """From the cheapest model to the strongest. Claude ladders go Haiku, Sonnet, Opus."""
    triage: Triage = Triage()
    tasks: tuple[Task, ...] = Field(default=(), max_length=256)
    """The first one whose `when` holds wins; a caller's `task=` beats them all."""
    checks: tuple[Check, ...] = (Check(not_empty=True),)
    """What every answer must pass. `not_empty` is in force live even where it is not listed."""
    storm_guard: StormGuard | None = None
    """Off when absent."""
    retry: Retry = Retry()
    deadline_s: Seconds = 120.0
    """Of the whole climb."""
    exhausted: Literal["ship", "abstain"] = "ship"
    """No answer may ship: raise AllRungsFailed (ship), or return an Answer without text (abstain)."""
    certificate: Certificate | None = None
    """Written by calibrate: what was proved of these thresholds, and for what it holds."""
    scorer: dict[Name, Scoring] | None = Field(default=None, min_length=1)
    """By rung: a score that takes the place of its self-reported confidence. Written by `calibrate --scorer`."""
    baseline: Name | None = None
    """The rung or model that would answer without cascade. Default: the top rung."""
    mode: Mode = "enforce"
    """off (the baseline answers), observe (it answers, a sample is put to the ladder) or enforce. Changed at run time by
    `cascade mode` and CASCADE_MODE."""
    observe: Observe = Observe()
    rollout: Rollout | None = None
    """Default: all of the traffic climbs."""
    ledger: LedgerKey = Ledger()
    """`off`, or what is kept."""
    budget: Annotated[tuple[Limits, ...], BeforeValidator(_one_or_more)] = Field(default=(), max_length=32)
    """One budget, or a list: a call must have room in every one that applies."""
    audit: Audit | None = None
    """Grade a sample of what was shipped, and notice when it gets worse. Off when absent."""
    sticky: Sticky | None = None
    """After a climb, a floor for the next turns of the conversation. Off when absent."""
    early_stop: Annotated[bool, Strict()] = False
    """Close a reply's stream at its first tokens where its confidence escalates: the rest of its tokens and time are saved.
    A closed reply is never held: if the rungs above fail, there is no lower answer. One that ships is decided there too: if it
    ends truncated or malformed, it ships degraded and does not climb. Streams to the caller do all this in any case. No
    effect with a `triage.order` other than confidence_first, with a scorer, and at rungs with samples."""
    cache: ResponseCache | None = None
    """Return earlier answers to equal requests. Off when absent."""
    prompt_cache: PromptCache = "off"
    """auto: use the API's cache for the beginnings of prompts (system, tools, history) that come again soon enough."""
    prepare: PrepareKey | None = None
    """`none` (default), `summarize` or `{trim: {…}}`: what is done to a long conversation before a rung is asked."""
    handoff: HandoffKey | None = None
    """`none` (default): each rung is asked the original request. `doubt`: it is told why the rung below did not ship. `artifact`: it
    writes a short plan, and a cheaper rung answers by it."""
    plan: Planning | None = None
    """`cascade.plan` and `cascade.run` split a goal into subtasks. Off when absent."""
    bypass: Literal["baseline"] | None = None
    """baseline: a request that cannot climb goes to the baseline unchanged, and the answer says so. Default: it is refused."""

    @model_validator(mode="after")
    def _invariants(self) -> Policy:
        faults = tuple(_faults(self))
        if faults:
            faults[0].others = faults[1:]
            raise faults[0]
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without what was computed from the values before they changed."""
        made = super().model_copy(update=update, deep=deep)
        for computed in ("hash", "_routes"):
            vars(made).pop(computed, None)
        return made

    @property
    def top(self) -> int:
        """The index of the last rung."""
        return len(self.ladder) - 1

    @cached_property
    def panel(self) -> tuple[Rung, ...]:
        """The other models that vote at rungs of the ladder, each once for its endpoint, as the rung that they are asked for."""
        rungs = {rung.rung: rung for rung in self.ladder}
        samples = [(rung, rung.samples) for rung in self.ladder]
        samples += [(rungs[name], own) for task in self.tasks for name, own in task.samples.items()]
        voters = [
            asked_as(rung, variant) for rung, own in samples if own is not None for variant in own.variants if variant.model
        ]  # fmt: skip
        distinct = {
            (voter.model, voter.base_url, voter.api_key_env, voter.provider): voter for voter in reversed(voters)
        }
        return tuple(distinct.values())[::-1]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all values of the policy, in hexadecimal."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()

    @cached_property
    def _routes(self) -> dict[str, Route]:
        index = {rung.rung: number for number, rung in enumerate(self.ladder)}
        routes = {OTHER: self._route_of(None, 0, self.top)}
        for task in self.tasks:
            floor, ceiling = index[task.floor] if task.floor else 0, index[task.ceiling] if task.ceiling else self.top
            routes[task.name] = self._route_of(task, floor, ceiling)
        return routes

    def _route_of(self, task: Task | None, floor: int, ceiling: int) -> Route:
        thresholds = task.thresholds if task else {}
        samples = tuple((task.samples if task else {}).get(rung.rung, rung.samples) for rung in self.ladder)
        return Route(
            tuple(thresholds.get(rung.rung, rung.threshold) for rung in self.ladder),
            floor,
            ceiling,
            samples,
            tuple(
                own is not None and "threshold" not in rung.model_fields_set and rung.rung not in thresholds
                for rung, own in zip(self.ladder, samples, strict=True)
            ),
            task.prepare if task is not None and task.prepare is not None else self.prepare,
            task.handoff if task is not None and task.handoff is not None else self.handoff,
        )

    def route(self, task: str) -> Route:
        """The thresholds, floor and ceiling for `task`; those of `other` for a task that the policy does not list."""
        routes = self._routes
        return routes.get(task) or routes[OTHER]


def _faults(policy: Policy) -> Iterator[Fault]:
    """The broken invariants of a policy, in the order of the file."""
    yield from ladder_faults(policy.ladder)
    names = [rung.rung for rung in policy.ladder]
    yield from _task_faults(policy, names)
    yield from review_faults(("checks",), policy.checks, names)
    yield from _audit_faults(policy, names)
    yield from certificate_faults(policy.certificate, names[:-1], {task.name for task in policy.tasks})
    yield from scorer_faults(policy.scorer or {}, names)
    yield from plan_faults(policy.plan, names)
    sampled = {rung.rung: rung.samples is not None for rung in policy.ladder}
    yield from economy_faults((), policy.prepare, policy.handoff, names)
    yield from planning_faults((), policy.handoff, sampled)
    for number, task in enumerate(policy.tasks):
        at, own = ("tasks", number), {name: samples is not None for name, samples in task.samples.items()}
        yield from economy_faults(at, task.prepare, task.handoff, names)
        yield from planning_faults(at, task.handoff or (policy.handoff if own else None), sampled | own)
        if task.cache and policy.cache is None:
            problem = "the policy has no response cache"
            yield Fault(("tasks", number, "cache"), problem, "add `cache: {}` to the policy, or remove it")


def _audit_faults(policy: Policy, names: list[str]) -> Iterator[Fault]:
    audit = policy.audit
    if audit is None:
        return
    if not policy.ledger.enabled:
        hint = "remove `ledger: off`, or the audit"
        yield Fault(("audit",), "an audit needs the ledger: it is where the sampled requests wait", hint)
    if audit.judge is not None and audit.judge not in names:
        yield Fault(
            ("audit", "judge"), f"there is no rung {audit.judge!r} on the ladder", f"use one of {', '.join(names)}"
        )


def _task_faults(policy: Policy, names: list[str]) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, task in enumerate(policy.tasks):
        at = ("tasks", number)
        if task.name in seen:
            yield Fault((*at, "name"), f"task {task.name!r} is there twice", "merge the two, or rename one")
        seen.add(task.name)
        for key, rung in (("floor", task.floor), ("ceiling", task.ceiling)):
            if rung is not None and rung not in names:
                yield Fault((*at, key), f"there is no rung {rung!r} on the ladder", f"use one of {', '.join(names)}")
        for rung in task.thresholds:
            if rung not in names:
                hint = f"use one of {', '.join(names[:-1])}"
                yield Fault((*at, "thresholds", rung), f"there is no rung {rung!r} on the ladder", hint)
            elif rung == names[-1]:
                problem = "the last rung has no threshold: it answers plainly"
                yield Fault((*at, "thresholds", rung), problem, "remove it")
        yield from _task_sample_faults(policy, at, task, names)
        yield from review_faults((*at, "checks"), task.checks, names)
        if task.floor in names and task.ceiling in names and names.index(task.floor) > names.index(task.ceiling):
            yield Fault((*at, "ceiling"), "the ceiling is below the floor", "raise the ceiling or lower the floor")


def _task_sample_faults(policy: Policy, at: tuple[str | int, ...], task: Task, names: list[str]) -> Iterator[Fault]:
    for name, samples in task.samples.items():
        here = (*at, "samples", name)
        if name not in names:
            yield Fault(here, f"there is no rung {name!r} on the ladder", f"use one of {', '.join(names[:-1])}")
            continue
        if name == names[-1]:
            yield Fault(here, "the last rung has no samples: its one answer ships", "remove them")
            continue
        rung = policy.ladder[names.index(name)]
        if samples is not None:
            yield from sample_faults(here, rung, samples)
        elif "threshold" not in rung.model_fields_set and name not in task.thresholds:
            problem = f"without samples rung {name!r} needs a threshold"
            yield Fault(here, problem, f"add thresholds: {{{name}: 0.80}} to the task")
