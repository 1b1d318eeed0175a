"""Times as they are told on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cascade.core.errors import ConfigurationError

__all__ = ["moment"]

_UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def moment(told: str | None, now: float, option: str) -> float | None:
    """A time in Unix seconds: so long ago (7d, 12h, 30m, 2w), or a date or time (UTC where it names no zone).

    Raises ConfigurationError for anything else.
    """
    if told is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", told.strip())
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        at = datetime.fromisoformat(told.strip())
    except ValueError:
        raise ConfigurationError(
            f"{option} {told[:40]!r}: is no time (give 7d, 12h, 30m, or 2026-11-21T10:00)"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
