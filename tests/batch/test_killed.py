"""A batch run under kill -9: the quick form of `benchmarks/batch_killed.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.batch_killed import Start, run
from tests.warm import WarmPython

PHASES = ("created:1", "read:1", "page:1", "written:2")


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start the processes to be killed with their libraries loaded."""

    def starts(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
        process = warm_python.start(arguments, env=environment)
        return process, process.child

    return starts


def test_a_run_killed_in_every_phase_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each phase in turn on one run, whose requests expire and fail: it ends as the live climb does, at half its price."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    result = run(tmp_path, items=40, max_requests=30, phases=PHASES, start=start)
    assert result.faults == ()
    assert result.killed == len(PHASES)
