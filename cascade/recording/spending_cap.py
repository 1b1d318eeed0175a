"""The cap of a recording: a call is let in while what was spent, and the most that calls in flight may cost, is below it.

So the cap is passed by at most the most that one call may cost, the last one let in; near the cap calls go one by one.
A call that a killed run left without an outcome may have been paid: it counts at the most it may have cost.
"""

from __future__ import annotations

import asyncio

__all__ = ["SpendingCap"]


class SpendingCap:
    """What was spent and what is at stake, in nano-USD. One event loop's; `cap` None: no limit.

    `unanswered`: the most that calls of killed runs may have cost whose outcome never arrived. The cap holds for it as
    for what was spent, but it is not added to that: it was not observed.
    """

    def __init__(self, cap: int | None, spent: int, unanswered: int = 0) -> None:
        self.cap, self.spent, self.unanswered = cap, spent, unanswered
        self._largest = 0
        self._at_stake = 0
        self._settled = asyncio.Condition()

    @property
    def is_empty(self) -> bool:
        """Whether the cap is reached."""
        return self.cap is not None and self.spent + self.unanswered >= self.cap

    @property
    def overshoot(self) -> int:
        """What the cap may be passed by: the most that one call of this run might have cost, or what it is passed by."""
        return self._largest if self.cap is None else max(self._largest, self.spent + self.unanswered - self.cap)

    @property
    def _at_worst(self) -> int:
        return self.spent + self.unanswered + self._at_stake

    async def admit(self, most: int) -> bool:
        """Wait until a call that costs `most` at worst may go out; False where the cap is reached before."""
        async with self._settled:
            while self.cap is not None and not self.is_empty and self._at_worst >= self.cap:
                await self._settled.wait()
            if self.is_empty:
                return False
            self._at_stake += most
            self._largest = max(self._largest, most)
            return True

    async def settle(self, most: int, cost: int) -> None:
        """A call that was admitted is over and has cost `cost`."""
        async with self._settled:
            self._at_stake -= most
            self.spent += cost
            self._settled.notify_all()
