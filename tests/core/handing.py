"""What the tests of handoffs are made of: policies with one, plans as replies, and a driver of the climb by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.core.bound_policy import BoundPolicy
from cascade.core.climb import Observation, climb
from cascade.core.decision import Situation
from cascade.core.events import Ask, AskAuxiliary, AskReview, Verify
from cascade.core.messages import Reply
from cascade.core.policy import Policy
from cascade.core.trail import Answer, Step
from cascade.policy.binding import bind_policy
from tests.core.builders import policy_of, reply, request_of

PLAN: dict[str, Any] = {
    "intent": "Say that the refund takes 14 days.",
    "tone": "plain",
    "must_mention": ["14 days"],
    "forbidden": ["guarantee"],
    "next_action": "Wait for the mail.",
}
GOOD = "Your refund takes 14 days."


def handing(handoff: Any = "artifact", *thresholds: float | str, **more: Any) -> Policy:
    """A policy with this handoff; r0 answers by plans where none is named."""
    return policy_of(*thresholds, handoff=handoff, **more)


def planned(confidence: float | None = None, **changes: Any) -> Reply:
    """A plan as a reply: in the envelope of a rung below the top, or bare; it costs COST."""
    plan = {**PLAN, **changes}
    return reply(confidence, plan if confidence is not None else json.dumps(plan))


def plain(text: str = GOOD, **more: Any) -> Reply:
    """A reply without an envelope; it costs COST."""
    return reply(None, text, **more)


@dataclass
class Run:
    """A climb that was driven by hand: what was asked, what was observed, and the answer."""

    asked: list[Ask] = field(default_factory=list[Ask])
    called: list[AskAuxiliary] = field(default_factory=list[AskAuxiliary])
    reviews: list[AskReview] = field(default_factory=list[AskReview])
    verified: list[str | None] = field(default_factory=list["str | None"])
    observed: list[Observation] = field(default_factory=list[Observation])
    answer: Answer | None = None

    @property
    def shipped(self) -> Answer:
        """The answer."""
        assert self.answer is not None
        return self.answer

    @property
    def steps(self) -> tuple[Step, ...]:
        """The answer's trail."""
        return self.shipped.steps

    @property
    def kinds(self) -> list[tuple[int, str, str]]:
        """The auxiliary calls: of which step, of which kind, on which rung."""
        return [(one.index, one.kind, one.prompt.rung.rung) for one in self.called]


def run(
    plan: BoundPolicy | Policy,
    outcomes: Iterable[Any],
    auxiliary: Iterable[Any] = (),
    *,
    into: Run | None = None,
    **more: Any,
) -> Run:
    """Drive a climb: the outcomes, the auxiliary calls' and the reviews' in turn; calm where `situations` run out."""
    done = into if into is not None else Run()
    replies, called = iter(outcomes), iter(auxiliary)
    reviews, told = iter(more.pop("reviews", ())), iter(more.pop("situations", ()))
    results = more.pop("results", ())
    flow = climb(
        bind_policy(plan) if isinstance(plan, Policy) else plan, more.pop("request", None) or request_of(), **more
    )
    try:
        wanted = next(flow)
        while True:
            if isinstance(wanted, Ask):
                done.asked.append(wanted)
                wanted = flow.send(next(replies))
            elif isinstance(wanted, AskAuxiliary):
                done.called.append(wanted)
                wanted = flow.send(next(called))
            elif isinstance(wanted, AskReview):
                done.reviews.append(wanted)
                wanted = flow.send(next(reviews))
            elif isinstance(wanted, Verify):
                done.verified.append(wanted.text)
                wanted = flow.send(results)
            else:
                assert isinstance(wanted, Observation)
                done.observed.append(wanted)
                wanted = flow.send(next(told, Situation()))
    except StopIteration as end:
        done.answer = end.value
        return done


def texts(system: Any) -> list[str]:
    """The blocks of a system prompt."""
    blocks: list[Mapping[str, Any]] = [{"text": system}] if isinstance(system, str) else list(system or ())
    return [block["text"] for block in blocks]
