"""`cascade mode`: what it says is in force, and what is in force after it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cascade.cli.mode.command import run_mode
from cascade.core.errors import CascadeError, ConfigurationError
from cascade.engine.mode_switch import ModeSwitch, SwitchFile, read_switch_file, switch_path
from tests.warm import WarmPython

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and nothing said by the environment."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    for name in ("CASCADE_MODE", "CASCADE_POLICY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_a_switch_in_another_process_is_in_force_on_the_next_request(warm_python: WarmPython) -> None:
    """The kill switch: `cascade mode off`, and back; a process that runs reads it without a restart."""
    switch = ModeSwitch("default", "enforce")
    assert switch.mode() == "enforce"
    for word, mode in (("off", "off"), ("clear", "enforce")):
        done = subprocess.run(
            [warm_python.python, "-m", "cascade.cli", "mode", word],
            env=dict(os.environ),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert switch.mode() == mode


def test_it_shows_what_is_in_force_and_why(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy itself, the environment, the switch for all, its own: the last that speaks; and the others beside it."""
    run_mode(None, None, as_json=False)
    assert capsys.readouterr().out == "default: enforce (from the policy itself)\n"
    monkeypatch.setenv("CASCADE_MODE", "observe")
    run_mode(None, None, as_json=False)
    assert capsys.readouterr().out.startswith(
        "default: observe (from CASCADE_MODE)\n  the policy's own mode: enforce\n"
    )
    run_mode("off", None, as_json=False)
    assert "default: off (from the switch for all, " in capsys.readouterr().out
    run_mode("enforce", "support", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "policy": "support", "mode": "enforce", "source": "switch", "configured": "enforce",
        "switch": {"file": str(switch_path()), "all": "off", "policies": {"support": "enforce"}},
        "CASCADE_MODE": "observe",
    }  # fmt: skip


def test_a_switch_for_all_says_which_policies_it_does_not_reach(capsys: Captured) -> None:
    """A policy's own comes first, so who turns all off is told of it; clear takes one out, or all."""
    run_mode("enforce", "support", as_json=False)
    run_mode("off", None, as_json=False)
    assert (
        "policy support keeps its own switch, enforce (cascade mode clear --policy support)" in capsys.readouterr().err
    )
    run_mode("clear", "support", as_json=False)
    assert read_switch_file(switch_path()) == SwitchFile("off")
    run_mode("enforce", "support", as_json=False)
    run_mode("clear", None, as_json=False)
    assert not switch_path().exists()


def test_all_can_be_switched_whatever_else_is_broken(
    home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch file that is no good, a default policy that is none: off is off, and what was wrong is told."""
    home.mkdir()
    (home / "mode.json").write_text("{broken")
    monkeypatch.setenv("CASCADE_POLICY", str(home / "gone.yaml"))
    run_mode("off", None, as_json=False)
    told = capsys.readouterr()
    assert "written anew" in told.err
    assert "gone.yaml" in told.err
    assert ModeSwitch("default", "enforce").mode() == "off"


def test_what_cannot_be_meant_changes_nothing(home: Path, capsys: Captured) -> None:
    """A word that is no mode, a policy file that is none; a name that is not here is taken, for a policy made in code."""
    with pytest.raises(ConfigurationError, match="give off, observe, enforce or clear"):
        run_mode("on", None, as_json=False)
    with pytest.raises(CascadeError, match=r"gone\.yaml"):
        run_mode("off", str(home / "gone.yaml"), as_json=False)
    assert not switch_path().exists()
    run_mode("off", "in-code", as_json=False)
    assert "no policy in-code here" in capsys.readouterr().err
    assert ModeSwitch("in-code", "enforce").in_force(log=False).mode == "off"
    run_mode(None, "another", as_json=False)
    assert capsys.readouterr().out.startswith("another: no switch is set")
