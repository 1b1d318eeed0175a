"""The life of one request, without I/O: a generator that yields effects and is sent their results.

    climb asks for a rung ─> budgets admit the call ─> hooks record it ─> Send ─> budgets settle its cost
    climb reports a step  ─> storm guard, deadline                        … until the answer, and the hooks' last record

The climb (`core.climb`) applies the rule. This module adds what only a live request has: budgets that reserve money before
it is spent, records that are durable before a call is made, and the storm guard. Both drivers run the same generator, so they
differ only in how they wait.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cascade.budgets.gate import BudgetReservation, bound_of
from cascade.core import prices
from cascade.core.assisting import auxiliary_call
from cascade.core.budgets import Refusal
from cascade.core.climb import Observation
from cascade.core.decision import Situation, Start
from cascade.core.errors import ClimbError
from cascade.core.events import (
    Ask,
    AskAuxiliary,
    AskJudge,
    AskReview,
    AskSamples,
    Early,
    Event,
    Finish,
    Stepping,
    Taken,
    Verify,
)
from cascade.core.grouping import build_judge_prompt
from cascade.core.messages import Failure, Reply
from cascade.core.review import build_review_prompt
from cascade.core.step_calls import with_auxiliary
from cascade.core.trail import Answer, CheckResult, Sample, Step, Verdict
from cascade.core.triage import Prompt, build_prompt, wants_triage
from cascade.engine.cached import answer_once
from cascade.engine.calls import Call, settle, spent_on
from cascade.engine.effects import (
    Abandoned,
    Await,
    Effect,
    Finishing,
    NotSent,
    Open,
    RunBlocking,
    RunCancellable,
    Send,
    SendAll,
)
from cascade.engine.prompt_marks import PromptMarks
from cascade.engine.runtime import RequestContext, Runtime
from cascade.engine.turns import ConversationTurn, begin_turn, run_blocking
from cascade.hooks import Calling, Ended, Tracks
from cascade.verifiers.checking import run_check

__all__ = ["Lifecycle", "RungCaller", "notify_ended", "run_request", "taken_of", "trail_of"]

_T = TypeVar("_T")

Lifecycle = Generator[Effect, Any, Answer]


class RungCaller:
    """Makes the calls of one request. Shadow requests (`observing`) use it too."""

    __slots__ = (
        "_beside", "_marks", "_open", "_step_ends_at", "context", "event", "is_known", "reservation", "runtime", "start", "tracks",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, context: RequestContext, task: str, start: Start | None = None) -> None:
        self.runtime, self.context, self.start = runtime, context, start or Start()
        self.reservation: BudgetReservation = runtime.gate.open(
            task, context.request.metadata, is_shadow=context.arm == "shadow", allowance=context.allowance
        )
        self.tracks: Tracks = runtime.begin(context, task)
        self._marks = PromptMarks(runtime.intervals)
        self._step_ends_at = 0.0
        self._open: Call | None = None  # whose reply is open
        self.event: Event | None = None  # what `take` is at
        self._beside: tuple[tuple[int, Sample], ...] = ()  # auxiliary calls that were made, with their rung
        self.is_known = True  # whether what was spent is in the steps

    def run_blocking(self, function: Callable[[], _T], *, may_wait: bool = False) -> Generator[Effect, Any, _T]:
        """Run a function of the state or the budgets. `may_wait`: treat it as blocking even with local state, since it may query the ledger."""
        if may_wait:
            return (yield RunBlocking(function))
        return (yield from run_blocking(self.runtime, function))

    def take(self, stepping: Stepping) -> Generator[Effect, Any, Taken]:
        """Do what one step asks for, until it is taken."""
        try:
            event = next(stepping)
            while True:
                self.event = event
                event = stepping.send((yield from self.answer(event)))
        except StopIteration as done:
            return done.value

    def answer(self, event: Event) -> Generator[Effect, Any, Any]:
        """What the climb is sent for this event. A Refusal says that a budget has no room for the call."""
        if isinstance(event, Ask):
            self._step_ends_at = self._time_out_at(event.index)
            calls = (self._call(event),)
            return (yield from self._make(calls, self._step_ends_at, early=event.early))[0]
        if isinstance(event, Finish):
            return (yield from self._finish(event))
        if isinstance(event, AskSamples):
            if not event.taken:  # one time-out for the whole vote
                self._step_ends_at = self._time_out_at(event.index)
            calls = tuple(self._sample_call(event, number) for number in event.numbers)
            return (yield from self._make(calls, self._step_ends_at))
        if isinstance(event, AskJudge):
            return (yield from self._make((self._judge_call(event),), self._step_ends_at))[0]
        if isinstance(event, AskReview):
            return (yield from self._make((self._review_call(event),), self._step_ends_at))[0]
        if isinstance(event, AskAuxiliary):
            self._step_ends_at = self._time_out_at(event.index)  # of its answer's checks too
            return (yield from self._assist(event))
        return (yield from self._verify(event))

    def _call(self, event: Ask) -> Call:
        plan, index = self.context.plan, event.index
        kept = self.start.kept if index == self.start.index else frozenset[str]()
        request = event.request or self.context.request
        prompt = self._marks.mark(build_prompt(plan.policy, index, request, kept=kept), request)
        rates = plan.rates[index]
        bound = self._bound(prompt, rates, streamed=event.early)
        is_triage = wants_triage(plan.policy, index)
        return Call(prompt, rates, bound, Calling(index, prompt.rung, event.steps, bound), is_triage)

    def _assist(self, event: AskAuxiliary) -> Generator[Effect, Any, Reply | Failure | Refusal | Early]:
        """Make an auxiliary call, and remember it: its step may never be."""
        bound, number = self._bound(event.prompt, event.rates), len(self._beside_of(event.index))
        calling = Calling(event.index, event.prompt.rung, event.steps, bound, auxiliary=number)
        call = Call(event.prompt, event.rates, bound, calling)
        outcome = (yield from self._make((call,), self._step_ends_at))[0]
        if isinstance(outcome, (Reply, Failure)):
            made = auxiliary_call(event.kind, event.prompt, event.rates, outcome)
            self._beside = (*self._beside, (event.index, made))
        return outcome

    def _beside_of(self, index: int) -> tuple[Sample, ...]:
        return tuple(call for at, call in self._beside if at == index)

    def beside(self, steps: Sequence[Step]) -> tuple[Sample, ...]:
        """The auxiliary calls that were made for a rung without a step."""
        return tuple(call for at, call in self._beside if all(step.index != at for step in steps))

    def with_beside(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The steps of a request that was cut off: the last one with the auxiliary calls that were made before its own."""
        for at, call in reversed(self._beside):
            if steps and steps[-1].index == at and call not in steps[-1].auxiliaries:
                step = replace(with_auxiliary(steps[-1], call), auxiliaries=(call, *steps[-1].auxiliaries))
                steps = (*steps[:-1], step)
        return steps

    def _sample_call(self, event: AskSamples, number: int) -> Call:
        plan, variant = self.context.plan, event.samples.variant(number)
        request = event.request or self.context.request
        prompt = self._marks.mark(build_prompt(plan.policy, event.index, request, variant), request)
        rates = plan.rates_of(event.index, variant)
        bound = self._bound(prompt, rates)
        return Call(prompt, rates, bound, Calling(event.index, prompt.rung, event.steps, bound, event.taken, number))

    def _judge_call(self, event: AskJudge) -> Call:
        plan = self.context.plan
        prompt = build_judge_prompt(plan.policy, event.request or self.context.request, event.answers)
        bound = self._bound(prompt, plan.rates[0])
        return Call(prompt, plan.rates[0], bound, Calling(event.index, prompt.rung, event.steps, bound, event.taken))

    def _review_call(self, event: AskReview) -> Call:
        plan, (*before, step) = self.context.plan, event.steps
        request = event.request or self.context.request
        prompt = build_review_prompt(plan.policy, event.reviewer, request, event.text or "")
        rates = plan.rates[event.reviewer]
        bound = self._bound(prompt, rates)
        return Call(prompt, rates, bound, Calling(event.index, prompt.rung, tuple(before), bound, reviewed=step))

    def _bound(self, prompt: Prompt, rates: prices.Rates, *, streamed: bool = False) -> int:
        needed = self.reservation.has_budgets or self.runtime.needs_bounds
        return bound_of(rates, prompt, self.runtime.policy.retry.attempts, streamed=streamed) if needed else 0

    def _make(
        self, calls: Sequence[Call], time_out_at: float, *, early: bool = False
    ) -> Generator[Effect, Any, tuple[Reply | Failure | Refusal | Early, ...]]:
        """Make calls at the same time, each once every budget has room for it; the first Refusal holds for those after it.

        `early`: of a single call, send back its reply's first tokens; it is settled once `_finish` has finished it.
        """
        reservation = self.reservation
        admitted, refusal = list[Call](), None
        is_sent, issettled = False, False
        try:
            for call in calls:
                refusal = yield from self._admit(call)
                if refusal is not None:
                    break
                admitted.append(call)
                beside = self._beside_of(call.calling.index) if self._beside else ()
                waits = self.tracks.calling(replace(call.calling, beside=beside) if beside else call.calling)
                if waits:
                    yield Await(waits)
            is_sent = True
            if early and admitted:
                first = yield Open(admitted[0].prompt, time_out_at, admitted[0].is_triage)
                if isinstance(first, Early):
                    self._open = admitted[0]
                    return (first,)
                outcomes: tuple[Reply | Failure, ...] = (first,)
            else:
                outcomes = yield from _send(admitted, time_out_at)
            issettled = True
        except BaseException as error:
            # Cancelled: nothing may be awaited any more. A call that was sent counts as the most it may have cost.
            self.is_known = self.is_known and (issettled or not is_sent or isinstance(error, NotSent))
            if reservation.has_budgets and not issettled:
                for call in admitted:
                    spent = call.bound if is_sent and not isinstance(error, NotSent) else 0
                    reservation.settle(call.bound, spent)
            raise
        if reservation.has_budgets and admitted:
            # In one effect: a cancellation that arrives meanwhile is raised at the next one, when all are settled.
            spent = [(call.bound, spent_on(call, outcome)) for call, outcome in zip(admitted, outcomes, strict=True)]
            yield from self.run_blocking(partial(settle, reservation, spent))
        refused = () if refusal is None else (refusal,) * (len(calls) - len(admitted))
        return (*outcomes, *refused)

    def _finish(self, event: Finish) -> Generator[Effect, Any, Reply | Failure]:
        """Finish the reply that is open, and settle what it cost."""
        call = self._open
        assert call is not None, "only an open reply is finished"
        outcome: Reply | Failure = yield Finishing(event.action, self.context.time_out_at)
        self._open = None
        if self.reservation.has_budgets:
            yield from self.run_blocking(partial(settle, self.reservation, [(call.bound, spent_on(call, outcome))]))
        return outcome

    def abandon(self, error: BaseException) -> Step | None:
        """The request has ended before the reply that is open. The step that it is, as far as it came; None without one."""
        call, self._open = self._open, None
        if call is None:
            return None
        reply = error.reply if isinstance(error, Abandoned) else None
        cost = call.bound if reply is None else prices.total(call.rates, reply.billed)
        if self.reservation.has_budgets:
            self.reservation.settle(call.bound, cost)
        if reply is None:
            self.is_known = False
            return None
        index, rung = call.calling.index, call.prompt.rung
        verdict = Verdict("failed", detail="nobody waited for the rest of it")
        return Step(
            index, rung.rung, rung.model, verdict, sum(reply.spent, reply.usage), cost, reply.attempts, reply.latency_s,
            reply.request_id,
        )  # fmt: skip

    def _admit(self, call: Call) -> Generator[Effect, Any, Refusal | None]:
        reservation, calling = self.reservation, call.calling
        if not reservation.has_budgets:
            return None
        # A soft limit lets the first call of a request pass, but not a shadow request.
        first = (
            calling.index == self.start.index
            and not calling.taken
            and not calling.number
            and calling.reviewed is None
            and calling.auxiliary is None
            and self.context.arm != "shadow"
        )
        admit = partial(reservation.admit, call.bound, first=first)
        return (yield from self.run_blocking(admit, may_wait=reservation.may_wait()))

    def _verify(self, event: Verify) -> Generator[Effect, Any, tuple[CheckResult, ...]]:
        """Run the external checks of one answer, one after the other, each within the time that its rung has."""
        results: list[CheckResult] = []
        for verifier in event.verifiers:
            left = max(0.0, self._step_ends_at - self.runtime.options.clock())
            run = partial(run_check, verifier, event.text or "", self.context.request, event.task, left)
            results.append((yield RunCancellable(run)))
        return tuple(results)

    def _time_out_at(self, index: int) -> float:
        """When this rung's call times out: a rung below the top leaves half of the remaining time to the rungs above it."""
        if index == self.context.plan.policy.top:
            return self.context.time_out_at
        now = self.runtime.options.clock()
        return now + (self.context.time_out_at - now) / 2


def _send(calls: Sequence[Call], time_out_at: float) -> Generator[Effect, Any, tuple[Reply | Failure, ...]]:
    if len(calls) == 1:
        return ((yield Send(calls[0].prompt, time_out_at)),)
    return (yield SendAll(tuple(Send(call.prompt, time_out_at) for call in calls))) if calls else ()


def run_request(runtime: Runtime, context: RequestContext) -> Lifecycle:
    """Run one request to its answer. Raises what its climb raises. Closing the generator cancels the request."""
    turn = yield from begin_turn(runtime, context)
    context = turn.context
    if context.cache_key is None:
        return (yield from _climb(turn))
    if turn.start != Start():  # what the conversation was before decides with it, and that is not in the key
        return (yield from _climb(replace(turn, context=replace(context, cache_key=None))))
    return (yield from answer_once(runtime, context, lambda: _climb(turn), lambda answer: not turn.teaches(answer)))


def _climb(turn: ConversationTurn) -> Lifecycle:
    """Climb for one request, with its hooks."""
    runtime, context, start = turn.runtime, turn.context, turn.start
    climb = context.begin(start)
    with closing(climb):
        event = next(climb)  # raises RequestError if a rung cannot take the request; nothing has begun by then
        assert isinstance(event, (Ask, AskSamples, AskAuxiliary)), "a climb begins by asking"
        rung_caller = RungCaller(runtime, context, event.task, start)
        steps: tuple[Step, ...] = ()
        taken: tuple[Sample, ...] = ()
        try:
            try:
                while True:
                    steps, taken = trail_of(event), taken_of(event)
                    if isinstance(event, Observation):
                        event = climb.send((yield from _situation(rung_caller, event)))
                    else:
                        event = climb.send((yield from rung_caller.answer(event)))
            except StopIteration as done:
                notes = (*context.notes, *done.value.notes)
                cache = None if context.cache_key is None else "miss"
                answer: Answer = replace(
                    done.value, arm=context.arm, latency_s=runtime.elapsed(context), notes=notes, cache=cache
                )
                steps, taken = answer.steps, ()
            yield from turn.keep(answer)
        except ClimbError as error:
            beside = rung_caller.beside(error.steps)
            yield from notify_ended(
                rung_caller, Ended(error.steps, None, error, runtime.elapsed(context), beside=beside)
            )
            raise
        except BaseException as error:  # nothing may be awaited any more
            left = rung_caller.abandon(error)
            if left is not None:  # it may have been observed already, by its first tokens
                steps = (*(step for step in steps if step.index != left.index), left)
            raised = None if isinstance(error, (GeneratorExit, CancelledError)) else error
            steps = rung_caller.with_beside(steps)
            known, beside = rung_caller.is_known, rung_caller.beside(steps)
            end = Ended(steps, None, raised, runtime.elapsed(context), is_known=known, beside=beside, taken=taken)
            rung_caller.tracks.ended(end)
            _report_end(context, end)
            raise
    estimate = runtime.baseline_estimate(context, answer)
    beside = rung_caller.beside(answer.steps)
    yield from notify_ended(rung_caller, Ended(answer.steps, answer, None, answer.latency_s, estimate, beside=beside))
    return answer


def trail_of(event: Event | Observation) -> tuple[Step, ...]:
    """What has been taken by the time of an event, with the step that it belongs to as far as that was taken."""
    if isinstance(event, (AskAuxiliary, Verify)) and event.step is not None:
        return (*event.steps, event.step)
    return event.steps


def taken_of(event: Event | Observation) -> tuple[Sample, ...]:
    """The calls of a vote that goes on."""
    return event.taken if isinstance(event, (AskSamples, AskJudge, Verify)) else ()


def _report_end(context: RequestContext, end: Ended) -> None:
    if context.on_end is not None:
        context.on_end(end)


def notify_ended(rung_caller: RungCaller, end: Ended) -> Generator[Effect, Any, None]:
    """Notify the hooks that a request has ended, and wait for the records that must be durable."""
    _report_end(rung_caller.context, end)
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
