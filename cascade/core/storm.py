"""The storm guard's statistic: does a task escalate more often than it should? Time is an argument, in seconds.

Each (task, rung) has a watch. It trips by one of two tests: CUSUM for a sudden storm, a window for a slow one. It
releases on the requests *since the trip* alone, so that it does not flap.

`cascade/state/guard.lua` implements `Guard.observe` again, for many processes: change both together.

CUSUM: Page, E. S. (1954), Continuous inspection schemes, Biometrika 41. Interval: Wilson, E. B. (1927), JASA 22.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from cascade.core.policy import OTHER, StormGuard
from cascade.core.policy.certificate import Escalation

__all__ = [
    "CERTIFIED_MARGIN", "CUSUM_TRIPS_AT", "ERRORS", "HOUR_S", "MOST_WATCHES", "RELEASE_MARGIN", "Z_ONE_SIDED_95",
    "Action", "Change", "Guard", "Tripped", "Watch", "cusum_steps", "storm_limit", "wilson_lower_bound",
]  # fmt: skip

Action = Literal["escalate", "hold", "alert"]

CERTIFIED_MARGIN = 0.10
"""How far a task may exceed its certified escalation rate at a rung before that counts as a storm."""

_CUSUM_SHIFT = 0.15  # the storm the CUSUM is tuned to: limit → limit + this
CUSUM_TRIPS_AT = 8.0
RELEASE_MARGIN = 0.05  # at most half of the limit: a limit below 0.05 could never release otherwise
Z_ONE_SIDED_95 = 1.6448536269514722
MOST_WATCHES = 1024  # bounds memory if callers name a task per customer: further tasks share one watch
HOUR_S = 3600.0

# Errors have a guard of their own, which only alerts: an outage must not go unnoticed.
ERRORS = StormGuard(rate=0.10, window=100, min_samples=20, dwell_s=60.0, on_trip="alert")


def wilson_lower_bound(hits: int, n: int) -> float:
    """The one-sided 95 % lower bound of a rate, by Wilson's score interval; 0 without samples."""
    if n == 0:
        return 0.0
    rate, z2 = hits / n, Z_ONE_SIDED_95**2
    middle = rate + z2 / (2 * n)
    spread = Z_ONE_SIDED_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return (middle - spread) / (1 + z2 / n)


def storm_limit(settings: StormGuard, certified: float | None) -> float:
    """The rate of escalation that still counts as normal, given the certified rate; a limit of 1 or more is never exceeded."""
    return settings.rate if certified is None else max(settings.rate, certified + CERTIFIED_MARGIN)


def cusum_steps(limit: float) -> tuple[float, float]:
    """What a request adds to the CUSUM, with and without an escalation; zeros for a limit of 1 or more."""
    if limit >= 1:
        return 0.0, 0.0
    storm = min(limit + _CUSUM_SHIFT, (1 + limit) / 2)
    return math.log(storm / limit), math.log((1 - storm) / (1 - limit))


@dataclass(frozen=True, slots=True)
class Change:
    """An event: a watch tripped, released, or has been tripped for so long that its limit must be wrong.

    `what`: "storm" (escalations) or "errors". `rate`: over the `samples` that decided it. `limit`: the rate that still
    counts as normal. `tripped_s`: how long the trip has lasted, in seconds.
    """

    kind: Literal["tripped", "released", "limit_wrong"]
    what: Literal["storm", "errors"]
    task: str
    rung: str
    rate: float
    limit: float
    samples: int
    tripped_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Tripped:
    """A watch that is tripped. `what`, `task`, `rung`: as in `Change`."""

    what: Literal["storm", "errors"]
    task: str
    rung: str


@dataclass(slots=True)
class Watch:
    """The statistic of one (task, rung). Not thread-safe: the caller holds a lock."""

    settings: StormGuard
    limit: float
    tripped_at: float | None = None
    limit_wrong: bool = False
    _cusum: float = 0.0
    _run: int = 0  # requests since the CUSUM was last zero, and the hits among them
    _run_hits: int = 0
    _recent: deque[bool] = field(default_factory=deque[bool])
    _hits: int = 0
    _up: float = 0.0
    _down: float = 0.0

    def __post_init__(self) -> None:
        self._up, self._down = cusum_steps(self.limit)

    @property
    def action(self) -> Action | None:
        """The action in force at this rung; None if not tripped."""
        if self.tripped_at is None:
            return None
        return "alert" if self.limit_wrong else self.settings.on_trip

    def observe(self, hit: bool, now: float) -> tuple[Literal["tripped", "released", "limit_wrong"], float, int] | None:
        """Count one request at time `now` (seconds, any origin); returns (kind, rate, samples) on a change."""
        if self.tripped_at is None:
            return self._observe_calm(hit, now)
        return self._observe_tripped(hit, now, self.tripped_at)

    def _observe_calm(self, hit: bool, now: float) -> tuple[Literal["tripped"], float, int] | None:
        self._push(hit, self.settings.window)
        self._cusum = max(0.0, self._cusum + (self._up if hit else self._down))
        rising = self._cusum > 0.0
        self._run, self._run_hits = (self._run + 1, self._run_hits + hit) if rising else (0, 0)
        n = len(self._recent)
        sudden = self._cusum >= CUSUM_TRIPS_AT
        slow = n >= self.settings.min_samples and wilson_lower_bound(self._hits, n) > self.limit
        if not sudden and not slow:
            return None
        n, hits = (self._run, self._run_hits) if sudden else (n, self._hits)
        self.tripped_at = now
        self._restart()
        return ("tripped", hits / n, n)

    def _observe_tripped(
        self, hit: bool, now: float, tripped_at: float
    ) -> tuple[Literal["released", "limit_wrong"], float, int] | None:
        # Only the latest min_samples since the trip count, so that a long storm need not be averaged away.
        self._push(hit, self.settings.min_samples)
        n = len(self._recent)
        rate, lasted = self._hits / n, now - tripped_at
        enough = n >= self.settings.min_samples and lasted >= self.settings.dwell_s
        if enough and rate < self.limit - min(RELEASE_MARGIN, self.limit / 2):
            self.tripped_at, self.limit_wrong = None, False
            self._restart()
            return ("released", rate, n)
        if lasted > self.settings.max_trip_s and not self.limit_wrong:
            self.limit_wrong = True
            return ("limit_wrong", rate, n)
        return None

    def _push(self, hit: bool, most: int) -> None:
        self._recent.append(hit)
        self._hits += hit
        if len(self._recent) > most:
            self._hits -= self._recent.popleft()

    def _restart(self) -> None:
        self._cusum, self._run, self._run_hits = 0.0, 0, 0
        self._recent.clear()
        self._hits = 0


@dataclass(slots=True)
class Guard:
    """All watches of one policy. `settings` None: no storm guard, only the guard on errors.

    `escalation`: the certified rates, which may raise the limit.
    """

    settings: StormGuard | None
    escalation: Escalation = field(default_factory=Escalation)
    _storms: dict[tuple[str, str], Watch] = field(default_factory=dict[tuple[str, str], Watch])
    _errors: dict[str, Watch] = field(default_factory=dict[str, Watch])
    _extra: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    _extra_sum: int = 0

    def observe(
        self, task: str, rung: str, *, natural: bool | None, failed: bool, storm_cost: int, now: float
    ) -> tuple[Action | None, tuple[Change, ...]]:
        """Count one step; returns the action in force *before* it was counted, and what changed.

        `natural`: whether its own reply would have escalated (None: not counted, e.g. an error or the top rung).
        `storm_cost`: nano-USD of this step if a storm caused it. `now`: seconds, any origin. There is one call per step,
        so that shared state needs one round trip.
        """
        changes: list[Change] = []
        change = self._watch_errors(rung).observe(failed, now)
        if change:
            changes.append(Change(change[0], "errors", OTHER, rung, change[1], ERRORS.rate, change[2]))
        if self.settings is None:
            return None, tuple(changes)
        if storm_cost and self.settings.max_extra_usd_per_hour is not None:
            self._extra.append((now, storm_cost))
            self._extra_sum += storm_cost
        # A step that is not counted (an error) is still subject to the action: a hold must stop its climb, too.
        watch = self._storms.get((task, rung)) if natural is None else self._watch_storm(task, rung, self.settings)
        if watch is None:
            return None, tuple(changes)
        action, since = watch.action, watch.tripped_at
        # Checked by time here, since a held rung without traffic counts no requests and would be held for ever.
        overdue = since is not None and now - since > self.settings.max_trip_s
        if action is not None and (overdue or (action == "escalate" and self._is_over_cap(now))):
            action = "alert"
        change = watch.observe(natural, now) if natural is not None else None
        if change:
            lasted = now - since if since is not None else 0.0
            changes.append(Change(change[0], "storm", task, rung, change[1], watch.limit, change[2], lasted))
        return action, tuple(changes)

    @property
    def tripped(self) -> tuple[Tripped, ...]:
        """The watches that are tripped now."""
        storms = [Tripped("storm", *key) for key, watch in self._storms.items() if watch.tripped_at is not None]
        errors = [Tripped("errors", OTHER, rung) for rung, one in self._errors.items() if one.tripped_at is not None]
        return (*storms, *errors)

    def expect(self, escalation: Escalation) -> None:
        """From now on these rates are normal. All watches for storms begin anew: what they have counted was another rule's."""
        if escalation != self.escalation:
            self.escalation, self._storms = escalation, {}

    def _is_over_cap(self, now: float) -> bool:
        cap = self.settings.max_extra_usd_per_hour if self.settings else None
        if cap is None:
            return False
        while self._extra and self._extra[0][0] <= now - HOUR_S:
            self._extra_sum -= self._extra.popleft()[1]
        return self._extra_sum >= cap * 1e9

    def _watch_storm(self, task: str, rung: str, settings: StormGuard) -> Watch:
        if (task, rung) not in self._storms and len(self._storms) >= MOST_WATCHES:
            task = OTHER
        watch = self._storms.get((task, rung))
        if watch is None:
            limit = storm_limit(settings, self.escalation.rate(task, rung))
            watch = self._storms[(task, rung)] = Watch(settings, limit)
        return watch

    def _watch_errors(self, rung: str) -> Watch:
        watch = self._errors.get(rung)
        if watch is None:
            watch = self._errors[rung] = Watch(ERRORS, ERRORS.rate)
        return watch
