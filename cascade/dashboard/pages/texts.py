"""Figures and names as people read them. Money is in nano-USD, times are Unix seconds and shown in UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["FILTERS", "clock", "count", "day", "exact", "latency", "moment", "percent", "points", "usd", "visible"]

_UNKNOWN: Final = "–"
_NANO: Final = 1e9
_MINUS: Final = "\u2212"
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)  # they reorder what follows
_SHOWN: Final = {
    code: ascii(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), *_BIDI) if chr(code) not in "\n\t"
}
_LONGEST: Final = 4_000


def usd(nano: float | None) -> str:
    """Money: four figures of small amounts, cents of larger ones."""
    if nano is None:
        return _UNKNOWN
    amount = abs(nano) / _NANO
    sign = _MINUS if nano < 0 else ""
    if amount >= 1_000:
        return f"{sign}${amount:,.0f}"
    if amount >= 1 or not amount:
        return f"{sign}${amount:,.2f}"
    return f"{sign}${amount:.4f}" if amount >= 0.01 else f"{sign}${amount:.6f}"


def exact(nano: float | None) -> str:
    """The same in USD, with every figure: what `--json` says."""
    return "" if nano is None else repr(nano / _NANO)


def percent(share: float | None, digits: int = 1) -> str:
    """A share."""
    return _UNKNOWN if share is None else f"{share:.{digits}%}".replace("%", "\u202f%").replace("-", _MINUS)


def points(change: float | None) -> str:
    """A change of a rate, in percentage points."""
    return _UNKNOWN if change is None else f"{change:+.1f}\u202fpoints".replace("-", _MINUS)


def count(number: int | None) -> str:
    """A number of things."""
    return _UNKNOWN if number is None else f"{number:,}"


def latency(ms: float) -> str:
    """A time that a call took."""
    return f"{ms:.0f}\u202fms" if ms < 1_000 else f"{ms / 1_000:.1f}\u202fs"


def clock(at: float) -> str:
    """The time of the day."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def moment(at: float) -> str:
    """Day and time, to the minute."""
    return f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M}"


def day(at: float) -> str:
    """The day alone."""
    return f"{datetime.fromtimestamp(at, UTC):%d %b}"


def iso(at: float) -> str:
    """For the attribute `datetime`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def visible(text: object, most: int = _LONGEST) -> str:
    """Somebody else's text: characters that reorder or hide are shown as escapes, and only so many are shown."""
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[: most - 1]}…"
    return cut.translate(_SHOWN)


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "usd": usd,
    "exact": exact,
    "percent": percent,
    "points": points,
    "count": count,
    "latency": latency,
    "clock": clock,
    "moment": moment,
    "day": day,
    "iso": iso,
    "visible": visible,
}
"""For templates."""
