"""Entries that could not be written: counted at once; the first is logged at once, later ones at most once a minute."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cascade.logs import log_event

__all__ = ["Drops", "log_warning"]

_AGAIN_S = 60.0


@dataclass(slots=True)
class Drops:
    """Dropped entries: counted under the writer's lock, logged outside it. Times in seconds from any origin."""

    total: int = 0
    since_down: int = 0
    unreported: int = 0
    reported_at: float | None = None

    def drop(self, entries: int) -> None:
        """Count entries that will not be written."""
        self.total += entries
        self.since_down += entries
        self.unreported += entries

    def seconds(self, now: float) -> float | None:
        """Seconds until the next report is due; None: nothing to report."""
        if not self.unreported:
            return None
        return 0.0 if self.reported_at is None else max(0.0, self.reported_at + _AGAIN_S - now)

    def take(self, now: float) -> int:
        """The number to report now; resets it."""
        unreported, self.unreported, self.reported_at = self.unreported, 0, now
        return unreported


def log_warning(event: str, **details: Any) -> None:
    """Log a warning."""
    with suppress(Exception):  # a log processor of the application may raise; the writer's thread must survive that
        log_event("warning", event, **details)
