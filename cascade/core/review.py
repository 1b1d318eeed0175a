"""The review before shipping: when a rung above reads an answer, what it is asked, and what its reply means for the step.

An answer that would ship at a confidence under the policy's `below` is read by the reviewing rung first. Rejected, it failed a
check. A review that cannot be used says nothing of the answer, which then does not stand: its reason is `error`.
`climb` asks for a review after a step is scored and before the storm guard counts it.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any, cast

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy, ReviewGate
from cascade.core.budgets import Refusal
from cascade.core.decision import Situation, own_reason
from cascade.core.events import AskReview, Event, Sent, Taking
from cascade.core.messages import Block, Failure, Reply, Request
from cascade.core.policy import Policy
from cascade.core.prompts.review_gate import RULES, SCHEMA
from cascade.core.shown import shown
from cascade.core.text.parsing import is_unicode, parse
from cascade.core.trail import CheckResult, Review, Step
from cascade.core.triage import Prompt, room_for

__all__ = [
    "ask_review",
    "build_review_prompt",
    "may_review",
    "needs_review",
    "read_review",
]

_REPLY_TOKENS = 512  # a sentence takes less than 100
_LONGEST_REASON = 1_000  # characters that are kept
_OWN = frozenset({"self_reported", "calibrated"})
_KINDS = {"max_tokens": "truncated", "refusal": "refused", "model_context_window_exceeded": "overflow"}


def may_review(plan: BoundPolicy, task: str, index: int) -> bool:
    """Whether answers of the rung at `index` to this task may be reviewed, at some confidence."""
    gate = plan.review_of(task)
    return gate is not None and index < gate.index


def needs_review(plan: BoundPolicy, task: str, step: Step, situation: Situation) -> ReviewGate | None:
    """The gate by which this step's answer is read before it ships; None if it ships, or climbs, without.

    Not where the answer climbs in any case, where it has no confidence of its own (calls of tools, the agreement of samples
    alone), or where its text was given up.
    """
    gate = plan.review_of(task)
    if gate is None or step.index >= gate.index or step.review is not None:
        return None
    if step.handed is not None and step.handed.is_open:  # a plan, which nobody answered by
        return None
    verdict, route = step.verdict, plan.policy.route(task)
    if verdict.source not in _OWN or verdict.confidence is None or verdict.closed or route.by_agreement[step.index]:
        return None
    if step.index < max(route.floor, situation.floor) or own_reason(route, plan.policy.top, step) is not None:
        return None
    return gate if verdict.confidence < gate.below else None


def ask_review(taking: Taking, gate: ReviewGate, step: Step) -> Generator[Event, Sent, tuple[Step, Refusal | None]]:
    """Have the answer reviewed. The step then has the review; with the Refusal, if no budget had room for it."""
    trail = (*taking.steps, step)
    sent = yield AskReview(
        step.index, gate.index, step.verdict.text, taking.task, trail, request=taking.request
    )  # fmt: skip
    if isinstance(sent, Refusal):
        rung = taking.plan.policy.ladder[gate.index]
        unasked = Review(rung.rung, rung.model, None, "the budget has no room", attempts=0, refused=True)
        return _reviewed(gate, step, unasked), sent
    review = sent if isinstance(sent, Review) else read_review(taking.plan, gate.index, sent)
    return _reviewed(gate, step, review), None


def _reviewed(gate: ReviewGate, step: Step, review: Review) -> Step:
    """The step with what its reviewer said, and what that cost."""
    verdict = step.verdict
    # An answer that no budget had room to review is held: it may ship where the budget ends the climb (`decision`).
    result = CheckResult(gate.name, review.accepted, not review.refused, review.latency_s, review.detail)
    rejected = review.accepted is False
    verdict = replace(
        verdict,
        checks=(*verdict.checks, result),
        failed_checks=(*verdict.failed_checks, gate.name) if rejected else verdict.failed_checks,
        data=None if rejected else verdict.data,
    )
    return replace(
        step,
        verdict=verdict,
        usage=step.usage + review.usage,
        cost_nanousd=step.cost_nanousd + review.cost_nanousd,
        attempts=step.attempts + review.attempts,
        latency_s=step.latency_s + review.latency_s,
        review=review,
    )


def read_review(plan: BoundPolicy, reviewer: int, outcome: Reply | Failure) -> Review:
    """What the rung at `reviewer` said. Prose, a truncated reply and a failed call say nothing of the answer."""
    rung = plan.policy.ladder[reviewer]
    accepted, reason, kind, detail = None, "", "failed", ""
    if isinstance(outcome, Failure):
        kind, detail = ("overflow" if outcome.kind == "overflow" else "failed"), outcome.summary
    else:
        kind = "answered" if outcome.stop_reason == "end_turn" else _KINDS.get(outcome.stop_reason, "malformed")
        value = parse(outcome.text, None, triage=False)[0] if kind == "answered" else None
        said = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        accepted = {"accept": True, "reject": False}.get(str(said.get("verdict")))
        if accepted is None:
            kind = "malformed" if kind == "answered" else kind
            detail = f"not a review: {kind}" if kind != "malformed" else "not a review"
        elif isinstance(words := said.get("reason"), str) and is_unicode(words):
            reason = words[:_LONGEST_REASON]
    return Review(
        rung.rung,
        rung.model,
        accepted,
        detail,
        sum(outcome.spent, outcome.usage),
        prices.total(plan.rates[reviewer], outcome.billed),
        outcome.attempts,
        outcome.latency_s,
        outcome.request_id,
        reason,
        kind=kind,
    )


def build_review_prompt(policy: Policy, reviewer: int, request: Request, answer: str) -> Prompt:
    """What the rung at `reviewer` is asked about an answer to a request: plainly, without triage.

    Request and answer are one JSON object, so that nothing in them can end the other. Images and documents go beside it.
    """
    rung, seen = policy.ladder[reviewer], list[Block]()
    system = request.system
    if request.handoff:  # the answer may rest on it
        system = (*(({"type": "text", "text": system},) if isinstance(system, str) else system or ()), *request.handoff)
    asked: dict[str, Any] = {"system": shown(system, seen)} if system else {}
    asked["turns"] = [{"role": turn["role"], "content": shown(turn["content"], seen)} for turn in request.messages]
    schema = request.result_schema if request.assessed else request.schema or request.prompt_schema
    if schema is not None:
        asked["schema_of_the_answer"] = schema
    text = json.dumps({"request": asked, "answer": answer}, ensure_ascii=False, indent=1, default=str)
    content = [*seen, {"type": "text", "text": text}] if seen else text
    return Prompt(
        rung,
        ({"role": "user", "content": content},),
        ({"type": "text", "text": RULES},),
        SCHEMA,
        room_for(rung, _REPLY_TOKENS),
        request.metadata.get("user_id"),
    )
