"""What the ledger holds: entries of four kinds, chained per writer, and the sums that are kept beside them.

An entry is (writer, seq, at, kind, request, body, digest). `body` is one of the structs below as JSON, its bytes kept as
they were written: `digest` is taken over them and the digest before (`chain`). Text never stands in a body, only the salted
digest of it; the text is kept apart (`content`) and can be removed without a break in the chain.

    request   once, before its first call (`commit`) or with its first step (`batched`)
    open      only with `durability: commit`: a call is about to be made. Without a step it was never settled.
    step      a call's outcome, with the reason why it went up
    outcome   once: who answered, what it cost altogether
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from cascade.core.modes import NO_SLOT

__all__ = [
    "BUCKET_S",
    "DAY_S",
    "NO_SLOT",
    "Batch",
    "Content",
    "Entry",
    "Kind",
    "OpenBody",
    "OpenCall",
    "OutcomeBody",
    "RequestBody",
    "Row",
    "SpendKey",
    "StepBody",
    "TrafficKey",
    "matches",
]

Kind = Literal["request", "open", "step", "outcome"]

BUCKET_S = 900
"""Sums are kept by quarters of an hour: every time zone's midnight falls on one."""

DAY_S = 86_400
"""And by days (UTC): a long period has few of them."""


class RequestBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was asked. `prompt_hash`: SHA-256 of system prompt and messages. `content`: digests of what is kept, by part."""

    policy: str
    policy_hash: str
    prompt_hash: str
    task: str
    arm: str
    metadata: dict[str, str] = {}
    flags: list[str] = []
    content: dict[str, str] = {}
    observed_as: str | None = None


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    metadata: dict[str, str] = {}


_read_metadata = msgspec.json.Decoder(_Metadata)


def matches(body: bytes | str, wanted: Mapping[str, str]) -> bool:
    """Whether a request's body has all these names and values in its metadata; one that cannot be read (`verify` names it) has not."""
    try:
        metadata = _read_metadata.decode(body).metadata
    except msgspec.MsgspecError:
        return False
    return all(metadata.get(name) == value for name, value in wanted.items())


class OpenBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A call that is about to be made; `bound`: the most it may cost, in nano-USD (0: not reckoned)."""

    index: int
    rung: str
    model: str
    bound: int = 0


class StepBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A call's outcome. `cost` in nano-USD; tokens as `core.messages.Usage` has them; `content`: the answer's digest.

    `is_estimate`: the endpoint did not say all its tokens; these, and the cost, are the most that they may have been.
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


class OutcomeBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How it ended. `error`: the error's class. `resolved`: an answer that stood, nothing degraded about it.

    `estimate`: what the baseline alone would have cost (nano-USD), from the tokens seen; None where the baseline answered.
    `slot`: see `core.modes`.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is stored. `id`: the order in which the store took it up; `at`: Unix seconds."""

    id: int
    writer: str
    seq: int
    at: float
    kind: Kind
    request: str
    body: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A text that is kept: `part` is "prompt" (JSON of system and messages) or "step:0", "step:1" … (the answer's text)."""

    request: str
    part: str
    at: float
    salt: bytes
    text: str


class SpendKey(NamedTuple):
    """What steps are summed up by. A tuple, for it is made and looked up for every step."""

    bucket: int
    policy: str
    task: str
    workflow: str
    key: str
    arm: str
    rung: str
    model: str


class TrafficKey(NamedTuple):
    """What requests are summed up by: `slot` is NO_SLOT, `rung` who answered, "" where nobody did.

    And, in the arms cascade and holdout, once more by policy, arm and `slot` (see `core.modes`), the rest "".
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
    """A call that was announced and has no step yet; `step` its index, `bound` in nano-USD, the rest as in `SpendKey`.

    One whose process was killed, or whose caller went away, stays: nobody knows what it cost.
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


Row = tuple[int, float, Kind, str, bytes, bytes]
"""An entry to be written: (seq, at, kind, request, body, digest)."""


@dataclass(slots=True)
class Batch:
    """What one transaction writes. `entries`: of one writer, in order.

    `spend`: steps, escalated (errors too), cost, input (whole prompt), output tokens, errors. `traffic`: requests, answers, resolved, escalated, cost, cost
    squared (as a float: for intervals), estimate, estimated (requests that have one). `opened`: calls by (request, step);
    `settled`: those of earlier batches that have their step in this one.
    """

    entries: list[Row] = field(default_factory=list[Row])
    contents: list[Content] = field(default_factory=list[Content])
    spend: dict[SpendKey, list[int]] = field(default_factory=dict[SpendKey, list[int]])
    traffic: dict[TrafficKey, list[float]] = field(default_factory=dict[TrafficKey, list[float]])
    opened: dict[tuple[str, int], OpenCall] = field(default_factory=dict[tuple[str, int], OpenCall])
    settled: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
