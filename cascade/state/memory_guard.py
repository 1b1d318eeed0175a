"""The storm guard in memory: the statistic of `core.storm` behind a lock. It logs each change.

The lock is held for arithmetic only, never during a call to a model. Events hold task, rung and rates, and no text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from cascade.core.climb import Observation
from cascade.core.policy import StormGuard
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Action, Change, Guard, Tripped
from cascade.forks import renew_in_children
from cascade.logs import log_event
from cascade.state import Told

__all__ = ["MemoryGuard", "event_of", "log_change"]

Event = Literal[
    "storm_tripped", "storm_released", "storm_limit_wrong", "errors_tripped", "errors_released", "errors_continue",
]  # fmt: skip
_EVENTS: Final[Mapping[tuple[str, str], Event]] = {
    ("storm", "tripped"): "storm_tripped",
    ("storm", "released"): "storm_released",
    ("storm", "limit_wrong"): "storm_limit_wrong",
    ("errors", "tripped"): "errors_tripped",
    ("errors", "released"): "errors_released",
    ("errors", "limit_wrong"): "errors_continue",
}
_HINTS = {
    "storm_limit_wrong": "the limit is wrong for this task: the guard only alerts until it releases; recalibrate or raise storm_guard.rate",
    "errors_tripped": "this rung, or the review of its answers, fails often: requests climb and cost more; see the error steps on the trail",
}  # fmt: skip


class MemoryGuard:
    """The guard of one process. Safe between threads. `clock` gives seconds from any origin.

    `escalation`: the certified escalation rates (`core.storm.Guard`). `told`: as for `open_state`.
    """

    def __init__(
        self,
        policy: str,
        settings: StormGuard | None,
        clock: Callable[[], float],
        escalation: Escalation = Escalation(),  # noqa: B008 - frozen and empty
        told: Told | None = None,
    ) -> None:
        self._policy, self._clock, self._told = policy, clock, told
        self._guard = Guard(settings, escalation)
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def observe(self, observation: Observation) -> Action | None:
        """As `State.observe`."""
        action, changes = self.count(observation)
        for change in changes:
            log_change(self._policy, change, told=self._told)
        return action

    def tripped(self) -> tuple[Tripped, ...]:
        """As `State.tripped`."""
        with self._lock:
            return self._guard.tripped

    def expect(self, escalation: Escalation) -> None:
        """As `State.expect`."""
        with self._lock:
            self._guard.expect(escalation)

    def count(self, observation: Observation) -> tuple[Action | None, tuple[Change, ...]]:
        """The same, but the changes are returned, not logged."""
        with self._lock:
            return self._guard.observe(
                observation.task,
                observation.rung,
                natural=observation.natural,
                failed=observation.failed,
                storm_cost=observation.storm_cost,
                now=self._clock(),
            )


def event_of(change: Change) -> Event:
    """The name under which a change is logged."""
    return _EVENTS[change.what, change.kind]


def log_change(policy: str, change: Change, *, alone: bool = False, told: Told | None = None) -> None:
    """Log a change at a rung, and tell of it. `alone`: only this process saw it, while the shared state could not be reached."""
    event = event_of(change)
    details: dict[str, Any] = {
        "policy": policy,
        "task": change.task,
        "rung": change.rung,
        "rate": round(change.rate, 4),
        "limit": change.limit,
        "samples": change.samples,
    }
    if change.what == "errors":
        del details["task"]  # an outage concerns the rung, whatever the task
    if change.tripped_s:
        details["tripped_s"] = round(change.tripped_s, 1)
    if alone:
        details["alone"] = True
    if event in _HINTS:
        details["hint"] = _HINTS[event]
    log_event("info" if change.kind == "released" else "warning", event, **details)
    if told is not None:
        told(change, alone)
