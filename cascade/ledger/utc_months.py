"""Months of UTC, as beginnings in Unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["month_name", "month_of", "month_start", "next_month"]


def month_start(year: int, month: int) -> int:
    """When a month begins."""
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def month_of(at: float) -> int:
    """The beginning of the month that contains a time."""
    there = datetime.fromtimestamp(at, UTC)
    return month_start(there.year, there.month)


def next_month(start: int) -> int:
    """The beginning of the month after the one that begins at `start`."""
    return month_of(start + 32 * 86_400)


def month_name(at: float) -> str:
    """The month that contains a time, e.g. 2026-11."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m}"
