"""What could not be written: counted at once, told at once for the first and then at most once a minute."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cascade.logs import log_event

__all__ = ["Losses", "tell"]

_AGAIN_S = 60.0


@dataclass(slots=True)
class Losses:
    """Entries that were dropped; counted under the writer's lock, told outside of it. Times in seconds from any origin."""

    total: int = 0
    since_down: int = 0
    untold: int = 0
    told_at: float | None = None

    def drop(self, entries: int) -> None:
        """Count entries that are not going to be written."""
        self.total += entries
        self.since_down += entries
        self.untold += entries

    def seconds(self, now: float) -> float | None:
        """When the next must be told: in so many seconds; None: there is nothing to tell."""
        if not self.untold:
            return None
        return 0.0 if self.told_at is None else max(0.0, self.told_at + _AGAIN_S - now)

    def take(self, now: float) -> int:
        """What is to be told now; counts as told."""
        untold, self.untold, self.told_at = self.untold, 0, now
        return untold


def tell(event: str, **details: Any) -> None:
    """Log a warning."""
    with suppress(Exception):  # a processor of the application's: the writer's thread must outlive it
        log_event("warning", event, **details)
