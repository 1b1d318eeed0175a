"""Puts storms, outages and budget alerts on the ledger as marks, beside their log lines. Off the caller's thread: no request waits, and none fails.

One of several processes that share a guard or a counter is told of a change, so it marks it. Processes on their own mark the same thing once a minute
at most; a budget's alert, and that a request cost more than `call_usd`, once for its period and day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from cascade.budgets.delivering import Deliveries, Target
from cascade.budgets.notices import Notice
from cascade.core.policy import Policy
from cascade.core.storm import ERRORS, Change
from cascade.ledger.marks import HappenedMark, MarkTables
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event
from cascade.state.memory_guard import event_of

__all__ = ["Marking"]

_TIMEOUT_S: Final = 5.0
_AGAIN_S: Final = (0.05, 0.2, 0.5)
_MOST_KNOWN: Final = 4_096
_MINUTE_S, _DAY_S = 60, 86_400


class Marking:
    """The marks of one policy, in the ledger at this address. `wall`: Unix seconds. Safe between threads."""

    def __init__(self, policy: Policy, address: str | None, wall: Callable[[], float] = time.time) -> None:
        self._policy, self._wall = policy, wall
        self._tables = MarkTables(address)
        self._target = Target("ledger", self._add, is_post=False, timeout_s=_TIMEOUT_S)
        self._deliveries = Deliveries(_log)
        self._known: set[str] = set()

    def changed(self, change: Change, alone: bool) -> None:
        """A guard tripped, was released, or has been tripped for too long. `alone`: only this process saw it."""
        at, guard = self._wall(), self._policy.storm_guard
        action = ERRORS.on_trip if change.what == "errors" or guard is None else guard.on_trip
        details: dict[str, Any] = {
            "task": change.task, "rung": change.rung, "rate": round(change.rate, 4), "limit": change.limit, "samples": change.samples,
            "action": action,
        }  # fmt: skip
        if alone:
            details["alone"] = True
        once = change.task, change.rung, str(int(at // _MINUTE_S))
        self._put(HappenedMark(at, self._policy.name, event_of(change), once, details))

    def noticed(self, notice: Notice) -> None:
        """A budget has alerted, or refused a call."""
        at = self._wall()
        details = {
            "budget": notice.budget, "scope": notice.scope, "value": notice.value, "span": notice.span, "period": notice.period,
            "share": notice.share, "spent_usd": notice.spent_usd, "limit_usd": notice.limit_usd, "on_exhausted": notice.on_exhausted,
            "text": notice.text,
        }  # fmt: skip
        period = notice.period or str(int(at // _DAY_S))
        self._put(HappenedMark(at, notice.policy, notice.event, (notice.budget, period, f"{notice.share:g}"), details))

    def close(self, timeout_s: float) -> bool:
        """Wait until all marks are written; returns whether they are. At exit a process does it by itself."""
        return self._deliveries.drain(timeout_s)

    def _add(self, mark: HappenedMark) -> None:
        """Runs on the delivering thread. A ledger that is just being made, or is locked, is tried again a little later."""
        for wait_s in _AGAIN_S:
            try:
                return self._tables.add(mark)
            except LedgerDown:
                time.sleep(wait_s)
        return self._tables.add(mark)

    def _put(self, mark: HappenedMark) -> None:
        name = mark.name
        if name in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(name)
        self._deliveries.put(self._target, mark)


def _log(event: str, **details: Any) -> None:
    named = {"notice_failed": "mark_failed", "notices_dropped": "marks_dropped"}.get(event, event)
    log_event("warning", named, **details)
