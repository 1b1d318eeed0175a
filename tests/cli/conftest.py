"""The command line as a person runs it: a process of its own, and an emulator to talk to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.emulator import Emulator
from cascade.policy.shipped import shipped
from tests.warm import WarmPython

Run = Callable[..., "Ran"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, as JSON."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def support() -> Path:
    """The shipped synthetic corpus."""
    path = shipped("corpora", "support")
    assert path is not None
    return path


@pytest.fixture(scope="session")
def emulator(support: Path) -> Iterator[Emulator]:
    """Answers from the support corpus."""
    with Emulator(support) as running:
        yield running


Runner = Callable[[Path], Run]


def _bare(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "HOME": str(home), "CASCADE_HOME": str(home / ".cascade"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """An environment without a key, a profile or a policy of its own."""
    return _bare(tmp_path)


@pytest.fixture(scope="session")
def runner(warm_python: WarmPython) -> Runner:
    """Makes a `run` that works in a directory."""

    def in_directory(home: Path) -> Run:
        def runs(
            *arguments: str,
            emulator: Emulator | None = None,
            environment: Mapping[str, str] | None = None,
            stdin: str | None = None,
        ) -> Ran:
            here = {"ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "sk-secret"} if emulator else {}
            done = subprocess.run(
                [warm_python.python, "-m", "cascade.cli", *arguments],
                env={**_bare(home), **here, **(environment or {})},
                cwd=home,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            return Ran(done.returncode, done.stdout, done.stderr)

        return runs

    return in_directory


@pytest.fixture
def run(runner: Runner, tmp_path: Path) -> Run:
    """Run `cascade …` in another working directory; `emulator=` points it there."""
    return runner(tmp_path)
