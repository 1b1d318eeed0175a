"""The reviewer: what it is asked about a result, and what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from cascade.core.messages import Request
from cascade.core.planning.executor import Source
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import PlanReview, ReviewVerdict
from cascade.core.policy import Policy
from cascade.core.trail import Answer

__all__ = ["read_review", "reviewer_request", "verdict_in"]

_VERDICTS = frozenset({"accept", "retry", "escalate"})
_SCHEMA = {"type": "object", "properties": {"verdict": {"type": "string"}, "reason": {"type": "string"}}, "required": ["verdict", "reason"], "additionalProperties": False}  # fmt: skip


def verdict_in(data: object) -> ReviewVerdict:
    """The verdict in a reviewer's JSON value; unusable if there is none."""
    value = cast("Mapping[str, Any]", data).get("verdict") if isinstance(data, Mapping) else None
    return cast("ReviewVerdict", value) if value in _VERDICTS else "unusable"


def reviewer_request(plan: Plan, subtask: Subtask, sources: Mapping[str, Source], text: str, policy: Policy) -> Request:
    """The request of a review."""
    said = {"review": subtask.id, "instruction": subtask.instruction, "result": text, "sources": {name: one.text for name, one in sources.items()}}  # fmt: skip
    return Request(({"role": "user", "content": json.dumps(said)},), task=subtask.kind, schema=_SCHEMA)


def read_review(answer: Answer[Any] | Exception, request_id: str, cost: int) -> PlanReview:
    """What the reviewer says."""
    if isinstance(answer, Exception):
        return PlanReview("unusable", str(answer), request_id, cost)
    data: Any = answer.data
    verdict = verdict_in(data)
    return PlanReview(verdict, "" if verdict == "unusable" else data["reason"], request_id, cost)
