"""A run under kill -9: the quick form of `benchmarks/plan_killed.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.plan_killed import Start, run
from tests.warm import WarmPython


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start the processes to be killed with their libraries loaded."""

    def starts(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
        process = warm_python.start(arguments, env=environment)
        return process, process.child

    return starts


@pytest.mark.filterwarnings("ignore::cascade.UncertifiedWarning")
def test_a_killed_run_ends_as_if_nothing_had_happened_and_pays_nothing_twice(tmp_path: Path, start: Start) -> None:
    """Killed at random moments of a run: what had come is not asked again, and costs and ledger agree to the nano-USD."""
    found = run(tmp_path, runs=1, seed=3, most_kills=3, start=start)
    assert found.faults == ()
    assert found.killed > 0
