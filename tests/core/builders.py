"""What the tests of the core are made of: short ways to a policy, a request, a step, a plan and a climb; strategies."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from cascade.core.bound_policy import BoundPolicy
from cascade.core.climb import Observation, climb
from cascade.core.decision import Situation
from cascade.core.events import Ask, Outcome
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.policy import Policy, Task
from cascade.core.requests import read_messages
from cascade.core.trail import Answer, Step, Verdict
from cascade.policy.binding import bind_policy

PRICE = {"input": "1", "output": "10"}
"""USD per million tokens; 1,000 nano-USD an input token, 10,000 an output token."""

USAGE = Usage(input_tokens=100, output_tokens=20)
COST = 300_000
"""What USAGE costs at PRICE, in nano-USD."""


def policy_of(
    *thresholds: float | str, models: Iterable[str] = (), price: dict[str, str] | None = PRICE, **more: Any
) -> Policy:
    """A policy with rungs r0, r1 … of these thresholds and one above them; 0.8 and 0.8 where none are given."""
    gates = thresholds or (0.8, 0.8)
    named = [*models, *(f"model-{number}" for number in range(len(tuple(models)), len(gates) + 1))]
    common: dict[str, Any] = {"max_tokens": 100} if price is None else {"max_tokens": 100, "price": price}
    ladder: list[dict[str, Any]] = [
        {"rung": f"r{number}", "model": named[number], "threshold": gate, **common} for number, gate in enumerate(gates)
    ]
    ladder.append({"rung": f"r{len(gates)}", "model": named[len(gates)], **common})
    return Policy.model_validate({"version": 1, "name": "test", "ladder": ladder, **more})


def request_of(prompt: Any = "hello", **more: Any) -> Request:
    """A request with this prompt."""
    return Request(messages=read_messages(prompt), **more)


def reply(confidence: Any = 0.9, answer: Any = "yes", **more: Any) -> Reply:
    """A triage reply, or a plain one where `confidence` is None; it costs COST."""
    text = answer if confidence is None else json.dumps({"confidence": confidence, "answer": answer})
    return Reply(**{"text": text, "stop_reason": "end_turn", "usage": USAGE, **more})


def step(index: int, kind: str = "answered", confidence: float | None = None, **more: Any) -> Step:
    """A step at a rung with a verdict of this kind."""
    text = f"answer of r{index}" if kind == "answered" else None
    verdict = Verdict(kind, confidence, text=text, failed_checks=tuple(more.pop("failed", ())))  # type: ignore[arg-type]
    return Step(index, f"r{index}", f"model-{index}", verdict, **more)


@dataclass
class Climbed:
    """What a climb did: the rungs it asked for, what it observed, and its answer."""

    asked: list[int] = field(default_factory=list[int])
    observed: list[Observation] = field(default_factory=list[Observation])
    answer: Answer | None = None


def run(
    plan: BoundPolicy | Policy,
    outcomes: Iterable[Outcome],
    *,
    request: Request | None = None,
    situations: Iterable[Situation] = (),
    record: Climbed | None = None,
    **more: Any,
) -> Climbed:
    """Drive a climb by hand: one outcome a rung, one situation a step (calm where they run out)."""
    done = record if record is not None else Climbed()
    replies, told = iter(outcomes), iter(situations)
    flow = climb(bind_policy(plan) if isinstance(plan, Policy) else plan, request or request_of(), **more)
    try:
        wanted = next(flow)
        while True:
            if isinstance(wanted, Ask):
                done.asked.append(wanted.index)
                wanted = flow.send(next(replies))
            else:
                assert isinstance(wanted, Observation)
                done.observed.append(wanted)
                wanted = flow.send(next(told, Situation()))
    except StopIteration as end:
        done.answer = end.value
        return done


def answer_of(plan: BoundPolicy | Policy, *outcomes: Outcome, **more: Any) -> Answer:
    """The answer of a climb whose rungs bring these outcomes."""
    answer = run(plan, outcomes, **more).answer
    assert answer is not None
    return answer


def failure(kind: str = "server", **more: Any) -> Failure:
    """A call that brought no reply."""
    return Failure(**{"kind": kind, "message": "it broke", "status": 500, **more})


CONFIDENCES = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0, float("nan")])
THRESHOLDS = st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0, "never"]) | st.floats(0, 1)
KINDS = ("answered", "declined", "malformed", "truncated", "refused", "overflow", "failed")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Ladders of two to five rungs with any thresholds, and tasks with any floor, ceiling and thresholds."""
    gates = draw(st.lists(THRESHOLDS, min_size=1, max_size=4))
    names = [f"r{number}" for number in range(len(gates) + 1)]
    tasks: list[Task] = []
    for number in range(draw(st.integers(0, 3))):
        low = draw(st.integers(0, len(gates)))
        high = draw(st.integers(low, len(gates)))
        own = draw(st.dictionaries(st.sampled_from(names[:-1]), THRESHOLDS, max_size=2))
        tasks.append(Task(name=f"t{number}", floor=names[low], ceiling=names[high], thresholds=own))  # type: ignore[arg-type]
    return policy_of(*gates, tasks=tasks)


@st.composite
def trails(draw: st.DrawFn, rungs: int) -> tuple[Step, ...]:
    """Any trail that starts at the first rung and takes every rung on its way."""
    length = draw(st.integers(0, rungs))
    return tuple(
        step(
            index,
            draw(st.sampled_from(("answered", *KINDS))),
            draw(CONFIDENCES),
            failed=draw(st.sampled_from(((), (), ("not_empty",)))),
        )
        for index in range(length)
    )


def situations(rungs: int) -> st.SearchStrategy[Situation]:
    """Any situation; calm as often as not."""
    return st.builds(
        Situation,
        st.sampled_from((None, None, "escalate", "hold")),
        st.sampled_from((None, None, None, "deadline", "budget")),
        st.integers(0, rungs - 1),
    )


__all__ = [
    "CONFIDENCES",
    "COST",
    "KINDS",
    "PRICE",
    "THRESHOLDS",
    "USAGE",
    "Climbed",
    "answer_of",
    "failure",
    "policies",
    "policy_of",
    "reply",
    "request_of",
    "run",
    "situations",
    "step",
    "trails",
]
