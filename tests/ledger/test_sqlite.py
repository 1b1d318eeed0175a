"""The ledger's file: what a commit is worth, what is told when it cannot be had, and that erased means gone."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cascade.ledger.records import NO_SLOT, Batch, Content, SpendKey
from cascade.ledger.sqlite.schema import APPLICATION_ID, MIGRATIONS
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.stores import LedgerDown, Reader, Store
from cascade.ledger.verifying.verification import verify

from .books import AT, NO_ERRORS, Writer, fill, tamper

ROOT = Path(__file__).resolve().parents[2]


def test_what_was_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Entries, byte for byte and in order; texts; sums by day; and what was asked of them."""
    path = tmp_path / "home" / "ledger.db"
    fill(path, text="Grüße, \N{SNOWMAN}")
    with closing(SqliteReader(path)) as reader:
        as_protocol: Reader = reader
        assert as_protocol.where == str(path)
        assert reader.writers() == ("one", "two")
        entries = list(reader.entries())
        assert [entry.id for entry in entries] == list(range(1, 29))
        assert entries == [*reader.chain("one"), *reader.chain("two")]
        assert list(reader.entries(after=20)) == entries[20:] == list(reader.last(8))
        assert {entry.at for entry in reader.entries(since=AT + 600, until=AT + 601)} == {AT + 600}
        texts = {(content.request, content.part): content.text for content in reader.contents(("two-3", "one-0"))}
        assert texts["two-3", "step:1"] == "Grüße, \N{SNOWMAN} two 3 1"
        assert len(texts) == 5
        assert reader.find({"customer": "c0", "workflow": "flow-1"}) == ("one-3", "two-3")
        assert reader.find({"request": "one-3", "customer": "c1"}) == ()
        assert reader.large(6_000, AT, AT + 3_600, 3) == (("one-3", 12_000), ("two-3", 12_000))
        assert reader.large(0, AT, AT + 600, 9) == (("one-0", 1_000), ("two-0", 1_000))
        day = int(AT // 86_400)
        haiku = ("support", "refund", "flow-1", "team", "cascade", "haiku", "claude-haiku")
        assert (day, *haiku, 4, 4, 12_000, 800, 200, 0) in list(reader.spend(0, 1 << 40))
        assert sum(int(row[7]) for row in reader.traffic(0, 1 << 40) if row[6] == NO_SLOT) == 8
        assert list(reader.spend(0, int(AT) // 900 * 900)) == []
        everything = reader.spent("support", "policy", "", AT - 900, AT + 7_200)
        assert everything == 2 * (1_000 + 6_000 + 3_000 + 12_000)
        assert reader.spent("support", "workflow", "flow-1", AT - 900, AT + 7_200) == 36_000
        assert reader.spent("support", "key", "other", AT - 900, AT + 7_200) == 0
        assert reader.spent("support", "policy", "", AT + 4_000, AT + 7_200) == 0


def test_a_person_can_ask_the_views(tmp_path: Path) -> None:
    """Requests, steps, opens and outcomes have real columns, with what was left out filled in."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="FULL")) as store:
        Writer(store, "one").ask(3, at=AT, steps=2, opens=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        [request] = connection.execute("SELECT * FROM requests").fetchall()
        assert (request["request"], request["workflow"], request["task"]) == ("one-3", "flow-1", "refund")
        steps = connection.execute("SELECT step, rung, cost, cost_usd, cache_read, reason FROM steps ORDER BY step")
        assert [tuple(row) for row in steps] == [
            (0, "haiku", 4_000, 4e-06, 0, "low_confidence"), (1, "sonnet", 8_000, 8e-06, 0, None),
        ]  # fmt: skip
        assert [tuple(row) for row in connection.execute("SELECT step, bound FROM opens")] == [(0, 500), (1, 500)]
        [outcome] = connection.execute("SELECT * FROM outcomes").fetchall()
        assert (outcome["resolved"], outcome["degraded"], outcome["slot"]) == (1, None, 0)
        assert outcome["time"].startswith("2026-11-")


def test_folder_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    """What users asked is nobody else's to read: not the file, not its log, not the folder that was made for it."""
    path = tmp_path / "home" / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        Writer(store, "one").ask(0, at=AT)
        files = sorted(path.parent.iterdir())
        assert {file.name for file in files} == {"ledger.db", "ledger.db-shm", "ledger.db-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
def test_a_commit_is_worth_what_was_asked_for(tmp_path: Path, synchronous: str, level: int) -> None:
    """FULL syncs the log at every commit, NORMAL at checkpoints; both write ahead."""
    with closing(SqliteStore(tmp_path / "ledger.db", synchronous=synchronous)) as store:  # type: ignore[arg-type]
        as_protocol: Store = store
        as_protocol.open("one")
        assert store.pragma("synchronous") == level
        assert store.pragma("journal_mode") == "wal"
        assert store.pragma("secure_delete") == 1


def test_writing_a_batch_again_writes_it_once(tmp_path: Path) -> None:
    """A commit that went well and could not say so is tried again: entries and sums stand there once."""
    path = tmp_path / "ledger.db"
    written: list[Batch] = []

    class Twice(SqliteStore):
        __slots__ = ()

        def write(self, batch: Batch) -> None:
            written.append(batch)
            super().write(batch)

    with closing(Twice(path, synchronous="NORMAL")) as store:
        Writer(store, "one").ask(0, at=AT, text="a text")
        store.write(written[0])
        later = Batch(entries=[*written[0].entries[1:], (4, AT, "open", "x", b"{}", b"d" * 32)])
        with pytest.raises(LedgerDown, match="under the same writer name"):
            store.write(later)
    with closing(SqliteReader(path)) as reader:
        assert verify(reader).is_sound
        assert len(list(reader.entries())) == 3


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What fails at the last of its sums leaves none of its entries, and the next batch is written."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        writer.ask(0, at=AT)
        key = SpendKey(0, "p", "t", "", "", "cascade", "haiku", "m")
        broken = Batch(entries=[(4, AT, "open", "x", b"{}", b"d" * 32)], spend={key: [1, 0, 1 << 70, 0, 0, 0]})
        with pytest.raises(LedgerDown, match=r"a value cannot be stored \[OverflowError\]$"):
            store.write(broken)
        writer.ask(1, at=AT)
    with closing(SqliteReader(path)) as reader:
        found = verify(reader)
        assert found.is_sound
        assert found.entries == 6


def test_an_old_version_is_migrated_and_a_newer_one_refused(tmp_path: Path) -> None:
    """By a writer and by a reader; what the first version held is still there."""
    for opens in ("store", "reader"):
        path = tmp_path / f"{opens}.db"
        fill(path)
        tamper(path, *(f"DROP VIEW {view}" for view in ("requests", "steps", "opens", "outcomes")))
        tamper(path, "DROP INDEX entries_cost", "DROP TABLE calls", "PRAGMA user_version = 1", *NO_ERRORS)
        if opens == "store":
            with closing(SqliteStore(path, synchronous="NORMAL")) as store:
                store.open("three")
        with closing(SqliteReader(path)) as reader:
            assert verify(reader).is_sound
            assert reader.large(11_000, 0, AT * 2, 9) == (("one-3", 12_000), ("two-3", 12_000))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
            assert connection.execute("SELECT count(*) FROM steps").fetchone() == (12,)
        tamper(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        for refuses in (lambda: SqliteReader(path), lambda: SqliteStore(path, synchronous="FULL").open("x")):  # noqa: B023 - called at once
            with pytest.raises(LedgerDown, match=rf"newer cascade \(its version {len(MIGRATIONS) + 1}, .*upgrade"):
                refuses()


def test_errors_of_an_older_ledger_are_counted_from_its_entries(tmp_path: Path) -> None:
    """They were on record as escalations only; the sums are what the entries add up to, before and after."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        for number, reason in enumerate(("error", "low_confidence", "error")):
            writer.ask(number, at=AT + 700 * number, steps=2, reason=reason)
    with closing(SqliteReader(path)) as reader:
        before = sorted(reader.spend(0, 1 << 40))
    assert {(row[6], row[-1]) for row in before if row[3] == "flow-0"} == {("haiku", 2), ("sonnet", 0)}
    tamper(path, *NO_ERRORS, "PRAGMA user_version = 3")
    with closing(SqliteReader(path)) as reader:
        assert sorted(reader.spend(0, 1 << 40)) == before
        assert verify(reader).is_sound


def test_every_trouble_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    """Missing, not a database, another program's, damaged, held by another, full: each by its name, none with a row."""
    path = tmp_path / "ledger.db"
    with pytest.raises(LedgerDown, match=r"ledger\.db: there is no ledger yet"):
        SqliteReader(path)
    assert not path.exists()
    text = tmp_path / "notes.txt"
    text.write_text("secret words, no database " * 50)
    before = text.read_bytes()
    for refuses in (lambda: SqliteReader(text), lambda: SqliteStore(text, synchronous="FULL").open("x")):
        with pytest.raises(LedgerDown, match=r"notes\.txt: .*NOTADB") as down:
            refuses()
        assert "secret" not in str(down.value)
    assert text.read_bytes() == before
    other = tmp_path / "browser.db"
    tamper(other, "CREATE TABLE cookies (name TEXT)")
    with pytest.raises(LedgerDown, match="another program's database"):
        SqliteStore(other, synchronous="FULL").open("x")
    with closing(sqlite3.connect(other)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with pytest.raises(LedgerDown, match="the path"):
        SqliteStore(text / "ledger.db", synchronous="FULL").open("x")


def test_a_full_ledger_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A real limit on the file's size: the batch that finds no room is written when there is some."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        pages = store.pragma("page_count")
        store.pragma(f"max_page_count = {pages}")
        big = Batch(contents=[Content("x", "prompt", AT, b"s" * 16, "secret words " * 2_000)])
        with pytest.raises(LedgerDown, match=r"the disk is full .*FULL") as down:
            store.write(big)
        assert "secret" not in str(down.value)
        store.write(big)  # connected anew, without the limit
        writer.ask(0, at=AT)
    with closing(SqliteReader(path)) as reader:
        assert verify(reader).is_sound
        assert len(list(reader.contents(("x",)))) == 1


def test_a_ledger_that_another_process_holds_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits for so long and no longer; a reader does not wait at all."""
    monkeypatch.setattr("cascade.ledger.sqlite.connection.BUSY_MS", 20)
    path = tmp_path / "ledger.db"
    fill(path)
    with closing(SqliteStore(path, synchronous="NORMAL")) as store, closing(sqlite3.connect(path)) as holder:
        writer = Writer(store, "three")
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerDown, match=r"locked by another process .*BUSY"):
            writer.ask(0, at=AT)
        with closing(SqliteReader(path)) as reader:
            assert verify(reader).is_sound


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    """Pages of noise in the middle of it: reader and verify end with one line, not with a traceback of another kind."""
    path = tmp_path / "ledger.db"
    fill(path, requests=60)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    with closing(SqliteReader(path)) as reader, pytest.raises(LedgerDown, match=r"the file is damaged .*CORRUPT"):
        verify(reader)


def test_a_file_that_was_moved_away_does_not_swallow_what_is_written(tmp_path: Path) -> None:
    """The write fails, and the next one begins a new file."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        writer.ask(0, at=AT)
        path.rename(tmp_path / "old.db")
        with pytest.raises(LedgerDown, match="was moved or deleted"):
            store.write(Batch(entries=[(9, AT, "open", "x", b"{}", b"d" * 32)]))
        store.write(Batch(entries=[(9, AT, "open", "x", b"{}", b"d" * 32)]))
    with closing(SqliteReader(path)) as reader:
        assert [entry.seq for entry in reader.entries()] == [9]


def test_what_is_erased_is_found_nowhere_in_the_files(tmp_path: Path) -> None:
    """Short texts and long ones, some erased and some not, while a writer is at work: no byte of them, in file or log.

    The books stay, and so does what was not erased.
    """
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        for number in range(120):
            keep = "kept" if number % 3 else "SECRET"
            writer.ask(number, at=AT + number, text=f"{keep} {number} " * (1 + 40 * (number % 17)))
        assert _found(path, b"SECRET") > 0
        with closing(SqliteReader(path)) as reader:
            mine = reader.find({"customer": "c0"})
            assert len(mine) == 40
            assert reader.erase(mine) == 80
            assert reader.erase(mine) == 0
            assert _found(path, b"SECRET") == 0
            found = verify(reader)
            assert found.is_sound
            assert found.texts == 160
            assert found.entries == 360
        writer.ask(200, at=AT + 200, text="kept later")
        assert store.remove_content(AT + 100) == 2 * 66
        assert _found(path, b"kept 1 ") == 0
        assert _found(path, b"kept 119 ") > 0
    assert _found(path, b"SECRET") == 0


def test_an_erasure_that_a_reader_holds_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts are gone from the tables, and their bytes once the other has ended: it is told, not passed over."""
    monkeypatch.setattr("cascade.ledger.sqlite.connection.BUSY_MS", 20)
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        writer.ask(0, at=AT, text="SECRET")
        with closing(SqliteReader(path)) as reader, closing(SqliteReader(path)) as other:
            with other.snapshot():
                assert len(list(other.entries())) == 3
                with pytest.raises(LedgerDown, match=r"2 texts are removed, but .*run it again"):
                    reader.erase(("one-0",))
            assert reader.erase(("one-0",)) == 0
            assert _found(path, b"SECRET") == 0


def test_many_processes_write_into_one_ledger(tmp_path: Path) -> None:
    """Four that start at once, on a file that is not there yet: nothing is lost, every chain and all sums are sound."""
    path = tmp_path / "ledger.db"
    code = "import sys, pathlib; from tests.ledger.books import write_many; write_many(pathlib.Path(sys.argv[1]), sys.argv[2])"
    commands = [[sys.executable, "-c", code, str(path), f"worker-{number}"] for number in range(4)]
    workers = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    with closing(SqliteReader(path)) as reader:
        found = verify(reader)
    assert found.is_sound
    assert (found.writers, found.entries) == (4, 4 * 25 * 3)


def test_the_mark_of_a_ledger_is_in_the_file(tmp_path: Path) -> None:
    """What is told apart by it was written into it."""
    path = tmp_path / "ledger.db"
    fill(path, requests=1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def _found(path: Path, needle: bytes) -> int:
    files = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return sum(file.read_bytes().count(needle) for file in files if file.exists())
