"""A writer's clocks and limits; tests and benchmarks pass their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Bounds", "Times"]


@dataclass(frozen=True, slots=True)
class Times:
    """The clocks. `now`: Unix seconds; `ticks`: seconds from any origin; `wait(condition, seconds)`: None waits for a notification."""

    now: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Condition, float | None], object] = threading.Condition.wait


@dataclass(frozen=True, slots=True)
class Bounds:
    """`waiting`: entries in the buffer; `transaction`: entries in one transaction.

    `linger_s`: how long the first entry waits for others (batched). `retry_s`, `longest_retry_s`: the first and the longest
    interval between two tries.
    """

    waiting: int = 100_000
    transaction: int = 2_000
    linger_s: float = 0.1
    retry_s: float = 0.1
    longest_retry_s: float = 5.0
