"""The partitions of the Postgres ledger: `entries` and `contents` by month (UTC), a default one for strays, and one of what was there before.

A partition has its own indexes and none is of the whole table, so that a month comes and goes without touching the others, and the table
of an older ledger becomes a partition as it is. What must hold over all months holds otherwise: a writer's `seq` only grows
(`writers.seq`), and the ids of requests are random.

The writer makes this month's partition and the next one's (`make_ahead`). It never waits for that: until it succeeds, rows go to the default
partition, and they are moved when their month is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.ledger.utc_months import month_name, month_of, next_month

__all__ = [
    "ATTACH_OLD",
    "BY_REQUEST",
    "MAKE_MONTHS",
    "PARTITIONED",
    "Partition",
    "make_ahead",
    "partitions",
    "prove_ends",
]

PARTITIONED = ("entries", "contents")

_COLUMNS = {
    "entries": """id BIGINT GENERATED ALWAYS AS IDENTITY, writer BIGINT NOT NULL, seq BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL, request TEXT NOT NULL, body TEXT NOT NULL, digest BYTEA NOT NULL""",
    "contents": """request TEXT NOT NULL, part TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, salt BYTEA NOT NULL,
        text TEXT NOT NULL""",
}
_OUTSIDE = float("inf")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: rows with `at` in [since, until), in Unix seconds; of the default one: whatever no other one takes."""

    table: str
    name: str
    since: float = -_OUTSIDE
    until: float = _OUTSIDE
    is_default: bool = False


def partitions(execute: Callable[..., Any], table: str) -> Sequence[Partition]:
    """The partitions of a table, the default one last."""
    question = (
        "SELECT CAST(CAST(c.oid AS regclass) AS text), pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = CAST(%s AS regclass)"
    )
    found = [_partition(table, name, bound) for name, bound in execute(question, (table,)).fetchall()]
    return sorted(found, key=lambda one: (one.is_default, one.since))


def _partition(table: str, name: str, bound: str) -> Partition:
    if bound == "DEFAULT":
        return Partition(table, name, is_default=True)
    ends = re.fullmatch(r"FOR VALUES FROM \('?(.+?)'?\) TO \('?(.+?)'?\)", bound)
    assert ends is not None, bound
    since, until = (
        -_OUTSIDE if end == "MINVALUE" else _OUTSIDE if end == "MAXVALUE" else float(end) for end in ends.groups()
    )
    return Partition(table, name, since, until)


def make_ahead(connection: Any, now: float) -> Sequence[str]:
    """Make the partitions of this month and the next one, where they are missing; returns their names. In the caller's transaction.

    Each waits for readers of the default partition, at most for the transaction's lock timeout.
    """
    this = month_of(now)
    missing: list[tuple[str, int]] = []
    for table in PARTITIONED:
        there = [one for one in partitions(connection.execute, table) if not one.is_default]
        months = (this, next_month(this))
        missing += [(table, start) for start in months if not any(one.since <= start < one.until for one in there)]
    return [_make(connection, table, start) for table, start in missing]


def _make(connection: Any, table: str, start: int) -> str:
    end = next_month(start)
    name = f"{table}_{month_name(start).replace('-', '_')}"
    strays = f"DELETE FROM {table}_stray WHERE at >= {start} AND at < {end} RETURNING *"  # noqa: S608 - constants and numbers
    for statement in (
        *_made(table, name),
        # Proves to ATTACH that it need not look.
        f"ALTER TABLE {name} ADD CONSTRAINT {name}_month CHECK (at >= {start} AND at < {end})",
        f"WITH strays AS ({strays}) INSERT INTO {name} SELECT * FROM strays",  # noqa: S608 - as above
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})",
        f"ALTER TABLE {name} DROP CONSTRAINT {name}_month",
    ):
        connection.execute(statement)
    return name


def _made(table: str, name: str) -> tuple[str, ...]:
    """A table that can become a partition, with the indexes that every one has."""
    if table == "contents":
        return (
            f"CREATE TABLE {name} (LIKE contents INCLUDING DEFAULTS)",
            f"ALTER TABLE {name} ADD PRIMARY KEY (request, part)",
            f"CREATE INDEX {name}_at ON {name} (at)",
        )
    return (
        f"CREATE TABLE {name} (LIKE entries INCLUDING DEFAULTS)",
        f"ALTER TABLE {name} ADD PRIMARY KEY (id), ADD UNIQUE (writer, seq)",
        f"CREATE INDEX {name}_cost ON {name} ((CAST(CAST(body AS jsonb) ->> 'cost' AS BIGINT))) WHERE kind = 'outcome'",
        f"CREATE INDEX {name}_request ON {name} USING hash (request) WHERE kind = 'request'",  # in order it would refuse long names
    )


def _renamed(table: str) -> tuple[str, ...]:
    """The table gives its name to one of partitions, whose default one is there."""
    return (
        f"ALTER TABLE {table} RENAME TO {table}_before",
        f"CREATE TABLE {table} ({_COLUMNS[table]}) PARTITION BY RANGE (at)",
        *_made(table, f"{table}_stray"),
        f"ALTER TABLE {table} ATTACH PARTITION {table}_stray DEFAULT",
    )


def _attached(table: str) -> tuple[str, ...]:
    """What the table was becomes the partition of all that is before the next month.

    If `prove_ends` has proved that there is nothing else in it, it is not scanned. Otherwise what is later becomes a stray.
    """
    return (
        f"""DO $$
        DECLARE
            ends BIGINT;
            granted RECORD;
        BEGIN
            FOR granted IN SELECT a.privilege_type, a.is_grantable, CASE a.grantee WHEN 0 THEN 'PUBLIC'
                ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = CAST('{table}_before' AS regclass) AND a.grantee <> c.relowner
            LOOP
                EXECUTE format('GRANT %s ON {table} TO %s%s', granted.privilege_type, granted.grantee,
                    CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
            END LOOP;
            IF NOT EXISTS (SELECT FROM {table}_before) THEN
                DROP TABLE {table}_before;
                RETURN;
            END IF;
            SELECT CAST(substring(pg_get_constraintdef(oid) FROM '[0-9]{{6,}}') AS BIGINT) INTO ends FROM pg_constraint
                WHERE conrelid = CAST('{table}_before' AS regclass) AND conname = '{table}_ends' AND convalidated;
            IF ends IS NULL THEN
                ends := extract(epoch FROM
                    (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
                EXECUTE format('WITH strays AS (DELETE FROM {table}_before WHERE at >= %s RETURNING *)
                    INSERT INTO {table}_stray SELECT * FROM strays', ends);
            END IF;
            EXECUTE format('ALTER TABLE {table} ATTACH PARTITION {table}_before FOR VALUES FROM (MINVALUE) TO (%s)', ends);
            ALTER TABLE {table}_before DROP CONSTRAINT IF EXISTS {table}_ends;
        END $$""",  # noqa: S608 - constants
    )


MAKE_MONTHS = (
    # First of all, in the writers' order: what is read below must not grow until the transaction ends.
    "LOCK TABLE entries, contents, writers IN ACCESS EXCLUSIVE MODE",
    # The last seq of each writer: no index spans the months, and two processes under one name must not both write.
    "ALTER TABLE writers ADD COLUMN seq BIGINT NOT NULL DEFAULT 0",
    "UPDATE writers SET seq = coalesce((SELECT max(e.seq) FROM entries e WHERE e.writer = writers.id), 0)",
    "CREATE TEMP TABLE next_entry ON COMMIT DROP AS SELECT coalesce(max(id), 0) + 1 AS id FROM entries",
    "ALTER TABLE entries ALTER COLUMN id DROP IDENTITY",
    *_renamed("entries"),
    *_renamed("contents"),
    "SELECT setval(pg_get_serial_sequence('entries', 'id'), (SELECT id FROM next_entry), false)",
)
"""The first half of the migration; then the views must be made anew, which mean the tables that there were."""

ATTACH_OLD = (*_attached("entries"), *_attached("contents"))
"""The second half."""

BY_REQUEST = """DO $$
    DECLARE part RECORD;
    BEGIN
        FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = CAST('entries' AS regclass) AND pg_relation_size(c.oid) < 512 * 1024 * 1024
        LOOP
            EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I USING hash (request) WHERE kind = ''request''',
                part.relname || '_request', part.relname);
        END LOOP;
    END $$"""
"""A request is found by its id also in what was there before months were made, where such an index is made in a few seconds: nobody writes
meanwhile. In a larger one it is looked for."""


def prove_ends() -> tuple[tuple[str, ...], ...]:
    """Transactions before MAKE_MONTHS: they prove, without holding up writers, that no row is after the next month.

    Not this month: it may end meanwhile, and rows that break the constraint are refused. If there is such a row already, the
    migration looks itself.
    """
    found: list[tuple[str, ...]] = []
    for table in PARTITIONED:
        found.append((
            f"""DO $$ BEGIN
                ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_ends;
                EXECUTE format('ALTER TABLE {table} ADD CONSTRAINT {table}_ends CHECK (at < %s) NOT VALID', CAST(extract(epoch FROM
                    (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months') AT TIME ZONE 'UTC') AS BIGINT));
            END $$""",
        ))  # fmt: skip
        found.append((
            f"""DO $$ BEGIN
                ALTER TABLE {table} VALIDATE CONSTRAINT {table}_ends;
            EXCEPTION WHEN check_violation THEN
                ALTER TABLE {table} DROP CONSTRAINT {table}_ends;
            END $$""",
        ))  # fmt: skip
    return tuple(found)
