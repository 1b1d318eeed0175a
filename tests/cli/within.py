"""The command in the process of its tests, for rooms that run it hundreds of times."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import structlog

from cascade import cli

from .conftest import Ran, Run, Runner, runner

__all__ = ["run", "runner"]


@pytest.fixture
def run(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `cascade …` in another working directory, and in this process: of hundreds most of the time were their starts.

    What asks an emulator, or wants an environment of its own, runs in a process of its own as everywhere.
    """
    before = structlog.get_config()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CASCADE_POLICY", "CASCADE_HOME", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def runs(*arguments: str, **apart: object) -> Ran:
        if apart:
            return runner(tmp_path)(*arguments, **apart)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.run(list(arguments))
        return Ran(code, out.getvalue(), err.getvalue())

    yield runs
    structlog.configure(**before)
