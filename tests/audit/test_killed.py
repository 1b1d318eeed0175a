"""The audit's workers under kill -9: the quick form of `benchmarks/audit_killed.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.audit_killed import Start, run
from tests.warm import WarmPython


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start the processes to be killed with their libraries loaded."""

    def starts(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
        process = warm_python.start(arguments, env=environment)
        return process, process.child

    return starts


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_sampled_request_is_graded_exactly_once(
    engine: str, tmp_path: Path, start: Start, request: pytest.FixtureRequest
) -> None:
    """Two workers, killed in turn at random moments: none is lost, none skipped, and no call is made again but those in flight."""
    address = str(tmp_path / "ledger.db") if engine == "sqlite" else request.getfixturevalue("postgres_database")
    result = run(address, tmp_path, samples=10, kills=2, seed=1, start=start)
    assert result.faults == ()
    assert result.killed > 0
