"""`cascade ledger …` as a person runs it."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cascade.cli.ledger.command import follow
from cascade.ledger.records import Batch, Entry, StepBody
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from tests.cli.conftest import Run

from .books import AT, Writer, fill, tamper
from .scenes import Scene


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four requests of each of two writers, with texts."""
    made = tmp_path / "ledger.db"
    fill(made, text="SECRET")
    return made


def test_verify_says_that_all_is_sound_and_writes_heads(run: Run, path: Path, tmp_path: Path) -> None:
    """Exit 0; the heads find what was cut afterwards, are not written over by what is left, and exit 3 says so."""
    heads = tmp_path / "heads.json"
    sound = run("ledger", "verify", "--ledger", str(path), "--write-heads", str(heads))
    assert (sound.code, sound.err) == (0, "")
    assert "sound (28 entries of 2 writers, 20 texts)" in sound.out
    before = heads.read_bytes()
    assert json.loads(before)["heads"]["two"]["seq"] == 14
    tamper(path, "DELETE FROM entries WHERE request = 'two-3'", "DELETE FROM contents WHERE request = 'two-3'")
    cut = run("ledger", "verify", "--ledger", str(path), "--heads", str(heads), "--write-heads", str(heads), "--json")
    assert cut.code == 3
    # A request's sums are two: by all but its slot, and by its slot.
    assert [one["kind"] for one in cut.json["findings"]] == ["cut", "sum", "sum", "sum", "sum"]
    assert cut.json["findings"][0] | {"told": ""} == {"kind": "cut", "told": "", "writer": "two", "seq": 11, "last": 14}
    assert (cut.json["sound"], cut.json["entries"]) == (False, 24)
    assert heads.read_bytes() == before
    assert "not written" in cut.err
    plain = run("ledger", "verify", "--ledger", str(path))
    assert plain.code == 3
    assert "NOT SOUND, 4 findings" in plain.out


def test_the_ledger_is_found_where_it_is_kept(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--ledger`, else CASCADE_LEDGER, else under CASCADE_HOME; where there is none yet, one line says so."""
    monkeypatch.setenv("CASCADE_HOME", str(path.parent))
    assert run("ledger", "verify").code == 0
    monkeypatch.setenv("CASCADE_LEDGER", str(path.parent / "none.db"))
    missing = run("ledger", "tail", "--json")
    assert missing.code == 2
    assert json.loads(missing.err)["error"] == "LedgerError"
    assert "there is no ledger yet" in missing.err
    assert missing.out == ""


def test_export_writes_lines_or_parquet(run: Run, path: Path, tmp_path: Path) -> None:
    """To standard output or a file that is its owner's alone; it writes over nothing, and no texts unless asked."""
    shown = run("ledger", "export", "--ledger", str(path), "--since", "2026-11-18", "--until", "2026-11-19")
    assert (shown.code, shown.err) == (0, "")
    assert len([json.loads(line) for line in shown.out.splitlines()]) == 8
    assert "SECRET" not in shown.out
    assert run("ledger", "export", "--ledger", str(path), "--since", "1h").out == ""
    file = tmp_path / "out.jsonl"
    assert run("ledger", "export", "--ledger", str(path), "--content", "-o", str(file)).out == f"{file}: 8 requests\n"
    assert file.read_text(encoding="utf-8").count("SECRET one 1 0") == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("ledger", "export", "--ledger", str(path), "-o", str(file))
    assert again.code == 2
    assert "exists (give another -o, or --force)" in again.err
    table = run("ledger", "export", "--ledger", str(path), "-o", str(tmp_path / "out.parquet"), "--json")
    assert table.json == {"output": str(tmp_path / "out.parquet"), "requests": 8, "steps": 12}
    assert sorted(one.name for one in tmp_path.glob("out*")) == ["out.jsonl", "out.parquet"]
    bad = run("ledger", "export", "--ledger", str(path), "--since", "yesterday")
    assert bad.code == 2
    assert "--since 'yesterday'" in bad.err


def test_tail_shows_the_last_entries(run: Run, path: Path) -> None:
    """A line each, oldest first, with what a person looks for and no text."""
    shown = run("ledger", "tail", "-n", "3", "--ledger", str(path))
    assert shown.code == 0
    first, second, third = shown.out.splitlines()
    assert "step     two-3  haiku answered confidence=0.5 reason=low_confidence 0.000004 USD" in first
    assert "sonnet" in second
    assert "outcome  two-3  cascade sonnet resolved=True 0.000012 USD" in third
    as_json = [json.loads(line) for line in run("ledger", "tail", "--ledger", str(path), "--json").out.splitlines()]
    assert len(as_json) == 20
    assert as_json[-1]["body"]["cost"] == 12_000
    assert run("ledger", "tail", "-n", "0", "--ledger", str(path)).out == ""


@pytest.mark.parametrize(("requests", "asked"), [(4, ()), (4, ("-n", "12")), (12, ("-n", "60"))])
def test_tail_shows_all_of_a_ledger_with_fewer_entries_than_asked_for(
    run: Run, tmp_path: Path, requests: int, asked: tuple[str, ...]
) -> None:
    """Three entries a request: 12 of them with the default of 20 or with `-n 12`, 36 with `-n 60`."""
    short = tmp_path / "short.db"
    with closing(SqliteStore(short, synchronous="NORMAL")) as store:
        writer = Writer(store, "one")
        for number in range(requests):
            writer.ask(number, at=AT + number)
    assert len(run("ledger", "tail", *asked, "--ledger", str(short)).out.splitlines()) == 3 * requests


@pytest.mark.parametrize(("is_estimate", "told"), [(True, "0.000043 USD (estimate)"), (False, "0.000043 USD")])
def test_tail_marks_a_cost_that_is_an_estimate(run: Run, tmp_path: Path, is_estimate: bool, told: str) -> None:
    """That of a reply without usage, or of one whose stream was closed at its first tokens."""
    path, batch = tmp_path / "ledger.db", Batch()
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        step = StepBody(
            0, "haiku", "claude-haiku", "answered", 43_000, reason="low_confidence", is_estimate=is_estimate
        )
        Writer(store, "one").entry(batch, AT, "step", "one-0", step)
        store.write(batch)
    assert run("ledger", "tail", "--ledger", str(path)).out.rstrip().endswith(f"reason=low_confidence {told}")


def test_tail_follows_what_is_added(path: Path) -> None:
    """Each new entry once, whatever comes between two looks; nothing that was there before."""
    seen: list[Entry] = []
    with closing(SqliteReader(path)) as reader, closing(SqliteStore(path, synchronous="NORMAL")) as store:
        writer, asked = Writer(store, "three"), iter(range(3))

        def pause() -> None:
            number = next(asked, None)
            if number is None:
                raise KeyboardInterrupt
            writer.ask(number, at=AT, steps=1)

        def look() -> None:
            for entry in follow(lambda after: reader.entries(after=after), 28, pause):
                seen.append(entry)  # noqa: PERF402 - what was seen before the end is kept

        with pytest.raises(KeyboardInterrupt):
            look()
    assert [(entry.writer, entry.seq) for entry in seen] == [("three", seq) for seq in range(1, 10)]


def test_erase_removes_texts_and_leaves_the_books(run: Run, path: Path) -> None:
    """Of one customer's requests, after a dry run that removes nothing; grep finds none of them, and verify no fault."""
    dry = run("ledger", "erase", "--where", "customer=c1", "--ledger", str(path), "--dry-run", "--json")
    assert dry.json == {"ledger": str(path), "requests": 2, "texts": 6, "erased": False}
    assert b"SECRET two 1" in path.read_bytes()
    done = run("ledger", "erase", "--where", "customer=c1", "--ledger", str(path))
    assert done.out == f"{path}: 2 requests match; 6 texts removed, all entries stay\n"
    assert b"SECRET two 1" not in path.read_bytes()
    assert b"SECRET two 2" in path.read_bytes()
    one = ("ledger", "erase", "--where", "customer=c2", "--where", "request=one-2", "--ledger", str(path), "--json")
    assert run(*one).json["texts"] == 2
    assert run("ledger", "verify", "--ledger", str(path)).code == 0
    assert run("ledger", "verify", "--ledger", str(path), "--json").json["texts"] == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((), "where"), (("--where", "customer"), "NAME=VALUE"), (("--where", "a=1", "--where", "a=2"), "twice")],
)
def test_erase_wants_to_know_whose(run: Run, path: Path, arguments: tuple[str, ...], told: str) -> None:
    """Without a condition, or with one that says nothing, nothing is removed."""
    refused = run("ledger", "erase", "--ledger", str(path), *arguments)
    assert refused.code == 2
    assert told in refused.err
    assert b"SECRET two 1" in path.read_bytes()


def test_the_calls_of_the_audit_are_in_the_books(run: Run, tmp_path: Path) -> None:
    """They are verified, shown and exported like any other, under their arm and with the request that they grade."""
    scene = Scene(tmp_path / "ledger.db")
    scene.ask("one")
    scene.ask("one_audit", arm="audit", observed_as="one")
    scene.flush()
    where = ("--ledger", str(scene.path))
    assert run("ledger", "verify", *where).code == 0
    assert "audit" in run("ledger", "tail", *where).out
    lines = [json.loads(line) for line in run("ledger", "export", *where).out.splitlines()]
    asked = [(line["id"], line["request"]["arm"], line["request"]["observed_as"]) for line in lines]
    assert asked == [("one", "cascade", None), ("one_audit", "audit", "one")]
