"""The reviewer: what it is asked about a result, and what it says.

It reads a result against its instruction, its expected form and its sources. Its control items (`controls`) are asked by the same
function, so that it cannot tell them from the results of a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from cascade.core.errors import CascadeError
from cascade.core.messages import Request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import PlanReview, ReviewVerdict
from cascade.core.policy import Policy
from cascade.core.prompts import reviewer as words
from cascade.core.prompts import version_of
from cascade.core.trail import Answer, Step

if TYPE_CHECKING:
    from cascade.core.planning.controls import ControlItem
    from cascade.core.planning.executor import Source

__all__ = ["control_request", "read_review", "reviewer_id", "reviewer_request", "reviewer_version", "verdict_in"]

_VERDICTS = frozenset({"accept", "retry", "escalate"})
_REPLY_TOKENS = 1_024  # a sentence takes less than 100
_LONGEST_REASON = 1_000  # characters that are kept


def reviewer_version(policy: Policy) -> str:
    """Names the words that this policy's reviewer is asked in."""
    own = _own_words(policy)
    return words.VERSION if own is None else version_of(own, words.SCHEMA)


def _own_words(policy: Policy) -> str | None:
    return policy.plan.prompts.reviewer if policy.plan is not None else None


def reviewer_id(policy: Policy) -> str:
    """The name under which a reviewer's control items are kept. Another model or endpoint, other settings or other words are another reviewer.

    Raises ValueError for a policy without `plan`.
    """
    if policy.plan is None:
        raise ValueError("a policy without `plan` has no reviewer")
    name = policy.plan.reviewer
    rung = next(one for one in policy.ladder if one.rung == name)
    asked = (rung.model, rung.base_url, rung.provider, rung.effort, repr(rung.thinking))
    version = version_of(*asked, reviewer_version(policy))
    return f"reviewer:{name}#{version}"


def reviewer_request(
    plan: Plan, subtask: Subtask, sources: Mapping[str, Source], text: str, policy: Policy, *, decided: str = ""
) -> Request:
    """What the reviewer is asked about a subtask's result. `sources`: by name, at least those that the subtask refers to.

    `decided`: as its executor was told it. The request has no id. Raises KeyError if a source is missing.
    """
    # Not the executor's confidence, rung or self-assessment: a reviewer who knows that the author is sure looks less hard.
    given = [
        _source(name, sources[name].text, sources[name].unsettled_because) for name in dict.fromkeys(subtask.inputs)
    ]
    return _request(policy, subtask, _given(plan.goal, given, decided), text)


def control_request(item: ControlItem, policy: Policy, *, decided: str = "") -> Request:
    """What the reviewer is asked about a control item: as about any result. `decided`: as the results beside it have it."""
    subtask = Subtask("control", item.instruction, schema=item.schema)
    given = [_source(*one) for one in item.sources]
    return _request(policy, subtask, _given(item.goal, given, decided), item.result)


def _given(goal: str, sources: Sequence[Mapping[str, str]], decided: str) -> dict[str, Any]:
    return {"goal": goal, "sources": sources, **({"decided": decided} if decided else {})}


def _source(name: str, text: str, unsettled_because: str = "") -> dict[str, str]:
    doubt = {"unsettled_because": unsettled_because} if unsettled_because else {}
    return {"name": name, **doubt, "text": text}


def _request(policy: Policy, subtask: Subtask, given: Mapping[str, Any], text: str) -> Request:
    """One JSON object, so that nothing in any part of it can end that part or pose as another. `given`: beside the subtask's own."""
    form = "text" if subtask.schema is None else subtask.schema
    asked = {**given, "instruction": subtask.instruction, "expected_form": form, "result": text}
    return Request(
        messages=({"role": "user", "content": json.dumps(asked, ensure_ascii=False, indent=1)},),
        system=_own_words(policy) or words.RULES,
        task=subtask.kind,
        schema=words.SCHEMA,
        max_tokens=_REPLY_TOKENS,
    )


def verdict_in(data: object) -> ReviewVerdict:
    """The verdict in a reviewer's JSON value; unusable if there is none."""
    value = cast("Mapping[str, Any]", data).get("verdict") if isinstance(data, Mapping) else None
    return cast("ReviewVerdict", value) if isinstance(value, str) and value in _VERDICTS else "unusable"


def read_review(outcome: Answer[Any] | CascadeError, request_id: str, cost_nanousd: int = 0) -> PlanReview:
    """What the reviewer said. Prose, a truncated reply, a refusal and a failed call are unusable, and the reason says which."""
    data = outcome.data if isinstance(outcome, Answer) and outcome.degraded is None else None
    verdict = verdict_in(data)
    if verdict == "unusable":
        reason, failed = _what_came(outcome)
        return PlanReview(verdict, reason[:_LONGEST_REASON], request_id, cost_nanousd, failed=failed)
    reason: Any = cast("Mapping[str, Any]", data).get("reason")
    return PlanReview(verdict, reason[:_LONGEST_REASON] if isinstance(reason, str) else "", request_id, cost_nanousd)


def _what_came(outcome: Answer[Any] | CascadeError) -> tuple[str, bool]:
    """What came instead of a review, and whether there was no reply at all."""
    steps: tuple[Step, ...] = getattr(outcome, "steps", ())
    kind = steps[-1].verdict.kind if steps else "failed"
    if kind != "failed":
        return f"the reply is no review: {'malformed' if kind == 'answered' else kind}", False
    said = str(outcome) if isinstance(outcome, CascadeError) else steps[-1].verdict.detail if steps else ""
    return f"the call failed: {(said.splitlines() or [''])[0] or type(outcome).__name__}", True
