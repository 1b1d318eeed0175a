"""The period to report, and the one before it of the same length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cascade.core.errors import ConfigurationError
from cascade.ledger.records import BUCKET_S

__all__ = ["Period", "read_moment", "read_since"]

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO = re.compile(r"([1-9]\d{0,5})\s*([mhdw])")
_LONGEST_S = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Period:
    """[since, until), in Unix seconds: whole quarters of an hour, like the sums."""

    since: int
    until: int

    @property
    def before(self) -> Period:
        """The period of the same length that ended where this one starts."""
        return Period(self.since - (self.until - self.since), self.since)

    @property
    def label(self) -> str:
        """The period as text, in UTC."""
        since, until = (datetime.fromtimestamp(at, UTC) for at in (self.since, self.until))
        return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"


def read_since(text: str, now: float, option: str = "--since") -> Period:
    """The period from `7d`, `24h`, `90m` or `2w` ago, or from a date or time (UTC unless it names a zone), to the end of this quarter of an hour.

    `option`: named in errors. Raises ConfigurationError for anything else, and for a time in the future.
    """
    until = int(now // BUCKET_S + 1) * BUCKET_S
    length = _length(text, option)
    if length is not None:
        # Whole quarters of an hour, of the requested length, so that the period before is as long.
        return Period(until - max(1, length // BUCKET_S) * BUCKET_S, until)
    since = int(read_moment(text, now, option) // BUCKET_S) * BUCKET_S
    if not 0 <= since < until:
        raise _invalid(option, text, "is in the future, or before 1970")
    return Period(since, until)


def read_moment(text: str, now: float, option: str) -> float:
    """A single time in the same notation, in Unix seconds. `option`: named in errors. Raises ConfigurationError as above."""
    length = _length(text, option)
    if length is not None:
        return now - length
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _invalid(option, text, "is neither a length of time nor a date") from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)


def _length(text: str, option: str) -> int | None:
    ago = _AGO.fullmatch(text.strip())
    if ago is None:
        return None
    length = int(ago[1]) * _SECONDS[ago[2]]
    if length > _LONGEST_S:
        raise _invalid(option, text, "is more than a century ago")
    return length


def _invalid(option: str, text: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{option} {text[:40]!r} {problem} (give e.g. 7d, 24h or 2026-11-01)")
