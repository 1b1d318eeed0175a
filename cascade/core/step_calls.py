"""The calls of a step, one by one: the rung's own, its review, and the auxiliary calls beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from cascade.core.trail import Sample, Step, Verdict

__all__ = ["FIRST_AUXILIARY", "bare_step", "call_at", "calls_of", "with_auxiliary"]

FIRST_AUXILIARY = 1_000
"""Auxiliary calls are numbered from here within their step: they may be made before it is known how many calls the rung takes."""


def bare_step(step: Step) -> Step:
    """The step without its review and auxiliary calls, whose tokens, cost, attempts and time are subtracted."""
    beside = (*step.auxiliaries, *(() if step.review is None else (step.review,)))
    if not beside:
        return step
    usage, latency_s = step.usage, step.latency_s
    for call in beside:
        usage, latency_s = usage - call.usage, latency_s - call.latency_s
    return replace(
        step,
        usage=usage,
        cost_nanousd=step.cost_nanousd - sum(call.cost_nanousd for call in beside),
        attempts=step.attempts - sum(call.attempts for call in beside),
        latency_s=max(0.0, round(latency_s, 9)),
        review=None,
        auxiliaries=(),
    )


def calls_of(step: Step) -> tuple[Step | Sample, ...]:
    """A step's calls: the rung's one call or its samples, then the review, then the auxiliary calls."""
    own = step.samples or (bare_step(step),)
    review = step.review
    if review is None or review.refused:
        return (*own, *step.auxiliaries)
    verdict = Verdict(cast("Any", review.kind), detail=review.detail or review.said, text=review.reason or None)
    call = Sample(
        0, f"review:{review.rung}", review.model, verdict, review.usage, review.cost_nanousd, review.attempts,
        review.latency_s, review.request_id, is_review=True,
    )  # fmt: skip
    return (*own, call, *step.auxiliaries)


def call_at(step: Step, place: int) -> Step | Sample | None:
    """The call with this number within the step (`hooks.Calling.place`); None if there is none."""
    if place >= FIRST_AUXILIARY:
        calls, place = step.auxiliaries, place - FIRST_AUXILIARY
    else:
        calls = calls_of(step)[: -len(step.auxiliaries) or None]
    return calls[place] if place < len(calls) else None


def with_auxiliary(step: Step, call: Sample) -> Step:
    """The step with one more auxiliary call, and what that took."""
    return replace(
        step,
        usage=step.usage + call.usage,
        cost_nanousd=step.cost_nanousd + call.cost_nanousd,
        attempts=step.attempts + call.attempts,
        latency_s=step.latency_s + call.latency_s,
        auxiliaries=(*step.auxiliaries, call),
    )
