"""The Postgres ledger by months: partitions are there before they are needed, an older ledger becomes one of them, and old texts go whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from cascade.ledger.postgres.connection import MIGRATING, Session
from cascade.ledger.postgres.months import make_ahead, partitions
from cascade.ledger.postgres.schema import MIGRATIONS
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.records import Batch, Content
from cascade.ledger.stores import LedgerDown
from cascade.ledger.utc_months import month_name, month_of, month_start, next_month
from cascade.ledger.verifying.verification import verify
from tests.ledger.books import AT, Writer, make_older
from tests.ledger.test_postgres import fill, seen

DAY = 86_400
BEFORE_MONTHS = 10
"""The number of migrations of the version before."""


@contextmanager
def session(address: str) -> Iterator[Any]:
    """A connection to look with, in the ledger's schema."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET search_path = cascade_ledger")
        yield connection


def names(address: str, table: str = "entries") -> list[str]:
    """The partitions there are."""
    with session(address) as connection:
        return [one.name for one in partitions(connection.execute, table)]


def rows(address: str, table: str) -> int:
    """How many rows a table has."""
    with session(address) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def entry(seq: int, at: float) -> Any:
    """An entry to write."""
    return (seq, float(at), "open", f"r{seq}", b"{}", bytes([seq]))


def test_months_are_those_of_utc() -> None:
    """The month of a second, and the one after it."""
    december = month_start(2026, 12)
    assert month_of(december) == month_of(december + 30 * DAY) == december
    assert month_of(december - 0.001) == month_of(december - 2.4e-7) == month_start(2026, 11)
    assert month_name(december - 2.4e-7) == "2026-11", "not rounded to the microsecond"
    assert next_month(december) == month_start(2027, 1)
    assert next_month(month_start(2028, 1)) == month_start(2028, 2)


def test_this_month_and_the_next_one_are_there_and_strays_move_to_theirs(postgres_database: str) -> None:
    """Rows of a month without a partition are written all the same; they move when the writer makes it."""
    now = AT
    store = PostgresStore(postgres_database, clock=lambda: now)
    store.open("one")
    january, may = month_start(2027, 1), month_start(2027, 5)
    store.write(
        Batch(
            entries=[entry(1, AT), entry(2, january - 0.5), entry(3, january), entry(4, 0.0), entry(5, may)],
            contents=[Content("r1", "prompt", AT, b"salt", "one"), Content("r3", "prompt", january, b"salt", "three")],
        )
    )
    assert names(postgres_database) == ["entries_2026_11", "entries_2026_12", "entries_stray"]
    assert names(postgres_database, "contents") == ["contents_2026_11", "contents_2026_12", "contents_stray"]
    assert [rows(postgres_database, name) for name in names(postgres_database)] == [1, 1, 3]
    now = month_start(2026, 12) + 5.0
    store.write(Batch(entries=[entry(6, now)]))
    assert names(postgres_database) == ["entries_2026_11", "entries_2026_12", "entries_2027_01", "entries_stray"]
    assert [rows(postgres_database, name) for name in names(postgres_database)] == [1, 2, 1, 2]
    assert [rows(postgres_database, name) for name in names(postgres_database, "contents")] == [1, 0, 1, 0]
    with closing(PostgresReader(postgres_database)) as reader:
        assert [one.seq for one in reader.entries()] == [one.seq for one in reader.chain("one")] == [1, 2, 3, 4, 5, 6]
        assert [one.seq for one in reader.last(2)] == [5, 6]
        assert [one.seq for one in reader.entries(since=january, until=may)] == [3]
    store.close()


def test_a_writer_never_waits_for_a_month(postgres_database: str) -> None:
    """A reader of the default partition holds its making up: the row is a stray for a minute, and then it is not."""
    now = AT
    store = PostgresStore(postgres_database, clock=lambda: now)
    store.open("one")
    store.write(Batch(entries=[entry(1, AT)]))
    now = month_start(2027, 3) + 5.0
    with psycopg.connect(postgres_database) as reading:
        reading.execute("SELECT count(*) FROM cascade_ledger.entries")
        store.write(Batch(entries=[entry(2, now)]))
        assert rows(postgres_database, "entries_stray") == 1
    store.write(Batch(entries=[entry(3, now)]))
    assert rows(postgres_database, "entries_stray") == 2, "it is not tried again at once"
    now += 61
    store.write(Batch(entries=[entry(4, now)]))
    assert rows(postgres_database, "entries_stray") == 0
    assert rows(postgres_database, "entries_2027_03") == 3
    store.close()


def test_a_row_on_its_way_to_the_strays_finds_its_month(postgres_database: str) -> None:
    """The partition is made between the choice of the strays and the insertion: the row is in its month, and no error is told."""
    store = PostgresStore(postgres_database, clock=lambda: AT)
    store.open("one")
    store.write(Batch(entries=[entry(1, AT)]))
    march = month_start(2027, 3)
    with psycopg.connect(postgres_database) as making, session(postgres_database) as watching:
        making.execute("SET LOCAL search_path = cascade_ledger")
        make_ahead(making, march)
        thread = threading.Thread(target=store.write, args=(Batch(entries=[entry(2, march)]),))
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE relation = CAST('entries_stray' AS regclass) AND NOT granted"
        while watching.execute(waits).fetchone() == (0,):
            pass
        making.commit()
        thread.join()
    assert rows(postgres_database, "entries_2027_03") == 1
    assert rows(postgres_database, "entries_stray") == 0
    store.close()


class Asking(PostgresReader):
    """A reader that notes what it asks, and is told nothing."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def _rows(self, question: str, **values: Any) -> Iterator[Any]:
        self.asked.append((question, values))
        return iter(())


def test_a_period_is_read_from_its_months(postgres_database: str) -> None:
    """The plan names no other partition, and no sort: the indexes of the months give the order."""
    store = PostgresStore(postgres_database, clock=lambda: AT)
    store.open("one")
    store.write(Batch(entries=[entry(number, AT) for number in range(1, 10)]))
    store.close()
    november, december = month_start(2026, 11), month_start(2026, 12)
    with closing(Asking(postgres_database)) as reader, session(postgres_database) as connection:
        connection.execute("SET enable_seqscan = off")  # few rows are read as they stand, and sorted
        connection.execute("SET enable_sort = off")

        def plan(question: str, values: dict[str, Any]) -> str:
            return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {question}", values))

        list(reader.entries(since=november, until=december))
        list(reader.large(1, november, december, 10))
        list(reader.entries(after=7))
        list(reader.chain("one"))
        of_november, large, after, chain = (plan(*one) for one in reader.asked)
    for told in (of_november, large):
        assert "entries_2026_11" in told
        assert "entries_2026_12" not in told
    assert "entries_2026_11_cost" in large
    assert "entries_2026_11_pkey" in after
    assert "entries_2026_11_writer_seq_key" in chain
    assert "Merge Append" in after
    assert "Merge Append" in chain
    assert not any(step in one for one in (after, chain) for step in ("Sort  (", "Seq Scan on entries"))


def test_no_seq_is_written_twice_whatever_its_month(postgres_database: str) -> None:
    """Two processes under one name: whoever is second is told, also where no index could know."""
    stores = [PostgresStore(postgres_database, clock=lambda: AT) for _ in range(2)]
    for store in stores:
        store.open("same")
    stores[0].write(Batch(entries=[entry(1, AT), entry(2, AT)]))
    later = month_start(2026, 12)
    with pytest.raises(LedgerDown, match="under the same writer name"):
        stores[1].write(Batch(entries=[entry(2, later), entry(3, later)]))
    stores[0].write(Batch(entries=[entry(1, AT), entry(2, AT)]))
    assert rows(postgres_database, "entries") == 2
    for store in stores:
        store.close()


def make_old(address: str) -> dict[str, Any]:
    """A ledger of the version before, and what it tells."""
    for name in ("one", "two"):
        fill(PostgresStore(address, clock=lambda: AT), name)
    with closing(PostgresReader(address)) as reader:
        told = seen(reader)
    make_older(address, BEFORE_MONTHS)
    return told


def test_an_older_ledger_becomes_a_partition(postgres_database: str) -> None:
    """Everything is told as before, ids go on, rights and views stay; what a wrong clock put into the future is a stray."""
    told = make_old(postgres_database)
    future = next_month(next_month(next_month(2**31)))
    with session(postgres_database) as connection:
        connection.execute("CREATE ROLE auditor")
        connection.execute("GRANT SELECT ON entries, contents TO auditor")
        connection.execute("CREATE VIEW of_mine AS SELECT rung FROM steps")
        connection.execute("INSERT INTO contents VALUES ('far', 'prompt', %s, '', 'far')", (future,))
    try:
        with closing(PostgresReader(postgres_database)) as reader:
            assert seen(reader) == told
            assert verify(reader).findings == ()
        assert names(postgres_database) == ["entries_before", "entries_stray"]
        assert rows(postgres_database, "contents_stray") == 1
        store = PostgresStore(postgres_database)
        Writer(store, "three").ask(0, at=future)
        store.close()
        with closing(PostgresReader(postgres_database)) as reader:
            ids = [one.id for one in reader.entries()]
            assert ids == sorted(set(ids))
            assert [one.writer for one in reader.last(1)] == ["three"]
            assert verify(reader).findings == ()
        with session(postgres_database) as connection:
            assert connection.execute("SELECT count(*) FROM of_mine").fetchone()[0] > 20
            for table in ("entries", "contents"):
                may = "SELECT has_table_privilege('auditor', CAST(%s AS regclass), 'SELECT')"
                assert connection.execute(may, (table,)).fetchone() == (True,)
    finally:
        with session(postgres_database) as connection:
            connection.execute("DROP OWNED BY auditor")
            connection.execute("DROP ROLE auditor")


def test_a_ledger_that_is_too_large_is_upgraded_beforehand(postgres_database: str) -> None:
    """Whoever opens it is told what to run; that scans before it locks, and a version from before may write meanwhile."""
    told = make_old(postgres_database)
    down: list[LedgerDown] = []

    def look() -> None:
        try:
            PostgresReader(postgres_database)
        except LedgerDown as problem:
            down.append(problem)

    with psycopg.connect(postgres_database) as held, session(postgres_database) as watching:
        held.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
        thread = threading.Thread(target=look)
        thread.start()
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        while not watching.execute(cancel).fetchall():
            pass
        thread.join()
    assert "run `cascade ledger upgrade`" in str(down[0])
    books = Session(postgres_database, seconds=5.0)
    connection = books.connect()
    assert books.upgrade(connection)
    assert not books.upgrade(connection)
    connection.close()
    with closing(PostgresReader(postgres_database)) as reader:
        assert seen(reader) == told
    with session(postgres_database) as connection:
        (old, _) = partitions(connection.execute, "entries")
        assert (old.name, old.since) == ("entries_before", float("-inf"))
        assert old.until == month_of(old.until)
        assert connection.execute("SELECT made FROM version").fetchone() == (len(MIGRATIONS),)


def test_what_is_written_while_an_older_ledger_is_changed_is_counted(postgres_database: str) -> None:
    """A transaction of the version before commits when the migration has begun: no id is given twice, and the writer's last seq is known."""
    make_old(postgres_database)
    with psycopg.connect(postgres_database) as held, session(postgres_database) as watching:
        one = watching.execute("SELECT id FROM writers WHERE name = 'one'").fetchone()[0]
        held.execute(
            "INSERT INTO cascade_ledger.entries (writer, seq, at, kind, request, body, digest)"
            " VALUES (%s, 1000, %s, 'open', 'late', '{}', 'x')",
            (one, AT),
        )
        thread = threading.Thread(target=lambda: PostgresReader(postgres_database).close())
        thread.start()
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation')"
        while not watching.execute(waiting).fetchone()[0]:
            pass
        held.commit()
        thread.join()
        late = watching.execute("SELECT max(id) FROM entries").fetchone()[0]
        assert watching.execute("SELECT nextval(pg_get_serial_sequence('entries', 'id'))").fetchone() == (late + 1,)
        assert watching.execute("SELECT seq FROM writers WHERE name = 'one'").fetchone() == (1000,)


@pytest.mark.parametrize("held_up", [False, True])
def test_old_texts_go_by_whole_months(postgres_database: str, held_up: bool) -> None:
    """A month that is wholly too old is dropped, of the last one its old rows; if a reader is in the way, rows are removed as ever."""
    now = AT
    store, other = (PostgresStore(postgres_database, clock=lambda: now) for _ in range(2))
    writer, third = Writer(store, "one"), Writer(other, "two")
    writer.ask(0, at=AT, text="november")
    now = december = month_start(2026, 12) + 5.0
    writer.ask(1, at=december, text="december")
    now = january = month_start(2027, 1) + 5.0
    writer.ask(2, at=january, text="early in january")
    writer.ask(3, at=january + 3 * DAY, text="january")
    with psycopg.connect(postgres_database) as reading:
        if held_up:
            reading.execute("SELECT count(*) FROM cascade_ledger.contents")
        assert store.remove_content(january + DAY) == (6 if held_up else 2)
    there = ["contents_2027_01", "contents_2027_02", "contents_stray"]
    assert names(postgres_database, "contents") == (
        ["contents_2026_11", "contents_2026_12", *there] if held_up else there
    )
    third.ask(0, at=december, text="a writer whose clock is behind")
    assert store.remove_content(january + DAY) == (0 if held_up else 2)
    assert names(postgres_database, "contents") == there
    with closing(PostgresReader(postgres_database)) as reader:
        assert {one.request for one in reader.contents([f"one-{number}" for number in range(4)])} == {"one-3"}
        assert verify(reader).findings == ()
        assert reader.erase(["one-3"]) == 2
    assert rows(postgres_database, "contents") == 0
    store.close()
    other.close()


def test_a_month_goes_while_others_write(postgres_database: str) -> None:
    """Writers of later months go on, and none of their rows is missing afterwards."""
    now = AT
    store = PostgresStore(postgres_database, clock=lambda: now)
    Writer(store, "one").ask(0, at=AT, text="november")
    now = month_start(2026, 12) + 5.0

    def work(number: int, done: Callable[[], bool]) -> int:
        own = PostgresStore(postgres_database, clock=lambda: now)
        writer, count = Writer(own, f"w{number}"), 0
        while not done() or not count:
            writer.ask(count, at=now + count, text="december")
            count += 1
        own.close()
        return count

    over, written = threading.Event(), [0, 0]
    threads = [
        threading.Thread(target=lambda number=number: written.__setitem__(number, work(number, over.is_set)))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    while "contents_2026_11" in names(postgres_database, "contents"):
        store.remove_content(month_start(2026, 12))
    over.set()
    for thread in threads:
        thread.join()
    with closing(PostgresReader(postgres_database)) as reader:
        assert rows(postgres_database, "contents") == 2 * sum(written)
        assert verify(reader).findings == ()
    store.close()
