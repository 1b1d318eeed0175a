"""The ledger in one SQLite file: the writer's connection and the reader's.

In WAL mode readers and the writer do not block each other. `synchronous` sets the durability of a commit:

    FULL     synced at every commit: on disk when `write` returns (`durability: commit`)
    NORMAL   synced at checkpoints: survives a kill of the process; a power loss may lose the last transactions, but never part of
             one, and never the file (`durability: batched`)

Tables are STRICT (SQLite 3.37). One process writes at a time; another waits for at most `BUSY_MS`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

from cascade.ledger.metadata import matches
from cascade.ledger.naming import audit_id
from cascade.ledger.records import BUCKET_S, Anchor, Batch, Content, Entry, Kind
from cascade.ledger.sqlite import rows
from cascade.ledger.sqlite.connection import (
    BUSY_MS,
    connect,
    migrate,
    transaction,
    translate_errors,
    use_wal,
    version,
)
from cascade.ledger.stores import CANNOT_BE_GRADED, FORGET, Filter, LedgerDown, NoLedger, anchors_from
from cascade.ledger.sums import parts_of

__all__ = ["BUSY_MS", "SqliteReader", "SqliteStore"]

_CHECKPOINT_PAGES = 4_000  # 16 MB of log before a checkpoint
_LOG_BYTES = 64 * 1024 * 1024  # the log's largest size after a checkpoint
_ROWS = 50  # entries in one statement
_MANY = 500  # ids in one query


class SqliteStore:
    """The writer's connection; for `synchronous` see the module. After a LedgerDown the next `write` reconnects."""

    __slots__ = (
        "_clock", "_connection", "_file", "_insert", "_insert_many", "_last",
        "_name", "_path", "_synchronous", "_writer",
    )  # fmt: skip

    def __init__(
        self, path: Path, *, synchronous: Literal["NORMAL", "FULL"], clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._synchronous, self._clock = path, synchronous, clock
        self._connection: sqlite3.Connection | None = None
        self._name, self._writer, self._insert, self._insert_many, self._file = "", 0, "", "", (0, 0)
        self._last: int | None = None  # seq of the last entry that this connection wrote

    def open(self, writer: str) -> None:
        """Connect, bring the schema up to date, register the writer. The file is the owner's alone (0600)."""
        self.close()
        self._name = writer
        with translate_errors(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(
                os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            )  # SQLite gives its -wal and -shm files the same permissions
            connection = connect(self._path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version(connection, self._path)  # before any change: it may be another program's file
        use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        migrate(connection, self._path)
        with transaction(connection):
            connection.execute(
                "INSERT INTO writers (name, at) VALUES (?, ?) ON CONFLICT DO NOTHING", (self._name, self._clock())
            )
        row = connection.execute("SELECT id FROM writers WHERE name = ?", (self._name,)).fetchone()
        self._writer = int(row[0])
        # With the id in the SQL, a batch's tuples are the rows as they are.
        self._insert = (
            "INSERT INTO entries (writer, seq, at, kind, request, body, digest)"  # noqa: S608 - a number
            f" VALUES ({self._writer}, ?, ?, ?, ?, CAST(? AS TEXT), ?)"
        )
        row = f"({self._writer}, ?, ?, ?, ?, CAST(? AS TEXT), ?)"
        self._insert_many = f"{self._insert.partition(' VALUES ')[0]} VALUES {', '.join([row] * _ROWS)}"
        self._file = self._identity()

    def _identity(self) -> tuple[int, int]:
        there = os.stat(self._path)  # noqa: PTH116 - at every commit, and twice as fast
        return there.st_dev, there.st_ino

    def write(self, batch: Batch) -> None:
        """Write a batch as one transaction. Writing the same batch again does nothing."""
        with self._working() as connection, self._synced(connection, batch), transaction(connection):
            if batch.entries and self._has(connection, batch.entries[0][0], batch.entries[-1][0]):
                return
            self._insert_entries(connection, batch.entries)
            if batch.settled:
                connection.executemany(rows.SETTLE, [(self._writer, *call) for call in batch.settled])
            if batch.opened:
                connection.executemany(rows.OPEN, [(self._writer, *astuple(call)) for call in batch.opened.values()])
            if batch.contents:
                connection.executemany(rows.ADD_CONTENT, map(rows.content_row, batch.contents))
            if batch.samples:
                connection.executemany(rows.ADD_SAMPLE, batch.samples)
            rows.add_sums(connection, "spend", batch.spend)
            rows.add_sums(connection, "traffic", batch.traffic)
        if batch.entries:
            self._last = batch.entries[-1][0]

    @contextmanager
    def _synced(self, connection: sqlite3.Connection, batch: Batch) -> Generator[None]:
        """A transaction with samples is on the disk when it is committed: their callers wait for it, whatever the durability."""
        if not batch.samples or self._synchronous == "FULL":
            yield
            return
        connection.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):  # a broken connection is closed
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _insert_entries(self, connection: sqlite3.Connection, entries: Sequence[tuple[object, ...]]) -> None:
        """Many rows per statement: each statement releases the GIL once, and must compete for it again."""
        whole = len(entries) // _ROWS * _ROWS
        for first in range(0, whole, _ROWS):
            connection.execute(self._insert_many, tuple(chain.from_iterable(entries[first : first + _ROWS])))
        connection.executemany(self._insert, entries[whole:])

    def _has(self, connection: sqlite3.Connection, first: int, last: int) -> bool:
        """Whether these entries are stored already: a commit may succeed without its confirmation arriving."""
        if self._last == first - 1:
            return False  # this connection wrote the previous entry; another process's would violate UNIQUE
        question = "SELECT max(seq) FROM entries WHERE writer = ?"
        there = connection.execute(question, (self._writer,)).fetchone()[0]
        if there is None or there < first:
            return False
        if there >= last:
            return True
        raise LedgerDown(f"{self._path}: another process writes under the same writer name (give each its own)")

    def remove_content(self, before: float) -> int:
        """Remove texts older than this (Unix seconds); returns how many."""
        with self._working() as connection:
            with transaction(connection):
                count = connection.execute("DELETE FROM contents WHERE at < ?", (before,)).rowcount
                count += sum(connection.execute(f"{forget} at < ?", (before,)).rowcount for forget in FORGET)
                connection.execute(f"{CANNOT_BE_GRADED} at < ?", (before,))
            if count:
                connection.execute(
                    "PRAGMA wal_checkpoint(TRUNCATE)"
                )  # if a reader blocks it, a later checkpoint does it
        return count

    @contextmanager
    def _working(self) -> Generator[sqlite3.Connection]:
        if self._connection is None:
            self.open(self._name)
        try:
            with translate_errors(self._path):
                # Writes to a file that was moved or deleted would be lost.
                self._check_file()
                yield cast("sqlite3.Connection", self._connection)
        except LedgerDown:
            self.close()
            raise

    def pragma(self, words: str) -> object:
        """A PRAGMA's value on this connection; `synchronous`: 1 is NORMAL, 2 is FULL."""
        with self._working() as connection:
            return connection.execute(f"PRAGMA {words}").fetchone()[0]

    def _check_file(self) -> None:
        try:
            identity = self._identity()
        except FileNotFoundError:
            identity = None
        if identity != self._file:
            raise LedgerDown(f"{self._path}: was moved or deleted (a new one is made)")

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._last = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


_ENTRIES = (
    "SELECT e.id, w.name, e.seq, e.at, e.kind, e.request, CAST(e.body AS BLOB), e.digest"
    " FROM entries e JOIN writers w ON w.id = e.writer"
)


def _entry(row: tuple[int, str, int, float, Kind, str, bytes, bytes]) -> Entry:
    return Entry(*row)


class SqliteReader:
    """The reader's connection; one thread at a time. Reads what is committed, also while a writer writes.

    Raises LedgerDown if there is no ledger: a reader makes none.
    """

    __slots__ = ("_connection", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        with translate_errors(path):
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise NoLedger(f"{path}: there is no ledger yet (send a request first, or name another)") from None
        with translate_errors(path):
            connection = connect(path)
            try:
                migrate(connection, path)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    @property
    def where(self) -> str:
        """The file's path."""
        return str(self._path)

    is_replica = False

    def behind(self) -> float | None:
        """It is the ledger itself."""
        return 0.0

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """All reads inside see the same moment."""
        with translate_errors(self._path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with translate_errors(self._path):
                self._connection.execute("COMMIT")

    def _rows(self, question: str, values: Sequence[object] | Mapping[str, object] = ()) -> Iterator[Any]:
        with translate_errors(self._path):
            for row in self._connection.execute(question, values):  # noqa: UP028 - `yield from` would close the cursor
                yield row  # of whoever stops reading early, and may do so after the connection is closed

    def writers(self) -> Sequence[str]:
        """All writers, oldest first."""
        return tuple(name for (name,) in self._rows("SELECT name FROM writers ORDER BY id"))

    def chain(self, writer: str) -> Iterator[Entry]:
        """One writer's entries by seq."""
        return map(_entry, self._rows(f"{_ENTRIES} WHERE w.name = ? ORDER BY e.seq", (writer,)))

    def anchors(self) -> Mapping[str, Anchor]:
        """Where the chains begin that `ledger prune` has shortened, by writer."""
        return anchors_from(self._rows)

    def entries(self, *, after: int = 0, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Entries in the order of storing: those with an id above `after`, in [since, until)."""
        question, values = f"{_ENTRIES} WHERE e.id > ?", [after]
        if since is not None:
            question, values = f"{question} AND e.at >= ?", [*values, since]
        if until is not None:
            question, values = f"{question} AND e.at < ?", [*values, until]
        return map(_entry, self._rows(f"{question} ORDER BY e.id", values))

    def last(self, count: int) -> Sequence[Entry]:
        """The last entries, oldest first."""
        rows = self._rows(f"{_ENTRIES} ORDER BY e.id DESC LIMIT ?", (count,))
        return tuple(map(_entry, rows))[::-1]

    def contents(self, requests: Sequence[str]) -> Iterator[Content]:
        """The stored texts of these requests."""
        for some, marks in _chunks(requests):
            question = f"SELECT request, part, at, salt, CAST(text AS BLOB) FROM contents WHERE request IN ({marks})"  # noqa: S608 - question marks
            for request, part, at, salt, text in self._rows(question, some):
                yield Content(request, part, at, salt, text.decode("utf-8", "replace"))

    def find(self, where: Filter) -> Sequence[str]:
        """The ids of the requests whose metadata match."""
        wanted = {name: value for name, value in where.items() if name != "request"}
        question, values = "SELECT request, CAST(body AS BLOB) FROM entries WHERE kind = 'request'", []
        if "request" in where:
            question, values = f"{question} AND request = ?", [where["request"]]
        found: list[str] = []
        for request, body in self._rows(f"{question} ORDER BY id", values):
            if matches(body, wanted):
                found.append(request)
        return tuple(found)

    def erase(self, requests: Sequence[str]) -> int:
        """Remove their texts (and salts) for good; returns how many texts. The entries stay."""
        count = 0
        with translate_errors(self._path):
            with transaction(self._connection):
                for some, marks in _chunks([*requests, *map(audit_id, requests)]):
                    for forget in ("DELETE FROM contents WHERE", *FORGET):
                        count += self._connection.execute(f"{forget} request IN ({marks})", some).rowcount
                    self._connection.execute(f"{CANNOT_BE_GRADED} request IN ({marks})", some)
            # The log contains the old pages until it is emptied.
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise LedgerDown(
                f"{self._path}: {count} texts are removed, but their bytes remain in the log file, because another process"
                " reads the ledger (run it again when that process has ended)"
            )
        return count

    def spend(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int, ...]]:
        """Sums of steps over the buckets in [since, until), see `stores`."""
        return self._sums("spend", rows.SPEND_KEYS, rows.SPEND_SUMS, parts_of("spend", since, until, by_days=by_days))

    def traffic(self, since: int, until: int, *, by_days: bool = True) -> Iterator[tuple[str | int | float, ...]]:
        """Sums of requests, the same way."""
        return self._sums(
            "traffic", rows.TRAFFIC_KEYS, rows.TRAFFIC_SUMS, parts_of("traffic", since, until, by_days=by_days)
        )

    def _sums(self, table: str, keys: str, sums: str, parts: Sequence[tuple[str, int, int]]) -> Iterator[Any]:
        by = keys.replace("bucket", "bucket / 86400")
        added = ", ".join(f"sum({name})" for name in sums.split(", "))
        # Constants of this file.
        each = " UNION ALL ".join(f"SELECT * FROM {part} WHERE bucket >= ? AND bucket < ?" for part, _, _ in parts)  # noqa: S608
        question = f"SELECT {by}, {added} FROM ({each}) AS {table} GROUP BY {by}"  # noqa: S608
        return self._rows(question, [at for _, *ends in parts for at in ends])

    def select(self, question: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, see `stores`."""
        return self._rows(question, values)

    def spent(
        self, policy: str, scope: str, value: str, since: float, until: float, *, alive: Sequence[str] = ()
    ) -> int:
        """What the steps of a policy cost in [since, until), and calls without a step at their bound, see `stores`."""
        values: dict[str, object] = {
            "since": since // BUCKET_S * BUCKET_S, "until": until, "policy": policy, "value": value,
            **{f"alive_{place}": name for place, name in enumerate(alive)},
        }  # fmt: skip
        of = "policy = :policy"
        if scope != "arm":
            of += " AND arm <> 'audit'"
        if scope != "policy":
            of += f" AND { ({'task': 'task', 'workflow': 'workflow', 'key': 'key', 'arm': 'arm'}[scope]) } = :value"
        names = ", ".join(f":alive_{place}" for place in range(len(alive)))
        question = (
            "SELECT (SELECT coalesce(sum(cost), 0) FROM spend"  # noqa: S608 - constants
            f" WHERE bucket >= :since AND bucket < :until AND {of})"
            f" + (SELECT coalesce(sum(bound), 0) FROM calls WHERE at >= :since AND at < :until AND {of}"
            f" AND writer NOT IN (SELECT id FROM writers WHERE name IN ({names})))"
        )
        return int(next(self._rows(question, values))[0])

    def large(self, at_least: int, since: float, until: float, most: int) -> Sequence[tuple[str, int]]:
        """Requests that cost more than `at_least` nano-USD, most expensive first: (id, cost); at most `most`."""
        question = (
            "SELECT request, json_extract(body, '$.cost') AS cost FROM entries WHERE kind = 'outcome'"
            " AND json_extract(body, '$.cost') > ? AND at >= ? AND at < ? ORDER BY cost DESC, id LIMIT ?"
        )
        return tuple(self._rows(question, (at_least, since, until, most)))

    def close(self) -> None:
        """Disconnect."""
        with suppress(sqlite3.Error):
            self._connection.close()


def _chunks(requests: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    for first in range(0, len(requests), _MANY):
        some = requests[first : first + _MANY]
        yield some, ", ".join("?" * len(some))
