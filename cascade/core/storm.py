"""The storm guard's statistic: does a task escalate more often than it should? Time is an argument, never read.

A watch stands at each (task, rung). It trips by one of two tests, CUSUM for a sudden storm and a window for a slow one,
and releases on what it has seen *since the trip*, so that the storm's own requests cannot make it flap.

`cascade/state/guard.lua` is the licensed twin of `Guard.observe`, for many processes: a change here is a change there.

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
    "Action", "Change", "Guard", "Watch", "cusum_steps", "storm_limit", "wilson_lower_bound",
]  # fmt: skip

Action = Literal["escalate", "hold", "alert"]

CERTIFIED_MARGIN = 0.10
"""How far above its certified escalation rate a task may go at a rung before that counts as a storm."""

_CUSUM_SHIFT = 0.15  # the storm the CUSUM is tuned to: limit → limit + this
CUSUM_TRIPS_AT = 8.0
RELEASE_MARGIN = 0.05  # at most half of the limit: below a limit of 0.05 nothing could ever release
Z_ONE_SIDED_95 = 1.6448536269514722
MOST_WATCHES = 1024  # a caller who names a task per customer must not fill the memory: past this they share one watch
HOUR_S = 3600.0

# Errors have a guard of their own, which only tells: an outage must not climb unseen.
ERRORS = StormGuard(rate=0.10, window=100, min_samples=20, dwell_s=60.0, on_trip="alert")


def wilson_lower_bound(hits: int, n: int) -> float:
    """The one-sided 95 % lower bound of a rate, by Wilson's score interval; 0 where nothing was seen."""
    if n == 0:
        return 0.0
    rate, z2 = hits / n, Z_ONE_SIDED_95**2
    middle = rate + z2 / (2 * n)
    spread = Z_ONE_SIDED_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return (middle - spread) / (1 + z2 / n)


def storm_limit(settings: StormGuard, certified: float | None) -> float:
    """The rate of escalation that still counts as normal, given the certified one; 1 or more can never be passed."""
    return settings.rate if certified is None else max(settings.rate, certified + CERTIFIED_MARGIN)


def cusum_steps(limit: float) -> tuple[float, float]:
    """What an escalation and a request without one add to the CUSUM; zero where nothing is above the limit."""
    if limit >= 1:
        return 0.0, 0.0
    storm = min(limit + _CUSUM_SHIFT, (1 + limit) / 2)
    return math.log(storm / limit), math.log((1 - storm) / (1 - limit))


@dataclass(frozen=True, slots=True)
class Change:
    """Something to tell: a watch tripped, released, or has been tripped for so long that its limit must be wrong.

    `what` is "storm" (escalations) or "errors"; `rate` is over the `samples` it was decided on, `limit` is the rate
    that still counts as normal, `tripped_s` is how long the trip has lasted, in seconds.
    """

    kind: Literal["tripped", "released", "limit_wrong"]
    what: Literal["storm", "errors"]
    task: str
    rung: str
    rate: float
    limit: float
    samples: int
    tripped_s: float = 0.0


@dataclass(slots=True)
class Watch:
    """The statistic of one (task, rung). Not thread-safe: whoever shares it holds a lock around it."""

    settings: StormGuard
    limit: float
    tripped_at: float | None = None
    limit_wrong: bool = False
    _cusum: float = 0.0
    _run: int = 0  # requests, and hits among them, since the CUSUM last stood at zero: what it trips on
    _run_hits: int = 0
    _recent: deque[bool] = field(default_factory=deque[bool])
    _hits: int = 0
    _up: float = 0.0
    _down: float = 0.0

    def __post_init__(self) -> None:
        self._up, self._down = cusum_steps(self.limit)

    @property
    def action(self) -> Action | None:
        """What is done at this rung now; None while calm."""
        if self.tripped_at is None:
            return None
        return "alert" if self.limit_wrong else self.settings.on_trip

    def observe(self, hit: bool, now: float) -> tuple[Literal["tripped", "released", "limit_wrong"], float, int] | None:
        """Count one request at time `now` (seconds, any origin); tells (kind, rate, samples) when something changed."""
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
        seen, hits = (self._run, self._run_hits) if sudden else (n, self._hits)
        self.tripped_at = now
        self._restart()
        return ("tripped", hits / seen, seen)

    def _observe_tripped(
        self, hit: bool, now: float, tripped_at: float
    ) -> tuple[Literal["released", "limit_wrong"], float, int] | None:
        # The latest min_samples since the trip: a long storm must not have to be outweighed before it may be over.
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
    """All watches of one policy. `settings` None: no storm guard; the errors' guard stands all the same.

    `escalation`: the certified rates, which raise the limit: a task's own at the rung, else the rung's of all tasks; where
    neither was certified the limit is the settings' own.
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
        """Take note of one step; returns the action in force *before* it was counted, and what changed.

        `natural`: would its own confidence have escalated it (None: not counted, e.g. an error or the top rung).
        `storm_cost`: nano-USD this step cost because a storm sent it up. One call a step: the shared state of many
        processes needs one round trip for it.
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
        # A step that is not counted (an error) is under the guard all the same: a hold must hold its climb, too.
        watch = self._storms.get((task, rung)) if natural is None else self._watch_storm(task, rung, self.settings)
        if watch is None:
            return None, tuple(changes)
        action, since = watch.action, watch.tripped_at
        # By time alone: a rung that gets no traffic while it is held is told of nothing, and must not be held for ever.
        overdue = since is not None and now - since > self.settings.max_trip_s
        if action is not None and (overdue or (action == "escalate" and self._spent_up(now))):
            action = "alert"
        told = watch.observe(natural, now) if natural is not None else None
        if told:
            lasted = now - since if since is not None else 0.0
            changes.append(Change(told[0], "storm", task, rung, told[1], watch.limit, told[2], lasted))
        return action, tuple(changes)

    def _spent_up(self, now: float) -> bool:
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
