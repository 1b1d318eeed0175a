"""A recording's cap in Redis: one counter for all its workers.

What a worker is about to spend is reserved under the name of its part of the recording. If it dies, that stays counted, until whoever takes
the part over says what the part's journal tells (`take`). The counter is of one run: the next one makes it anew, from the journals.
"""

from __future__ import annotations

import time
from typing import Literal, cast

from cascade.core.errors import ConfigurationError
from cascade.state.circuit import RedisConnection, Script
from cascade.state.opening import resolve_state

__all__ = ["CapStatus", "RecordingCap"]

CapStatus = Literal["ok", "wait", "reached", "gone", "down"]
"""`wait`: calls under way hold what is left. `gone`: this server has no such counter. `down`: it cannot be reached."""

_SCRIPT = Script("recording_cap.lua")
_MAKE = Script("recording_cap_make.lua")
_KEEP_S = 7 * 86_400
_TIMEOUT_S = 5.0
_MAX_EXACT = 2**53 - 1  # Lua counts in doubles


class RecordingCap:
    """The counter of the run `name`, at `CASCADE_STATE`. Amounts in nano-USD. Safe between threads.

    Raises ConfigurationError if there is no Redis address, MissingExtra without redis-py.
    """

    def __init__(self, name: str) -> None:
        address = resolve_state(None)
        if address == "memory":
            raise ConfigurationError(
                "--max-usd: workers count what they spend in one place: set CASCADE_STATE=redis://host:6379/0"
                " (here, and where the workers run; pip install 'cascade-ladder[redis]'), or leave out --workers"
            )
        self._key = f"cascade:{{recording:{name}}}"
        self._connection = RedisConnection(address, "recording", time.monotonic, _TIMEOUT_S, 0.0)

    @property
    def shown_address(self) -> str:
        """The server's address without secrets."""
        return self._connection.shown_address

    def make(self, cap: int, spent: int) -> None:
        """Begin the counter with what is spent already. Raises ConfigurationError if the server cannot be reached."""
        arguments = (min(cap, _MAX_EXACT), min(spent, _MAX_EXACT), _KEEP_S)
        if self._connection.run(_MAKE, (self._key,), arguments) is None:
            raise ConfigurationError(f"CASCADE_STATE: {self.shown_address} cannot be reached (run `cascade doctor`)")

    def reserve(self, part: str, bound: int) -> CapStatus:
        """Reserve what a call may cost at most; it may be made only if the status is "ok"."""
        return self._do("reserve", part, bound)

    def settle(self, part: str, bound: int, cost: int) -> CapStatus:
        """Replace a call's reservation by its cost."""
        return self._do("settle", part, bound, cost)

    def take(self, part: str, counted: int) -> CapStatus:
        """Say what a part has spent so far, in place of all that was counted and reserved for it."""
        return self._do("take", part, counted)

    def remove(self) -> None:
        """Delete the counter, and close the connection."""
        self._connection.run(_MAKE, (self._key,), (-1, 0, 0))
        self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _do(self, what: str, part: str, amount: int, other: int = 0) -> CapStatus:
        reply = self._connection.run(_SCRIPT, (self._key,), (what, part, amount, other, _KEEP_S))
        return "down" if reply is None else cast("CapStatus", reply[0].decode())
