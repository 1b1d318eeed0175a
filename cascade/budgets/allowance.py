"""What one run may spend, over all of its requests: the most that a call may cost is reserved before the call is made.

One `RunAllowance` a run, which gives each request its `Allowance`. That admits each call, settles it with what it counts as (its cost, or its
bound if the reply was lost), and ends with what the whole request cost, as the ledger has it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from cascade.core.budgets import Refusal, usd_text
from cascade.forks import renew_in_children

__all__ = ["Allowance", "AllowanceBook", "RunAllowance"]


class AllowanceBook(Protocol):
    """Where a run's spending is written down."""

    def reserved(self, request_id: str, role: str, bound: int) -> None:
        """A call is about to be made. On return that is on the disk."""
        ...

    def settled(self, request_id: str, bound: int, counted: int) -> None:
        """A call of this request that was reserved with `bound` counts as so much."""
        ...

    def ended(self, request_id: str, cost: int) -> None:
        """This is what the request cost, as the ledger has it."""
        ...


class RunAllowance:
    """Money for one run, in nano-USD. `limit` None: no limit. Never overspent: a call without room is refused. Safe between threads.

    `known`: by role, what was spent before. `maybe`: what calls whose reply never came may have cost beside that; it counts toward the limit.
    """

    def __init__(
        self,
        limit: int | None = None,
        known: Mapping[str, int] | None = None,
        maybe: int = 0,
        book: AllowanceBook | None = None,
    ) -> None:
        self.limit, self.book = limit, book
        self._known, self._maybe, self._reserved = dict(known or {}), maybe, 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self.lock = threading.Lock()

    def of(self, role: str, request_id: str) -> Allowance:
        """What one request may spend of it."""
        return Allowance(self, role, request_id)

    @property
    def known(self) -> dict[str, int]:
        """What was spent, by role."""
        with self.lock:
            return {role: cost for role, cost in self._known.items() if cost}

    @property
    def maybe(self) -> int:
        """What calls whose reply never came may have cost."""
        return self._maybe

    @property
    def spent(self) -> int:
        """What counts toward the limit, but for the calls that are under way."""
        with self.lock:
            return self._spent()

    def _spent(self) -> int:
        return sum(self._known.values()) + self._maybe

    def reserve(self, bound: int) -> Refusal | None:
        """Reserve `bound`; a Refusal if there is no room. The lock is held."""
        left = None if self.limit is None else self.limit - self._spent() - self._reserved
        if left is None or bound <= left:
            self._reserved += bound
            return None
        return Refusal(
            f"the run's limit of {usd_text(self.limit or 0)} has no room for a call that may cost {usd_text(bound)}:"
            f" {usd_text(max(0, left))} are left"
        )

    def release(self, role: str, bound: int, *, known: int = 0, maybe: int = 0) -> None:
        """What was reserved is free again, and so much was spent. The lock is held."""
        self._reserved -= bound
        self._known[role] = self._known.get(role, 0) + known
        self._maybe += maybe

    def is_reserved_beside(self, own: int) -> bool:
        """Whether other requests have reserved something. The lock is held."""
        return self._reserved > own


class Allowance:
    """One request's part of a run's money. `refused`: the run had no room for one of its calls.

    `is_crowded`: it had none because of what other requests had reserved by then, which may cost far less.
    """

    def __init__(self, run: RunAllowance, role: str, request_id: str) -> None:
        self._run, self._role, self._request_id = run, role, request_id
        self._open, self._counted = 0, 0
        self.refused = self.is_crowded = False

    @property
    def is_limited(self) -> bool:
        """Whether it may refuse a call."""
        return self._run.limit is not None

    def admit(self, bound: int) -> Refusal | None:
        """Reserve `bound`. A Refusal means that the call must not be made."""
        run = self._run
        with run.lock:
            refusal = run.reserve(bound)
            if refusal is not None:
                self.refused = True
                self.is_crowded = self.is_crowded or run.is_reserved_beside(self._open)
                return refusal
            self._open += bound
        if run.book is not None:
            run.book.reserved(self._request_id, self._role, bound)
        return None

    def settle(self, bound: int, counted: int) -> None:
        """A call that was admitted with `bound` counts as `counted`: 0 if it was not made."""
        run = self._run
        with run.lock:
            self._open -= bound
            self._counted += counted
            run.release(self._role, bound, known=counted)
        if run.book is not None:
            run.book.settled(self._request_id, bound, counted)

    def end(self, cost: int | None) -> None:
        """The request has ended, and it cost `cost`: what was counted beyond that may have been spent. None: nobody knows."""
        run = self._run
        with run.lock:
            known = self._counted if cost is None else cost
            beyond = self._counted - known
            run.release(self._role, self._open, known=-beyond, maybe=max(0, beyond) + self._open)
            self._open, self._counted = 0, known
        if run.book is not None:
            run.book.ended(self._request_id, known)
