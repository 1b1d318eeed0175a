"""What one run may spend, over all of its requests: the most that a call may cost is reserved before the call is made."""

from __future__ import annotations

import threading

from cascade.core.budgets import Refusal, usd_text
from cascade.forks import renew_in_children

__all__ = ["Allowance"]


class Allowance:
    """Money for one run, in nano-USD. `spent`: what was spent before. Never overspent: a call without room is refused. Safe between threads."""

    def __init__(self, limit: int, spent: int = 0) -> None:
        self.limit = limit
        self._spent, self._reserved, self.refused = spent, 0, False
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        """What has been spent."""
        return self._spent

    def admit(self, bound: int) -> Refusal | None:
        """Reserve `bound`. A Refusal means that the call must not be made."""
        with self._lock:
            if self._spent + self._reserved + bound <= self.limit:
                self._reserved += bound
                return None
            self.refused = True
            left = self.limit - self._spent - self._reserved
            return Refusal(
                f"the run's limit of {usd_text(self.limit)} has no room for a call that may cost {usd_text(bound)}:"
                f" {usd_text(max(0, left))} are left"
            )

    def settle(self, bound: int, cost: int) -> None:
        """A call that was admitted with `bound` cost `cost`: 0 if it was not made."""
        with self._lock:
            self._reserved -= bound
            self._spent += cost
