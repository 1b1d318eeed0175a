"""The ledger in Postgres, for many processes and machines: the writer's connection. The reader's is in `reader`.

A transaction is synced when `write` returns (`synchronous_commit` is on, whatever the server's default), for both `commit` and
`batched`. Rows go to the partition of their month (`months`), which the writer makes ahead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cascade.ledger.postgres import rows
from cascade.ledger.postgres.connection import (
    MIGRATING,
    ORDER,
    Connection,
    MonthMade,
    Session,
    disconnect,
    scalar,
    transaction,
)
from cascade.ledger.postgres.months import make_ahead, partitions
from cascade.ledger.postgres.reader import PostgresReader
from cascade.ledger.records import Batch
from cascade.ledger.stores import CANNOT_BE_GRADED, FORGET, LedgerDown
from cascade.ledger.sums import by_days

__all__ = ["PostgresReader", "PostgresStore"]

_WRITE_S = 3.0  # a write; with `durability: commit` a caller waits for 5 s at most
_LOOK_S = 3_600.0  # how often the writer looks whether the next month's partition is there
_LOOK_AGAIN_S = 60.0  # after it could not be made
_LOCK_S = 0.3  # how long the writer waits for readers before it makes or drops a partition: others wait behind it
_REMOVED_AT_ONCE = 1_000
_REMOVE_CONTENTS = (
    "DELETE FROM contents WHERE at < %(before)s AND (request, part) IN (SELECT request, part FROM contents WHERE at < %(before)s"
    " ORDER BY at LIMIT %(most)s FOR UPDATE SKIP LOCKED)"
)


class PostgresStore:
    """The writer's connection. `seconds`: the time limit of a statement. After a LedgerDown the next `write` reconnects.

    Raises MissingExtra if the extra is not installed.
    """

    __slots__ = ("_clock", "_connection", "_look_at", "_name", "_session", "_writer")

    def __init__(self, url: str, *, seconds: float = _WRITE_S, clock: Callable[[], float] = time.time) -> None:
        self._session, self._clock = Session(url, seconds=seconds), clock
        self._connection: Connection | None = None
        self._name, self._writer = "", 0
        self._look_at = float("-inf")

    def open(self, writer: str) -> None:
        """Connect, bring the schema up to date, register the writer."""
        self.close()
        self._name = writer
        connection = self._session.connect()
        try:
            self._session.migrate(connection, make=True)
            with self._session.translate_errors(), transaction(connection):
                self._session.begin(connection)
                execute = connection.execute
                execute(
                    "INSERT INTO writers (name, at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (writer, self._clock()),
                )
                found = execute("SELECT id FROM writers WHERE name = %s", (writer,))
                self._writer = int(scalar(found))
        except BaseException:
            disconnect(connection)
            raise
        self._connection = connection

    def write(self, batch: Batch) -> None:
        """Write a batch as one transaction. Writing the same batch again does nothing."""
        self._make_months()
        try:
            self._write(batch)
        except MonthMade:
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        with self._working() as connection:
            if batch.entries and not self._advance(connection, batch.entries[0][0], batch.entries[-1][0]):
                return
            _send(connection, rows.ADD_ENTRIES, rows.entry_arrays(batch), writer=self._writer)
            _send(connection, rows.ADD_CONTENTS, rows.content_arrays(batch))
            _send(connection, rows.ADD_SAMPLES, rows.sample_arrays(batch))
            _send(connection, rows.SETTLE_CALLS, rows.settled_arrays(batch), writer=self._writer)
            _send(connection, rows.ADD_CALLS, rows.call_arrays(batch), writer=self._writer)
            _send(connection, rows.ADD_SPEND, rows.sum_arrays(rows.SPEND, batch.spend))
            _send(connection, rows.ADD_TRAFFIC, rows.sum_arrays(rows.TRAFFIC, batch.traffic))
            _send(connection, rows.ADD_SPEND_DAYS, rows.sum_arrays(rows.SPEND, by_days(batch.spend)))
            _send(connection, rows.ADD_TRAFFIC_DAYS, rows.sum_arrays(rows.TRAFFIC, by_days(batch.traffic)))

    def _advance(self, connection: Connection, first: int, last: int) -> bool:
        """Take these places in the chain; False if these entries have them already: a commit may succeed without its confirmation arriving."""
        values = {"writer": self._writer, "first": first, "last": last}
        taken = connection.execute(
            "UPDATE writers SET seq = %(last)s WHERE id = %(writer)s AND seq < %(first)s", values
        ).rowcount
        if taken:
            return True
        if scalar(connection.execute("SELECT seq FROM writers WHERE id = %(writer)s", values)) >= last:
            return False
        raise LedgerDown(
            f"{self._session.where}: another process writes under the same writer name (give each its own)"
        )

    def _make_months(self) -> None:
        """Make this month's partitions and the next one's, if it is time to look. What hinders it is left for later."""
        now = self._clock()
        if now < self._look_at:
            return
        made = self._change_months(lambda connection: make_ahead(connection, now))
        self._look_at = now + (_LOOK_S if made else _LOOK_AGAIN_S)

    def _change_months(self, change: Callable[[Connection], object]) -> bool:
        """Change the partitions, in a transaction; False if somebody else is doing so, or holds it up."""
        try:
            with self._connected() as connection:
                self._session.begin(connection)
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_S * 1000:.0f}",))
                if not scalar(connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (MIGRATING,))):
                    return False
                change(connection)
        except LedgerDown:
            return False
        return True

    def remove_content(self, before: float) -> int:
        """Remove texts older than this (Unix seconds): whole months at once. Returns how many others."""
        self._change_months(lambda connection: _drop_contents(connection, before))
        removed = 0
        while True:  # in small transactions, so that no writer waits long
            with self._working() as connection:
                some = connection.execute(_REMOVE_CONTENTS, {"before": before, "most": _REMOVED_AT_ONCE}).rowcount
            removed += some
            if some < _REMOVED_AT_ONCE:
                break
        with self._working() as connection:
            connection.execute(f"{CANNOT_BE_GRADED} at < %(before)s", {"before": before})
            forgets = (f"{forget} at < %(before)s" for forget in FORGET)
            return removed + sum(connection.execute(forget, {"before": before}).rowcount for forget in forgets)

    @contextmanager
    def _working(self) -> Generator[Connection]:
        """One transaction."""
        try:
            with self._connected() as connection:
                self._session.begin(connection, f", pg_advisory_xact_lock_shared({ORDER})")
                yield connection
        except LedgerDown:
            self.close()
            raise

    @contextmanager
    def _connected(self) -> Generator[Connection]:
        if self._connection is None:
            self.open(self._name)
        connection = self._connection
        assert connection is not None
        try:
            with self._session.translate_errors(), transaction(connection):
                yield connection
        finally:
            if connection.closed:
                self.close()

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        disconnect(connection)


def _drop_contents(connection: Connection, before: float) -> None:
    """Drop the months of texts that are wholly older."""
    for one in partitions(connection.execute, "contents"):
        if one.until <= before:
            connection.execute(f"DROP TABLE {one.name}")


def _send(connection: Connection, statement: str, arrays: Mapping[str, Sequence[Any]], **values: Any) -> None:
    if arrays:
        connection.execute(statement, {**arrays, **values})
