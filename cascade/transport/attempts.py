"""Retrying one rung, with tenacity, whoever its vendor is.

Transient failures are retried with full jitter. `retry-after` is honoured up to the cap, and no retry starts after the
climb's time has run out. As in the vendors' SDKs, `x-should-retry` overrides what we would do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import tenacity

from cascade.core.messages import Failure, FailureKind, Reply, Usage
from cascade.core.policy import Retry, Rung

__all__ = ["Attempts"]

_Attempt = TypeVar("_Attempt")
_Outcome = TypeVar("_Outcome", Reply, Failure, Reply | Failure)

_FIRST_WAIT_S = 0.5
_RETRIED: frozenset[FailureKind] = frozenset(
    {"rate_limited", "overloaded", "server", "connection", "unreachable", "timeout", "conflict"}
)
# An endpoint that has never answered is more often a wrong address than a restart.
_UNREACHABLE_ATTEMPTS = 2
_UNREACHABLE_WAIT_S = 0.25


class Attempts:
    """One rung's attempts, and their totals."""

    def __init__(self, retry: Retry, time_out_at: float, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self.time_out_at = retry, clock, time_out_at
        self._chance = chance
        self._started = clock()
        self._spent: list[Usage] = []
        self._attempts = 0

    def run(self, attempt: Callable[[], _Attempt]) -> _Attempt:
        """The outcome of the last attempt. The usual case, one that needs no second, goes past tenacity."""
        first = attempt()
        if not self._is_transient(first):
            return first
        begun = [first]
        retrying = tenacity.Retrying(sleep=time.sleep, **self._options())
        return retrying(lambda: begun.pop() if begun else attempt())

    async def run_async(self, attempt: Callable[[], Awaitable[_Attempt]]) -> _Attempt:
        """As `run`."""
        first = await attempt()
        if not self._is_transient(first):
            return first
        begun = [first]

        async def again() -> _Attempt:
            return begun.pop() if begun else await attempt()

        return await tenacity.AsyncRetrying(sleep=asyncio.sleep, **self._options())(again)

    def _options(self) -> dict[str, Any]:
        return {
            "retry": tenacity.retry_if_result(self._is_transient),
            "wait": self._wait,
            "stop": self._stop,
            "retry_error_callback": _last_attempt,
        }

    def seconds_left(self, rung: Rung) -> float:
        """The time that one attempt may take, in seconds."""
        left = max(self.time_out_at - self._clock(), 0.001)
        return min(left, rung.timeout_s) if rung.timeout_s else left

    def count(self, attempt: _Attempt) -> _Attempt:
        """Count an attempt, and what it was billed if it failed."""
        self._attempts += 1
        if isinstance(attempt, Failure):
            self._spent.append(attempt.usage)
        return attempt

    def broken_off(self, failure: Failure) -> Failure:
        """The last attempt, which had begun to answer, failed after all."""
        self._spent.append(failure.usage)
        return failure

    @property
    def too_late(self) -> bool:
        """Whether no time is left for a first attempt."""
        return self._started >= self.time_out_at

    def out_of_time(self) -> Failure:
        """The failure of a rung that was not asked for lack of time."""
        return Failure("deadline", "no time was left to ask", attempts=0)

    def result(self, outcome: _Outcome) -> _Outcome:
        """The last attempt's outcome, with the number of attempts, their latency and their usage."""
        latency = self._clock() - self._started
        before = self._spent[:-1] if isinstance(outcome, Failure) else self._spent
        spent = tuple(usage for usage in before if usage != Usage())
        return replace(outcome, spent=spent, attempts=self._attempts, latency_s=latency)

    def _is_transient(self, attempt: object) -> bool:
        if not isinstance(attempt, Failure):
            return False
        return attempt.kind in _RETRIED if attempt.should_retry is None else attempt.should_retry

    def _wait(self, state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        longest = _UNREACHABLE_WAIT_S if _is_unreachable(state) else self._retry.max_wait_s
        ceiling = min(longest, _FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        asked = state.outcome.result().retry_after_s or 0.0
        return min(self._retry.max_wait_s, max(asked, self._chance.uniform(0, ceiling)))

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        no_time = self._clock() + state.upcoming_sleep >= self.time_out_at
        most = min(self._retry.attempts, _UNREACHABLE_ATTEMPTS) if _is_unreachable(state) else self._retry.attempts
        return state.attempt_number >= most or no_time


def _is_unreachable(state: tenacity.RetryCallState) -> bool:
    assert state.outcome is not None
    outcome = state.outcome.result()
    return isinstance(outcome, Failure) and outcome.kind == "unreachable"


def _last_attempt(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
