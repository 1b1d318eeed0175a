"""A batch as Postgres statements: one per table, each column's values as one array."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.ledger.naming import storable
from cascade.ledger.records import AuditRow, Batch

__all__ = [
    "ADD_CALLS", "ADD_CONTENTS", "ADD_ENTRIES", "ADD_SAMPLES", "ADD_SPEND", "ADD_SPEND_DAYS", "ADD_TRAFFIC", "ADD_TRAFFIC_DAYS", "SETTLE_CALLS", "SPEND", "SPEND_SUMS", "TRAFFIC",
    "TRAFFIC_SUMS", "call_arrays", "content_arrays", "entry_arrays", "sample_arrays", "settled_arrays", "sum_arrays",
]  # fmt: skip

SPEND = {
    "bucket": "bigint", "policy": "text", "task": "text", "workflow": "text", "key": "text", "arm": "text", "rung": "text",
    "model": "text", "steps": "bigint", "escalated": "bigint", "cost": "bigint", "input": "bigint", "output": "bigint",
    "errors": "bigint",
}  # fmt: skip
TRAFFIC = {
    "bucket": "bigint", "policy": "text", "task": "text", "workflow": "text", "arm": "text", "rung": "text",
    "slot": "bigint", "requests": "bigint", "answers": "bigint", "resolved": "bigint", "escalated": "bigint",
    "cost": "bigint", "cost_squared": "double precision", "estimate": "bigint", "estimated": "bigint",
}  # fmt: skip
SPEND_SUMS, TRAFFIC_SUMS = 6, 8  # of them, the last are the sums


def _insert(table: str, columns: Mapping[str, str], *, writer: bool = False) -> str:
    """Insert all rows with one statement: each column's values are one array."""
    arrays = ", ".join(f"CAST(%({name})s AS {kind}[])" for name, kind in columns.items())
    names = ", ".join(columns)
    into, out = (f"writer, {names}", f"%(writer)s, {names}") if writer else (names, names)
    return f"INSERT INTO {table} ({into}) SELECT {out} FROM unnest({arrays}) AS given({names})"  # noqa: S608 - constants


def _add(table: str, columns: Mapping[str, str], sums: int) -> str:
    added = ", ".join(f"{name} = held.{name} + excluded.{name}" for name in [*columns][-sums:])
    head = _insert(f"{table} AS held", {"name": "bytea", **columns})
    return f"{head} ON CONFLICT (name) DO UPDATE SET {added}"


ADD_ENTRIES = _insert(
    "entries",
    {"seq": "bigint", "at": "double precision", "kind": "text", "request": "text", "body": "text", "digest": "bytea"},
    writer=True,
)
ADD_CONTENTS = _insert(
    "contents", {"request": "text", "part": "text", "at": "double precision", "salt": "bytea", "text": "text"}
) + " ON CONFLICT DO NOTHING"  # fmt: skip
ADD_SPEND, ADD_SPEND_DAYS = (_add(table, SPEND, SPEND_SUMS) for table in ("spend", "spend_days"))
ADD_TRAFFIC, ADD_TRAFFIC_DAYS = (_add(table, TRAFFIC, TRAFFIC_SUMS) for table in ("traffic", "traffic_days"))

_CALLS = {
    "name": "bytea", "at": "double precision", "policy": "text", "task": "text", "workflow": "text", "key": "text",
    "arm": "text", "bound": "bigint",
}  # fmt: skip
ADD_CALLS = _insert("calls", _CALLS, writer=True) + " ON CONFLICT DO NOTHING"
SETTLE_CALLS = "DELETE FROM calls WHERE writer = %(writer)s AND name = ANY(CAST(%(name)s AS bytea[]))"


def call_arrays(batch: Batch) -> dict[str, Sequence[Any]]:
    """The announced calls; empty if there are none."""
    if not batch.opened:
        return {}
    rows = [(_call_name(*name), one) for name, one in batch.opened.items()]
    found: dict[str, Sequence[Any]] = {"name": [name for name, _ in rows]}
    for column in [*_CALLS][1:]:
        values = [getattr(one, column) for _, one in rows]
        found[column] = [storable(one) if isinstance(one, str) else one for one in values]
    return found


_SAMPLES = {
    "request": "text", "at": "double precision", "policy": "text", "epoch": "text", "task": "text", "workflow": "text",
    "why": "text", "rung": "text", "place": "bigint", "is_top": "integer", "confidence": "double precision", "source": "text",
    "cost": "bigint", "estimate": "bigint", "flags": "text", "degraded": "text", "has_content": "integer",
    "executed_by": "text",
}  # fmt: skip
ADD_SAMPLES = _insert("audit_samples", _SAMPLES) + " ON CONFLICT DO NOTHING"


def sample_arrays(batch: Batch) -> dict[str, Sequence[Any]]:
    """The sampled requests' columns; empty if there are none."""
    if not batch.samples:
        return {}
    return dict(zip(AuditRow._fields, map(list, zip(*batch.samples, strict=True)), strict=True))


def settled_arrays(batch: Batch) -> dict[str, Sequence[Any]]:
    """The names of calls that have their step now."""
    return {"name": [_call_name(*name) for name in batch.settled]} if batch.settled else {}


def _call_name(request: str, step: int) -> bytes:
    return hashlib.blake2b(f"{request}\0{step}".encode("utf-8", "replace"), digest_size=16).digest()


def entry_arrays(batch: Batch) -> dict[str, Sequence[Any]]:
    """The entries' columns; empty if there are none."""
    if not batch.entries:
        return {}
    seq, at, kind, request, body, digest = map(list, zip(*batch.entries, strict=True))
    bodies = [one.decode() for one in body]
    return {"seq": seq, "at": at, "kind": kind, "request": request, "body": bodies, "digest": digest}


def content_arrays(batch: Batch) -> dict[str, Sequence[Any]]:
    """The texts' columns, in an order common to all writers."""
    kept = {(one.request, one.part): one for one in reversed(batch.contents)}  # the first one wins
    if not kept:
        return {}
    rows = [kept[name] for name in sorted(kept)]
    return {
        "request": [one.request for one in rows], "part": [one.part for one in rows], "at": [float(one.at) for one in rows],
        "salt": [one.salt for one in rows], "text": [storable(one.text) for one in rows],
    }  # fmt: skip


def sum_arrays(columns: Mapping[str, str], sums: Mapping[Any, Sequence[float]]) -> dict[str, Sequence[Any]]:
    """The sums' columns, rows sorted by name: an order common to all writers prevents deadlocks."""
    names = [*columns]
    rows: dict[bytes, list[Any]] = {}
    for key, added in sums.items():
        fields = [storable(one) if isinstance(one, str) else one for one in key]
        name = hashlib.blake2b("\0".join(map(str, fields)).encode(), digest_size=16).digest()
        row = rows.get(name)
        if row is None:
            rows[name] = [*fields, *added]
        else:  # they differed only in what cannot be stored
            row[len(fields) :] = [one + more for one, more in zip(row[len(fields) :], added, strict=True)]
    if not rows:
        return {}
    ordered = sorted(rows)
    convert = {"bigint": int, "double precision": float, "text": str}
    found: dict[str, Sequence[Any]] = {"name": ordered}
    for place, name in enumerate(names):
        kind = convert[columns[name]]
        found[name] = [kind(rows[one][place]) for one in ordered]
    return found
