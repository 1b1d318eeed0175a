"""A ledger to look at: requests of two writers, as the engine would record them, without the engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from cascade.ledger.chain import content_digest, link, start
from cascade.ledger.postgres.schema import MIGRATIONS
from cascade.ledger.records import Batch, Content, Kind, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import Store
from cascade.ledger.sums import add_open, add_outcome, add_step, settle_open

__all__ = ["AT", "NO_ERRORS", "Writer", "fill", "make_older", "tamper", "write_many"]

AT = 1_795_000_500.0
"""When the first request was asked, in Unix seconds."""

NO_ERRORS = (
    *(f"ALTER TABLE {table} DROP COLUMN errors" for table in ("spend", "spend_days")),
    *(
        f"DROP TABLE {table}"
        for table in (
            "gateway_keys",
            "feedback",
            "audit_samples",
            "audit_controls",
            "audit_ratchets",
            "audit_marks",
            "anchors",
            "anchored",
            "marks",
        )
    ),
    "DROP INDEX entries_request",
)
"""What makes a ledger one of the version before errors were counted: and what came later is not there either."""

_encode = msgspec.json.encode


class Writer:
    """Chains what it is told and writes it, a batch a request."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name, self.seq, self.digest = store, name, 0, start(name)
        store.open(name)

    def entry(self, batch: Batch, at: float, kind: Kind, request: str, body: msgspec.Struct) -> None:
        """Chain one entry."""
        self.seq += 1
        raw = _encode(body)
        self.digest = link(self.digest, self.seq, at, kind, request, raw)
        batch.entries.append((self.seq, at, kind, request, raw, self.digest))

    def ask(
        self,
        number: int,
        *,
        at: float,
        steps: int = 1,
        ended: bool = True,
        opens: bool = False,
        text: str | None = None,
        reason: str = "low_confidence",
    ) -> str:
        """One request: so many rungs asked, the last of them answers."""
        batch, request = Batch(), f"{self.name}-{number}"
        salt = number.to_bytes(16, "big")
        kept = {} if text is None else {"prompt": text, **{f"step:{step}": f"{text} {step}" for step in range(steps)}}
        digests = {part: content_digest(salt, one) for part, one in kept.items()}
        metadata = {"workflow": f"flow-{number % 2}", "customer": f"c{number % 3}", "key": "team"}
        prompt = {"prompt": digests["prompt"]} if kept else {}
        asked = RequestBody(
            "support", "p" * 64, "h" * 64, "refund", "cascade", metadata, [], prompt, prompts={"triage": "0123456789ab"}
        )
        self.entry(batch, at, "request", request, asked)
        for index in range(steps):
            rung, later = ("haiku", "sonnet", "opus")[index], at + 1 + index
            if opens:
                self.entry(batch, later, "open", request, call := OpenBody(index, rung, f"claude-{rung}", 500))
                add_open(batch, later, asked, request, call)
            if index + 1 == steps and not ended:
                break
            up = None if index + 1 == steps else reason
            step = StepBody(
                index, rung, f"claude-{rung}", "answered", 1_000 * (number + 1) * (index + 1), 200, 50, confidence=0.5,
                source="self_reported", reason=up, content=digests.get(f"step:{index}"),
            )  # fmt: skip
            self.entry(batch, later, "step", request, step)
            add_step(batch, later, asked, step)
            if opens:
                settle_open(batch, request, index)
        if ended:
            cost = sum(1_000 * (number + 1) * (index + 1) for index in range(steps))
            rung = ("haiku", "sonnet", "opus")[steps - 1]
            outcome = OutcomeBody("cascade", cost, steps, 9.5, rung, f"claude-{rung}", resolved=True, estimate=9_000)
            self.entry(batch, at + 5, "outcome", request, outcome)
            add_outcome(batch, at + 5, asked, outcome)
        batch.contents.extend(Content(request, part, at, salt, one) for part, one in kept.items())
        self.store.write(batch)
        return request


def fill(path: Path, *, requests: int = 4, writers: Sequence[str] = ("one", "two"), text: str | None = None) -> None:
    """Write so many requests for each writer, ten minutes apart, every other one of two steps."""
    for name in writers:
        store = SqliteStore(path, synchronous="NORMAL")
        writer = Writer(store, name)
        for number in range(requests):
            said = None if text is None else f"{text} {name} {number}"
            writer.ask(number, at=AT + 600 * number, steps=1 + number % 2, text=said)
        store.close()


def write_many(path: Path, name: str) -> None:
    """What one of several processes does."""
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, name)
        for number in range(25):
            writer.ask(number, at=AT + number)


def tamper(path: Path, *statements: str) -> None:
    """Change the file behind the ledger's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def make_older(address: str, made: int) -> None:
    """Make a ledger in Postgres one of an earlier version, with the same rows as far as that had them."""
    columns = (
        "SELECT table_schema, table_name, array_agg(column_name::text ORDER BY ordinal_position) FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name) WHERE table_type = 'BASE TABLE'"
        " AND table_schema IN ('cascade_ledger', 'newer') GROUP BY 1, 2"
    )
    with psycopg.connect(address, cursor_factory=psycopg.ClientCursor[Any]) as connection:

        def do(statement: str) -> Any:
            return connection.execute(statement.encode())

        do("ALTER SCHEMA cascade_ledger RENAME TO newer")
        do("CREATE SCHEMA cascade_ledger")
        do("SET LOCAL search_path = cascade_ledger")
        for migration in MIGRATIONS[:made]:
            for statement in migration:
                do(statement)
        do(f"UPDATE version SET made = {made}")
        there = {(schema, table): set(names) for schema, table, names in do(columns).fetchall()}
        for (schema, table), names in there.items():
            if schema == "cascade_ledger" and table != "version":
                listed = ", ".join(sorted(names & there["newer", table]))
                do(f"INSERT INTO {table} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM newer.{table}")
        for table in ("writers", "entries"):
            do(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id) + 1, false) FROM {table}")
        do("DROP SCHEMA newer CASCADE")
