"""A ledger that cannot be written holds nobody up, loses nothing it has room for, and says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.core.policy.operations import Ledger
from cascade.ledger.sqlite import connection as files
from cascade.ledger.writing.limits import Bounds

from .scenes import LONG_S, Scene

COMMIT = Ledger(durability="commit")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "ledger.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection holds the file for itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits for another one for a hundredth of a second."""
    monkeypatch.setattr(files, "BUSY_MS", 10)


def events(logs: list[Any], *names: str) -> list[Any]:
    """The events of these names."""
    return [log for log in logs if log["event"] in names]


@pytest.mark.parametrize("settings", [Ledger(), COMMIT], ids=["batched", "commit"])
def test_a_locked_file_is_told_once_and_all_rows_are_written_when_it_is_free(
    path: Path, impatient: None, settings: Ledger
) -> None:
    """Who waits goes on at once; who comes while it is down waits for nothing; order and chain are kept."""
    scene = Scene(path, settings)
    scene.ask("a")
    scene.flush()
    with capture_logs() as logs:
        with locked(path):
            for wait in scene.ask("b"):
                wait.result(LONG_S)
            assert not scene.writer.flush(LONG_S)
            assert scene.ask("c", steps=2) == []
            scene.clock.pass_by(60)
            assert not scene.writer.flush(LONG_S)
        scene.flush()
    waited = scene.writer.waiting
    assert waited == 0
    assert [entry.request for entry in scene.entries() if entry.kind == "outcome"] == ["a", "b", "c"]
    down, back = events(logs, "ledger_down", "ledger_back")
    assert len(logs) == 2
    assert (down["event"], down["log_level"]) == ("ledger_down", "warning")
    assert "another process" in down["problem"]
    assert (back["event"], back["dropped"]) == ("ledger_back", 0)
    assert back["rows"] == sum(entry.request != "a" for entry in scene.entries())
    for wait in scene.ask("d"):
        wait.result(LONG_S)
    scene.flush()
    assert scene.kinds("d")[-1] == "outcome"


def test_it_is_tried_again_at_growing_intervals(path: Path) -> None:
    """By the clock alone, without a busy loop: one try for each interval that has passed."""
    path.write_bytes(b"this is no database" * 1000)
    scene = Scene(path, COMMIT, Bounds(retry_s=1, longest_retry_s=4))
    scene.ask("a")[0].result(LONG_S)
    for seconds in (1, 2, 4, 4):
        assert "NOTADB" in str(scene.next())
        scene.clock.until_it_waits(seconds)
        scene.clock.pass_by(seconds - 0.25)
        scene.clock.until_it_waits(0.25)
        assert scene.nothing_yet()
        scene.clock.pass_by(0.25)
    assert "NOTADB" in str(scene.next())
    path.unlink()
    scene.flush()
    assert scene.kinds("a") == ["request", "open", "step", "outcome"]


def test_a_home_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    """It is told once; nothing is waited for."""
    (tmp_path / "home").write_text("a file, where a folder should be")
    scene = Scene(tmp_path / "home" / "ledger.db", COMMIT)
    with capture_logs() as logs:
        for name in "abc":
            for wait in scene.ask(name):
                wait.result(LONG_S)
            assert not scene.writer.flush(LONG_S)
    assert [log["event"] for log in logs] == ["ledger_down"]
    assert scene.writer.waiting == 12


def test_a_full_disk_costs_no_answer_and_what_waited_is_written_when_there_is_room(path: Path) -> None:
    """SQLite's own bound on the file, which fails as a full disk does."""
    scene = Scene(path, Ledger(content=True), pages=40)
    with capture_logs() as logs:
        for number in range(50):
            scene.ask(f"r{number}", "x" * 5_000)
        assert not scene.writer.flush(LONG_S)
        scene.pages = None
        scene.flush()
    assert "disk is full" in logs[0]["problem"]
    assert [log["event"] for log in logs] == ["ledger_down", "ledger_back"]
    assert len({entry.request for entry in scene.entries()}) == 50


def test_what_finds_no_room_is_dropped_whole_counted_and_told(path: Path, impatient: None) -> None:
    """At once for the first, then once a minute, and when it is back; requests that have begun keep a tenth of the room."""
    scene = Scene(path, COMMIT, Bounds(waiting=100))
    scene.ask("a")[-1].result(LONG_S)
    with capture_logs() as logs:
        with locked(path):
            scene.ask("b")[-1].result(LONG_S)
            for number in range(40):
                scene.ask(f"r{number}", steps=3)
            assert [log["rows"] for log in events(logs, "ledger_dropped")] == [2]
            scene.clock.pass_by(59)
            scene.ask("s")
            assert len(events(logs, "ledger_dropped")) == 1
            scene.clock.pass_by(1)
            assert not scene.writer.flush(LONG_S)
            scene.ask("t")
        scene.flush()
    told = events(logs, "ledger_dropped")
    assert len(told) == 2
    (back,) = events(logs, "ledger_back")
    kept = scene.entries()
    assert len(kept) + scene.writer.dropped == 4 + 4 + 40 * 8 + 4 + 4
    assert back["dropped"] == scene.writer.dropped
    assert back["rows"] == len(kept) - 4
    by_request = {
        name: [entry.kind for entry in kept if entry.request == name] for name in {one.request for one in kept}
    }
    assert all(kinds[0] == "request" and kinds[-1] == "outcome" for kinds in by_request.values())
    assert 90 <= len(kept) - 4 <= 100


def test_close_gives_up_in_bounded_time_and_tells_what_is_lost(path: Path) -> None:
    """The last word, also where something was told a moment ago; a later row begins anew."""
    path.mkdir()
    scene = Scene(path, COMMIT)
    with capture_logs() as logs:
        scene.ask("a")
        assert not scene.writer.flush(LONG_S)
        assert not scene.writer.close(0.05)
    assert [log["event"] for log in logs] == ["ledger_down", "ledger_dropped"]
    assert logs[-1]["rows"] == 4
    path.rmdir()
    scene.ask("b")
    scene.flush()
    assert [entry.request for entry in scene.entries()] == ["b"] * 4
    assert (scene.writer.waiting, scene.writer.dropped) == (0, 4)
