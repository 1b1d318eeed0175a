"""`mode: observe`: a sample of what the baseline answers is also put to the whole ladder, and only recorded.

Every rung is asked, as `record` does it: a threshold can be chosen only where each rung's reply is known. The baseline's own
reply stands for the rung that it is. What the ladder would have shipped is then the rule's own word, over what was said.
Nobody gets these answers; what they cost counts in the policy's budgets, and in a daily cap of their own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from cascade.core.budgets import Refusal
from cascade.core.climb import Ask, Recorded, climb, step_of
from cascade.core.decision import Call, Situation
from cascade.core.errors import ClimbError
from cascade.core.messages import Reply
from cascade.core.trail import Answer, Step
from cascade.engine.lifecycle import Effect, RungCaller, told
from cascade.engine.runtime import RequestContext, Runtime
from cascade.forks import renew_in_children
from cascade.hooks import Ended
from cascade.logs import log_event

__all__ = ["Places", "shadow", "shadow_context"]


class Places:
    """How many shadows may be under way; one that finds no place is passed over, and counted. Safe between threads.

    `passed_over`: how many, by cause. `busy`: observe.concurrency were under way. `closed`: the driver, or the
    interpreter, was closing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.passed_over: Counter[str] = Counter()
        self._logged = 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child has none of its parent's shadows."""
        self._lock = threading.Lock()
        self._taken = 0

    def take(self) -> bool:
        """Whether there is a place; it must be given back."""
        with self._lock:
            if self._taken < self._most:
                self._taken += 1
                return True
        self._count("busy")
        return False

    def pass_over(self) -> None:
        """The one that has a place cannot go on."""
        self.give_back()
        self._count("closed")

    def _count(self, cause: str) -> None:
        with self._lock:
            self.passed_over[cause] += 1
            passed = self.passed_over.total()
        if passed >= 10 * self._logged:  # the first, the tenth, the hundredth …
            self.report()

    def report(self) -> None:
        """Log how many were passed over, by cause; nothing where the log has it already."""
        with self._lock:
            passed = self.passed_over.total()
            if passed == self._logged:
                return
            self._logged = passed
            counts = {cause: self.passed_over[cause] for cause in ("busy", "closed")}
        hints: list[str] = []
        if counts["busy"]:
            hints.append(f"busy: observe.concurrency ({self._most}) were under way, raise it or lower observe.sample")
        if counts["closed"]:
            hints.append("closed: the driver or the interpreter was closing")
        log_event("warning", "observe_passed_over", passed_over=passed, **counts, hint="; ".join(hints))

    def give_back(self) -> None:
        """One is over."""
        with self._lock:
            self._taken = max(0, self._taken - 1)


def shadow_context(runtime: Runtime, context: RequestContext) -> RequestContext:
    """The same request, as it is put to the ladder beside the answer that the caller got."""
    request = replace(context.request, id=f"{context.request.id}_shadow")
    now = runtime.means.clock()
    return replace(
        context, request=request, plan=runtime.plan, arm="shadow", started=now, shadow_of=context.request.id,
        time_out_at=now + runtime.policy.deadline_s * len(runtime.policy.ladder),
    )  # fmt: skip


def shadow(runtime: Runtime, context: RequestContext, given: Answer) -> Generator[Effect, Any, None]:
    """Ask every rung but the one that has answered already; what fails, or has no budget left, ends it."""
    way = RungCaller(runtime, context, given.task)
    steps: list[Step] = []
    error: BaseException | None = None
    try:
        for index, rung in enumerate(runtime.policy.ladder):
            if index == runtime.policy.top and rung == runtime.baseline.policy.ladder[0]:
                break  # it is the baseline: what it said stands in the request's own record
            outcome = yield from way.call(index, tuple(steps))
            if isinstance(outcome, Refusal):
                break
            checks = (*runtime.plan.shared_checks, *runtime.plan.checks.get(given.task, ()), *context.checks)
            steps.append(step_of(runtime.plan, context.request, Call(index), outcome, checks, context.accept))
            if not isinstance(outcome, Reply):
                break
        answer = _would_ship(runtime, context, steps, given)
    except ClimbError as problem:
        answer, error = None, problem
    except GeneratorExit:
        way.tracks.ended(Ended(tuple(steps), None, None, runtime.means.clock() - context.started))
        raise
    yield from told(way, Ended(tuple(steps), answer, error, runtime.means.clock() - context.started))


def _would_ship(runtime: Runtime, context: RequestContext, steps: list[Step], given: Answer) -> Answer | None:
    """What the ladder would have answered, had it been asked: None where a reply that it needs is not there."""
    said = {step.index: step for step in steps}
    top = runtime.policy.ladder[runtime.policy.top]
    if len(said) == runtime.policy.top and top == runtime.baseline.policy.ladder[0]:
        said[runtime.policy.top] = replace(given.steps[-1], index=runtime.policy.top)
    running = climb(runtime.plan, context.request, checks=context.checks, accept=context.accept)
    try:
        wanted = next(running)
        while True:
            if not isinstance(wanted, Ask):
                wanted = running.send(Situation())
                continue
            step = said.get(wanted.index)
            if step is None:
                return None
            wanted = running.send(Recorded(step.verdict, step.usage, step.cost_nanousd))
    except StopIteration as done:
        return replace(done.value, arm="shadow")
    finally:
        running.close()
