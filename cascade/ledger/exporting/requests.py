"""`ledger export`: requests for other tools. JSON lines have one request a line, Parquet one call a row.

A line: `{"id", "at", "writer", "request": {…}, "steps": [{"at", …}], "outcome": {…} | null, "open": false, "unsettled":
[{…}], "texts": {…}}`. The bodies are those of `records`, complete; `texts` is present only if requested. `open`: no outcome is on
record. `unsettled`: calls that were announced and have no step. Money is in nano-USD, times in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import msgspec

from cascade.core.errors import MissingExtra
from cascade.ledger.requests import RequestRecord

__all__ = ["line_of", "rows_of", "write_parquet"]

_ROW_GROUP = 4_096  # rows in memory at once

_TEXTS = (
    "request", "writer", "policy", "policy_hash", "prompt_hash", "prompts", "task", "arm", "workflow", "customer", "key", "metadata",
    "observed_as", "rung", "model", "verdict", "source", "reason", "failed_checks", "detail", "upstream_id", "variant",
    "auxiliary", "prepared", "handed", "handed_version", "executed_by",
    "answered_rung", "degraded", "abstained", "error", "certificate",
)  # fmt: skip
_NUMBERS = (
    "step", "cost", "input_tokens", "output_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "thinking_tokens",
    "attempts", "call", "sample", "samples_asked", "samples_agreed", "samples_needed", "request_cost",
)  # fmt: skip
_FLOATS = ("at", "step_at", "confidence", "self_reported", "latency_ms", "request_latency_ms")
_FLAGS = ("repaired", "is_estimate", "judge", "review", "more", "resolved", "open")
_CONTENT = ("prompt", "answer")

_encode = msgspec.json.encode


def line_of(one: RequestRecord, *, content: bool = False) -> bytes:
    """A request as a line of JSON."""
    fields: dict[str, Any] = {
        "id": one.id,
        "at": one.at,
        "writer": one.writer,
        "request": msgspec.structs.asdict(one.request),
        "steps": [{"at": at, **msgspec.structs.asdict(step)} for at, step in one.steps],
        "outcome": None if one.outcome is None else {"at": one.ended, **msgspec.structs.asdict(one.outcome)},
        "open": one.outcome is None,
        "unsettled": [msgspec.structs.asdict(call) for call in one.open_calls.values()],
    }
    if content:
        fields["texts"] = one.texts
    return _encode(fields) + b"\n"


def rows_of(one: RequestRecord, *, content: bool = False) -> Iterator[dict[str, Any]]:
    """A request as rows, one a call; none for a request without steps.

    A rung that is asked more than once has a row for each call, and so has a review. `more`: not the one that completes its step; only the last has the step's
    `reason` and `samples_asked`, `samples_agreed` (the same) and `samples_needed`.
    """
    request, outcome = one.request, one.outcome
    shared: dict[str, Any] = {
        "request": one.id, "at": one.at, "writer": one.writer, "policy": request.policy, "policy_hash": request.policy_hash,
        "prompt_hash": request.prompt_hash, "task": request.task, "arm": request.arm,
        **{name: request.metadata.get(name) for name in ("workflow", "customer", "key")},
        "metadata": _encode(request.metadata).decode(), "prompts": _encode(request.prompts).decode(), "observed_as": request.observed_as, "open": outcome is None,
    }  # fmt: skip
    if outcome is not None:
        shared |= {
            "answered_rung": outcome.rung, "degraded": outcome.degraded, "abstained": outcome.abstained,
            "error": outcome.error, "certificate": outcome.certificate, "resolved": outcome.resolved,
            "request_cost": outcome.cost, "request_latency_ms": outcome.latency_ms,
        }  # fmt: skip
    if content:
        shared["prompt"] = one.texts.get("prompt")
    for at, step in one.steps:
        body = msgspec.structs.asdict(step)
        body.pop("handed")
        row = shared | {name: body[name] for name in (*_TEXTS, *_NUMBERS, *_FLOATS, *_FLAGS) if name in body}
        row |= {"step": step.index, "step_at": at, "failed_checks": _encode(step.failed_checks).decode()}
        row |= {"prepared": None if step.prepared is None else _encode(step.prepared).decode()}
        if (vote := step.vote) is not None:
            row |= {"samples_asked": vote.asked, "samples_agreed": vote.agreed, "samples_needed": vote.agree}
        if (handed := step.handed) is not None:
            row |= {"handed": handed.kind, "handed_version": handed.version, "executed_by": handed.executed_by}
        yield row | ({"answer": one.texts.get(step.part)} if content else {})


def write_parquet(records: Iterable[RequestRecord], file: IO[bytes], *, content: bool = False) -> tuple[int, int]:
    """Write one row a call; returns (requests, calls). Raises MissingExtra if pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
        import pyarrow.parquet  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None
    arrow: Any = pa
    types = {name: arrow.string() for name in _TEXTS} | {name: arrow.int64() for name in _NUMBERS}
    types |= {name: arrow.float64() for name in _FLOATS} | {name: arrow.bool_() for name in _FLAGS}
    types |= {name: arrow.string() for name in _CONTENT if content}
    schema = arrow.schema(types)
    requests = calls = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal requests
        for one in records:
            requests += 1
            yield from rows_of(one, content=content)

    remaining = rows()
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while chunk := list(islice(remaining, _ROW_GROUP)):
            calls += len(chunk)
            writer.write_batch(arrow.RecordBatch.from_pylist(chunk, schema=schema))
    return requests, calls
