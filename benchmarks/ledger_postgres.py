"""The Postgres ledger by months against the same tables in one piece: `python benchmarks/ledger_postgres.py [--entries N] [--quick] [--only prune]`.

Two databases of one server with the same rows: `months` as the ledger has it, `plain` with tables that are not partitioned, but have the same
columns and indexes. Each figure is taken of both in turn, the median is printed, and their ratio: on a noisy machine only that means much.

    write       requests a second through the writer's connection, a batch of 100 requests each
    read        a day's entries, those after the last thousand, the last 20, the calls above a cost in a month
    texts       a month of texts that is too old: dropped, and removed row by row
    prune       a month of entries: `ledger prune`, and DELETE of the same rows
    migrate     a ledger of the version before: all at once, as a process does that opens it, and by `ledger upgrade`

The server is one of its own without fsync, as the tests have it: a disk that is waited for makes the difference smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import psycopg

from cascade.ledger.postgres.connection import Session
from cascade.ledger.postgres.schema import MIGRATIONS
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.records import Batch
from cascade.ledger.upkeep.pruning import prune
from cascade.ledger.utc_months import month_of, next_month
from tests.ledger.books import Writer
from tests.servers import PostgresServer

START = month_of(1_767_225_600.0)  # January 2026
MONTHS = 12
BEFORE_MONTHS = 10
_BODY = """'{"index":0,"rung":"haiku","model":"claude-haiku","verdict":"answered","cost":' || (CAST(n AS BIGINT) * 7919 %% 100000) || ',"steps":1,"arm":"cascade",'
    || '"latency_ms":812.3,"input_tokens":310,"output_tokens":49,"confidence":0.9,"source":"self_reported","resolved":true,"text":"'
    || repeat('x', 120) || '"}'"""
_ROWS = f"""INSERT INTO entries (writer, seq, at, kind, request, body, digest)
    SELECT 1 + request %% 4, (request / 4) * 3 + kind + 1, %(start)s + request * %(step)s, (ARRAY['request', 'step', 'outcome'])[kind + 1],
        'casc_' || md5(request::text), {_BODY}, decode(md5(n::text) || md5(n::text), 'hex')
    FROM (SELECT n, n / 3 AS request, n %% 3 AS kind FROM generate_series(0, %(rows)s - 1) AS n) AS numbers"""  # noqa: S608 - constants
_TEXTS = """INSERT INTO contents (request, part, at, salt, text)
    SELECT 'text_' || n, 'prompt', %(start)s + n * %(step)s, decode(md5(n::text), 'hex'), repeat(md5(n::text), 8)
    FROM generate_series(0, %(rows)s - 1) AS n"""
_PLAIN = (
    "CREATE TABLE flat (LIKE entries INCLUDING DEFAULTS INCLUDING IDENTITY)",
    "DROP TABLE entries CASCADE", "ALTER TABLE flat RENAME TO entries",
    "ALTER TABLE entries ADD PRIMARY KEY (id), ADD UNIQUE (writer, seq)",
    "CREATE INDEX ON entries ((CAST(CAST(body AS jsonb) ->> 'cost' AS BIGINT))) WHERE kind = 'outcome'",
    "CREATE TABLE flat (LIKE contents INCLUDING DEFAULTS)", "DROP TABLE contents", "ALTER TABLE flat RENAME TO contents",
    "ALTER TABLE contents ADD PRIMARY KEY (request, part)", "CREATE INDEX ON contents (at)",
)  # fmt: skip


@contextlib.contextmanager
def ledger(address: str) -> Iterator[Any]:
    """A connection to its tables."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET search_path = cascade_ledger")
        yield connection


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def months() -> list[int]:
    """The beginnings of the months that are filled, and of the one after."""
    found = [START]
    for _ in range(MONTHS):
        found.append(next_month(found[-1]))
    return found


def make(address: str, *, plain: bool) -> None:
    """Make an empty ledger with all its months."""
    for start in months()[::2]:
        store = PostgresStore(address, clock=lambda start=start: float(start))
        store.open("filler")
        store.write(Batch())  # makes two months
        store.close()
    with ledger(address) as connection:
        connection.execute("INSERT INTO writers (name, at) SELECT 'w' || n, 0 FROM generate_series(2, 4) AS n")
        for statement in _PLAIN if plain else ():
            connection.execute(statement)


def fill(connection: Any, rows: int) -> None:
    """Rows over all months, evenly."""
    values = {"start": float(START), "step": (months()[-1] - START) / (rows / 3 + 1), "rows": rows}
    connection.execute(_ROWS, values, prepare=False)
    connection.execute("ANALYZE")


def told(what: str, by_months: float, plain: float, unit: str) -> None:
    """One line. `ratio`: months / plain."""
    print(
        f"{what:<34} months {by_months:>10,.2f} {unit}   plain {plain:>10,.2f} {unit}   ratio {by_months / plain:.2f}",
        flush=True,
    )


def writing(addresses: dict[str, str], batches: int) -> None:
    """Requests a second."""
    now = float(months()[-2])
    writers = {
        name: Writer(PostgresStore(address, clock=lambda: now), "writing") for name, address in addresses.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for turn in range(batches):
        for name, writer in writers.items():
            store, whole = writer.store, Batch()
            collects: Any = type("Collected", (), {"write": lambda _, one, whole=whole: add(whole, one)})()
            writer.store = collects
            for number in range(100):
                writer.ask(turn * 100 + number, at=now + turn, steps=1)
            writer.store = store
            taken[name].append(seconds(lambda store=store, whole=whole: store.write(whole)))
    rates = {name: 100 / statistics.median(times) for name, times in taken.items()}
    told("write: requests a second", rates["months"], rates["plain"], "/s")
    for writer in writers.values():
        writer.store.close()


def add(whole: Batch, one: Batch) -> None:
    """Join a batch to another."""
    whole.entries += one.entries
    for there, more in ((whole.spend, one.spend), (whole.traffic, one.traffic)):
        for key, sums in more.items():
            there[key] = [a + b for a, b in zip(there.get(key, [0] * len(sums)), sums, strict=True)]  # type: ignore[index,assignment]


def reading(addresses: dict[str, str], rows: int, turns: int) -> None:
    """Milliseconds of what readers ask."""
    last = months()[-2]
    asked: dict[str, Callable[[PostgresReader], object]] = {
        "read: a day's entries": lambda reader: sum(1 for _ in reader.entries(since=last, until=last + 86_400.0)),
        "read: a month's entries": lambda reader: sum(1 for _ in reader.entries(since=last, until=months()[-1])),
        "read: after the last thousand": lambda reader: sum(1 for _ in reader.entries(after=rows - 1_000)),
        "read: the last 20": lambda reader: reader.last(20),
        "read: calls above a cost in a month": lambda reader: reader.large(99_000, last, months()[-1], 1_000),
        "read: the texts of 200 requests": lambda reader: list(reader.contents([f"none_{n}" for n in range(200)])),
    }
    readers = {name: PostgresReader(address) for name, address in addresses.items()}
    for what, ask in asked.items():
        taken: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(turns):
            for name, reader in readers.items():
                taken[name].append(seconds(lambda ask=ask, reader=reader: ask(reader)) * 1_000)
        told(what, statistics.median(taken["months"]), statistics.median(taken["plain"]), "ms")
    for reader in readers.values():
        reader.close()


def dropping(addresses: dict[str, str], rows: int) -> None:
    """A month of texts, and one of entries."""
    month = 31 * 86_400 / (rows + 1)
    taken: dict[str, float] = {}
    for name, address in addresses.items():
        with ledger(address) as connection:
            connection.execute(_TEXTS, {"start": float(START), "step": month, "rows": rows}, prepare=False)
            connection.execute("VACUUM ANALYZE contents")
        store = PostgresStore(address, seconds=600.0, clock=lambda: float(months()[-2]))
        store.open("dropping")
        taken[name] = seconds(lambda store=store: store.remove_content(float(next_month(START))))
        store.close()
    told(f"texts: {rows:,} of a month gone", taken["months"], taken["plain"], "s")


def pruning(server: PostgresServer, rows: int) -> None:
    """One month with so many entries, and the next with a tenth."""
    taken: dict[str, float] = {}
    for name in ("months", "plain"):
        address = server.database()
        make(address, plain=name == "plain")
        second = next_month(START)
        with ledger(address) as connection:
            step = (second - START) / (rows / 3)
            connection.execute(_ROWS, {"start": float(START), "step": step, "rows": rows + rows // 10}, prepare=False)
            connection.execute("VACUUM ANALYZE")
            if name == "plain":
                taken[name] = seconds(
                    lambda connection=connection, second=second: connection.execute(
                        "DELETE FROM entries WHERE at < %s", (float(second),)
                    )
                )
                print(
                    f"prune: VACUUM after DELETE {seconds(lambda connection=connection: connection.execute('VACUUM entries')):,.2f} s"
                )
                continue
        taken[name] = seconds(
            lambda address=address, second=second: print("prune:", prune(address, second, dry_run=False))
        )
    told(f"prune: {rows:,} entries of a month", taken["months"], taken["plain"], "s")


def migrating(server: PostgresServer, rows: int) -> None:
    """The version before, in this month's table."""
    for how in ("opened", "ledger upgrade"):
        address = server.database()
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA cascade_ledger")
            connection.execute("SET search_path = cascade_ledger")
            for migration in MIGRATIONS[:BEFORE_MONTHS]:
                for statement in migration:
                    connection.execute(statement.encode())
            connection.execute("UPDATE version SET made = %s", (BEFORE_MONTHS,))
            connection.execute("INSERT INTO writers (name, at) SELECT 'w' || n, 0 FROM generate_series(1, 4) AS n")
            fill(connection, rows)
        session = Session(address, seconds=600.0)
        with closing(session.connect()) as connection:
            change = (
                partial(session.migrate, connection, make=False)
                if how == "opened"
                else partial(session.upgrade, connection)
            )
            print(f"migrate: {rows:,} entries, {how}: {seconds(change):.2f} s", flush=True)
        with closing(PostgresReader(address)) as reader:
            assert len(reader.last(5)) == 5


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="10,000 entries: shows that it works")
    parser.add_argument("--only", choices=("prune", "migrate"), help="this alone")
    options = parser.parse_args()
    rows, batches, turns = (10_000, 4, 2) if options.quick else (options.entries, 60, 7)
    with PostgresServer() as server:
        if options.only is None:
            addresses = {name: server.database() for name in ("months", "plain")}
            for name, address in addresses.items():
                make(address, plain=name == "plain")
                with ledger(address) as connection:
                    fill(connection, rows)
            writing(addresses, batches)
            reading(addresses, rows, turns)
            dropping(addresses, rows)
        if options.only != "migrate":
            pruning(server, rows)
        if options.only != "prune":
            migrating(server, rows)


if __name__ == "__main__":
    main()
