"""Connections that are shared: the process's own pool, and a pooler in transaction mode between it and the server."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from cascade.ledger.audit import AuditTables
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.connection import Session
from cascade.ledger.postgres.pooling import MOST
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.records import AuditRow, Batch
from cascade.ledger.stores import LedgerDown
from cascade.ledger.upkeep.pruning import prune
from cascade.ledger.utc_months import month_start
from cascade.ledger.verifying.verification import verify
from tests.ledger.books import AT, Writer
from tests.ledger.test_postgres import fill, seen
from tests.servers import PgBouncer, PostgresServer

DECEMBER = month_start(2026, 12)


def backends(address: str) -> int:
    """How many connections the server has, of the ledger's."""
    with psycopg.connect(address) as connection:
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cascade'"
        )
        row = connection.execute(asked).fetchone()
    assert row is not None
    return int(row[0])


def test_threads_share_few_connections(postgres_database: str) -> None:
    """Forty at once ask and tell; none fails, and the server has no more connections than the pool may hold."""
    GatewayTables(postgres_database).put_key("k", AT, "{}")
    ready = threading.Barrier(40)

    def work(number: int) -> int:
        ready.wait()
        tables = GatewayTables(postgres_database, seconds=30.0)
        tables.add_feedback(Feedback(f"r{number}", 1.0, AT + number))
        with closing(open_reader(postgres_database)) as reader:
            assert reader.writers() == ()
        return len(tables.keys())

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(work, range(40))) == [1] * 40
    assert len(GatewayTables(postgres_database).feedback()) == 40
    assert 1 <= backends(postgres_database) <= MOST


def test_a_stream_left_open_disturbs_nobody(postgres_database: str) -> None:
    """Its cursor is closed with its connection, not in the transaction of whoever borrows that next."""
    fill(PostgresStore(postgres_database, clock=lambda: AT), "one")
    reader = PostgresReader(postgres_database)
    stream = reader.chain("one")
    next(stream)
    reader.close()
    with closing(PostgresReader(postgres_database)) as other, other.snapshot():
        del stream
        assert len(other.last(100)) > 3


def test_readers_that_nobody_closes_use_up_nothing(postgres_database: str) -> None:
    """More of them than the pool holds, and the next one is still given a connection."""
    fill(PostgresStore(postgres_database, clock=lambda: AT), "one")
    for _ in range(MOST + 2):
        assert PostgresReader(postgres_database).last(1)
    assert GatewayTables(postgres_database).keys() == ()


def test_a_server_that_is_gone_or_hangs_holds_up_no_borrower() -> None:
    """Refused, it is told at once and says why; hanging, within the seconds that were given."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as hanging:
        address = f"postgresql://me:hunter2@127.0.0.1:{hanging.getsockname()[1]}/books"

        def ask(_: int) -> str:
            try:
                Session(address, seconds=0.3).borrow()
            except LedgerDown as down:
                return str(down)
            return ""

        with ThreadPoolExecutor(MOST + 4) as pool:
            told = list(pool.map(ask, range(MOST + 4)))
        assert all("cannot be reached" in one for one in told)
        assert not any("hunter2" in one for one in told)
    with pytest.raises(LedgerDown, match="cannot be reached"):
        Session(address, seconds=30.0).borrow()


def test_a_connection_that_died_in_the_pool_is_not_given_out(postgres_database: str) -> None:
    """The server ended it, as a restart does: the next question is answered."""
    tables = GatewayTables(postgres_database)
    tables.put_key("k", AT, "{}")
    with psycopg.connect(postgres_database, autocommit=True) as killing:
        ended = killing.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'cascade'"
        )
        assert ended.fetchall()
    assert tables.keys() == ("{}",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_has_connections_of_its_own(postgres_database: str) -> None:
    """What its parent borrows stays its parent's."""
    tables = GatewayTables(postgres_database)
    tables.put_key("k", AT, "{}")
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if tables.keys() == ("{}",) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tables.keys() == ("{}",)


def test_the_whole_ledger_works_through_a_pooler(postgres_server: PostgresServer, postgres_database: str) -> None:
    """Written, migrated, leased, summed, verified, erased, pruned: each transaction on whatever connection there is, with no state between."""
    with PgBouncer(postgres_server) as pooler:
        address = pooler.through(postgres_database)
        now = AT

        def write(name: str) -> None:
            fill(PostgresStore(address, clock=lambda: now), name)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, ("one", "two", "three", "four")))
        with closing(PostgresReader(postgres_database)) as direct, closing(PostgresReader(address)) as reader:
            assert seen(reader) == seen(direct)
            found = verify(reader)
            assert (found.findings, found.writers) == ((), 4)
            for _ in range(12):  # past psycopg's threshold for preparing a statement
                assert len(reader.last(5)) == 5
        store = PostgresStore(address, clock=lambda: now)
        writer = Writer(store, "five")
        asked = writer.ask(0, at=AT, text="kept")
        for number in range(1, 12):
            writer.ask(number, at=AT + number, text="kept")
        row = AuditRow(
            asked, AT, "support", "e", "refund", "f", "random", "haiku", 0, 0, 0.5, None, 5, None, "[]", None, 1
        )
        store.write(Batch(samples=[row]))
        audits = [AuditTables(address) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            leases = list(
                pool.map(lambda one: one.lease("support", str(id(one)), AT, 60.0, bound=1, cap=10**9, day=0.0), audits)
            )
        assert sum(not isinstance(lease, str) for lease in leases) == 1, "one worker has it"
        with closing(PostgresReader(address)) as reader:
            assert reader.erase(["five-3"]) == 2
        assert store.remove_content(AT - 1) == 0
        done = prune(address, DECEMBER, dry_run=False, now=lambda: DECEMBER + 1.0)
        assert done.months
        with closing(PostgresReader(address)) as reader:
            assert verify(reader).findings == ()
        store.close()
