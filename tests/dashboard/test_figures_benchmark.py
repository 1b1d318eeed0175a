"""The quick form of `benchmarks/dashboard.py`: its ledger is a sound one, and every figure that it times is there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from benchmarks.dashboard import figures, write_ledger
from cascade.ledger.opening import open_reader
from cascade.ledger.verifying.verification import verify
from tests.dashboard.recorded_day import NOW


def test_the_benchmarks_ledger_is_sound_and_all_of_it_is_timed(tmp_path: Path) -> None:
    """A few thousand rows; how long they take is for the benchmark to say."""
    path = tmp_path / "ledger.db"
    request = write_ledger(str(path), 3_000, NOW)
    with closing(open_reader(path)) as reader:
        found = verify(reader)
        assert found.is_sound
        assert 3_000 <= found.entries < 3_010
    assert list(figures(str(path), NOW, request, 1)) == [
        "figures, a day", "figures, a week", "figures, a month", "figures, one request", "whether the ledger has grown",
    ]  # fmt: skip
