"""The audit's paid calls: each is on the ledger before it is made, as a request of its own with one step, under the arm "audit".

    announced (durable) ─> call ─> step and outcome (durable)

Its texts are not in the ledger's entries: the shadow answer is kept with the sample, where content is kept. No budget of the policy
counts these calls, and no storm guard sees them: they do not go through the engine. A call that a killed worker had in flight stays
announced at the most that it may have cost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from cascade.budgets.gate import bound_of
from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import AllRungsFailed
from cascade.core.messages import Failure, Reply, Request
from cascade.core.modes import NO_SLOT
from cascade.core.trail import Answer, Step, Verdict
from cascade.core.triage import Prompt
from cascade.hooks import Begun, Calling, Ended
from cascade.ledger.hook import EntrySink, LedgerHook
from cascade.ledger.stores import LedgerDown
from cascade.providers import AsyncProviders

__all__ = ["AuditCall", "AuditCaller", "AuditWriter", "Called", "called_of"]

_WRITE_S = 5.0
_REPLY_LOST = frozenset({"timeout", "deadline"})  # it may have been billed


class AuditWriter(EntrySink, Protocol):
    """The ledger's writer."""

    def flush(self, timeout_s: float = ...) -> bool:
        """Write what waits; whether all of it was written."""
        ...


@dataclass(frozen=True, slots=True)
class AuditCall:
    """A call to be made. `id`: of its request in the ledger; `of`: of the audited request, None for a control item.

    `index`: the rung's on the ladder. `read` makes a verdict of its reply. `is_control`: of a control item, which others wait for.
    `prompts`: the versions of the words that it is asked in, by role.
    """

    id: str
    of: str | None
    task: str
    index: int
    prompt: Prompt
    read: Callable[[Reply], Verdict]
    is_control: bool = False
    prompts: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call. `cost`: what was billed; `at_most`: what may have been, if its reply was lost. In nano-USD."""

    verdict: Verdict
    cost: int
    at_most: int
    failure: Failure | None = None


class AuditCaller:
    """Makes the calls. `clock`: seconds from any origin; `wall`: Unix seconds."""

    def __init__(
        self,
        plan: BoundPolicy,
        writer: AuditWriter,
        providers: AsyncProviders,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.plan = plan
        self._writer, self._providers, self._clock, self._wall = writer, providers, clock, wall
        without_texts = plan.policy.ledger.model_copy(update={"content": False, "redact": None})
        self._hook = LedgerHook(writer, without_texts, clock=wall)

    def id_of(self, name: str, prompt: Prompt, *, is_control: bool = False) -> str:  # noqa: ARG002 - for batches
        """The id of a new call's request in the ledger, never used before. `name`: of whom it is for, and for what."""
        return f"{name}_{secrets.token_hex(4)}"

    async def in_turn(self) -> None:
        """Wait until a sample that needs no call may be graded."""

    def bound(self, index: int, prompt: Prompt, *, is_control: bool = False) -> int:  # noqa: ARG002 - batches tell it apart
        """The most that a call of the rung at `index` may cost, in nano-USD."""
        return bound_of(self.plan.rates[index], prompt, self.plan.policy.retry.attempts)

    async def call(self, call: AuditCall) -> Called:
        """Make one call. Raises LedgerDown, before it, if it cannot be announced; MissingKey without credentials."""
        plan, rung = self.plan, call.prompt.rung
        await self._providers.prepare((rung,))
        request = Request(call.prompt.messages, call.prompt.system, task=call.task, id=call.id)
        begun = Begun(plan, request, call.task, "audit", self._wall(), NO_SLOT, call.of, prompts=call.prompts)
        track = self._hook.begin(begun)
        bound = self.bound(call.index, call.prompt)
        track.calling(Calling(call.index, rung, (), bound))
        try:
            await self._write()
        except LedgerDown as down:
            track.ended(Ended((), None, down, 0.0))
            raise
        started = self._clock()
        ended = Ended((), None, None, 0.0)
        try:
            outcome = await self._providers.call(call.prompt, started + plan.policy.deadline_s)
            ended = self._ended(call, outcome, self._clock() - started)
        finally:
            track.ended(ended)
        await self._write()
        return called_of(outcome, ended.steps[0], bound)

    def _ended(self, call: AuditCall, outcome: Reply | Failure, seconds: float) -> Ended:
        """The end of the call's request, as the ledger is told it."""
        step = self._step(call, outcome)
        if isinstance(outcome, Reply):
            return Ended((step,), self._answer(call, step), None, seconds)
        return Ended((step,), None, AllRungsFailed(outcome.summary), seconds)

    async def _write(self) -> None:
        if not await asyncio.to_thread(self._writer.flush, _WRITE_S):
            raise LedgerDown("the ledger cannot be written now, and no call of the audit is made that is not on record")

    def _step(self, call: AuditCall, outcome: Reply | Failure) -> Step:
        rung = call.prompt.rung
        if isinstance(outcome, Reply):
            verdict = replace(call.read(outcome), message=None)
        else:
            verdict = Verdict("overflow" if outcome.kind == "overflow" else "failed", detail=outcome.summary)
        return Step(
            call.index, rung.rung, rung.model, verdict, sum(outcome.spent, outcome.usage),
            prices.total(self.plan.rates[call.index], outcome.billed), outcome.attempts, outcome.latency_s, outcome.request_id,
        )  # fmt: skip

    def _answer(self, call: AuditCall, step: Step) -> Answer:
        policy = self.plan.policy
        return Answer(
            text=step.verdict.text, data=None, rung=step.rung, model=step.model, confidence=None, confidence_source=None,
            steps=(step,), usage=step.usage, cost_nanousd=step.cost_nanousd, degraded=None, abstained=None,
            attempts=step.attempts, latency_s=step.latency_s, request_id=call.id, task=call.task, flags=(), metadata={},
            policy=policy.name, policy_hash=policy.hash, arm="audit",
        )  # fmt: skip


def called_of(outcome: Reply | Failure, step: Step, bound: int) -> Called:
    """What came of a call, for the caps."""
    failure = outcome if isinstance(outcome, Failure) else None
    lost = failure is not None and failure.kind in _REPLY_LOST
    return Called(step.verdict, step.cost_nanousd, bound if lost else step.cost_nanousd, failure)
