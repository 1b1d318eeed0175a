"""`verify` finds what was done to a ledger behind its back, and names it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg
import pytest

from cascade.core.errors import LedgerError
from cascade.ledger.chain import link
from cascade.ledger.postgres.store import PostgresReader, PostgresStore
from cascade.ledger.records import Batch, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.sums import add_outcome, add_step
from cascade.ledger.verifying.verification import Finding, Head, Verification, heads, read_heads, verify, write_heads

from .books import AT, Writer, fill, tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound ledger of two writers, 4 requests and 14 entries each, with texts."""
    made = tmp_path / "ledger.db"
    fill(made, text="a text of")
    return made


def look(path: Path, against: Mapping[str, Head] | None = None) -> Verification:
    """Verify a file."""
    with closing(SqliteReader(path)) as reader:
        return verify(reader, against)


def chained(found: Verification) -> list[Finding]:
    """What was found in the chains, without what follows from it for sums and texts."""
    return [one for one in found.findings if one.kind not in ("sum", "orphan", "text")]


def sums(found: Verification) -> list[str]:
    """What was found in the sums."""
    return [one.message for one in found.findings if one.kind == "sum"]


# The entries of a writer's first requests: request 0 is seq 1..3 (request, step, outcome), request 1 is seq 4..7.
ONE = "writer = (SELECT id FROM writers WHERE name = 'one')"


def test_a_sound_ledger_is_found_sound(path: Path) -> None:
    """Nothing is found in what nobody touched; everything was looked at."""
    found = look(path)
    assert found.findings == ()
    assert found.is_sound
    assert (found.writers, found.entries, found.texts, found.unsettled) == (2, 28, 20, 0)
    assert found.heads == {"one": found.heads["one"], "two": found.heads["two"]}
    assert [head.seq for head in found.heads.values()] == [14, 14]
    with closing(SqliteReader(path)) as reader:
        assert heads(reader) == found.heads


def test_a_changed_cost_is_found_in_the_chain_and_in_the_sums(path: Path) -> None:
    """A step that was made cheaper is named by writer, seq, request and kind; the sums say what it was."""
    tamper(path, f"UPDATE entries SET body = replace(body, '\"cost\":2000', '\"cost\":1') WHERE {ONE} AND seq = 5")
    found = look(path)
    [one] = chained(found)
    assert (one.kind, one.writer, one.seq, one.request, one.entry) == ("changed", "one", 5, "one-1", "step")
    [told] = sums(found)
    assert "cost 4000, not 2001" in told
    assert "haiku" in told


@pytest.mark.parametrize(
    "change", ["at = at + 1", "request = 'two-1'", "kind = 'open'", "digest = zeroblob(32)", "at = 9e11"]
)
def test_a_change_to_anything_else_is_found(path: Path, change: str) -> None:
    """Not only the body is chained: time, request and kind are too."""
    tamper(path, f"UPDATE entries SET {change} WHERE {ONE} AND seq = 5")
    kinds = {(one.kind, one.seq) for one in chained(look(path))}
    assert ("changed", 5) in kinds


def test_a_row_that_was_rewritten_with_a_digest_of_its_own_is_found_by_the_next(path: Path) -> None:
    """Who knows how digests are made still cannot hide one change without making anew all that follows."""
    with closing(SqliteReader(path)) as reader:
        entries = list(reader.chain("one"))
    forged = entries[4].body.replace(b'"cost":2000', b'"cost":1')
    digest = link(entries[3].digest, 5, entries[4].at, "step", "one-1", forged)
    tamper(path, f"UPDATE entries SET body = '{forged.decode()}', digest = x'{digest.hex()}' WHERE {ONE} AND seq = 5")
    [one] = chained(look(path))
    assert (one.kind, one.seq) == ("changed", 6)
    assert "or the one before it" in one.message


def test_a_deleted_row_is_found(path: Path) -> None:
    """The gap is named, and what stands behind it."""
    tamper(path, f"DELETE FROM entries WHERE {ONE} AND seq = 5")
    found = look(path)
    [one] = chained(found)
    assert (one.kind, one.writer, one.seq, one.last) == ("missing", "one", 5, 5)
    assert "seq 6 (step of request one-1)" in one.message
    assert any("steps 2, not 1" in told for told in sums(found))


def test_deleted_first_rows_are_found(path: Path) -> None:
    """A chain begins at its writer's name."""
    tamper(path, f"DELETE FROM entries WHERE {ONE} AND seq < 4")
    [one] = chained(look(path))
    assert (one.kind, one.seq, one.last) == ("missing", 1, 3)


def test_a_deleted_row_is_found_where_the_rest_was_renumbered(path: Path) -> None:
    """Closing the gap does not hide it; the moved ones are told in one line."""
    tamper(
        path, f"DELETE FROM entries WHERE {ONE} AND seq = 5", f"UPDATE entries SET seq = -seq WHERE {ONE} AND seq > 5",
        f"UPDATE entries SET seq = -seq - 1 WHERE {ONE} AND seq < 0",
    )  # fmt: skip
    kinds = [(one.kind, one.seq, one.last) for one in chained(look(path))]
    assert kinds == [("missing", 5, 5), ("moved", 6, 13)]


@pytest.mark.parametrize(("first", "second"), [(5, 6), (5, 9), (1, 14), (13, 14)])
@pytest.mark.parametrize("what", ["rows", "all but the digest", "bodies"])
def test_two_swapped_rows_are_found(path: Path, first: int, second: int, what: str) -> None:
    """Neighbours or far apart, with their digests or without: the two are named together, and nobody else is."""
    columns = {"rows": "", "all but the digest": "at, kind, request, body", "bodies": "body"}[what]
    if not columns:
        swap = (
            f"UPDATE entries SET seq = -1 WHERE {ONE} AND seq = {first}",
            f"UPDATE entries SET seq = {first} WHERE {ONE} AND seq = {second}",
            f"UPDATE entries SET seq = {second} WHERE {ONE} AND seq = -1",
        )
    else:
        other = f"SELECT {columns} FROM kept k WHERE k.seq = {first + second} - entries.seq"
        swap = (
            f"CREATE TABLE kept AS SELECT * FROM entries WHERE {ONE} AND seq IN ({first}, {second})",
            f"UPDATE entries SET ({columns}) = ({other}) WHERE {ONE} AND seq IN ({first}, {second})",
            "DROP TABLE kept",
        )
    tamper(path, *swap)
    found = [one for one in chained(look(path)) if one.kind != "unreadable"]
    assert [(one.kind, one.writer, one.seq) for one in found] == [("swapped", "one", first)]
    assert f"and seq {second} were swapped" in found[0].message


def test_a_copy_is_found(path: Path) -> None:
    """A row that was put in again at the end is a copy of the first one."""
    columns = "writer, seq, at, kind, request, body, digest"
    tamper(
        path, f"INSERT INTO entries ({columns}) SELECT writer, 15, at, kind, request, body, digest FROM entries"
        f" WHERE {ONE} AND seq = 5",
    )  # fmt: skip
    [one] = chained(look(path))
    assert (one.kind, one.seq, one.request) == ("duplicate", 15, "one-1")
    assert "copy of seq 5" in one.message


def test_a_row_put_in_between_is_found(path: Path) -> None:
    """A copy with the rest numbered anew: the copy is named with its original, and where those behind it stood."""
    tamper(
        path, f"UPDATE entries SET seq = -seq WHERE {ONE} AND seq > 8",
        "INSERT INTO entries (writer, seq, at, kind, request, body, digest)"
        f" SELECT writer, 9, at, kind, request, body, digest FROM entries WHERE {ONE} AND seq = 5",
        f"UPDATE entries SET seq = -seq + 1 WHERE {ONE} AND seq < 0",
    )  # fmt: skip
    found = look(path)
    assert [(one.kind, one.seq, one.last) for one in chained(found)] == [("duplicate", 9, 9), ("moved", 10, 15)]
    assert "seq 15 were moved, they began at seq 9" in chained(found)[1].message


def test_a_row_of_no_request_and_one_that_cannot_be_read_are_told(path: Path) -> None:
    """Where a request's own row was made something else, its steps are of no request that is on record."""
    tamper(path, f"UPDATE entries SET body = '[1]' WHERE {ONE} AND seq = 4")
    found = look(path)
    kinds = {(one.kind, one.seq) for one in found.findings if one.kind not in ("sum", "text")}
    assert kinds == {("unreadable", 4), ("changed", 4), ("orphan", 5), ("orphan", 6), ("orphan", 7)}


def test_a_changed_text_is_found(path: Path) -> None:
    """A text is held against the digest in its entry; one that was added is of no entry; an erased one is no finding."""
    tamper(
        path, "UPDATE contents SET text = 'other words' WHERE request = 'one-1' AND part = 'step:1'",
        "UPDATE contents SET part = 'step:7' WHERE request = 'two-2' AND part = 'prompt'",
        "DELETE FROM contents WHERE request = 'one-3'",
    )  # fmt: skip
    found = look(path)
    assert [(one.kind, one.writer, one.seq, one.request) for one in found.findings] == [
        ("text", "one", 4, "one-1"), ("text", "two", 8, "two-2"),
    ]  # fmt: skip
    assert "step:1" in found.findings[0].message
    assert "other words" not in found.findings[0].message


def test_a_cut_tail_is_found_with_heads_and_only_with_them(path: Path) -> None:
    """The sums still show it where they were left alone; where they were repaired too, the heads do."""
    before = look(path).heads
    tamper(
        path, f"DELETE FROM entries WHERE {ONE} AND request = 'one-3'", "DELETE FROM contents WHERE request = 'one-3'"
    )
    assert chained(look(path)) == []
    assert sums(look(path)) != []
    _mend_sums(path)
    assert look(path).is_sound
    [one] = look(path, before).findings
    assert (one.kind, one.writer, one.seq, one.last) == ("cut", "one", 11, 14)


def test_a_writer_that_is_gone_is_found_with_heads(path: Path) -> None:
    """All that it wrote, and its name, taken away: only the heads know of it."""
    before = look(path).heads
    tamper(path, f"DELETE FROM entries WHERE {ONE}", "DELETE FROM writers WHERE name = 'one'")
    _mend_sums(path)
    assert look(path).is_sound
    [one] = look(path, before).findings
    assert (one.kind, one.writer, one.last) == ("gone", "one", 14)


def test_a_chain_that_was_made_anew_is_found_with_heads(tmp_path: Path) -> None:
    """Who makes all digests anew is found out by a head that was kept elsewhere, and what was added since is no finding."""
    path = tmp_path / "ledger.db"
    fill(path, requests=4, writers=("one",))
    before = look(path).heads
    other = tmp_path / "other.db"
    with closing(SqliteStore(other, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        for number in range(5):
            writer.ask(number, at=AT + 600 * number + (number == 0), steps=1 + number % 2)
    assert look(other).is_sound
    [one] = look(other, before).findings
    assert (one.kind, one.writer, one.seq) == ("rewritten", "one", 14)
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer = Writer(store, "three")
        writer.ask(0, at=AT)
    assert look(path, before).is_sound


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE spend SET cost = cost + 1 WHERE rung = 'sonnet' AND workflow = 'flow-1'", "cost "),
        ("UPDATE spend SET bucket = bucket + 900 WHERE rung = 'sonnet'", "steps "),
        ("DELETE FROM spend WHERE rung = 'haiku'", "steps 0, not"),
        ("UPDATE traffic SET resolved = resolved - 1 WHERE rung = 'haiku'", "resolved "),
        ("UPDATE traffic SET cost_squared = cost_squared * 2", "cost_squared "),
        ("INSERT INTO spend VALUES (0, 'x', 'y', '', '', 'cascade', 'haiku', 'm', 1, 0, 5, 1, 1, 0)", "1970-01-01"),
        ("UPDATE spend SET model = 'another'", "another"),
        ("UPDATE spend_days SET cost = cost + 1 WHERE rung = 'sonnet'", "by days"),
        ("UPDATE traffic_days SET slot = 63 - slot WHERE slot >= 0", "by days"),
        ("DELETE FROM traffic_days", "by days"),
    ],
)
def test_changed_sums_are_found(path: Path, statement: str, told: str) -> None:
    """What `costs` and the budgets read is what the entries add up to, or it is told where it is not."""
    tamper(path, statement)
    found = look(path)
    assert found.findings
    assert {one.kind for one in found.findings} == {"sum"}
    assert any(told in one for one in sums(found))


def test_a_call_that_was_never_settled_is_counted_and_no_finding(tmp_path: Path) -> None:
    """A kill leaves an open entry without its step: the ledger is sound, and says how many."""
    path = tmp_path / "ledger.db"
    with closing(SqliteStore(path, synchronous="FULL")) as store:
        writer = Writer(store, "one")
        writer.ask(0, at=AT, steps=2, opens=True)
        writer.ask(1, at=AT, steps=2, opens=True, ended=False)
    found = look(path)
    assert found.is_sound
    assert found.unsettled == 1


def test_findings_are_bounded_and_the_rest_is_counted(tmp_path: Path) -> None:
    """A ledger that was changed everywhere does not fill the memory with what is wrong with it."""
    path = tmp_path / "ledger.db"
    fill(path, requests=400, writers=("one",))
    tamper(path, "UPDATE entries SET at = at + 0.5")
    found = look(path)
    assert len(found.findings) == 1000
    assert len(found.findings) + found.more >= 1400


def test_a_ledger_in_postgres_is_verified_the_same_way(postgres_database: str) -> None:
    """A changed cost, a deleted row, two swapped ones, changed sums and, with heads, a cut tail: each by its name."""
    for name in ("one", "two"):
        with closing(PostgresStore(postgres_database)) as store:
            writer = Writer(store, name)
            for number in range(4):
                writer.ask(number, at=AT + 600 * number, steps=1 + number % 2, text="a text")
    with closing(PostgresReader(postgres_database)) as reader:
        sound = verify(reader)
    assert sound.is_sound
    assert (sound.entries, sound.texts) == (28, 20)
    mine = "writer = (SELECT id FROM writers WHERE name = '{}')"
    one, two = mine.format("one"), mine.format("two")
    with psycopg.connect(postgres_database, options="-c search_path=cascade_ledger") as connection:
        for statement in (
            f"UPDATE entries SET body = replace(body, '\"cost\":1000', '\"cost\":1') WHERE {one} AND seq = 2",
            f"DELETE FROM entries WHERE {one} AND seq IN (9, 14)",
            f"UPDATE entries SET seq = -1 WHERE {two} AND seq = 5",
            f"UPDATE entries SET seq = 5 WHERE {two} AND seq = 12",
            f"UPDATE entries SET seq = 12 WHERE {two} AND seq = -1",
            "UPDATE traffic SET slot = 3 WHERE rung = 'sonnet'",
        ):
            connection.execute(statement.encode())
    with closing(PostgresReader(postgres_database)) as reader:
        found = verify(reader, sound.heads)
    assert [(one.kind, one.writer, one.seq, one.last) for one in chained(found)] == [
        ("missing", "one", 9, 9), ("changed", "one", 2, 2), ("cut", "one", 14, 14), ("swapped", "two", 5, 5),
    ]  # fmt: skip
    assert any("cost 2000, not 1001" in told for told in sums(found))
    assert any("sonnet/3" in told for told in sums(found))


def test_heads_are_a_file_of_their_own(path: Path) -> None:
    """What is written is read back the same; what is no file of heads is refused in one line."""
    made = look(path).heads
    assert read_heads(write_heads(made), "heads.json") == made
    with pytest.raises(LedgerError, match=r"old\.json: not a file of heads: .*write-heads"):
        read_heads(b'{"version": 2, "heads": {}}', "old.json")


def _mend_sums(path: Path) -> None:
    """What a thorough forger would do: make the sums fit the entries that are left."""
    tamper(path, *(f"DELETE FROM {table}{days}" for table in ("spend", "traffic") for days in ("", "_days")))
    batch = Batch()
    asked: dict[str, RequestBody] = {}
    with closing(SqliteReader(path)) as reader:
        for entry in reader.entries():
            if entry.kind == "request":
                asked[entry.request] = msgspec.json.decode(entry.body, type=RequestBody)
            elif entry.kind == "step":
                add_step(batch, entry.at, asked[entry.request], msgspec.json.decode(entry.body, type=StepBody))
            else:
                add_outcome(batch, entry.at, asked[entry.request], msgspec.json.decode(entry.body, type=OutcomeBody))
    writers = "two" if "one" not in look(path).heads else "one"
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        store.open(writers)
        store.write(batch)
