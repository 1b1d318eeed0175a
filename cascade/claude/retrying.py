"""Retrying one rung, by tenacity.

What may pass is tried again, with full jitter, `retry-after` honoured up to the cap, and never past the time the climb
has left. Where the endpoint says by `x-should-retry` whether to try again, that holds, as it does for the SDK.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tenacity

from cascade.claude.failures import failure_of
from cascade.core.messages import Failure, FailureKind, Reply, Usage
from cascade.core.policy import Retry, Rung

__all__ = ["Tries", "failed"]

_FIRST_WAIT_S = 0.5
_RETRIED: frozenset[FailureKind] = frozenset(
    {"rate_limited", "overloaded", "server", "connection", "unreachable", "timeout", "conflict"}
)
# An endpoint that never answered and cannot be connected to is a wrong address more often than a restart.
_UNREACHABLE_ATTEMPTS = 2
_UNREACHABLE_WAIT_S = 0.25


class Tries:
    """One rung's attempts: what tenacity is told, and what they add up to."""

    def __init__(self, retry: Retry, time_out_at: float, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self.time_out_at = retry, clock, time_out_at
        self._jitter = chance
        self._started = clock()
        self._spent: list[Usage] = []
        self._attempts = 0

    def options(self) -> dict[str, Any]:
        """What tenacity is told."""
        return {
            "retry": tenacity.retry_if_result(self._may_pass),
            "wait": self._wait,
            "stop": self._stop,
            "retry_error_callback": _last_attempt,
        }

    def seconds_left(self, rung: Rung) -> float:
        """What one attempt may take, in seconds."""
        left = max(self.time_out_at - self._clock(), 0.001)
        return min(left, rung.timeout_s) if rung.timeout_s else left

    def note(self, attempt: Reply | Failure) -> Reply | Failure:
        """Count an attempt and what it was billed."""
        self._attempts += 1
        if isinstance(attempt, Failure):
            self._spent.append(attempt.usage)
        return attempt

    @property
    def too_late(self) -> bool:
        """Whether there is no time left to ask at all."""
        return self._started >= self.time_out_at

    def not_asked(self) -> Failure:
        """What comes of a rung that could not be asked any more."""
        return Failure("deadline", "no time was left to ask", attempts=0)

    def result(self, outcome: Reply | Failure) -> Reply | Failure:
        """The last attempt's outcome, with all attempts, their time and their spend in it."""
        latency = self._clock() - self._started
        before = self._spent[:-1] if isinstance(outcome, Failure) else self._spent
        spent = tuple(usage for usage in before if usage != Usage())
        return replace(outcome, spent=spent, attempts=self._attempts, latency_s=latency)

    def _may_pass(self, attempt: Reply | Failure) -> bool:
        if not isinstance(attempt, Failure):
            return False
        return attempt.kind in _RETRIED if attempt.should_retry is None else attempt.should_retry

    def _wait(self, state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        longest = _UNREACHABLE_WAIT_S if _is_unreachable(state) else self._retry.max_wait_s
        ceiling = min(longest, _FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        asked = state.outcome.result().retry_after_s or 0.0
        return min(self._retry.max_wait_s, max(asked, self._jitter.uniform(0, ceiling)))

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        no_time = self._clock() + state.upcoming_sleep >= self.time_out_at
        most = min(self._retry.attempts, _UNREACHABLE_ATTEMPTS) if _is_unreachable(state) else self._retry.attempts
        return state.attempt_number >= most or no_time


def _is_unreachable(state: tenacity.RetryCallState) -> bool:
    assert state.outcome is not None
    outcome = state.outcome.result()
    return isinstance(outcome, Failure) and outcome.kind == "unreachable"


def _last_attempt(state: tenacity.RetryCallState) -> Reply | Failure:
    assert state.outcome is not None
    return state.outcome.result()


def failed(error: Exception, billed: Usage) -> Failure:
    """An attempt that raised `error` after `billed` had been spent; raises it again where it is not about the call."""
    failure = failure_of(error)
    if failure is None:
        raise error
    return replace(failure, usage=billed)
