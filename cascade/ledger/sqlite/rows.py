"""A batch as SQLite statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypeVar

from cascade.ledger.records import AuditRow, Content, SpendKey, TrafficKey
from cascade.ledger.sums import by_days

__all__ = [
    "ADD_CONTENT", "ADD_SAMPLE", "OPEN", "SETTLE", "SPEND_KEYS", "SPEND_SUMS", "TRAFFIC_KEYS", "TRAFFIC_SUMS", "add_sums",
    "content_row",
]  # fmt: skip

_Key = TypeVar("_Key", SpendKey, TrafficKey)

ADD_CONTENT = "INSERT INTO contents (request, part, at, salt, text) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"

ADD_SAMPLE = (
    f"INSERT INTO audit_samples ({', '.join(AuditRow._fields)})"  # noqa: S608 - constants
    f" VALUES ({', '.join('?' * len(AuditRow._fields))}) ON CONFLICT DO NOTHING"
)

OPEN = "INSERT OR REPLACE INTO calls (writer, request, step, at, policy, task, workflow, key, arm, bound) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SETTLE = "DELETE FROM calls WHERE writer = ? AND request = ? AND step = ?"


def _upsert(table: str, keys: str, sums: str) -> str:
    names = sums.split(", ")
    marks = ", ".join("?" * (len(keys.split(", ")) + len(names)))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
    head = f"INSERT INTO {table} ({keys}, {sums}) VALUES ({marks})"  # noqa: S608 - constants of this file
    return f"{head} ON CONFLICT DO UPDATE SET {added}"


SPEND_KEYS = "bucket, policy, task, workflow, key, arm, rung, model"
SPEND_SUMS = "steps, escalated, cost, input, output, errors"
TRAFFIC_KEYS = "bucket, policy, task, workflow, arm, rung, slot"
TRAFFIC_SUMS = "requests, answers, resolved, escalated, cost, cost_squared, estimate, estimated"
_ADD = {
    table: _upsert(table, keys, sums)
    for name, keys, sums in (("spend", SPEND_KEYS, SPEND_SUMS), ("traffic", TRAFFIC_KEYS, TRAFFIC_SUMS))
    for table in (name, f"{name}_days")
}


def add_sums(connection: sqlite3.Connection, table: str, sums: Mapping[_Key, Sequence[float]]) -> None:
    """Add sums to their table, and to that of the days."""
    if sums:
        connection.executemany(_ADD[table], [(*key, *added) for key, added in sums.items()])
        connection.executemany(_ADD[f"{table}_days"], [(*key, *added) for key, added in by_days(sums).items()])


def content_row(content: Content) -> tuple[str, str, float, bytes, str]:
    """A stored text as a row."""
    text = content.text.encode(
        "utf-8", "replace"
    ).decode()  # matching its digest; an unpaired surrogate cannot be stored
    return content.request, content.part, content.at, content.salt, text
