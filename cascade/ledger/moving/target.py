"""The ledger that is moved to: a database on a Postgres server, with a mark of how far the move has come.

Entries keep their ids, so the mark is the id of the last one. It is in a table of its own (`move`) and changes in the transaction
that brings the entries: a killed move goes on behind it. What changes after it was written (sums, announced calls, the small tables)
is replaced as a whole in the last transaction. Until then the target must have no writer of its own: each step looks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cascade.ledger.moving.source import MovedEntry, Source
from cascade.ledger.naming import storable
from cascade.ledger.postgres import rows
from cascade.ledger.postgres.connection import (
    MIGRATING,
    ORDER,
    Connection,
    Session,
    disconnect,
    scalar,
    transaction,
)
from cascade.ledger.postgres.months import make_ahead
from cascade.ledger.postgres.schema import SCHEMA
from cascade.ledger.records import Batch, Content, OpenCall, SpendKey, TrafficKey
from cascade.ledger.stores import LedgerDown
from cascade.ledger.utc_months import month_of

__all__ = ["Target"]

_SECONDS = 300.0  # a statement; the last transaction copies whole tables
_SUMS_AT_ONCE = 2_000  # rows
_TEXTS_AT_ONCE = 200  # texts, or fewer long ones
_TEXT_BYTES = 4_000_000
_AHEAD_S = 366 * 86_400.0  # what is later than this has no partition of its own
_OWN = ("version", "move")
_MOVE = """CREATE TABLE IF NOT EXISTS move (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, last BIGINT NOT NULL, begun DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION)"""
_COPY = "COPY entries (id, writer, seq, at, kind, request, body, digest) FROM STDIN"
_FORGET_PRUNED = (
    "DELETE FROM entries e USING anchors a WHERE e.writer = a.writer AND e.seq <= a.seq"
    " AND NOT EXISTS (SELECT FROM anchored k WHERE k.writer = e.writer AND k.seq = e.seq)"
)
"""What `ledger prune` has dropped at the source since it was moved."""
_LAST_SEQS = (
    "UPDATE writers w SET seq = greatest(coalesce((SELECT max(e.seq) FROM entries e WHERE e.writer = w.id), 0),"
    " coalesce((SELECT a.seq FROM anchors a WHERE a.writer = w.id), 0))"
)
_EMPTY = "name an empty database, or remove what is there: DROP SCHEMA cascade_ledger CASCADE"


class Target:
    """The server's side. Every method raises LedgerDown; MissingExtra if the extra is not installed."""

    __slots__ = ("_connection", "_months", "_session", "_until", "_writers", "last")

    def __init__(self, url: str) -> None:
        self._session = Session(url, seconds=_SECONDS)
        self.last = 0
        self._writers = 0  # the last one's id
        self._months: set[int] = set()  # whose partitions are there
        self._until = 0.0
        self._connection: Connection = self._session.connect()
        try:
            self._session.migrate(self._connection, make=True)
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """The address, without user, password and parameters."""
        return self._session.where

    @contextmanager
    def _working(self, *, alone: bool = False) -> Generator[Connection]:
        """One transaction. `alone`: beside which no writer writes."""
        connection = self._connection
        with self._session.translate_errors(), transaction(connection):
            self._session.begin(connection, f", pg_advisory_xact_lock{'' if alone else '_shared'}({ORDER})")
            yield connection

    def begin(self, source: Source, now: float) -> None:
        """Find the mark, or make one in an empty ledger. Raises LedgerDown if another ledger is here, or this one is in use."""
        self._until = now + _AHEAD_S
        with self._working(alone=True) as connection:
            execute = connection.execute
            execute(_MOVE)
            found = execute("SELECT last FROM move").fetchone()
            if found is None:
                self._refuse_rows(connection)
                execute(
                    "INSERT INTO move (id, source, last, begun) VALUES (1, %s, 0, %s)",
                    (storable(str(source.path)), now),
                )
                return
            self.last = int(found[0])
            self._refuse_others(connection, source)

    def _refuse_rows(self, connection: Connection) -> None:
        listed = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %s ORDER BY tablename"
        for (table,) in connection.execute(listed, (SCHEMA,)).fetchall():
            question = f"SELECT EXISTS (SELECT FROM {table})"  # noqa: S608 - the schema's names
            if table not in _OWN and scalar(connection.execute(question)):
                raise LedgerDown(f"{self.where}: a ledger is there already, with rows in {table} ({_EMPTY})")

    def _refuse_others(self, connection: Connection, source: Source) -> None:
        """Whatever is here must be what was moved from this source, and nothing more."""
        known = {(one.id, one.name) for one in source.writers()}
        for number, name in connection.execute("SELECT id, name FROM writers ORDER BY id").fetchall():
            if (number, name) not in known:
                raise LedgerDown(
                    f"{self.where}: is in use, writer {name} is not of {source.path}: nothing more can be moved to it ({_EMPTY})"
                )
            self._writers = number
        last = connection.execute("SELECT id, digest FROM entries ORDER BY id DESC LIMIT 1").fetchone()
        if (0 if last is None else int(last[0])) != self.last or (
            last is not None and bytes(last[1]) != source.digest(self.last)
        ):
            raise LedgerDown(
                f"{self.where}: its last entry is not what {source.path} has in that place: another ledger was moved there,"
                f" or entries were removed since ({_EMPTY})"
            )

    def add(self, entries: Sequence[MovedEntry], source: Source) -> None:
        """One step: these entries, their writers and texts, and the mark."""
        reached = entries[-1].id
        with self._working() as connection:
            marked = connection.execute("SELECT last FROM move FOR UPDATE").fetchone()
            if marked is None or int(marked[0]) != self.last:
                raise LedgerDown(f"{self.where}: another move to it is running (let it end)")
            self._make_months(connection, entries)
            self._add_writers(connection, source)
            with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                for entry in entries:
                    copy.write_row(entry)
            _add_texts(connection, source.texts(self.last, reached))
            connection.execute("UPDATE move SET last = %s", (reached,))
        self.last = reached

    def _make_months(self, connection: Connection, entries: Sequence[MovedEntry]) -> None:
        """Make the partitions that are missing. An entry of a time that is none goes to the default one."""
        months = {month_of(one.at) for one in entries if 0 <= one.at < self._until}
        for month in sorted(months - self._months):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
            make_ahead(connection, month)
        self._months |= months

    def _add_writers(self, connection: Connection, source: Source) -> None:
        found = source.writers(self._writers)
        if found:
            question = "INSERT INTO writers (id, name, at) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s)"
            with connection.cursor() as cursor:
                cursor.executemany(f"{question} ON CONFLICT DO NOTHING", found)
            self._writers = found[-1].id

    @contextmanager
    def end(self, source: Source, now: float) -> Generator[Callable[[str], Iterator[Sequence[Any]]]]:
        """The last transaction: all that changes is replaced, texts that are gone are removed. Committed when the block ends.

        Gives what runs a query inside it.
        """
        with self._working(alone=True) as connection:
            self._add_writers(connection, source)
            self._refuse_others(connection, source)
            self._match_texts(connection, source)
            self._replace_sums(connection, source)
            _replace_calls(connection, source.calls())
            for table, columns in source.other_tables().items():
                self._replace(connection, source, table, columns)
            for statement in (_FORGET_PRUNED, _LAST_SEQS):
                connection.execute(statement)
            _advance_ids(connection)
            connection.execute("UPDATE move SET ended = %s", (now,))
            yield lambda question: iter(connection.execute(question).fetchall())

    def undo(self) -> None:
        """In the block of `end`: leave everything as it was."""
        self._connection.rollback()

    def _match_texts(self, connection: Connection, source: Source) -> None:
        """Add the texts that no entry brought, and remove those that were erased at the source since they were moved."""
        question = 'SELECT request, part FROM contents ORDER BY request COLLATE "C", part COLLATE "C"'
        with connection.cursor(name="texts") as cursor:
            cursor.itersize = 10_000
            here: Iterator[tuple[str, str]] = iter(cursor.execute(question))
            for name, is_missing in _compared(source.text_names(), here):
                if is_missing:
                    _add_texts(connection, source.text(*name))
                else:
                    connection.execute("DELETE FROM contents WHERE request = %s AND part = %s", name)

    def _replace_sums(self, connection: Connection, source: Source) -> None:
        """As they are stored: nothing is added up anew, so that `verify` says of them what it says of the source's."""
        for table, columns, sums, key in (
            ("spend", rows.SPEND, rows.SPEND_SUMS, SpendKey),
            ("spend_days", rows.SPEND, rows.SPEND_SUMS, SpendKey),
            ("traffic", rows.TRAFFIC, rows.TRAFFIC_SUMS, TrafficKey),
            ("traffic_days", rows.TRAFFIC, rows.TRAFFIC_SUMS, TrafficKey),
        ):
            connection.execute(f"TRUNCATE {table}")
            found = source.table(table, [*columns])
            into = f"COPY {table} (name, {', '.join(columns)}) FROM STDIN"
            with connection.cursor() as cursor, cursor.copy(into) as copy:
                while some := list(islice(found, _SUMS_AT_ONCE)):
                    arrays = rows.sum_arrays(columns, {key(*row[:-sums]): row[-sums:] for row in some})
                    for row in zip(*arrays.values(), strict=True):
                        copy.write_row(row)

    def _replace(self, connection: Connection, source: Source, table: str, columns: Sequence[str]) -> None:
        connection.execute(f"TRUNCATE {table}")
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy,
        ):
            for row in source.table(table, columns):
                copy.write_row([storable(one) if isinstance(one, str) else one for one in row])

    def close(self) -> None:
        """Disconnect."""
        disconnect(self._connection)


def _add_texts(connection: Connection, texts: Iterator[Content]) -> None:
    for some in _portions(texts):
        connection.execute(rows.ADD_CONTENTS, rows.content_arrays(Batch(contents=some)))


def _portions(texts: Iterator[Content]) -> Iterator[list[Content]]:
    """Few enough at a time to hold them."""
    some: list[Content] = []
    size = 0
    for one in texts:
        some.append(one)
        size += len(one.text)
        if len(some) >= _TEXTS_AT_ONCE or size >= _TEXT_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _compared(
    there: Iterator[tuple[str, str]], here: Iterator[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], bool]]:
    """What only one of two ordered lists has: True if it is missing here."""
    one, other = next(there, None), next(here, None)
    while one is not None or other is not None:
        if one == other:
            one, other = next(there, None), next(here, None)
        elif other is None or (one is not None and _order(one) < _order(other)):
            assert one is not None
            yield (one[0], one[1]), True
            one = next(there, None)
        else:
            yield (other[0], other[1]), False
            other = next(here, None)


def _order(name: tuple[str, str]) -> tuple[bytes, bytes]:
    return name[0].encode(), name[1].encode()


def _replace_calls(connection: Connection, calls: Iterator[tuple[int, OpenCall]]) -> None:
    connection.execute("TRUNCATE calls")
    batch: Batch = Batch()
    writer = 0

    def write() -> None:
        arrays: Mapping[str, Sequence[Any]] = rows.call_arrays(batch)
        if arrays:
            connection.execute(rows.ADD_CALLS, {**arrays, "writer": writer})
        batch.opened.clear()

    for number, call in calls:
        if number != writer or len(batch.opened) >= _SUMS_AT_ONCE:
            write()
            writer = number
        batch.opened[call.request, call.step] = call
    write()


def _advance_ids(connection: Connection) -> None:
    """The next row that is written here gets an id above those that were moved."""
    question = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s AND is_identity = 'YES'"
    )
    for table, column in connection.execute(question, (SCHEMA,)).fetchall():
        highest = f"(SELECT max({column}) FROM {table})"  # noqa: S608 - the schema's names
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, %s), {highest}) WHERE {highest} IS NOT NULL", (table, column)
        )
