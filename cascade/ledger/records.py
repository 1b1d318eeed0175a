"""What the ledger stores: entries of four kinds, chained per writer, and sums of them.

An entry is (writer, seq, at, kind, request, body, digest). `body` is one of the structs below as JSON. Its bytes are stored as
written, because `digest` covers them and the previous digest (`chain`). A body never holds text, only its salted digest; the text
itself is stored separately (`content`) and can be removed without breaking the chain.

    request   once, before its first call (`commit`) or with its first step (`batched`)
    open      only with `durability: commit`: a call is about to be made. It has no step until it is settled.
    step      a call's result, and the reason if it was escalated; one for each call of a rung that is asked more than once
    outcome   once: who answered, and the total cost
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from cascade.core.modes import NO_SLOT
from cascade.ledger.naming import call_number, handed_part, text_part

__all__ = [
    "ASKED_PART",
    "AUXILIARY",
    "BUCKET_S",
    "DAY_S",
    "MISSED_SLOT",
    "NO_SLOT",
    "REVIEW_BY",
    "Anchor",
    "AuditRow",
    "Batch",
    "Content",
    "Entry",
    "HandedBody",
    "Kind",
    "OpenBody",
    "OpenCall",
    "OutcomeBody",
    "PlanBody",
    "RequestBody",
    "Row",
    "SpendKey",
    "StepBody",
    "TrafficKey",
    "VoteBody",
]

Kind = Literal["request", "open", "step", "outcome"]

BUCKET_S = 900
"""Sums are kept per quarter of an hour, because midnight in every time zone falls on one."""

DAY_S = 86_400
"""Sums are kept per day (UTC) too, so that long periods are quick to read."""


class PlanBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Which part of a run a request is, as in `core.planning.part.Part`; its role is the request's arm, its kind the task."""

    run: str
    subtask: str = ""
    assigned: str = ""
    attempt: int = 0
    control: str | None = None


class RequestBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A request. `prompt_hash`: SHA-256 of system prompt and messages. `content`: digests of the stored texts, by part.

    `prompts`: the versions of the words that it may have been asked in, by role (`core.prompts`). `plan`: which part of a run it is.
    """

    policy: str
    policy_hash: str
    prompt_hash: str
    task: str
    arm: str
    metadata: dict[str, str] = {}
    flags: list[str] = []
    content: dict[str, str] = {}
    observed_as: str | None = None
    prompts: dict[str, str] = {}
    plan: PlanBody | None = None


ASKED_PART = "asked"
"""The name of what a request asked for beside its prompt (`Content`)."""

REVIEW_BY = "review by "
"""Reviews are summed apart, under this and the reviewing rung's name. No rung has such a name: it has spaces."""

AUXILIARY = "auxiliary "
"""Auxiliary calls are summed apart, under this and their kind."""

MISSED_SLOT = -2
"""In sums, the slot of the requests that asked the response cache in vain."""


class OpenBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A call that is about to be made. `bound`: the most it may cost, in nano-USD (0: not computed). `call`: see `StepBody`."""

    index: int
    rung: str
    model: str
    bound: int = 0
    call: int = 0

    @property
    def number(self) -> int:
        """Its number within the request."""
        return call_number(self.index, self.call)


class VoteBody(msgspec.Struct, frozen=True, gc=False):
    """How a rung's samples agreed: `agree` were needed of at most `max`, `asked` were asked, `members` are those that agree.

    `confidence`, `source`: the step's, which a threshold was held against.
    """

    agree: int
    max: int
    asked: int
    members: list[int]
    confidence: float | None = None
    source: str | None = None

    @property
    def agreed(self) -> int:
        """How many samples agree."""
        return len(self.members)


class HandedBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What passed between rungs at a step, as in `core.prepared.Handed`. `content`: the plan's digest."""

    kind: str
    version: str
    executed_by: str | None = None
    model: str | None = None
    content: str | None = None


class StepBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A call's result. `cost` in nano-USD; tokens as in `core.messages.Usage`; `content`: the answer's digest.

    `is_estimate`: the endpoint did not report all tokens; tokens and cost are upper bounds. For a rung that is asked more
    than once there is one for each call. `call`: the call's number within the step, from 0; `sample`: the sample's;
    `judge`: not a sample, but the call that grouped the answers before it; `more`: not the last call of its step. Only the
    last has the step's `reason` and `vote`. All of them are defaults for a rung that is asked once.
    `review`: the call of a rung above that reviewed the step's answer, `variant` names that rung. `auxiliary`: a call beside the rung's
    own, by its kind, see `core.prepared`; `variant` names the rung that was asked. Both are `more` too, and follow the entry that
    completes the step, unless an auxiliary call came before the step's own. On the entry that completes the step: `prepared`, how the
    conversation was shortened, as `core.prepared.Prepared`, and `handed`, what passed between rungs.
    """

    index: int
    rung: str
    model: str
    verdict: str
    cost: int
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    thinking_tokens: int = 0
    confidence: float | None = None
    source: str | None = None
    self_reported: float | None = None
    reason: str | None = None
    failed_checks: list[str] = []
    detail: str = ""
    repaired: bool = False
    attempts: int = 1
    latency_ms: float = 0.0
    upstream_id: str | None = None
    content: str | None = None
    is_estimate: bool = False
    call: int = 0
    sample: int | None = None
    variant: str | None = None
    judge: bool = False
    more: bool = False
    vote: VoteBody | None = None
    review: bool = False
    auxiliary: str | None = None
    prepared: dict[str, Any] | None = None
    handed: HandedBody | None = None

    @property
    def number(self) -> int:
        """The call's number within the request."""
        return call_number(self.index, self.call)

    @property
    def summed_as(self) -> str:
        """The rung that the sums count the call under. Reviews are counted apart, by their reviewer, and auxiliary calls, by their kind."""
        if self.auxiliary is not None:
            return f"{AUXILIARY}{self.auxiliary}"
        return f"{REVIEW_BY}{(self.variant or '').removeprefix('review:')}" if self.review else self.rung

    @property
    def in_vote(self) -> bool:
        """Whether it is one of several calls of its step."""
        return self.sample is not None or self.judge or self.review or self.auxiliary is not None

    @property
    def part(self) -> str:
        """The name of its text."""
        return text_part(self.index, self.call if self.in_vote else None)

    @property
    def digests(self) -> dict[str, str]:
        """The digests of its texts, by their names."""
        own = {} if self.content is None else {self.part: self.content}
        if self.handed is not None and self.handed.content is not None:
            own[handed_part(self.index)] = self.handed.content
        return own


class OutcomeBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a request ended. `error`: the error's class. `resolved`: there is an answer, and it is not degraded.

    `cost` includes samples whose step was not completed, `steps` does not. `estimate`: what the baseline alone would have cost (nano-USD), from the tokens seen; None if the baseline answered.
    It is 0 for a climb that repeats a subtask of a plan. Of the arm "cache", whose `cost` and `steps` are 0, it is what the climb had cost that made the answer, and so what was saved.
    `cache`: "hit" or "miss" where the response cache was used. `slot`: see `core.modes`. `asked`: digest of the stored text of that part.
    `assessment`: what an executor says of its own result: high, medium or low. `review`: what a reviewer says: accept, retry, escalate, or
    unusable.
    """

    arm: str
    cost: int
    steps: int
    latency_ms: float
    rung: str | None = None
    model: str | None = None
    confidence: float | None = None
    source: str | None = None
    degraded: str | None = None
    abstained: str | None = None
    error: str | None = None
    resolved: bool = False
    certificate: str = "uncertified"
    estimate: int | None = None
    slot: int = 0
    asked: str | None = None
    cache: str | None = None
    assessment: str | None = None
    review: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry. `id`: its number in the order of storing; `at`: Unix seconds."""

    id: int
    writer: str
    seq: int
    at: float
    kind: Kind
    request: str
    body: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """What `ledger prune` left of a writer's chain: `entries` of them are gone, the last of them `seq`, which had this digest.

    `ends`: they were older than this (Unix seconds). `kept`: older entries than `seq` that were left, each with the digest of the one before
    it (empty: there was none).
    """

    seq: int
    digest: bytes
    entries: int
    ends: float
    kept: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Content:
    """A stored text. `part`: "prompt" (JSON of system and messages), "step:0" … (an answer's text: `text_part`), "handed:1" …, or "asked".

    "handed:1" is the plan that the rung at 1 wrote, as JSON (`handed_part`). "asked" is there for a request that will be audited, if the caller set any of it: JSON of schema, prompt_schema, max_tokens, tools,
    tool_choice, stop_sequences, and what `extra` and `top_extra` say of sampling and thinking. It is not redacted.
    """

    request: str
    part: str
    at: float
    salt: bytes
    text: str


class SpendKey(NamedTuple):
    """What steps are summed by. A tuple, because one is made and looked up for every step."""

    bucket: int
    policy: str
    task: str
    workflow: str
    key: str
    arm: str
    rung: str
    model: str


class TrafficKey(NamedTuple):
    """What requests are summed by: `slot` is NO_SLOT; `rung` is who answered, "" if nobody did.

    Requests of the arms cascade and holdout are summed again by policy, arm and `slot` (see `core.modes`), with the rest "". Requests
    that the response cache had no answer for are summed again by policy, under the arm cache and MISSED_SLOT.
    """

    bucket: int
    policy: str
    task: str
    workflow: str
    arm: str
    rung: str
    slot: int


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that was announced and has no step yet. `step`: its `call_number`; `bound` in nano-USD; the rest as in `SpendKey`.

    It stays if its process was killed or its caller went away, because its cost is unknown.
    """

    request: str
    step: int
    at: float
    policy: str
    task: str
    workflow: str
    key: str
    arm: str
    bound: int


class AuditRow(NamedTuple):
    """A sampled request, as it is written with its outcome; see `ledger.audit.Sample`.

    `place`: its `index`; `flags`: as JSON; `executed_by`: "" for nobody.
    """

    request: str
    at: float
    policy: str
    epoch: str
    task: str
    workflow: str
    why: str
    rung: str
    place: int
    is_top: int
    confidence: float | None
    source: str | None
    cost: int
    estimate: int | None
    flags: str
    degraded: str | None
    has_content: int
    executed_by: str = ""


Row = tuple[int, float, Kind, str, bytes, bytes]
"""An entry to write: (seq, at, kind, request, body, digest)."""


@dataclass(slots=True)
class Batch:
    """The contents of one transaction. `entries`: one writer's, in order.

    `spend`: steps, escalated (including errors), cost, input (whole prompt), output tokens, errors; a step counts once, however
    many calls it took. `traffic`: requests, answers,
    resolved, escalated, cost, cost squared (a float, for intervals), estimate, estimated (requests that have an estimate).
    `opened`: announced calls by (request, call number); `settled`: calls announced in earlier batches that have their step in this one.
    `samples`: requests that will be audited; the transaction is then synced, whatever the durability.
    """

    entries: list[Row] = field(default_factory=list[Row])
    contents: list[Content] = field(default_factory=list[Content])
    spend: dict[SpendKey, list[int]] = field(default_factory=dict[SpendKey, list[int]])
    traffic: dict[TrafficKey, list[float]] = field(default_factory=dict[TrafficKey, list[float]])
    opened: dict[tuple[str, int], OpenCall] = field(default_factory=dict[tuple[str, int], OpenCall])
    settled: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    samples: list[AuditRow] = field(default_factory=list[AuditRow])
