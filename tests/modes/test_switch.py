"""The mode at run time: who says it, when it is in force, what a broken switch does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.core.errors import ConfigurationError
from cascade.engine.mode_switch import (
    ModeInForce,
    ModeSwitch,
    SwitchFile,
    read_switch_file,
    switch_path,
    write_switch_file,
)

Logs = list[Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and nobody's CASCADE_MODE."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CASCADE_MODE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def logs() -> Iterator[Logs]:
    """What is logged meanwhile."""
    with capture_logs() as events:
        yield events


def turn(text: str) -> None:
    """Replace the switch file by this text, as an editor would."""
    path = switch_path()
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.replace(path)


def test_the_switch_for_a_policy_beats_the_one_for_all_the_environment_and_the_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is in force as soon as all before it are silent, on the very next call."""
    switch = ModeSwitch("support", "enforce")
    assert switch.in_force() == ModeInForce("enforce", "policy")
    monkeypatch.setenv("CASCADE_MODE", " Observe ")
    assert switch.in_force() == ModeInForce("observe", "CASCADE_MODE")
    write_switch_file(SwitchFile("off"), switch_path())
    assert switch.in_force() == ModeInForce("off", "switch for all")
    write_switch_file(SwitchFile("off", {"support": "enforce", "other": "observe"}), switch_path())
    assert switch.in_force() == ModeInForce("enforce", "switch")
    assert ModeSwitch("else", "enforce").in_force() == ModeInForce("off", "switch for all")
    write_switch_file(SwitchFile(), switch_path())
    assert not switch_path().exists()
    assert switch.in_force() == ModeInForce("observe", "CASCADE_MODE")
    monkeypatch.setenv("CASCADE_MODE", "")
    assert switch.mode() == "enforce"


def test_each_change_is_logged_once(logs: Logs) -> None:
    """Not each request under it; and a switch that says what is in force anyway is no change."""
    switch = ModeSwitch("support", "enforce")
    for words in (SwitchFile("enforce"), SwitchFile("off"), SwitchFile("off", {"support": "off"}), SwitchFile()):
        write_switch_file(words, switch_path())
        modes = [switch.mode() for _ in range(3)]
        assert len(set(modes)) == 1
    assert [(one["event"], one["before"], one["mode"], one["by"]) for one in logs] == [
        ("mode_changed", "enforce", "off", "switch for all"),
        ("mode_changed", "off", "enforce", "policy"),
    ]


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", '"off"', '{"mode": "off"}', '{"all": "of"}', '{"all": ["off"]}', '{"all": true}', '{"all": {}}',
     '{"policies": ["support"]}', '{"policies": {"support": null}}', "\udc80", "[" * 100_000],
)  # fmt: skip
def test_a_broken_switch_is_told_once_and_changes_nothing(broken: str, logs: Logs) -> None:
    """What it said last stays; a fresh process that never saw it whole goes by its policy."""
    switch = ModeSwitch("support", "enforce")
    write_switch_file(SwitchFile("off"), switch_path())
    assert switch.mode() == "off"
    path = switch_path()
    path.write_bytes(broken.encode("utf-8", "surrogateescape"))
    fresh = ModeSwitch("support", "observe")
    assert [switch.mode(), switch.mode(), fresh.mode(), fresh.mode()] == ["off", "off", "observe", "observe"]
    told = [one for one in logs if one["event"] == "mode_unreadable"]
    assert len(told) == 2
    assert all("cascade mode" in one["problem"] for one in told)
    turn('{"all": "enforce"}')
    assert [switch.mode(), fresh.mode()] == ["enforce", "enforce"]


def test_a_switch_that_cannot_be_read_is_told_once_and_changes_nothing(logs: Logs) -> None:
    """A folder in its place, and a loop of links where it should be."""
    path = switch_path()
    switch = ModeSwitch("support", "enforce")
    path.mkdir(parents=True)
    assert [switch.mode(), switch.mode()] == ["enforce", "enforce"]
    path.rmdir()
    path.symlink_to(path)
    assert [switch.mode(), switch.mode()] == ["enforce", "enforce"]
    assert [one["event"] for one in logs] == ["mode_unreadable"] * 2
    assert all("cannot be read" in one["problem"] for one in logs)


def test_an_unknown_word_in_the_environment_is_an_error_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a mode, and not for none."""
    monkeypatch.setenv("CASCADE_MODE", "disabled")
    with pytest.raises(ConfigurationError, match=r"CASCADE_MODE: 'disabled'.*off, observe or enforce"):
        ModeSwitch("support", "enforce").mode()
    write_switch_file(SwitchFile("off"), switch_path())
    assert ModeSwitch("support", "enforce").mode() == "off"  # the switch works all the same


def test_a_switch_file_is_read_only_when_it_has_changed(home: Path) -> None:
    """The file's stamp is what counts: bytes changed behind an unchanged stamp are not seen."""
    switch = ModeSwitch("support", "enforce")
    write_switch_file(SwitchFile("observe"), switch_path())
    assert switch.mode() == "observe"
    before = (home / "mode.json").stat()
    (home / "mode.json").write_text('{"all": "enforce"}\n')
    os.utime(home / "mode.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert switch.mode() == "observe"
    os.utime(home / "mode.json", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert switch.mode() == "enforce"


def test_the_switch_is_written_whole_or_not_at_all(home: Path) -> None:
    """What is read back is what was written; nothing else stays in the folder; a home that cannot be says what to do."""
    words = SwitchFile("off", {"b": "enforce", "a": "observe"})
    write_switch_file(words, switch_path())
    assert read_switch_file(switch_path()) == words
    assert [one.name for one in home.iterdir()] == ["mode.json"]
    write_switch_file(words.with_mode(None).with_mode(None, "a").with_mode("off", "b"), switch_path())
    assert read_switch_file(switch_path()) == SwitchFile(None, {"b": "off"})
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_switch_file(words, home / "mode.json" / "mode.json")
