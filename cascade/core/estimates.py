"""What the baseline alone might have cost for a request that the ladder answered: an estimate from the tokens seen."""

from __future__ import annotations

from typing import Literal

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.prices import Rates
from cascade.core.step_calls import bare_step
from cascade.core.trail import Answer, Sample, Step
from cascade.core.triage import triage_tokens

__all__ = ["baseline_estimate", "baseline_usage"]


def baseline_estimate(plan: BoundPolicy, baseline: Rates, answer: Answer) -> int | None:
    """What the baseline alone might have cost, in nano-USD, from the tokens of the prompt and the shipped answer.

    If the top rung answered, its usage is the baseline's. Otherwise the tokens that triage adds are subtracted. None if
    the usage is itself an estimate: a saving computed from it would be made up. (Of a closed reply only the output is one.)
    """
    first, last = answer.steps[0], answer.steps[-1]
    shipped = next((step for step in answer.steps if step.rung == answer.rung), last)
    if any(step.usage.is_estimate and not step.verdict.closed for step in answer.steps):
        return None
    by_plan = _answering(shipped)
    if by_plan is not None:
        answered, how = by_plan.usage, "top" if by_plan.auxiliary == "plain" else "plan"
    elif last.index == plan.policy.top and last.usage.output_tokens:
        answered, how = bare_step(last).usage, "top"
    else:
        answered, how = _usage_of_one(shipped), "triage"
    return prices.cost(baseline, baseline_usage(plan.policy, _usage_of_one(first, 0), answered, how))


def baseline_usage(policy: Policy, asked: Usage, answered: Usage, how: Literal["top", "plan", "triage"]) -> Usage:
    """The tokens of the baseline's one call, from those of the first call and of the one that answered.

    `how` that was asked: "top", without triage, so its usage is the baseline's; "plan", by the plan of a rung above, so its reply is
    the answer; "triage", whose envelope is subtracted.
    """
    if how == "top":
        return answered
    rules, envelope = triage_tokens(policy)
    beside = envelope if how == "triage" else 0
    return Usage(max(1, asked.prompt_tokens - rules), max(1, answered.output_tokens - beside))


def _answering(step: Step) -> Sample | None:
    """The auxiliary call that wrote the step's answer, where its rung planned; None where it answered itself."""
    if not _is_planned(step):
        return None
    return next((call for call in reversed(step.auxiliaries) if call.auxiliary in ("execution", "plain")), None)


def _is_planned(step: Step) -> bool:
    return step.handed is not None and step.handed.kind == "artifact"


def _usage_of_one(step: Step, number: int | None = None) -> Usage:
    """The usage of one call of a step: of this sample, else of the one whose answer it is."""
    vote = step.verdict.vote
    if not step.samples or vote is None:
        return bare_step(step).usage
    wanted = number if number is not None else vote.members[0] if vote.members else 0
    return next((call.usage for call in step.samples if call.number == wanted and not call.is_judge), step.usage)
