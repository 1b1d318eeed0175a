"""The ways to start the command line, and what a shell is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade import cli


def start(*arguments: str, home: Path, **environment: str) -> str:
    """What `python -m cascade` prints, for a person whose home is there."""
    done = subprocess.run(
        [sys.executable, "-m", "cascade", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "error", **environment},
        cwd=home, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """`python -m cascade` does what `cascade` does, under its name."""
    assert start("--version", home=tmp_path).startswith("cascade 0.")
    assert start(home=tmp_path).startswith("Usage: cascade [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("shell", "file", "asking"),
    [
        ("bash", ".bash_completions/cascade.sh", {"COMP_WORDS": "cascade policy sh", "COMP_CWORD": "2"}),
        ("zsh", ".zfunc/_cascade", {"_TYPER_COMPLETE_ARGS": "cascade policy sh"}),
        ("fish", ".config/fish/completions/cascade.fish",
         {"_TYPER_COMPLETE_ARGS": "cascade policy sh", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)  # fmt: skip
def test_completion_is_installed_and_completes(tmp_path: Path, shell: str, file: str, asking: dict[str, str]) -> None:
    """In the person's own files; what they call is there, and knows the commands."""
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # no shell started this process: it is named
    assert "completion installed" in start("--install-completion", shell, home=tmp_path, **named)
    assert f"_CASCADE_COMPLETE=complete_{shell}" in (tmp_path / file).read_text(encoding="utf-8")
    said = start(home=tmp_path, _CASCADE_COMPLETE=f"complete_{shell}", **asking)
    assert "show" in said
    assert "schema" not in said.replace("JSON Schema", "")


def test_the_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Where people look."""
    assert cli.run_command(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out
