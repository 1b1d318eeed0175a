"""Single flight: of equal requests that run at the same time in one process, one climbs and the others wait for its answer.

No lock is held while a model is asked: the lock is for the table alone. A waiting request waits for a Future, on its own
thread or loop.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

from cascade.forks import renew_in_children

__all__ = ["Flight", "Flights", "Landing"]


@dataclass(frozen=True, slots=True)
class Landing:
    """How a flight ended. `entry`: the answer that all of them get. None: there is none to share.

    `has_failed`: its leader was cancelled or had an error, so another may lead. Otherwise its answer is its own, and waiting again
    would be in vain.
    """

    entry: bytes | None
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Flight:
    """Equal requests under way. `leads`: the one that joined is to climb, and to end the flight by `Flights.land`."""

    key: bytes
    landing: Future[Landing]
    leads: bool


class Flights:
    """The flights of one process. Safe between threads and loops; a forked child begins without any."""

    def __init__(self) -> None:
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: those who lead a flight stay with the parent."""
        # Reentrant: a stream that nobody reads any more is ended by the garbage collector, within whatever runs.
        self._lock = threading.RLock()
        self._running: dict[bytes, Future[Landing]] = {}

    def join(self, key: bytes) -> Flight:
        """Join the flight of this key, or begin it."""
        own: Future[Landing] = Future()
        with self._lock:
            found = self._running.setdefault(key, own)
        return Flight(key, found, found is own)

    def land(self, flight: Flight, landing: Landing) -> None:
        """End a flight: those who wait for it go on. To end it again has no effect."""
        with self._lock:
            if self._running.get(flight.key) is flight.landing:
                del self._running[flight.key]
        with suppress(InvalidStateError):
            flight.landing.set_result(landing)
