"""`mode: observe`: a sample of the requests that the baseline answers is also sent through the ladder, and only recorded.

Such a shadow request calls every rung, as `record` does: a threshold can only be chosen if each rung's reply is known. If the
baseline is the top rung, its reply is used and the rung is not called again. The rule then decides over these replies what the ladder
would have shipped. Nobody gets that answer. Its cost counts in the policy's budgets, and in `observe.daily_usd`.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from cascade.core.climb import Observation, Reading, climb
from cascade.core.context import context_of, take_prepared
from cascade.core.decision import Situation, Start
from cascade.core.errors import ClimbError
from cascade.core.events import AskAuxiliary, Taking
from cascade.core.trail import Answer, Sample, Step
from cascade.engine.lifecycle import Effect, RungCaller, notify_ended, taken_of, trail_of
from cascade.engine.runtime import RequestContext, Runtime
from cascade.forks import renew_in_children
from cascade.hooks import Ended
from cascade.logs import log_event

__all__ = ["ShadowSlots", "run_shadow", "shadow_context"]


class ShadowSlots:
    """Limits how many shadow requests run at once, and counts those that were skipped. Safe between threads.

    `passed_over`: how many were skipped, by cause. `busy`: `observe.concurrency` were running. `closed`: the driver, or
    the interpreter, was closing.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self.passed_over: Counter[str] = Counter()
        self._logged = 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child runs none of its parent's shadow requests."""
        self._lock = threading.Lock()
        self._running = 0

    def acquire(self) -> bool:
        """Take a slot if one is free. It must be released."""
        with self._lock:
            if self._running < self._concurrency:
                self._running += 1
                return True
        self._skip("busy")
        return False

    def release(self) -> None:
        """The shadow request has ended."""
        with self._lock:
            self._running = max(0, self._running - 1)

    def abandon(self) -> None:
        """The shadow request with a slot cannot run: the driver is closing."""
        self.release()
        self._skip("closed")

    def _skip(self, cause: str) -> None:
        with self._lock:
            self.passed_over[cause] += 1
            skipped = self.passed_over.total()
        if skipped >= 10 * self._logged:  # the first, the tenth, the hundredth …
            self.report()

    def report(self) -> None:
        """Log how many were skipped, by cause, unless that number was logged already."""
        with self._lock:
            skipped = self.passed_over.total()
            if skipped == self._logged:
                return
            self._logged = skipped
            counts = {cause: self.passed_over[cause] for cause in ("busy", "closed")}
        hints: list[str] = []
        if counts["busy"]:
            hints.append(
                f"busy: observe.concurrency ({self._concurrency}) were running, raise it or lower observe.sample"
            )
        if counts["closed"]:
            hints.append("closed: the driver or the interpreter was closing")
        log_event("warning", "observe_passed_over", passed_over=skipped, **counts, hint="; ".join(hints))


def shadow_context(runtime: Runtime, context: RequestContext) -> RequestContext:
    """The context of the shadow request for a request that the baseline has answered."""
    request = replace(context.request, id=f"{context.request.id}_shadow")
    now = runtime.options.clock()
    return replace(
        context, request=request, plan=runtime.plan, arm="shadow", started=now, shadow_of=context.request.id,
        time_out_at=now + runtime.policy.deadline_s * len(runtime.policy.ladder),
    )  # fmt: skip


def run_shadow(runtime: Runtime, context: RequestContext, answered: Answer) -> Generator[Effect, Any, None]:
    """Call every rung but the one that gave `answered`. A failed call, or a budget without room, ends it."""
    rung_caller = RungCaller(runtime, context, answered.task)
    checks = runtime.plan.checks_for(answered.task, context.checks, context.accept, context.request.tools)
    prepared = context_of(runtime.plan, context.request, answered.task, Start())
    steps: list[Step] = []
    error: BaseException | None = None
    try:
        for index, rung in enumerate(runtime.policy.ladder):
            if index == runtime.policy.top and rung == runtime.baseline.policy.ladder[0]:
                break  # the baseline's reply is in the request's own record
            taking = Taking(runtime.plan, context.request, answered.task, checks, tuple(steps))
            taken = yield from rung_caller.take(take_prepared(prepared, taking, index))
            if taken.step is not None:
                steps.append(taken.step)
            stopped = taken.refusal is not None or taken.rejected is not None
            if stopped or steps[-1].verdict.kind in ("failed", "overflow"):
                break
        answer = _would_ship(runtime, context, steps, answered)
    except ClimbError as problem:
        answer, error = None, problem
    except BaseException as problem:  # nothing may be awaited any more
        raised = None if isinstance(problem, (GeneratorExit, CancelledError)) else problem
        event = rung_caller.event
        trail, taken = tuple(steps), tuple[Sample, ...]()
        if event is not None and len(event.steps) == len(steps):  # in the middle of a step
            trail, taken = rung_caller.with_beside(trail_of(event)), taken_of(event)
        known, beside = rung_caller.is_known, rung_caller.beside(trail)
        end = Ended(trail, None, raised, runtime.elapsed(context), is_known=known, beside=beside, taken=taken)
        rung_caller.tracks.ended(end)
        raise
    beside = rung_caller.beside(steps)
    yield from notify_ended(rung_caller, Ended(tuple(steps), answer, error, runtime.elapsed(context), beside=beside))


def _would_ship(runtime: Runtime, context: RequestContext, steps: list[Step], answered: Answer) -> Answer | None:
    """What the ladder would have answered. None if a reply that the rule needs is missing."""
    step_at = {step.index: step for step in steps}
    top = runtime.policy.ladder[runtime.policy.top]
    if len(step_at) == runtime.policy.top and top == runtime.baseline.policy.ladder[0]:
        step_at[runtime.policy.top] = replace(answered.steps[-1], index=runtime.policy.top)
    plan = replace(runtime.plan, reviews={}, shared_review=None)  # the rungs above are asked in any case
    reading = Reading(early=plan.policy.early_stop, recorded=True)
    running = climb(plan, context.request, checks=context.checks, accept=context.accept, reading=reading)
    try:
        event = next(running)
        while True:
            if isinstance(event, Observation):
                event = running.send(Situation())
                continue
            if isinstance(event, AskAuxiliary):
                event = running.send(None)
                continue
            step = step_at.get(event.index)
            if step is None:
                return None
            event = running.send(step)
    except StopIteration as done:
        return replace(done.value, arm="shadow")
    finally:
        running.close()
