"""The tables that `ledger export --parquet` writes: one for each kind of entry, a row an entry, with the columns' types.

`time` is a timestamp in UTC to the microsecond (DuckDB reserves the word `at`). Money is in nano-USD (int64, exact) and, in the column of the same name with `_usd`,
a decimal with nine places, which is as exact. Steps, outcomes and opens repeat what their request is summed by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from cascade.ledger.records import Entry, Kind, OpenBody, OutcomeBody, RequestBody, StepBody

__all__ = [
    "TABLES",
    "Shared",
    "Table",
    "microseconds",
    "open_row",
    "outcome_row",
    "request_row",
    "shared_of",
    "step_row",
]

ColumnType = Literal["text", "integer", "real", "flag", "time", "texts", "usd"]
"""Of a column; "texts" is a list of text, "usd" is computed from the column of the same name without `_usd`."""

_encode = msgspec.json.encode

_ENTRY: dict[str, ColumnType] = {"request": "text", "writer": "text", "seq": "integer", "time": "time"}
_SHARED: dict[str, ColumnType] = dict.fromkeys(("policy", "task", "workflow", "customer", "key"), "text")
_TOKENS = ("input_tokens", "output_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "thinking_tokens")


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, which is its folder's, and its columns. `content`: the column that `--content` adds, with stored texts."""

    name: str
    columns: Mapping[str, ColumnType]
    content: str | None = None


TABLES: Mapping[Kind, Table] = {
    "request": Table(
        "requests",
        {
            **_ENTRY, **_SHARED, "arm": "text", "policy_hash": "text", "prompt_hash": "text", "observed_as": "text",
            "flags": "texts", "metadata": "text", "prompts": "text", "run": "text", "subtask": "text", "assigned": "text",
            "attempt": "integer", "control": "text",
        },
        "prompt",
    ),
    "step": Table(
        "steps",
        {
            **_ENTRY, **_SHARED, "arm": "text", "step": "integer", "call": "integer", "rung": "text", "counted_as": "text", "model": "text",
            "verdict": "text", "cost": "integer", "cost_usd": "usd", **dict.fromkeys(_TOKENS, "integer"),
            "is_estimate": "flag", "confidence": "real", "source": "text", "self_reported": "real", "reason": "text",
            "failed_checks": "texts", "detail": "text", "repaired": "flag", "attempts": "integer", "latency_ms": "real",
            "upstream_id": "text", "sample": "integer", "variant": "text", "judge": "flag", "review": "flag",
            "auxiliary": "text", "more": "flag", "samples_needed": "integer", "samples_asked": "integer",
            "samples_agreed": "integer", "prepared": "text", "handed": "text", "handed_version": "text", "executed_by": "text",
        },
        "answer",
    ),
    "outcome": Table(
        "outcomes",
        {
            **_ENTRY, **_SHARED, "arm": "text", "rung": "text", "model": "text", "cost": "integer", "cost_usd": "usd",
            "steps": "integer", "latency_ms": "real", "confidence": "real", "source": "text", "degraded": "text",
            "abstained": "text", "error": "text", "resolved": "flag", "certificate": "text", "estimate": "integer",
            "estimate_usd": "usd", "slot": "integer", "cache": "text", "assessment": "text", "review": "text",
        },
    ),
    "open": Table(
        "opens",
        {
            **_ENTRY, **_SHARED, "arm": "text", "step": "integer", "call": "integer", "rung": "text", "model": "text",
            "bound": "integer", "bound_usd": "usd",
        },
    ),
}  # fmt: skip
"""By the entries' kind. Rows have the columns' order, without those of type "usd" and without `content`."""

Shared = tuple[str | None, ...]
"""Policy, task, workflow, customer, key and arm of a request; all None if its entry was not found."""


def microseconds(at: float) -> int:
    """Unix seconds as whole microseconds, rounded, but within the second: no time is in a later month than its seconds are."""
    whole = int(at // 1)
    return whole * 1_000_000 + min(round((at - whole) * 1e6), 999_999)


def shared_of(body: RequestBody) -> Shared:
    """What is repeated with everything of this request."""
    metadata = body.metadata
    return (
        body.policy, body.task, metadata.get("workflow", ""), metadata.get("customer", ""), metadata.get("key", ""), body.arm,
    )  # fmt: skip


def _head(entry: Entry) -> tuple[Any, ...]:
    return entry.request, entry.writer, entry.seq, microseconds(entry.at)


def request_row(entry: Entry, body: RequestBody, shared: Shared) -> Sequence[Any]:
    """A row of requests."""
    plan = body.plan
    part = (None,) * 5 if plan is None else (plan.run, plan.subtask, plan.assigned, plan.attempt, plan.control)
    return (
        *_head(entry), *shared, body.policy_hash, body.prompt_hash, body.observed_as, body.flags,
        _encode(body.metadata).decode(), _encode(body.prompts).decode(), *part,
    )  # fmt: skip


def step_row(entry: Entry, body: StepBody, shared: Shared) -> Sequence[Any]:
    """A row of steps: one for each call."""
    vote, handed, prepared = body.vote, body.handed, body.prepared
    return (
        *_head(entry), *shared, body.index, body.call, body.rung, body.summed_as, body.model, body.verdict, body.cost,
        body.input_tokens, body.output_tokens, body.cache_write_5m, body.cache_write_1h, body.cache_read,
        body.thinking_tokens, body.is_estimate, body.confidence, body.source, body.self_reported, body.reason,
        body.failed_checks, body.detail, body.repaired, body.attempts, body.latency_ms, body.upstream_id, body.sample,
        body.variant, body.judge, body.review, body.auxiliary, body.more,
        *((None,) * 3 if vote is None else (vote.agree, vote.asked, vote.agreed)),
        None if prepared is None else _encode(prepared).decode(),
        *((None,) * 3 if handed is None else (handed.kind, handed.version, handed.executed_by)),
    )  # fmt: skip


def outcome_row(entry: Entry, body: OutcomeBody, shared: Shared) -> Sequence[Any]:
    """A row of outcomes; its arm is the outcome's."""
    return (
        *_head(entry), *shared[:-1], body.arm, body.rung, body.model, body.cost, body.steps, body.latency_ms,
        body.confidence, body.source, body.degraded, body.abstained, body.error, body.resolved, body.certificate,
        body.estimate, body.slot, body.cache, body.assessment, body.review,
    )  # fmt: skip


def open_row(entry: Entry, body: OpenBody, shared: Shared) -> Sequence[Any]:
    """A row of opens: a call that was about to be made."""
    return (*_head(entry), *shared, body.index, body.call, body.rung, body.model, body.bound)
