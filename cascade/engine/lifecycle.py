"""The life of one request, without I/O: a generator that yields effects and is sent their results.

    climb asks for a rung ─> budgets admit the call ─> hooks record it ─> Send ─> budgets settle its cost
    climb reports a step  ─> storm guard, deadline                        … until the answer, and the hooks' last record

The climb (`core.climb`) applies the rule. This module adds what only a live request has: budgets that reserve money before
it is spent, records that are durable before a call is made, and the storm guard. Both drivers run the same generator, so they
differ only in how they wait.
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

__all__ = [
    "Await",
    "Effect",
    "Lifecycle",
    "NotSent",
    "RunBlocking",
    "RungCaller",
    "Send",
    "notify_ended",
    "run_request",
]

_T = TypeVar("_T")

_REPLY_LOST = frozenset({"timeout", "deadline"})
"""Failures whose reply never came. It may have been billed, so a budget counts the most that the call may have cost."""


@dataclass(frozen=True, slots=True)
class Send:
    """Call the model, and send back its reply or failure. `time_out_at` is on the driver's clock."""

    prompt: Prompt
    time_out_at: float


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the hooks' records are durable."""

    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True)
class RunBlocking:
    """Call a function that may take a round trip, and send back its result. An event loop runs it in a thread."""

    function: Callable[[], Any]


class NotSent(CancelledError):
    """Thrown into the generator where the request is cancelled before its next effect has begun."""


Effect = Send | Await | RunBlocking
Lifecycle = Generator[Effect, Any, Answer]


class RungCaller:
    """Calls the rungs of one request. Shadow requests (`observing`) use it too."""

    __slots__ = ("context", "reservation", "runtime", "tracks")

    def __init__(self, runtime: Runtime, context: RequestContext, task: str) -> None:
        self.runtime, self.context = runtime, context
        self.reservation: BudgetReservation = runtime.gate.open(
            task, context.request.metadata, is_shadow=context.arm == "shadow"
        )
        self.tracks: Tracks = runtime.begin(context, task)

    def run_blocking(self, function: Callable[[], _T], *, may_wait: bool = False) -> Generator[Effect, Any, _T]:
        """Run a function of the state or the budgets. `may_wait`: treat it as blocking even with local state, since it may query the ledger."""
        if may_wait or self.runtime.state.is_remote:
            return (yield RunBlocking(function))
        return function()

    def call(self, index: int, steps: tuple[Step, ...]) -> Generator[Effect, Any, Reply | Failure | Refusal]:
        """Call a rung if every budget has room for the call. A Refusal says that one has not."""
        context, plan = self.context, self.context.plan
        prompt, rates = build_prompt(plan.policy, index, context.request), plan.rates[index]
        reservation, attempts = self.reservation, self.runtime.policy.retry.attempts
        bound = bound_of(rates, prompt, attempts) if reservation.has_budgets or self.runtime.needs_bounds else 0
        if reservation.has_budgets:
            first = index == 0 and context.arm != "shadow"  # a soft limit does not let a shadow request pass
            admit = partial(reservation.admit, bound, first=first)
            refusal = yield from self.run_blocking(admit, may_wait=reservation.may_wait())
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
            # Cancelled: nothing may be awaited any more. A call that was sent counts as the most it may have cost.
            if reservation.has_budgets:
                reservation.settle(bound, bound if is_sent and not isinstance(error, NotSent) else 0)
            raise
        if reservation.has_budgets:
            cost = prices.total(rates, outcome.billed)
            if isinstance(outcome, Failure) and outcome.kind in _REPLY_LOST and outcome.attempts:
                cost = max(cost, bound)
            yield from self.run_blocking(partial(reservation.settle, bound, cost))
        return outcome

    def _time_out_at(self, index: int) -> float:
        """When this rung's call times out: a rung below the top leaves half of the remaining time to the rungs above it."""
        if index == self.context.plan.policy.top:
            return self.context.time_out_at
        now = self.runtime.options.clock()
        return now + (self.context.time_out_at - now) / 2


def run_request(runtime: Runtime, context: RequestContext) -> Lifecycle:
    """Run one request to its answer. Raises what its climb raises. Closing the generator cancels the request."""
    climb = context.climb
    with closing(climb):
        event = next(climb)  # raises RequestError if a rung cannot take the request; nothing has begun by then
        assert isinstance(event, Ask), "a climb begins by asking"
        rung_caller = RungCaller(runtime, context, event.task)
        steps: tuple[Step, ...] = ()
        try:
            try:
                while True:
                    steps = event.steps
                    if isinstance(event, Ask):
                        event = climb.send((yield from rung_caller.call(event.index, steps)))
                    else:
                        event = climb.send((yield from _situation(rung_caller, event)))
            except StopIteration as done:
                answer: Answer = replace(done.value, arm=context.arm, latency_s=runtime.elapsed(context))
        except ClimbError as error:
            yield from notify_ended(rung_caller, Ended(error.steps, None, error, runtime.elapsed(context)))
            raise
        except BaseException as error:  # nothing may be awaited any more
            raised = None if isinstance(error, (GeneratorExit, CancelledError)) else error
            rung_caller.tracks.ended(Ended(steps, None, raised, runtime.elapsed(context)))
            raise
    estimate = _estimate(runtime, context, answer)
    yield from notify_ended(rung_caller, Ended(answer.steps, answer, None, answer.latency_s, estimate))
    return answer


def notify_ended(rung_caller: RungCaller, end: Ended) -> Generator[Effect, Any, None]:
    """Notify the hooks that a request has ended, and wait for the records that must be durable."""
    waits = rung_caller.tracks.ended(end)
    if waits:
        yield Await(waits)


def _situation(rung_caller: RungCaller, observation: Observation) -> Generator[Effect, Any, Situation]:
    """The storm guard's action, and whether the deadline has passed, after a step."""
    runtime, context = rung_caller.runtime, rung_caller.context
    action = None
    if context.is_guarded:
        action = yield from rung_caller.run_blocking(partial(runtime.state.observe, observation))
    storm = None if action == "alert" else action
    return Situation(storm, "deadline" if runtime.options.clock() >= context.time_out_at else None)


def _estimate(runtime: Runtime, context: RequestContext, answer: Answer) -> int | None:
    """What the baseline alone might have cost, in nano-USD, from the tokens of the prompt and the shipped answer.

    If the top rung answered, its usage is the baseline's. Otherwise the tokens that triage adds are subtracted. None if
    the usage is itself an estimate: a saving computed from it would be made up.
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
