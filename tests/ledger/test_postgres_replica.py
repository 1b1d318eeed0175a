"""A read replica: what only reads takes it, says how far it is behind, and takes the ledger itself while it is down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from cascade.core.errors import ConfigurationError
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.stores import LedgerDown
from cascade.ledger.verifying.verification import verify
from tests.cli.conftest import Run
from tests.cli.within import run
from tests.ledger.books import AT, Writer
from tests.ledger.test_postgres import fill, seen
from tests.servers import PostgresReplica, PostgresServer

__all__ = ["run"]


@pytest.fixture(scope="module")
def replica() -> Iterator[PostgresReplica]:
    """A hot standby of a server of its own: the session's has a great many databases, which would all be copied."""
    with PostgresServer() as primary, PostgresReplica(primary) as server:
        yield server


@pytest.fixture
def database(replica: PostgresReplica) -> str:
    """The address of a fresh database on the primary."""
    return replica.primary.database()


def test_a_replica_tells_what_the_ledger_does(replica: PostgresReplica, database: str) -> None:
    """Every question is answered on a hot standby; `verify` runs there; and it is never taken for the ledger."""
    for name in ("one", "two"):
        fill(PostgresStore(database, clock=lambda: AT), name)
    replica.catch_up()
    address = replica.same(database)
    with (
        closing(PostgresReader(database)) as ledger,
        closing(PostgresReader(address, is_replica=True)) as reader,
    ):
        assert seen(reader) == seen(ledger)
        assert verify(reader).findings == ()
        assert reader.anchors() == {}
        assert reader.behind() == 0.0
        assert (ledger.behind(), ledger.is_replica) == (0.0, False)
        with pytest.raises(LedgerDown, match="is read-only"):
            reader.erase(["one-0"])
    with pytest.raises(LedgerDown, match="is read-only"):
        PostgresStore(address).open("three")
    with pytest.raises(LedgerDown, match="is not a replica"):
        PostgresReader(database, is_replica=True)


def test_how_far_it_is_behind(replica: PostgresReplica, database: str) -> None:
    """What the primary has sent, and the replica has not shown yet, is told in seconds."""
    fill(PostgresStore(database, clock=lambda: AT), "one")
    replica.catch_up()
    with psycopg.connect(replica.url, autocommit=True) as control:
        control.execute("SELECT pg_wal_replay_pause()")
        try:
            store = PostgresStore(database, clock=lambda: AT)
            Writer(store, "two").ask(0, at=AT)
            store.close()
            with psycopg.connect(database) as primary:
                sent = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
            received = "SELECT pg_last_wal_receive_lsn() >= CAST(%s AS pg_lsn)"
            while control.execute(received, sent).fetchone() != (True,):
                pass
            with closing(PostgresReader(replica.same(database), is_replica=True)) as reader:
                assert (reader.behind() or 0.0) > 0.0
                assert list(reader.writers()) == ["one"]
        finally:
            control.execute("SELECT pg_wal_replay_resume()")
    replica.catch_up()
    with closing(PostgresReader(replica.same(database), is_replica=True)) as reader:
        assert list(reader.writers()) == ["one", "two"]


def test_commands_that_only_read_take_it(replica: PostgresReplica, database: str, run: Run) -> None:
    """The figures are the same; stderr says where they are from. What is written goes to the ledger."""
    fill(PostgresStore(database, clock=lambda: AT), "one")
    replica.catch_up()
    where = {"CASCADE_LEDGER": database}
    both = {**where, "CASCADE_LEDGER_REPLICA": replica.same(database)}
    port = f"127.0.0.1:{replica.port}"
    for command in (
        ("costs", "--since", "2026-11-01", "--json"),
        ("ledger", "verify", "--json"),
        ("ledger", "export"),
        ("ledger", "tail", "--json"),
    ):
        plain, read = run(*command, environment=where), run(*command, environment=both)
        assert plain.code == read.code == 0
        assert "replica" not in plain.err
        assert f"read from the replica postgresql://{port}/" in read.err
        assert " s behind" in read.err
        if command[-1] == "--json" and command[1] != "tail":
            plain_told, told = json.loads(plain.out), json.loads(read.out)
            assert port in told.pop("ledger")
            plain_told.pop("ledger")
            assert told == plain_told
        else:
            assert read.out == plain.out
    other = run("ledger", "tail", "--ledger", database + "?application_name=x", environment=both)
    assert "replica" not in other.err, "it is the default ledger's replica, not any ledger's"
    erased = run("ledger", "erase", "--where", "request=one-0", "--json", environment=both)
    assert json.loads(erased.out)["erased"] is True


def test_without_the_replica_the_ledger_itself_is_read(
    postgres_server: PostgresServer, postgres_database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is down, or is none, or has another ledger: that is said, and the ledger is read."""
    fill(PostgresStore(postgres_database, clock=lambda: AT), "one")
    nowhere = postgres_database.replace(f":{postgres_server.port}/", ":1/")
    for address, why in ((nowhere, "cannot be reached"), (postgres_database, "is not a replica")):
        both = {"CASCADE_LEDGER": postgres_database, "CASCADE_LEDGER_REPLICA": address}
        read = run("ledger", "tail", environment=both)
        assert (read.code, len(read.out.splitlines())) == (0, 20)
        assert why in read.err
        assert "not-asked-for" not in read.err
    monkeypatch.setenv("CASCADE_LEDGER", postgres_database)
    for wrong in ("/a/file.db", "mysql://user:not-told@host/name", "host=db password=not-told"):
        monkeypatch.setenv("CASCADE_LEDGER_REPLICA", wrong)
        with pytest.raises(ConfigurationError, match="CASCADE_LEDGER_REPLICA: names no replica") as refused:
            open_reader(from_replica=True)
        assert "not-told" not in str(refused.value)
    open_reader().close()
