"""`ledger prune`: drops the entries and texts of old months, and leaves what `verify` and `costs` need.

Sums stay. Of each writer's chain an anchor stays, which says how far it is gone, and with which digest it goes on. These entries stay although they
are old enough: all of a request that had not ended before the months kept began, that has an announced call without a step, or an open audit sample,
or that has an entry out of its time's order.

In Postgres a month goes by dropping its partition, which takes as long as finding out what stays; what stays in it moves to the default partition.
Of a partition that holds later months too (the table from before there were months) the old rows are deleted, as in SQLite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.core.errors import ConfigurationError
from cascade.ledger.opening import display_address
from cascade.ledger.postgres.connection import MIGRATING
from cascade.ledger.postgres.months import PARTITIONED, Partition, partitions
from cascade.ledger.small_tables import Execute, SmallTables
from cascade.ledger.stores import CANNOT_BE_GRADED, FORGET
from cascade.ledger.utc_months import month_name, month_of

__all__ = ["Pruned", "prune"]

_SECONDS = 3_600.0
_LOCK = "3s"  # how long to wait for readers; writers wait behind

_OLD = "at < :ends AND request NOT IN (SELECT request FROM staying)"

_STAYING = (
    "INSERT INTO staying (request)"
    " SELECT request FROM entries WHERE at < :ends GROUP BY request HAVING max(CASE WHEN kind = 'outcome' THEN 1 ELSE 0 END) = 0"
    " UNION SELECT request FROM audit_samples WHERE state = 'open'"
    " UNION SELECT e.request FROM entries e JOIN calls c ON c.writer = e.writer AND c.at = e.at"
    " WHERE e.kind = 'open' AND e.at < :ends"
)
_GONE = (
    "INSERT INTO gone (writer, seq, entries, requests)"  # noqa: S608 - constants
    " SELECT writer, max(seq), count(*), sum(CASE WHEN kind = 'request' THEN 1 ELSE 0 END) FROM entries"
    f" WHERE {_OLD} GROUP BY writer"
)
_OUT_OF_ORDER = (
    "INSERT INTO staying (request) SELECT e.request FROM gone g JOIN entries e ON e.writer = g.writer AND e.seq < g.seq"
    " WHERE e.at >= :ends EXCEPT SELECT request FROM staying"
)
_NOT_BEFORE_THE_LAST = (
    "UPDATE gone SET seq = (SELECT a.seq FROM anchors a WHERE a.writer = gone.writer)"
    " WHERE EXISTS (SELECT 1 FROM anchors a WHERE a.writer = gone.writer AND a.seq > gone.seq)"
)
_DIGESTS = (
    "UPDATE gone SET digest = coalesce("
    "(SELECT e.digest FROM entries e WHERE e.writer = gone.writer AND e.seq = gone.seq),"
    " (SELECT a.digest FROM anchors a WHERE a.writer = gone.writer AND a.seq = gone.seq))"
)
_PREVIOUS = (
    "coalesce((SELECT p.digest FROM entries p WHERE p.writer = e.writer AND p.seq = e.seq - 1),"
    " (SELECT k.previous FROM anchored k WHERE k.writer = e.writer AND k.seq = e.seq),"
    " (SELECT a.digest FROM anchors a WHERE a.writer = e.writer AND a.seq = e.seq - 1), :nothing)"
)
_LEFT = (
    f"INSERT INTO kept (writer, seq, previous) SELECT e.writer, e.seq, {_PREVIOUS} FROM ("  # noqa: S608 - constants
    "SELECT n.writer, n.seq FROM gone g JOIN entries n ON n.writer = g.writer AND n.seq < g.seq WHERE n.at >= :ends"
    " UNION ALL SELECT o.writer, o.seq FROM staying s JOIN entries o ON o.request = s.request"
    " JOIN gone g ON g.writer = o.writer AND o.seq < g.seq WHERE o.at < :ends) AS e"
)  # not one condition with OR: what stays is little, and is not looked for in every entry
_ADD_ANCHORS = (
    "INSERT INTO anchors (writer, seq, digest, entries, ends, at) SELECT writer, seq, digest, entries, :ends, :now FROM gone"
    " WHERE true ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, digest = excluded.digest,"
    " entries = anchors.entries + excluded.entries, at = excluded.at,"
    " ends = CASE WHEN anchors.ends > excluded.ends THEN anchors.ends ELSE excluded.ends END"
)
_ANCHOR = (
    "DELETE FROM anchored WHERE writer IN (SELECT writer FROM gone)",
    "INSERT INTO anchored (writer, seq, previous) SELECT writer, seq, previous FROM kept",
    _ADD_ANCHORS,
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go. `before`: the month it is older than; `kept`: entries that are older and stay; `months`: partitions dropped whole."""

    where: str
    before: str
    entries: int
    requests: int
    texts: int
    writers: int
    kept: int
    months: tuple[str, ...]


def prune(address: str | None, ends: int, *, dry_run: bool, now: Callable[[], float] = time.time) -> Pruned:
    """Drop the entries and texts from before `ends`, the beginning of a month (UTC) that is not to come, in one transaction.

    `dry_run`: only count. Raises ConfigurationError if `ends` is to come, LedgerDown; NoLedger if there is none.
    """
    at = now()
    if ends > month_of(at) or ends != month_of(ends):
        raise ConfigurationError(
            f"--before {month_name(ends)}: the month is to come (give {month_name(at)} or an earlier one: this month is kept)"
        )
    return _Pruning(address).run(ends, at, dry_run=dry_run)


class _Pruning(SmallTables):
    """One pruning."""

    def __init__(self, address: str | None) -> None:
        super().__init__(address, seconds=_SECONDS)

    def run(self, ends: int, now: float, *, dry_run: bool) -> Pruned:
        """Count, and drop."""
        values = {"ends": ends, "now": now, "nothing": b""}
        # To count, only temporary tables are written.
        with self._transaction(make=False, writes=self._is_postgres or not dry_run) as execute:
            whole = self._whole(execute, ends, lock=not dry_run)
            self._find(execute, values)
            found = self._count(execute, values, ends, tuple(one.name.rpartition(".")[2] for one in whole))
            if not dry_run and (found.entries or found.texts or whole):
                for statement in _ANCHOR:
                    execute(statement, values)
                self._drop(execute, values, whole)
        return found

    def _whole(self, execute: Execute, ends: int, *, lock: bool) -> Sequence[Partition]:
        """The partitions that go whole. Locked, nothing comes into them any more."""
        if not self._is_postgres:
            return ()
        execute("SELECT set_config('lock_timeout', :lock, true), set_config('work_mem', '64MB', true)", {"lock": _LOCK})
        if lock:
            execute("SELECT pg_advisory_xact_lock(:lock)", {"lock": MIGRATING})
        found = [one for table in PARTITIONED for one in partitions(execute, table) if one.until <= ends]
        for one in found if lock else ():
            execute(f"LOCK TABLE {one.name} IN SHARE MODE")
        return found

    def _find(self, execute: Execute, values: dict[str, Any]) -> None:
        """Fill the temporary tables: whose entries stay, how far each chain goes, and which entries are left before that."""
        kinds = ("BIGINT", "BYTEA", " ON COMMIT DROP") if self._is_postgres else ("INTEGER", "BLOB", "")
        number, raw, drop = kinds
        execute(f"CREATE TEMP TABLE staying (request TEXT PRIMARY KEY){drop}")
        execute(
            f"CREATE TEMP TABLE gone (writer {number} PRIMARY KEY, seq {number} NOT NULL, entries {number} NOT NULL,"
            f" requests {number} NOT NULL, digest {raw}){drop}"
        )
        execute(f"CREATE TEMP TABLE kept (writer {number}, seq {number}, previous {raw}){drop}")
        execute(_STAYING, values)
        execute(_GONE, values)
        if execute(_OUT_OF_ORDER, values).rowcount > 0:
            execute("DELETE FROM gone")
            execute(_GONE, values)
        execute(_NOT_BEFORE_THE_LAST)
        execute(_DIGESTS)
        if self._is_postgres:
            execute("ANALYZE gone")
            execute("ANALYZE staying")
        execute(_LEFT, values)

    def _count(self, execute: Execute, values: dict[str, Any], ends: int, months: tuple[str, ...]) -> Pruned:
        def number(question: str) -> int:
            return int(execute(question, values).fetchone()[0])

        return Pruned(
            display_address(self._address), month_name(ends),
            number("SELECT coalesce(sum(entries), 0) FROM gone"), number("SELECT coalesce(sum(requests), 0) FROM gone"),
            number(f"SELECT count(*) FROM contents WHERE {_OLD}"),  # noqa: S608 - constants
            number("SELECT count(*) FROM gone"),
            number("SELECT count(*) FROM entries WHERE at < :ends AND request IN (SELECT request FROM staying)"),
            months,
        )  # fmt: skip

    def _drop(self, execute: Execute, values: dict[str, Any], whole: Sequence[Partition]) -> None:
        for table in PARTITIONED:
            # An entry that came meanwhile is behind all that was counted, and stays.
            counted = " AND seq <= (SELECT g.seq FROM gone g WHERE g.writer = e.writer)" if table == "entries" else ""
            for name in self._mixed(execute, table, whole, values["ends"]):
                execute(f"DELETE FROM {name} AS e WHERE {_OLD}{counted}", values)  # noqa: S608 - constants
        for forget in (*FORGET, CANNOT_BE_GRADED):
            execute(f"{forget} {_OLD}", values)
        # All is found before the first is dropped: from then on, everybody waits.
        for number, one in enumerate(whole):
            execute(
                f"CREATE TEMP TABLE staying_{number} ON COMMIT DROP AS SELECT * FROM {one.name}"  # noqa: S608 - as above
                " WHERE request IN (SELECT request FROM staying)"
            )
        for one in whole:
            execute(f"DROP TABLE {one.name}")
        for number, one in enumerate(whole):
            execute(f"INSERT INTO {one.table}_stray SELECT * FROM staying_{number}")  # noqa: S608 - as above

    def _mixed(self, execute: Execute, table: str, whole: Sequence[Partition], ends: int) -> Sequence[str]:
        """Where the rest is."""
        if not self._is_postgres:
            return (table,)
        gone = {one.name for one in whole}
        return [one.name for one in partitions(execute, table) if one.name not in gone and one.since < ends]
