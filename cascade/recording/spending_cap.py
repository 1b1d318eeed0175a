"""The spending cap of a recording.

A call is admitted while the money spent plus the upper bounds of the calls in flight are below the cap. So the cap is
passed by at most the upper bound of one call, and near the cap calls go one by one. A call that a killed run left without
an outcome may have been paid, so its upper bound counts as spent.
"""

from __future__ import annotations

import asyncio

__all__ = ["SpendingCap"]


class SpendingCap:
    """Money spent and reserved, in nano-USD. Bound to one event loop. `cap` None: no limit.

    `unanswered`: an upper bound of what calls of killed runs cost whose outcome never arrived. It counts toward the cap,
    but is not part of `spent`, which holds observed costs only.
    """

    def __init__(self, cap: int | None, spent: int, unanswered: int = 0) -> None:
        self.cap, self.spent, self.unanswered = cap, spent, unanswered
        self._largest = 0
        self._reserved = 0
        self._changed = asyncio.Condition()

    @property
    def is_reached(self) -> bool:
        """Whether the cap is reached."""
        return self.cap is not None and self.spent + self.unanswered >= self.cap

    @property
    def overshoot(self) -> int:
        """An upper bound of how far the cap is passed: the largest bound of a call, or the actual excess if that is more."""
        return self._largest if self.cap is None else max(self._largest, self.spent + self.unanswered - self.cap)

    @property
    def largest(self) -> int:
        """The largest bound of a call that was admitted."""
        return self._largest

    @property
    def _upper_bound(self) -> int:
        return self.spent + self.unanswered + self._reserved

    async def admit(self, bound: int) -> bool:
        """Wait until a call that costs at most `bound` may be made; False if the cap is reached first."""
        async with self._changed:
            while self.cap is not None and not self.is_reached and self._upper_bound >= self.cap:
                await self._changed.wait()
            if self.is_reached:
                return False
            self._reserved += bound
            self._largest = max(self._largest, bound)
            return True

    async def admit_now(self, bound: int) -> bool:
        """Admit one more call to a batch, beside those already admitted; False if it must wait until they are paid."""
        async with self._changed:
            if self.cap is not None and self._upper_bound >= self.cap:
                return False
            self._reserved += bound
            self._largest = max(self._largest, bound)
            return True

    async def reopen(self, bound: int) -> None:
        """A call of a killed run is under way after all: it will be settled."""
        async with self._changed:
            self.unanswered -= bound
            self._reserved += bound
            self._largest = max(self._largest, bound)

    async def settle(self, bound: int, cost: int) -> None:
        """Replace the reservation of an admitted call by its actual cost."""
        async with self._changed:
            self._reserved -= bound
            self.spent += cost
            self._changed.notify_all()
