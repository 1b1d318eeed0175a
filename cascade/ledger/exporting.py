"""`ledger export`: what is on record, for other tools. JSON lines hold a request each, Parquet a step a row.

A line: `{"id", "at", "writer", "request": {…}, "steps": [{"at", …}], "outcome": {…} | null, "open": false, "unsettled":
[{…}], "texts": {…}}`, the bodies as `records` has them, nothing left out; `texts` only where asked for. `open`: the request never
ended, as far as is known; `unsettled`: its calls that were announced and of which nothing more is known. Money is in
nano-USD, times in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import msgspec

from cascade.core.errors import MissingExtra
from cascade.ledger.requests import Gathered

__all__ = ["line_of", "rows_of", "write_parquet"]

_ROW_GROUP = 4_096  # rows held at once

_TEXTS = (
    "request", "writer", "policy", "policy_hash", "prompt_hash", "task", "arm", "workflow", "customer", "key", "metadata",
    "observed_as", "rung", "model", "verdict", "source", "reason", "failed_checks", "detail", "upstream_id",
    "answered_rung", "degraded", "abstained", "error", "certificate",
)  # fmt: skip
_NUMBERS = (
    "step", "cost", "input_tokens", "output_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "thinking_tokens",
    "attempts", "request_cost",
)  # fmt: skip
_FLOATS = ("at", "step_at", "confidence", "self_reported", "latency_ms", "request_latency_ms")
_FLAGS = ("repaired", "is_estimate", "resolved", "open")
_CONTENT = ("prompt", "answer")

_encode = msgspec.json.encode


def line_of(one: Gathered, *, content: bool = False) -> bytes:
    """A request as a line of JSON."""
    fields: dict[str, Any] = {
        "id": one.id,
        "at": one.at,
        "writer": one.writer,
        "request": msgspec.structs.asdict(one.asked),
        "steps": [{"at": at, **msgspec.structs.asdict(step)} for at, step in one.steps],
        "outcome": None if one.outcome is None else {"at": one.ended, **msgspec.structs.asdict(one.outcome)},
        "open": one.outcome is None,
        "unsettled": [msgspec.structs.asdict(call) for call in one.opens.values()],
    }
    if content:
        fields["texts"] = one.texts
    return _encode(fields) + b"\n"


def rows_of(one: Gathered, *, content: bool = False) -> Iterator[dict[str, Any]]:
    """A request as rows, one a step; a request without a step has none."""
    asked, outcome = one.asked, one.outcome
    shared: dict[str, Any] = {
        "request": one.id, "at": one.at, "writer": one.writer, "policy": asked.policy, "policy_hash": asked.policy_hash,
        "prompt_hash": asked.prompt_hash, "task": asked.task, "arm": asked.arm,
        **{name: asked.metadata.get(name) for name in ("workflow", "customer", "key")},
        "metadata": _encode(asked.metadata).decode(), "observed_as": asked.observed_as, "open": outcome is None,
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
        row = shared | {name: body[name] for name in (*_TEXTS, *_NUMBERS, *_FLOATS, *_FLAGS) if name in body}
        row |= {"step": step.index, "step_at": at, "failed_checks": _encode(step.failed_checks).decode()}
        yield row | ({"answer": one.texts.get(f"step:{step.index}")} if content else {})


def write_parquet(gathered: Iterable[Gathered], file: IO[bytes], *, content: bool = False) -> tuple[int, int]:
    """Write a row a step; returns (requests, steps). Raises MissingExtra without pyarrow."""
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
    requests = steps = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal requests
        for one in gathered:
            requests += 1
            yield from rows_of(one, content=content)

    rest = rows()
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while chunk := list(islice(rest, _ROW_GROUP)):
            steps += len(chunk)
            writer.write_batch(arrow.RecordBatch.from_pylist(chunk, schema=schema))
    return requests, steps
