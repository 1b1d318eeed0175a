"""The command in the process of its tests, for rooms that run it hundreds of times."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cascade import cli
from cascade.emulator import Emulator

from .conftest import Ran, Run, runner

__all__ = ["run", "runner"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `cascade …` in another working directory, and in this process: of hundreds most of the time were their starts.

    `emulator=`, `environment=` and `stdin=` as with a process of its own.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CASCADE_POLICY", "CASCADE_HOME", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def runs(
        *arguments: str, emulator: Emulator | None = None, environment: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Ran:
        here = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "sk-secret"} if emulator else {}
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            for name, value in {**here, **(environment or {})}.items():
                patched.setenv(name, value)
            patched.setattr("sys.stdin", io.StringIO(stdin))
            code = cli.run_command(list(arguments))
        return Ran(code, out.getvalue(), err.getvalue())

    return runs
