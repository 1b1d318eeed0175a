"""Make the calls of a recording through the Message Batches API, at half the price.

The recorder goes over its items as if live. A call that has no outcome yet is noted, not made; then all that are noted are sent
together, their outcomes go to the journal, and the recorder goes over the items again: what depends on replies (groupings,
reviews, judgements) follows in further rounds. A call's line in the journal has its key, and the batches' own store has its
outcome, so that a killed run collects what it has paid for.

The journal's `cost`, and the corpus's `cost_usd`, are those of a live call: a corpus says the same however it was recorded. The cap
and the spend count what was `paid`.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.batch import BatchCall, BatchLimits, BatchSender
from cascade.batch.calls import encode_json
from cascade.batch.naming import run_of
from cascade.claude.batches import request_of
from cascade.core import prices
from cascade.core.budgets import upper_bound
from cascade.core.errors import BatchError
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Rung
from cascade.core.triage import Prompt
from cascade.policy.pricing import rates_of
from cascade.providers import Providers
from cascade.recording.calling import Caller
from cascade.recording.calls import BASELINE, EntryOf, Respondent, call_cost
from cascade.recording.noise_floor import BASELINE_AGAIN
from cascade.recording.progress import StopKind

__all__ = ["BatchCaller", "batches_path"]

_ROUND = 100_000  # calls noted before they are sent: prompts are in memory until then
_SETTLE_S = 60.0


class _Interrupted(Exception):
    """The user stopped the recording while batches were under way."""


def batches_path(corpus: Path) -> Path:
    """The folder of what is known of a corpus's batches, beside it."""
    return corpus.with_name(f"{corpus.name}.batches")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to be made. `name` tells it from all others, whatever it is asked for the second time."""

    name: str
    respondent: Respondent
    prompt: Prompt
    item: str
    entry_of: EntryOf


class BatchCaller(Caller):
    """Notes the calls that are asked for, and makes them together in `send`, with the sync clients of `models`."""

    is_deferred = True

    def __init__(self, *given: Any, models: Providers, **more: Any) -> None:
        super().__init__(*given, **more)
        self._models = models
        self._folder = batches_path(self._settings.target)
        self._noted: dict[str, _Call] = {}
        self._failed: set[str] = set()  # of this run: the next one asks again
        self._failures = Counter(entry["key"] for entry in self._journal.failures if "key" in entry)
        lines = self._journal.unanswered.items()
        self._under_way = {entry["key"]: (number, entry["most"]) for number, entry in lines if "key" in entry}
        self._rates: dict[Rung, prices.Rates] = {}
        self._interrupt = threading.Event()

    def stop(self, kind: StopKind, message: str) -> None:
        """Make no further call. The batches under way go on at the endpoint, and are not waited for."""
        super().stop(kind, message)
        if kind == "interrupted":
            self._interrupt.set()

    async def call(
        self, respondent: Respondent, prompt: Prompt, item: str, entry_of: EntryOf
    ) -> Reply | Failure | None:
        """Note a call, to be made by `send`: None. What batches cannot reach is called at once, at its live price."""
        if respondent.rung.provider != "anthropic":
            return await super().call(respondent, prompt, item, entry_of)
        name = _name_of(respondent, prompt, item)
        is_open = self._state.stop is None and self._state.error is None and name not in self._failed
        if is_open and len(self._noted) < _ROUND:
            self._noted.setdefault(name, _Call(name, respondent, prompt, item, entry_of))
        return None

    async def send(self) -> bool:
        """Make the noted calls, as far as the cap allows; whether any outcome came. Raises ConfigurationError, MissingKey."""
        noted, self._noted = self._noted, {}
        state = self._state
        if not noted or state.stop is not None or state.error is not None:
            return False
        sent = await self._admit(noted)
        if not sent:
            self.stop("cap", "the cap is reached")
            return False
        await asyncio.to_thread(self._journal.sync)
        came, is_idle, state.in_flight = False, True, len(sent)
        sender = await asyncio.to_thread(self._open)
        try:
            outcomes = sender.send(BatchCall(key, call.prompt) for key, (call, _, _) in sent.items())
            while (found := await asyncio.to_thread(next, outcomes, None)) is not None:
                key, outcome = found
                await self._take(outcome, *sent[key])
                came = True
        except _Interrupted:
            pass
        except BatchError as error:
            refused = error.failure.kind in ("rejected", "spend_cap")
            self.stop("refused" if refused else "outage", str(error))
        except asyncio.CancelledError:
            self._interrupt.set()  # the thread that waits ends by this
            is_idle = False  # but not at once
            raise
        finally:
            state.in_flight = 0
            if is_idle:
                await asyncio.to_thread(sender.close)
        await asyncio.to_thread(self._journal.sync)
        return came

    async def record(self, record: Callable[[], Awaitable[None]]) -> None:
        """Go over the items with `record`, which asks for calls, and make them, until no more can be learned."""
        await record()
        while await self.send():
            await record()

    def close(self) -> None:
        """Close the clients."""
        self._models.close()

    def remove(self) -> None:
        """Delete what is known of the batches, once the corpus holds everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _admit(self, noted: dict[str, _Call]) -> dict[str, tuple[_Call, int, int]]:
        """The calls to send now, by key, with their number in the journal and the most they may cost. Raises MissingKey."""
        sent: dict[str, tuple[_Call, int, int]] = {}
        keys = {f"{name}#{self._failures[name]}": call for name, call in noted.items()}
        for key, call in keys.items():
            if (known := self._under_way.pop(key, None)) is not None:
                number, most = known
                await self.spending.reopen(most)
                self.unanswered -= 1
                sent[key] = call, number, most
        for key, call in keys.items():
            if key in sent:
                continue
            self._models.client_of(call.respondent.rung)  # without a key no call is made, so none may be put on record
            most = upper_bound(self._batch_rates(call.respondent), call.prompt)
            if not await self.spending.admit_now(most):
                break
            number = self._journal.open_call(call.item, call.respondent.name, most, key=key)
            sent[key] = call, number, most
        return sent

    async def _take(self, outcome: Reply | Failure, call: _Call, number: int, most: int) -> None:
        """Put an outcome in the journal."""
        paid = prices.total(self._batch_rates(call.respondent), outcome.billed)
        live = call_cost(call.respondent, outcome)
        entry = self._entry(call.respondent, call.item, outcome, live, call.entry_of)
        if "failure" in entry:
            entry |= {"cost": paid, "key": call.name}
            self._failures[call.name] += 1
            self._failed.add(call.name)
        else:
            entry["paid"] = paid
        self._journal.append({**entry, "call": number}, sync=False)
        await self.spending.settle(most, paid)
        self._state.calls += 1
        self._state.in_flight -= 1
        self._on_call()

    def _batch_rates(self, respondent: Respondent) -> prices.Rates:
        rung = respondent.rung
        if (found := self._rates.get(rung)) is None:
            found = self._rates[rung] = rates_of(rung, batch=True)
        return found

    def _open(self) -> BatchSender:
        poll_s = self._settings.poll_s
        limits = BatchLimits(poll_s=poll_s, settle_s=_SETTLE_S if poll_s >= 1.0 else 2 * poll_s)
        return BatchSender(
            self._folder, run_of(self._folder, "record"), self._models.client_of, limits, wait=self._sleep
        )

    def _sleep(self, seconds: float) -> None:
        if self._interrupt.wait(seconds):
            raise _Interrupted


def _name_of(respondent: Respondent, prompt: Prompt, item: str) -> str:
    """What tells a call from all others. Judges and reviewers are asked the same once, whichever item asks."""
    is_reply = respondent.name in (BASELINE, BASELINE_AGAIN) or not respondent.name.startswith("@")
    key = respondent.key(item) if is_reply else (respondent.name,)
    return hashlib.sha256(encode_json([key, request_of("", prompt)["params"]])).hexdigest()[:40]
