"""The day that the figures and the pages are about, written once for all tests here: none of them writes to it."""

from __future__ import annotations

import pytest

from tests.dashboard.recorded_day import RecordedDay, record_day


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> RecordedDay:
    """The whole day, in SQLite."""
    return record_day(tmp_path_factory.mktemp("day") / "ledger.db")
