"""The spending cap of a recording that several workers make: a `SpendingCap` whose counter is in Redis.

A call is admitted as by one process: while what is spent and the upper bounds of all workers' calls in flight are below the cap. So all
workers together pass it by at most the upper bound of one call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cascade.recording.spending_cap import SpendingCap
from cascade.state.recording_cap import CapStatus, RecordingCap

__all__ = ["SharedCap"]

_LOOK_S = 0.05  # between two looks whether what is held has come free
_HELD_S = 3.0  # so long it waits for others' calls; then the worker may be needed for the part of one that has died
_DOWN_S = 20.0  # a server that restarts is waited for


class SharedCap(SpendingCap):
    """The cap as a worker of one part sees it. `is_stopped`: whether to wait no longer.

    `on_held` is told that others hold what is left, `on_lost` why nothing can be reserved; no further call may be made then.
    """

    def __init__(
        self,
        counter: RecordingCap,
        part: str,
        *,
        is_stopped: Callable[[], bool],
        on_held: Callable[[], object],
        on_lost: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(None, 0)
        self._counter, self._part = counter, part
        self._is_stopped, self._on_held, self._on_lost = is_stopped, on_held, on_lost
        self._clock = clock

    async def take(self, counted: int) -> None:
        """Say what the part's journal tells it has spent, in place of what was counted for it. No call of the part is in flight."""
        since = self._clock()
        while (status := await asyncio.to_thread(self._counter.take, self._part, counted)) == "down":
            if self._is_stopped() or self._clock() - since > _DOWN_S:
                break
            await asyncio.sleep(_LOOK_S)
        if status != "ok":
            self._on_lost(self._why)

    async def admit(self, bound: int) -> bool:
        """As `SpendingCap.admit`, of all workers together."""
        since, down = self._clock(), None
        while True:
            status: CapStatus = await asyncio.to_thread(self._counter.reserve, self._part, bound)
            now = self._clock()
            down = (now if down is None else down) if status == "down" else None
            if status == "ok":
                return await super().admit(bound)
            if status == "reached" or self._is_stopped():
                return False
            if status == "gone" or (down is not None and now - down > _DOWN_S):
                self._on_lost(self._why)
                return False
            if status == "wait" and now - since > _HELD_S:
                self._on_held()
                return False
            await asyncio.sleep(_LOOK_S)

    async def settle(self, bound: int, cost: int) -> None:
        """As `SpendingCap.settle`. If the server does not take it in, the bound stays counted."""
        await super().settle(bound, cost)
        await asyncio.to_thread(self._counter.settle, self._part, bound, cost)

    @property
    def _why(self) -> str:
        return (
            f"{self._counter.shown_address} does not tell what this recording has spent: it cannot be reached, has restarted, or"
            " is not the Redis of the process that began it (CASCADE_STATE)"
        )
