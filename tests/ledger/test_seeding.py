"""What a budget's counter begins with: the ledger is asked, and one that hangs or cannot be read holds nobody up."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cascade.core.budgets import ApplicableBudget
from cascade.ledger.opening import open_reader
from cascade.ledger.spent import SpentLookup
from cascade.ledger.stores import LedgerDown, Reader
from tests.ledger.books import AT, fill

CLAIM = ApplicableBudget(
    "support", "support", "policy", "support", "daily", "2026-11-18", AT - 1e4, AT + 1e4, 1, 0.8, "reject"
)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """As a clock does."""
        return self.now


def test_a_server_that_hangs_is_asked_by_one_caller_and_then_left_alone() -> None:
    """Sixteen want to know at once: one looks, all are told that it cannot say; after ten seconds one looks again."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as server:  # it accepts, and says nothing
        address, clock = f"postgresql://me:hunter2@127.0.0.1:{server.getsockname()[1]}/books", Clock()
        looked: list[float] = []

        def look() -> Reader:
            looked.append(clock.now)
            return open_reader(address, seconds=0.2)

        seed = SpentLookup("postgresql://there", look, lambda: (), clock, 0.2)

        def ask(_: int) -> str:
            with pytest.raises(LedgerDown) as down:
                seed(CLAIM)
            return str(down.value)

        with ThreadPoolExecutor(16) as pool:
            told = list(pool.map(ask, range(16)))
            assert sum("no answer" in one for one in told) == 1
            assert "hunter2" not in str(told)
            clock.now = 9.9
            assert "a moment ago" in ask(0)
            assert looked == [0.0]
            clock.now = 10.0
            told = list(pool.map(ask, range(16)))
            assert sum("no answer" in one for one in told) == 1
            assert looked == [0.0, 10.0]


def test_a_ledger_that_is_not_there_has_spent_nothing_and_one_that_is_not_readable_is_no_such_one(
    tmp_path: Path,
) -> None:
    """Nothing, then an error for as long as it is damaged, then what is in it: also what waits to be written by then."""
    path, clock = tmp_path / "ledger.db", Clock()
    seed = SpentLookup(str(path), lambda: open_reader(path), lambda: (), clock)
    assert seed(CLAIM) == 0
    path.write_bytes(b"a power loss" * 500)
    with pytest.raises(LedgerDown, match="NOTADB"):
        seed(CLAIM)
    path.unlink()
    fill(path, requests=2)
    with pytest.raises(LedgerDown, match="a moment ago"):
        seed(CLAIM)
    clock.now = 10.0
    assert seed(CLAIM) == 2 * (1_000 + 2_000 + 4_000)
