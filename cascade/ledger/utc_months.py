"""Months of UTC, as beginnings in Unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["is_month_start", "moment_text", "month_name", "month_of", "month_start", "next_month"]


def month_start(year: int, month: int) -> int:
    """When a month begins."""
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def month_of(at: float) -> int:
    """The beginning of the month that contains a time."""
    there = datetime.fromtimestamp(at // 1, UTC)  # not rounded to microseconds, which may be in the next month
    return month_start(there.year, there.month)


def next_month(start: int) -> int:
    """The beginning of the month after the one that begins at `start`."""
    return month_of(start + 32 * 86_400)


def month_name(at: float) -> str:
    """The month that contains a time, e.g. 2026-11. Raises ValueError if the calendar has no such time."""
    try:
        return f"{datetime.fromtimestamp(at // 1, UTC):%Y-%m}"
    except OverflowError:
        raise ValueError(at) from None


def moment_text(at: float, form: str) -> str:
    """A time as `strftime` tells it; as a number of seconds, if the calendar has no such time."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime(form)
    except (ValueError, OverflowError):
        return f"second {at:.15g}"


def is_month_start(at: float) -> bool:
    """Whether a month begins at this time."""
    try:
        return month_of(at) == at
    except (ValueError, OverflowError, TypeError):  # a changed row may hold anything
        return False
