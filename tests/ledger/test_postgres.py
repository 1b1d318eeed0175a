"""The ledger in Postgres: what SQLite's gives, it gives; and what only a server can do to it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cascade.core.errors import MissingExtra
from cascade.ledger.postgres import connection as sessions
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.records import Batch, Content, SpendKey, TrafficKey
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.stores import LedgerDown, Reader, Store
from cascade.ledger.verifying.verification import verify
from tests.ledger.books import AT, Writer, make_older
from tests.servers import PostgresServer

DAY = 86_400
KEY = SpendKey(int(AT // 900 * 900), "support", "refund", "flow", "team", "cascade", "haiku", "claude-haiku")


def fill(store: Store, name: str, requests: int = 6) -> None:
    """The same requests wherever they are written."""
    writer = Writer(store, name)
    for number in range(requests):
        opens, text = number % 3 == 0, None if number % 2 else f"“naïve” text {number} \u2028"
        writer.ask(number, at=AT + 700 * number, steps=1 + number % 3, ended=number != 3, opens=opens, text=text)
    store.close()


def seen(reader: Reader) -> dict[str, Any]:
    """All that a reader tells, in an order of its own where none is promised."""
    requests = [f"{name}-{number}" for name in ("one", "two") for number in range(6)]
    since, until = int(AT // DAY) * DAY, int(AT // DAY + 1) * DAY
    return {
        "writers": list(reader.writers()),
        "chains": {name: list(reader.chain(name)) for name in reader.writers()},
        "entries": list(reader.entries()),
        "after": list(reader.entries(after=5, since=AT + 700, until=AT + 2_000)),
        "last": list(reader.last(3)),
        "contents": sorted(reader.contents(requests), key=lambda one: (one.request, one.part)),
        "found": [
            reader.find({"customer": "c1"}),
            reader.find({"customer": "c1", "workflow": "flow-1"}),
            reader.find({"customer": "c", "request": "one-1"}),
            reader.find({"request": "two-2"}),
        ],
        "spend": sorted(reader.spend(since, until)),
        "traffic": sorted(reader.traffic(since, until)),
        "spent": [
            reader.spent("support", "policy", "", AT + 800, AT + 3_000),
            reader.spent("support", "workflow", "flow-1", AT, AT + DAY),
            reader.spent("support", "task", "other", AT, AT + DAY),
            reader.spent("support", "policy", "", AT, AT + DAY),
            reader.spent("support", "workflow", "flow-1", AT, AT + DAY, alive=["one", "two"]),
            reader.spent("support", "workflow", "flow-1", AT + DAY, AT + 2 * DAY),
        ],
        "large": [reader.large(3_000, AT, AT + DAY, most) for most in (2, 100)],
        "types": sorted(
            {str(tuple(map(type, row))) for row in (*reader.spend(since, until), *reader.traffic(since, until))}
        ),
    }


def test_both_engines_tell_the_same(tmp_path: Path, postgres_database: str) -> None:
    """Every question has the same answer, to the byte and to the type; both verify, also after texts were erased."""
    path = tmp_path / "ledger.db"
    for name in ("one", "two"):
        fill(SqliteStore(path, synchronous="NORMAL", clock=lambda: AT), name)
        fill(PostgresStore(postgres_database, clock=lambda: AT), name)
    readers: tuple[Reader, Reader] = SqliteReader(path), PostgresReader(postgres_database)
    try:
        told = [seen(reader) for reader in readers]
        assert told[0]["entries"]
        assert told[0] == told[1]
        for reader in readers:
            calls = [
                reader.spent("support", "policy", "", AT, AT + DAY, alive=alive)
                for alive in ((), ["one"], ["one", "two"])
            ]
            assert [one - calls[2] for one in calls] == [1_000, 500, 0], "one call of each has no step"
            found = verify(reader)
            assert (found.findings, found.unsettled, found.writers) == ((), 2, 2)
        assert [reader.erase(reader.find({"customer": "c2"})) for reader in readers] == [8, 8]
        told = [seen(reader) for reader in readers]
        assert told[0] == told[1]
        assert {one.request for one in told[0]["contents"]} == {"one-0", "one-4", "two-0", "two-4"}
        assert all(verify(reader).findings == () for reader in readers)
    finally:
        for reader in readers:
            reader.close()
    stores: tuple[Store, Store] = SqliteStore(path, synchronous="NORMAL"), PostgresStore(postgres_database)
    for store in stores:
        store.open("three")
    assert [store.remove_content(AT + 1) for store in stores] == [4, 4]
    for store in stores:
        store.close()


def test_people_find_real_columns(postgres_database: str) -> None:
    """The views have what was left out of a body at its default, as SQLite's have."""
    fill(PostgresStore(postgres_database), "one")
    with psycopg.connect(postgres_database) as connection:
        steps = connection.execute(
            "SELECT step, cost_usd, cache_read, repaired, failed_checks, reason, seq FROM cascade_ledger.steps"
            " WHERE request = 'one-1' ORDER BY seq"
        )
        micros = Decimal("0.000002")
        assert steps.fetchall() == [
            (0, micros, 0, False, [], "low_confidence", 6),
            (1, 2 * micros, 0, False, [], None, 7),
        ]
        requests = connection.execute("SELECT workflow, customer, flags, metadata FROM cascade_ledger.requests LIMIT 1")
        metadata = {"workflow": "flow-0", "customer": "c0", "key": "team"}
        assert requests.fetchone() == ("flow-0", "c0", [], metadata)
        assert connection.execute("SELECT count(*), sum(cost) FROM cascade_ledger.outcomes").fetchone() == (5, 76_000)
        assert connection.execute("SELECT sum(bound) FROM cascade_ledger.opens").fetchone() == (1000,)


def test_a_batch_that_was_written_is_not_written_again(postgres_database: str) -> None:
    """A commit may go well and not tell so; half of a batch under this name is another's, and is told."""
    store = PostgresStore(postgres_database)
    store.open("one")
    batch = Batch(entries=[(n, AT, "open", "r", b"{}", bytes([n])) for n in (1, 2)], spend={KEY: [1, 0, 5, 1, 1, 0]})
    store.write(batch)
    store.write(batch)
    store.close()
    store.write(batch)  # connects anew
    reader = PostgresReader(postgres_database)
    assert [entry.digest for entry in reader.entries()] == [b"\1", b"\2"]
    assert reader.spent("support", "policy", "", AT, AT + 1) == 5
    with pytest.raises(LedgerDown, match="under the same writer name"):
        store.write(Batch(entries=[(n, AT, "open", "r", b"{}", b"") for n in (2, 3)]))
    store.write(Batch(entries=[(3, AT, "open", "r", b"{}", b"")]))
    assert len(reader.last(10)) == 3
    reader.close()
    store.close()


def test_what_postgres_cannot_hold_stops_nothing(postgres_database: str) -> None:
    """NUL, half a surrogate pair, a task too long for an index: stored as far as can be, and the ledger goes on."""
    store = PostgresStore(postgres_database)
    store.open("one")
    keys = [
        SpendKey(0, "p", task, "", "", "cascade", "haiku", "m") for task in ("a\0", "a\ufffd", "\ud800", "x" * 100_000)
    ]
    store.write(
        Batch(
            contents=[Content("r", "prompt", AT, b"salt", "\0\ud800"), Content("r", "prompt", AT, b"other", "twice")],
            spend={key: [1, 1, 1, 1, 1, 1] for key in keys},
        )
    )
    reader = PostgresReader(postgres_database)
    assert [(one.salt, one.text) for one in reader.contents(["r"])] == [(b"salt", "\ufffd?")]
    assert sorted((row[2], row[8]) for row in reader.spend(0, 900)) == [("?", 1), ("a\ufffd", 2), ("x" * 100_000, 1)]
    reader.close()
    store.close()


def test_many_writers_start_at_once_and_add_to_the_same_sums(postgres_database: str) -> None:
    """The schema is made once, no two wait for each other in a circle, and no sum is lost."""
    keys = [TrafficKey(900 * n, "p", f"t{n}", "", "cascade", "haiku", n) for n in range(40)]
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        store = PostgresStore(postgres_database)
        ready.wait()
        store.open(f"w{number}")
        for turn in range(10):
            order = keys if (number + turn) % 2 else reversed(keys)
            store.write(Batch(traffic={key: [1, 1, 1, 0, 2, 4.0, 0, 0] for key in order}))
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    reader = PostgresReader(postgres_database)
    assert sorted(reader.writers()) == [f"w{n}" for n in range(8)]
    sums = list(reader.traffic(0, 900 * 40))
    assert len(sums) == 40
    assert {row[7:] for row in sums} == {(80, 80, 80, 0, 160, 320.0, 0, 0)}
    reader.close()


def test_who_goes_on_after_the_last_entry_has_missed_none(postgres_database: str) -> None:
    """An entry with a smaller id that is still to commit holds back those behind it."""
    store = PostgresStore(postgres_database)
    store.open("slow")
    store.close()
    insert = (
        "INSERT INTO cascade_ledger.entries (writer, seq, at, kind, request, body, digest)"
        " VALUES (1, %s, 0, 'open', '', '{}', '')"
    )
    found: list[int] = []
    reader = PostgresReader(postgres_database)

    def read() -> None:
        found.extend(entry.seq for entry in reader.entries())

    with psycopg.connect(postgres_database) as slow, psycopg.connect(postgres_database) as watching:
        slow.execute("SELECT pg_advisory_xact_lock_shared(%s)", (sessions.ORDER,))
        slow.execute(insert, (1,))
        thread = threading.Thread(target=read)
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while watching.execute(waits).fetchone() == (0,):
            watching.rollback()
        watching.execute(insert, (2,))
        watching.commit()
        assert found == []
        slow.commit()
        thread.join()
    assert found == [1, 2]
    reader.close()


def test_a_server_that_is_gone_is_told_and_found_again(make_postgres: Callable[[], PostgresServer]) -> None:
    """Killed, it is LedgerDown at once; hanging, after a few seconds; back again, the same store goes on. No password is told."""
    server = make_postgres()
    address = server.database().replace("not-asked-for", "s3cret")
    url = f"{address}?application_name=s3cret"
    store, batch = PostgresStore(url, seconds=0.2), Batch(entries=[(1, AT, "open", "r", b'{"text":"s3cret"}', b"")])
    store.open("one")
    reader = PostgresReader(url)
    assert reader.where == address.replace("postgres:s3cret@", "")
    server.kill()
    for _ in range(2):
        with pytest.raises(LedgerDown, match="cannot be reached") as down:
            store.write(batch)
        assert "s3cret" not in str(down.value) + repr(down.value.__cause__)
        with pytest.raises(LedgerDown, match="cannot be reached"):
            reader.writers()
    server.start()
    store.write(batch)
    assert [entry.seq for entry in reader.last(5)] == [1]
    server.pause()
    try:
        with pytest.raises(LedgerDown, match="cannot be reached"):
            store.write(Batch(entries=[(2, AT, "open", "r", b"{}", b"")]))
    finally:
        server.resume()
    store.write(Batch(entries=[(2, AT, "open", "r", b"{}", b"")]))
    assert [entry.seq for entry in reader.last(5)] == [1, 2]
    reader.close()
    store.close()


def test_an_address_that_leads_nowhere_is_one_line(postgres_server: PostgresServer) -> None:
    """What, where, what to do; and never the password."""
    url = postgres_server.url.replace("not-asked-for", "s3cret")
    for change, told in (
        (url, "there is no ledger yet"),
        (url.rpartition("/")[0] + "/absent", 'refuses the connection: database "absent" does not exist'),
        (url.replace("postgres:", "nobody:"), 'refuses the connection: role "nobody" does not exist'),
        (url + "?nonsense=s3cret", "cannot be reached"),
        (url.replace(str(postgres_server.port), "nowhere"), "a value cannot be used|cannot be reached"),
        (
            url.replace("s3cret", "s3cret/@[?"),
            "cannot be reached|a value cannot be used|refuses the connection|no ledger yet",
        ),
    ):
        with pytest.raises(LedgerDown, match=told) as down:
            PostgresReader(change)
        assert "s3cret" not in str(down.value)
        assert "\n" not in str(down.value)


def test_errors_of_an_older_ledger_are_counted_from_its_entries(postgres_database: str) -> None:
    """They were on record as escalations only."""
    store = PostgresStore(postgres_database, clock=lambda: AT)
    writer = Writer(store, "one")
    for number, reason in enumerate(("error", "low_confidence", "error")):
        writer.ask(number, at=AT + 700 * number, steps=2, reason=reason)
    store.close()
    with closing(PostgresReader(postgres_database)) as reader:
        before = sorted(reader.spend(0, 1 << 40))
    assert {(row[6], row[-1]) for row in before if row[3] == "flow-0"} == {("haiku", 2), ("sonnet", 0)}
    make_older(postgres_database, 4)
    with closing(PostgresReader(postgres_database)) as reader:
        assert sorted(reader.spend(0, 1 << 40)) == before
        assert verify(reader).findings == ()


def test_a_newer_ledger_and_a_stranger_are_left_alone(postgres_database: str) -> None:
    """Nothing is changed in what another version, or somebody else, has made."""
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE SCHEMA cascade_ledger")
        connection.execute("CREATE TABLE cascade_ledger.version (made INTEGER)")
        connection.execute("INSERT INTO cascade_ledger.version VALUES (99)")
    with pytest.raises(LedgerDown, match="written by a newer cascade"):
        PostgresStore(postgres_database).open("one")
    with psycopg.connect(postgres_database) as connection:
        connection.execute("DROP TABLE cascade_ledger.version")
        connection.execute("CREATE TABLE cascade_ledger.entries (mine int)")
    with pytest.raises(LedgerDown, match="is not a ledger"):
        PostgresStore(postgres_database).open("one")


def test_every_form_of_the_address_will_do(postgres_database: str) -> None:
    """As people write it, and as SQLAlchemy does; a commit waits for the disk, whatever the database's default."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off".encode())
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        store = PostgresStore(postgres_database.replace("postgresql", scheme, 1))
        store.open(scheme)
        with store._working() as within:
            assert within.execute("SHOW synchronous_commit").fetchone()[0] == "on"
        store.close()


def test_without_the_extra_it_is_said() -> None:
    """One line that names the extra, where the ledger is opened; `import cascade.ledger.postgres.store` needs none."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import cascade.ledger.postgres.store\n"
        "from cascade.core.policy.operations import Ledger\n"
        "from cascade.ledger.opening import open_ledger\n"
        "open_ledger('postgresql://h/d', Ledger())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingExtra.__name__ in done.stderr
    assert "cascade-ladder[postgres]" in done.stderr
