"""The ledger under kill -9: the quick form of `benchmarks/ledger_kill.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.ledger_kill import AT_ONCE, Kill, Start, series
from tests.warm import WarmPython


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """Start the processes to be killed with their libraries loaded."""

    def starts(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
        process = warm_python.start(arguments, env=environment)
        return process, process.child

    return starts


def _check(kills: tuple[Kill, ...], at_once: int = 1) -> None:
    assert [kill.faults for kill in kills] == [(), ()]
    for kill in kills:
        assert kill.unsettled <= AT_ONCE * at_once
        if not kill.down:  # a machine too slow for a server's time-outs is no failure, and says so
            assert kill.settled <= kill.billed <= kill.taken_in <= kill.settled + kill.unsettled
            assert kill.unsettled > 0
    assert sum(kill.settled for kill in kills) > 0


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_nothing_that_was_returned_or_paid_is_lost(
    engine: str, tmp_path: Path, start: Start, request: pytest.FixtureRequest
) -> None:
    """Both drivers, killed under 64 concurrent asks: each answer is on record once, each call settled or open."""
    address = str(tmp_path / "ledger.db") if engine == "sqlite" else request.getfixturevalue("postgres_database")
    kills = tuple(series(address, tmp_path, kills=2, seed=0, calls=150, start=start))
    _check(kills)
    assert sum(kill.returned for kill in kills) > 0  # something was there to be lost


@pytest.mark.parametrize(("engine", "at_once"), [("sqlite", 1), ("postgres", 4)])
def test_nothing_that_was_paid_is_lost_between_samples_or_in_a_wave(
    engine: str, at_once: int, tmp_path: Path, start: Start, request: pytest.FixtureRequest
) -> None:
    """As above, with Haiku asked until three answers are the same: each sample is settled or open."""
    address = str(tmp_path / "ledger.db") if engine == "sqlite" else request.getfixturevalue("postgres_database")
    _check(tuple(series(address, tmp_path, kills=2, seed=0, calls=450, at_once=at_once, start=start)), at_once)
