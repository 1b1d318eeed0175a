"""A ledger goes from SQLite to Postgres: all of it, once, however often it is interrupted; and nothing else is written over."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.ledger_move import TABLES, Start, faults, interrupted, make_source
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.moving.running import Moved, move
from cascade.ledger.moving.source import Source
from cascade.ledger.moving.target import Target
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.store import PostgresStore
from cascade.ledger.sqlite.connection import connect
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.stores import LedgerDown
from cascade.ledger.verifying.verification import verify
from tests.cli.conftest import Run
from tests.warm import WarmPython

from .books import AT, Writer, fill, tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four requests of each of two writers, with texts."""
    made = tmp_path / "ledger.db"
    fill(made, text="SECRET")
    return made


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start the processes to be killed with their libraries loaded."""

    def starts(arguments: list[str]) -> tuple[subprocess.Popen[str], int]:
        process = warm_python.start(arguments, env=dict(os.environ))
        return process, process.child

    return starts


def findings(address: str | Path) -> list[tuple[Any, ...]]:
    """What verify finds: each with its place."""
    with closing(open_reader(address)) as reader:
        return [(one.kind, one.message) for one in verify(reader).findings]


def ask(address: str, question: str) -> list[tuple[Any, ...]]:
    """What the server says, without the ledger's code."""
    with closing(psycopg.connect(address)) as connection:
        connection.execute("SET search_path = cascade_ledger")
        found = connection.execute(question.encode())
        rows = found.fetchall() if found.description else []
        connection.commit()
        return rows


def test_what_is_killed_goes_on_and_nothing_is_lost_or_doubled(
    tmp_path: Path, emptied_postgres: str, start: Start
) -> None:
    """The quick form of `benchmarks/ledger_move.py`: killed in the middle, and in its last transaction."""
    path = tmp_path / "ledger.db"
    make_source(path, 2_000, days=1)
    killed = list(interrupted(path, emptied_postgres, 2, 1, at_once=200, start=start))
    assert [one.last for one in killed] == [False, True]
    assert 0 < killed[0].after < killed[1].after
    whole = move(path, emptied_postgres)
    assert (whole.moved, whole.behind, whole.differences) == (whole.entries - killed[1].after, 0, ())
    assert list(faults(path, emptied_postgres)) == []
    make_source(path, 100, first=2_000, days=1)
    more = move(path, emptied_postgres)
    assert 0 < more.moved < 400
    assert list(faults(path, emptied_postgres)) == []
    assert move(path, emptied_postgres).moved == 0


def test_every_table_is_compared(path: Path) -> None:
    """A table that the schema gets one day is moved by itself; who adds it adds it to the comparison, too."""
    with closing(connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in tables} == {*TABLES, "entries"}


def test_the_ledger_goes_on_at_the_server(path: Path, emptied_postgres: str) -> None:
    """Writers that come now are behind what was moved, in ids and in the order of storing; the source is as it was."""
    before = path.read_bytes()
    move(path, emptied_postgres)
    assert path.read_bytes() == before
    with closing(PostgresStore(emptied_postgres)) as store:
        writer = Writer(store, "three")
        writer.ask(0, at=AT)
    assert ask(emptied_postgres, "SELECT tableoid::regclass::text, count(*) FROM entries GROUP BY 1") == [
        ("entries_2026_11", 31)
    ]
    assert ask(emptied_postgres, "SELECT name, seq FROM writers ORDER BY id") == [
        ("one", 14),
        ("two", 14),
        ("three", 3),
    ]
    with closing(open_reader(emptied_postgres)) as reader:
        assert [entry.writer for entry in reader.entries(after=28)] == ["three"] * 3
        assert reader.writers() == ("one", "two", "three")
    said = Feedback("one-1", 1.0, AT)
    GatewayTables(emptied_postgres).add_feedback(said)
    assert findings(emptied_postgres) == []
    with pytest.raises(LedgerDown, match="is in use, writer three is not of"):
        move(path, emptied_postgres)
    assert GatewayTables(emptied_postgres).feedback() == (said,)


def test_what_was_erased_meanwhile_is_erased_there(path: Path, emptied_postgres: str) -> None:
    """Of texts, notes and settled calls the target has what the source has now; so it is with what came since."""
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "three")
        writer.ask(0, at=AT, opens=True, ended=False)
        GatewayTables(str(path)).add_feedback(Feedback("two-1", 0.0, AT, note="SECRET note"))
        first = move(path, emptied_postgres)
        assert (first.texts, ask(emptied_postgres, "SELECT count(*), sum(bound) FROM calls")) == (20, [(1, 500)])
        with closing(SqliteReader(path)) as reader:
            assert reader.erase(("two-1",)) == 4
        writer.ask(1, at=AT + 60, text="SECRET three")
        second = move(path, emptied_postgres)
    assert (second.moved, second.texts, second.is_equal) == (3, 19, True)
    assert ask(emptied_postgres, "SELECT DISTINCT request FROM contents WHERE request IN ('two-1', 'three-1')") == [
        ("three-1",)
    ]
    assert ask(emptied_postgres, "SELECT note FROM feedback") == [(None,)]
    assert list(faults(path, emptied_postgres)) == []


def test_what_was_pruned_meanwhile_is_gone_there(path: Path, emptied_postgres: str) -> None:
    """The anchor that is left of it is moved, so that the chain begins there; what was left before it stays."""
    move(path, emptied_postgres)
    tamper(
        path,
        "INSERT INTO anchors SELECT writer, seq, digest, 5, at + 1, at FROM entries WHERE writer = 1 AND seq = 6",
        "INSERT INTO anchored SELECT writer, 3, digest FROM entries WHERE writer = 1 AND seq = 2",
        "DELETE FROM entries WHERE writer = 1 AND seq <= 6 AND seq <> 3",
    )
    again = move(path, emptied_postgres)
    assert (again.entries, again.differences) == (23, ())
    assert list(faults(path, emptied_postgres)) == [
        f"verify: {where}: {message}"
        for where, (_, message) in [
            (one, finding)
            for one, address in ((str(path), path), (again.target, emptied_postgres))
            for finding in findings(address)
        ]
    ]


@pytest.mark.parametrize(
    "forged",
    [
        "UPDATE entries SET body = replace(body, '\"cost\":1000', '\"cost\":1') WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 3 AND writer = 1",
        "UPDATE spend SET cost = cost + 1 WHERE rung = 'haiku'",
        "UPDATE contents SET text = 'another' WHERE request = 'two-0'",
        "DELETE FROM traffic_days",
        "INSERT INTO contents VALUES ('nobody', 'prompt', 1.0, x'00', 'a text of no entry')",
    ],
)
def test_what_was_forged_is_found_on_both_sides(path: Path, emptied_postgres: str, forged: str) -> None:
    """Nothing is mended on the way, and nothing is added up anew: verify says the same of both."""
    tamper(path, forged)
    assert move(path, emptied_postgres).is_equal
    assert findings(path) == findings(emptied_postgres)
    assert findings(path) or "nobody" in forged
    assert ask(emptied_postgres, "SELECT count(*) FROM contents")[0][0] == 20 + ("nobody" in forged)


def test_bytes_that_are_no_text_end_it_by_name(path: Path, emptied_postgres: str) -> None:
    """They cannot be moved as they are, so they are not moved; what came before them is."""
    tamper(path, "UPDATE entries SET body = CAST(x'7bff7d' AS TEXT) WHERE writer = 2 AND seq = 2")
    with pytest.raises(LedgerDown, match=r"ledger\.db: seq 2 of two was changed, and holds bytes"):
        move(path, emptied_postgres, at_once=10)
    assert ask(emptied_postgres, "SELECT last FROM move") == [(10,)]


def _another_ledger(path: Path, address: str) -> None:
    with closing(PostgresStore(address)) as store:
        Writer(store, "other").ask(0, at=AT)


def _keys_of_a_gateway(path: Path, address: str) -> None:
    GatewayTables(address).put_key("k1", AT, "{}")


def _another_move(path: Path, address: str) -> None:
    fill(other := path.with_name("other.db"), requests=2)
    move(other, address)


def _entries_removed(path: Path, address: str) -> None:
    move(path, address)
    ask(address, "DELETE FROM entries WHERE id > 20")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (_another_ledger, "a ledger is there already, with rows in entries"),
        (_keys_of_a_gateway, "a ledger is there already, with rows in gateway_keys"),
        (_another_move, "another ledger was moved there"),
        (_entries_removed, "entries were removed since"),
    ],
)
def test_what_is_not_its_own_is_left_alone(
    path: Path, emptied_postgres: str, before: Callable[[Path, str], None], told: str
) -> None:
    """Another ledger, another move, or one that has changed since: refused, with what to do."""
    before(path, emptied_postgres)
    held = ask(emptied_postgres, "SELECT count(*) FROM entries")
    with pytest.raises(LedgerDown, match=f"{told}.*DROP SCHEMA cascade_ledger CASCADE"):
        move(path, emptied_postgres)
    assert ask(emptied_postgres, "SELECT count(*) FROM entries") == held


def test_two_moves_at_once_do_not_double(path: Path, emptied_postgres: str) -> None:
    """The second one to write finds the mark elsewhere, and ends."""
    with closing(Source(path)) as source, closing(Target(emptied_postgres)) as slow:
        slow.begin(source, AT)
        assert move(path, emptied_postgres).moved == 28
        with pytest.raises(LedgerDown, match="another move to it is running"):
            slow.add(list(source.entries(0)), source)
    assert list(faults(path, emptied_postgres)) == []


def test_the_command_says_what_it_did(run: Run, path: Path, emptied_postgres: str) -> None:
    """And what to do next; the password is not shown."""
    done = run("ledger", "move", "--ledger", str(path), "--to", emptied_postgres)
    assert (done.code, done.err) == (0, "")
    where = f"postgresql://{emptied_postgres.rpartition('@')[2]}"
    assert done.out.splitlines() == [
        f"{path} -> {where}: 28 entries moved now; it holds 28 entries of 2 writers, 20 texts",
        "counts and sums are equal on both sides",
        "if nothing writes to the file any more, set CASCADE_LEDGER to the new address",
    ]
    again = run("ledger", "move", "--ledger", str(path), "--to", emptied_postgres, "--json")
    assert again.json == {
        "source": str(path), "target": where, "entries": 28, "moved": 0, "writers": 2, "texts": 20, "behind": 0,
        "differences": [], "equal": True,
    }  # fmt: skip


def test_sides_that_differ_are_an_error_and_change_nothing(run: Run, path: Path, emptied_postgres: str) -> None:
    """Here a trigger at the server keeps rows from it. Exit 3; the sums are not moved before all is equal."""
    GatewayTables(str(path)).add_feedback(Feedback("two-1", 0.0, AT))
    with closing(Target(emptied_postgres)):
        pass  # makes the schema
    ask(
        emptied_postgres,
        "CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER dropped BEFORE INSERT ON feedback FOR EACH ROW EXECUTE FUNCTION dropped()",
    )
    done = run("ledger", "move", "--ledger", str(path), "--to", emptied_postgres)
    assert done.code == 3
    assert "feedback: rows: 1 in the source, 0 in the target" in done.out
    assert "NOT EQUAL" in done.out
    assert ask(emptied_postgres, "SELECT count(*) FROM spend") == [(0,)]
    ask(emptied_postgres, "DROP TRIGGER dropped ON feedback")
    assert run("ledger", "move", "--ledger", str(path), "--to", emptied_postgres).code == 0
    assert list(faults(path, emptied_postgres)) == []


@pytest.mark.parametrize(
    ("source", "to", "told"),
    [
        ("ledger.db", "other.db", "is not a Postgres address"),
        ("postgresql://user:hidden@127.0.0.1:1/a", "postgresql://127.0.0.1:1/b", "is on a server already"),
        ("none.db", "postgresql://127.0.0.1:1/b", "there is no ledger"),
        ("ledger.db", "postgresql://user:hidden@127.0.0.1:1/b", "cannot be reached"),
    ],
)
def test_a_move_to_nowhere_is_refused(run: Run, path: Path, source: str, to: str, told: str) -> None:
    """In one line, without a password; exit 2."""
    named = source if "://" in source else str(path.with_name(source))
    refused = run("ledger", "move", "--ledger", named, "--to", to)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    assert "hidden" not in refused.err


def test_progress_is_told_as_it_goes(path: Path, emptied_postgres: str) -> None:
    """How many entries of how many, after each step."""
    seen: list[tuple[int, int]] = []
    moved: Moved = move(path, emptied_postgres, progress=lambda done, found: seen.append((done, found)), at_once=10)
    assert seen == [(10, 28), (20, 28), (28, 28)]
    assert moved.moved == 28
