"""A writer's clocks and bounds: what a test or a benchmark may set otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Bounds", "Times"]


@dataclass(frozen=True, slots=True)
class Times:
    """The clocks. `now`: Unix seconds; `ticks`: seconds from any origin; `wait(condition, seconds)`: None waits for a notice."""

    now: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Condition, float | None], object] = threading.Condition.wait


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much, and how long: entries that may wait, entries of a transaction, seconds.

    `linger_s`: how long the first row waits for others (batched). `retry_s`, `longest_retry_s`: the first and the longest
    interval between two tries.
    """

    waiting: int = 100_000
    transaction: int = 2_000
    linger_s: float = 0.1
    retry_s: float = 0.1
    longest_retry_s: float = 5.0
