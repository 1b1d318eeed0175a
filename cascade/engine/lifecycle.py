"""One request's way, without I/O: a generator that yields what must be done, and is sent what came of it.

    climb asks for a rung ─> budget: may it be called? ─> hooks (ledger: an open row) ─> Send ─> budget: settled
    climb tells of a step ─> guard, clock                                             … until the answer, and the ledger's last row

The climb holds the rule; a journey adds what only a live request has: money that is reserved before it is spent, records
that are durable before a call, and a guard. Both drivers run the same one, so they cannot differ in anything but waiting.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from cascade.budgets.gate import BudgetReservation, bound_of
from cascade.core import prices
from cascade.core.budgets import Refusal
from cascade.core.climb import Ask, Observation
from cascade.core.decision import Situation
from cascade.core.errors import ClimbError
from cascade.core.messages import Failure, Reply, Usage
from cascade.core.trail import Answer, Step
from cascade.core.triage import Prompt, build_prompt, triage_tokens
from cascade.engine.runtime import RequestContext, Runtime
from cascade.hooks import Calling, Ended, Tracks, Wait

__all__ = ["Await", "Decide", "Effect", "Journey", "NotSent", "RungCaller", "Send", "journey", "told"]

_T = TypeVar("_T")

_UNSEEN = frozenset({"timeout", "deadline"})
"""Calls whose reply never came: they may have been billed, so a budget counts them as the most that one may have cost."""


@dataclass(frozen=True, slots=True)
class Send:
    """Wanted: a rung's reply, by a time on the driver's clock."""

    prompt: Prompt
    time_out_at: float


@dataclass(frozen=True, slots=True)
class Await:
    """Wanted: that these are done."""

    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True)
class Decide:
    """Wanted: what this returns; it may take a round trip."""

    decide: Callable[[], Any]


class NotSent(CancelledError):
    """Thrown into a journey that is cut off before what it wants next was begun."""


Effect = Send | Await | Decide
Journey = Generator[Effect, Any, Answer]


class RungCaller:
    """What a request's calls have in common; `shadows` goes the same way."""

    __slots__ = ("context", "reservation", "runtime", "tracks")

    def __init__(self, runtime: Runtime, context: RequestContext, task: str) -> None:
        self.runtime, self.context = runtime, context
        self.reservation: BudgetReservation = runtime.gate.open(
            task, context.request.metadata, observed=context.arm == "shadow"
        )
        self.tracks: Tracks = runtime.begin(context, task)

    def decided(self, decide: Callable[[], _T], *, waits: bool = False) -> Generator[Effect, Any, _T]:
        """A decision of the state's, which may be another machine's. `waits`: this one may take a while in any case."""
        if waits or self.runtime.state.is_remote:
            return (yield Decide(decide))
        return decide()

    def call(self, index: int, steps: tuple[Step, ...]) -> Generator[Effect, Any, Reply | Failure | Refusal]:
        """Call a rung, if every budget has room for it: a Refusal says that one has not."""
        context, plan = self.context, self.context.plan
        prompt, rates = build_prompt(plan.policy, index, context.request), plan.rates[index]
        reservation, attempts = self.reservation, self.runtime.policy.retry.attempts
        bound = bound_of(rates, prompt, attempts) if reservation.has_budgets or self.runtime.wants_bounds else 0
        if reservation.has_budgets:
            first = (
                index == 0 and context.arm != "shadow"
            )  # nobody waits for a shadow's answer: no limit is soft for it
            refusal = yield from self.decided(
                partial(reservation.admit, bound, first=first), waits=reservation.may_wait()
            )
            if refusal is not None:
                return refusal
        is_sent = False
        try:
            waits = self.tracks.calling(Calling(index, prompt.rung, steps, bound))
            if waits:
                yield Await(waits)
            is_sent = True
            outcome: Reply | Failure = yield Send(prompt, self._time_out_at(index))
        except BaseException as error:
            # Cut off, and nothing may be waited for any more: a call that was out counts as the most it may have cost.
            if reservation.has_budgets:
                reservation.settle(bound, bound if is_sent and not isinstance(error, NotSent) else 0)
            raise
        if reservation.has_budgets:
            cost = prices.total(rates, outcome.billed)
            if isinstance(outcome, Failure) and outcome.kind in _UNSEEN and outcome.attempts:
                cost = max(cost, bound)
            yield from self.decided(partial(reservation.settle, bound, cost))
        return outcome

    def _time_out_at(self, index: int) -> float:
        """When this rung must be done: the rungs above one that hangs must have half of the time left to them."""
        if index == self.context.plan.policy.top:
            return self.context.time_out_at
        now = self.runtime.means.clock()
        return now + (self.context.time_out_at - now) / 2


def journey(runtime: Runtime, context: RequestContext) -> Journey:
    """Take one request all the way. Raises what its climb raises; closing it in the middle is a cancellation."""
    climb = context.climb
    with closing(climb):
        wanted = next(climb)  # raises RequestError where a rung could not take the request: nothing was begun
        assert isinstance(wanted, Ask), "a climb begins by asking"
        way = RungCaller(runtime, context, wanted.task)
        steps: tuple[Step, ...] = ()
        try:
            try:
                while True:
                    steps = wanted.steps
                    if isinstance(wanted, Ask):
                        wanted = climb.send((yield from way.call(wanted.index, steps)))
                    else:
                        wanted = climb.send((yield from _situation(way, wanted)))
            except StopIteration as done:
                answer: Answer = replace(done.value, arm=context.arm, latency_s=runtime.means.clock() - context.started)
        except ClimbError as error:
            yield from told(way, Ended(error.steps, None, error, runtime.means.clock() - context.started))
            raise
        except BaseException as error:  # nothing may be waited for any more
            over = None if isinstance(error, (GeneratorExit, CancelledError)) else error
            way.tracks.ended(Ended(steps, None, over, runtime.means.clock() - context.started))
            raise
    yield from told(way, Ended(answer.steps, answer, None, answer.latency_s, _estimate(runtime, context, answer)))
    return answer


def told(way: RungCaller, end: Ended) -> Generator[Effect, Any, None]:
    """Tell the hooks that a request is over, and wait where its records must be durable."""
    waits = way.tracks.ended(end)
    if waits:
        yield Await(waits)


def _situation(way: RungCaller, observation: Observation) -> Generator[Effect, Any, Situation]:
    runtime, context = way.runtime, way.context
    action = (yield from way.decided(partial(runtime.state.observe, observation))) if context.is_guarded else None
    storm = None if action == "alert" else action
    return Situation(storm, "deadline" if runtime.means.clock() >= context.time_out_at else None)


def _estimate(runtime: Runtime, context: RequestContext, answer: Answer) -> int | None:
    """What the baseline alone might have cost, in nano-USD: the prompt's and the shipped answer's length, at its prices.

    Where the top rung was asked, that was as the baseline is asked. Else the triage's share is taken off. None where the
    tokens themselves are a bound that no endpoint confirmed: a saving against it would be made up.
    """
    if context.arm != "cascade" or answer.usage.is_estimate:
        return None
    top, last = context.plan.policy.top, answer.steps[-1]
    if last.index == top and last.usage.output_tokens:
        return prices.cost(runtime.baseline.rates[0], last.usage)
    shipped = next((step for step in answer.steps if step.rung == answer.rung), last)
    rules, envelope = triage_tokens(context.plan.policy)
    usage = Usage(
        max(1, answer.steps[0].usage.prompt_tokens - rules), max(1, shipped.usage.output_tokens - envelope)
    )  # fmt: skip
    return prices.cost(runtime.baseline.rates[0], usage)
