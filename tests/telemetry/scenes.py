"""What a driver tells its hooks, told by hand: a request of two steps, and the ways it may end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.core.messages import Usage
from cascade.core.trail import Answer, Step, Verdict
from cascade.hooks import Begun, Calling, Ended, Hook
from cascade.policy.binding import bind_policy
from tests.core.builders import policy_of, request_of

__all__ = ["ANSWERED", "FAILED", "PLAN", "UNSURE", "answer_of", "begun", "told"]

PLAN = bind_policy(policy_of(tasks=[{"name": "refund"}]))

UNSURE = Step(
    0, "r0", "model-0", Verdict("answered", 0.5, "self_reported", "SECRET answer"),
    Usage(100, 20, cache_write_5m=3, cache_write_1h=4, cache_read=5), 300_000, 2, 0.25, "req_1", "low_confidence",
)  # fmt: skip
ANSWERED = Step(
    1, "r1", "model-1", Verdict("answered", 0.9, "self_reported", "SECRET"), Usage(100, 20), 300_000, 1, 0.5, "req_2"
)
FAILED = Step(0, "r0", "model-0", Verdict("failed", detail="overloaded, HTTP 529"), attempts=4, reason="error")


def begun(task: str = "refund", **more: Any) -> Begun:
    """A request is taken up."""
    request = request_of("SECRET prompt", metadata={"customer": "SECRET"}, id="casc_1")
    return Begun(PLAN, request, task, more.pop("arm", "cascade"), 0.0, **more)


def answer_of(*steps: Step, **more: Any) -> Answer:
    """The last step's answer."""
    last, usage = steps[-1], sum((step.usage for step in steps), Usage())
    values: dict[str, Any] = {
        "text": last.verdict.text, "data": None, "rung": last.rung, "model": last.model,
        "confidence": last.verdict.confidence, "confidence_source": last.verdict.source, "steps": steps, "usage": usage,
        "cost_nanousd": sum(step.cost_nanousd for step in steps), "degraded": None, "abstained": None, "attempts": 1, "latency_s": 0.75,
        "request_id": "casc_1", "task": "refund", "flags": (), "metadata": {}, "policy": "test",
        "policy_hash": PLAN.policy.hash, **more,
    }  # fmt: skip
    return Answer(**values)


def told(
    hook: Hook,
    *steps: Step,
    answer: Answer | None = None,
    error: BaseException | None = None,
    calls: int | None = None,
    begin: Begun | None = None,
    ticks: Sequence[Any] = (),
) -> None:
    """Tell a hook of one request: `calls` calls (one a step, if not more), then its end; a tick is called before each."""
    passing = iter(ticks)
    track = hook.begin(begin or begun())
    assert track is not None
    for index in range(len(steps) if calls is None else calls):
        next(passing, int)()
        assert track.calling(Calling(index, PLAN.policy.ladder[index], steps[:index])) is None
    next(passing, int)()
    assert track.ended(Ended(steps, answer, error, 0.75)) is None
