"""Sums of whole days that are kept between calls: never shown instead of what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboard import Made
from cascade.costs import Period, PeriodSums, costs, read_sums
from cascade.ledger.opening import open_reader
from cascade.ledger.records import DAY_S
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.whole_sums import KnownDays
from tests.dashboard.recorded_day import NOW

UNTIL = int(NOW // 900 + 1) * 900


class Listened:
    """A reader that notes what it is asked."""

    def __init__(self, reader: Any) -> None:
        self.asked: list[str] = []
        self._reader = reader

    def select(self, question: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """As the reader itself."""
        self.asked.append(question)
        return self._reader.select(question, values)

    @property
    def grouped(self) -> int:
        """How often whole days were grouped."""
        return sum("_days" in question and "GROUP BY" in question for question in self.asked)


def write(path: Path, name: str, now: float, rows: int) -> None:
    """A month of requests that ends at `now`, by a writer of its own."""
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        store.open(name)
        for batch in Made(now).batches(rows):
            batch.samples.clear()
            store.write(batch)


@pytest.mark.parametrize("policy", [None, "support"])
def test_whole_days_are_grouped_again_only_when_something_was_added(tmp_path: Path, policy: str | None) -> None:
    """Late entries of a day that is over count at once; a figure is that of a reader that keeps nothing."""
    path, known = tmp_path / "ledger.db", KnownDays()
    write(path, "first", NOW, 900)
    periods = [Period(UNTIL - days * DAY_S, UNTIL) for days in (7, 30)]
    for late, grouped in ((0, 4), (0, 0), (60, 4), (0, 0)):
        if late:
            write(path, "late", NOW - 5 * DAY_S, late)
        with closing(open_reader(path)) as reader:
            listened = Listened(reader)
            kept = [read_sums(listened, one, policy, known=known) for one in periods]  # type: ignore[arg-type]
            assert kept == [read_sums(reader, one, policy) for one in periods]
            assert listened.grouped == grouped


def test_the_parts_of_a_period_are_its_days_and_quarters(tmp_path: Path) -> None:
    """Each request and step once: as the rows of every day say."""
    path = tmp_path / "ledger.db"
    write(path, "first", NOW, 900)
    with closing(open_reader(path)) as reader:
        for since in (UNTIL - 20 * DAY_S, UNTIL // DAY_S * DAY_S - 3 * DAY_S, UNTIL - 900):
            period = Period(since, UNTIL)
            whole, by_day = read_sums(reader, period), read_sums(reader, period, by_day=True)
            for by in ("task", "rung", "model", "workflow", "policy"):
                assert costs(whole, PeriodSums(), by) == costs(by_day, PeriodSums(), by)
            shown = read_sums(reader, period, by_slot=False)
            assert (shown.spend, shown.traffic, shown.slots, shown.missed) == (whole.spend, whole.traffic, (), ())
