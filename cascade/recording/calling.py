"""Make the paid calls of a recording: under the spending cap, each in the journal before it is made and when it ends.

A recording is not a climb: nobody waits for an item, and a rung's answer must not depend on how long the rungs before it
took. So each call may take the policy's whole `deadline_s`, retries included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cascade.core.budgets import upper_bound
from cascade.core.messages import Failure, Reply
from cascade.core.models import STREAMS_ABOVE
from cascade.core.triage import Prompt
from cascade.providers import AsyncProviders
from cascade.recording.calls import EntryOf, Respondent, call_cost
from cascade.recording.journal import Journal
from cascade.recording.progress import Settings, State, Stop, StopKind
from cascade.recording.spending_cap import SpendingCap

__all__ = ["Caller"]

_REFUSED_ALL = (401, 402, 403, 404)  # the key, the account or the model is at fault: every other call would fail too
_FAILURES_IN_A_ROW = 10


class Caller:
    """Calls models for a recording. `clock`: in seconds. `on_call` is called after each call.

    `is_deferred`: calls are noted, and made together later on.
    """

    is_deferred = False

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        state: State,
        providers: AsyncProviders,
        *,
        clock: Callable[[], float],
        on_call: Callable[[], object],
    ) -> None:
        self._settings, self._journal, self._state, self._providers = settings, journal, state, providers
        self._clock, self._on_call = clock, on_call
        self.unanswered = len(journal.unanswered)
        bound = sum(entry["most"] for entry in journal.unanswered.values())
        self.spending = SpendingCap(settings.cap, journal.spent, bound)

    def stop(self, kind: StopKind, message: str) -> None:
        """Make no further call, and wait for those in flight. The first reason is kept."""
        self._state.stop = self._state.stop or Stop(kind, message)

    async def record(self, record: Callable[[], Awaitable[None]]) -> None:
        """Go over the items with `record`, which asks for calls."""
        await record()

    def remove(self) -> None:
        """Delete what was kept beside the journal, once the corpus holds everything."""

    def close(self) -> None:
        """Close what it has opened."""

    async def call(
        self, respondent: Respondent, prompt: Prompt, item: str, entry_of: EntryOf
    ) -> Reply | Failure | None:
        """Make one call and put its outcome in the journal; None if the recording stopped before it.

        A prompt that does not fit is an outcome like any reply, unless the respondent `must_fit`: then it is a failure.
        """
        state, policy = self._state, self._settings.policy
        # If a reply is streamed, each attempt that breaks off is billed.
        attempts = policy.retry.attempts if prompt.max_tokens > STREAMS_ABOVE else 1
        bound = attempts * upper_bound(respondent.rates, prompt)
        if state.stop is not None or state.error is not None:
            return None
        await self._providers.prepare((respondent.rung,))  # without a key no call is made, so none may be put on record
        if not await self.spending.admit(bound):
            self.stop("cap", "the cap is reached")
            return None
        cost = 0
        state.in_flight += 1
        try:
            number = await asyncio.to_thread(self._journal.open_call, item, respondent.name, bound)
            outcome = await self._providers.call(prompt, self._clock() + policy.deadline_s)
            cost = call_cost(respondent, outcome)
            entry = self._entry(respondent, item, outcome, cost, entry_of)
            await asyncio.to_thread(self._journal.append, {**entry, "call": number}, sync=False)
        finally:
            state.in_flight -= 1
            await self.spending.settle(bound, cost)
        state.calls += 1
        self._on_call()
        return outcome

    def _entry(
        self, respondent: Respondent, item: str, outcome: Reply | Failure, cost: int, entry_of: EntryOf
    ) -> dict[str, Any]:
        """An outcome as a journal entry. Stops the recording if it must not go on after this outcome."""
        state = self._state
        if isinstance(outcome, Reply) or (outcome.kind == "overflow" and not respondent.must_fit):
            state.failures_in_a_row = 0
            return entry_of(outcome, cost)
        why = f"{respondent.label}: {outcome.summary}"
        state.failed[item] = why
        state.failures_in_a_row += 1
        if outcome.kind == "spend_cap" or outcome.status in _REFUSED_ALL:
            self.stop("refused", f"{why}: {' '.join(outcome.message.split())[:300]}")
        elif outcome.kind == "unreachable":
            self.stop("outage", f"{why}; check the endpoint: `cascade doctor`")
        elif state.failures_in_a_row >= max(_FAILURES_IN_A_ROW, 2 * self._settings.concurrency):
            self.stop("outage", f"{state.failures_in_a_row} calls in a row failed, the last with {why}")
        return {"failure": outcome.kind, "item": item, "ask": respondent.name, "cost": cost}
