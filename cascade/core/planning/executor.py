"""What an executor is asked: one subtask, with its sources, and a self-assessment beside the result (`core.assessment`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.core.assessment import assessed_schema
from cascade.core.messages import Request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.policy import Policy
from cascade.core.prompts import executor as words
from cascade.core.prompts import version_of

__all__ = ["Enforce", "Source", "executor_request", "executor_version"]

Enforce = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""The schema in the form that the API enforces; None if it has none (`cascade.claude.schema_of`)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a subtask is given. `unsettled_because`: of a result that the reviewer could not settle, why; "" of any other."""

    text: str
    unsettled_because: str = ""


def executor_version(policy: Policy) -> str:
    """Names the words that this policy's executors are asked in."""
    own = policy.plan.prompts.executor if policy.plan is not None else None
    return words.VERSION if own is None else version_of(own, words.FRAME, words.DOUBT, words.REPLY)


def _unenforced(schema: Mapping[str, Any]) -> None:
    """Nothing is enforced."""


def executor_request(
    plan: Plan,
    subtask: Subtask,
    sources: Mapping[str, Source],
    policy: Policy,
    *,
    doubt: str = "",
    decided: str = "",
    enforce: Enforce = _unenforced,
) -> Request:
    """What is asked about a subtask of this plan. `sources`: by name, what its inputs refer to; others are left out.

    `doubt`: why the reviewer sent the last result back. `decided`: what it is told of earlier runs of its session. `enforce`: makes the
    form of a result's schema that the API enforces; one that it cannot enforce goes into the prompt. A text's is always enforced.
    """
    asked: dict[str, Any] = {"instruction": subtask.instruction}
    results = plan.needs(subtask)
    asked["sources"] = [
        {"name": name, "from": "a subtask" if name in results else "the caller", **_shown(sources[name])}
        for name in dict.fromkeys(subtask.inputs)
    ]
    schema = assessed_schema(subtask.schema)
    enforced = schema if subtask.schema is None else enforce(schema)
    own = policy.plan.prompts.executor if policy.plan is not None else None
    told = [decided] if decided else []
    if doubt:
        told.append(words.DOUBT.format(reason=json.dumps(doubt, ensure_ascii=False)))
    return Request(
        messages=({"role": "user", "content": json.dumps(asked, ensure_ascii=False, indent=1)},),
        system=({"type": "text", "text": own or words.RULES}, {"type": "text", "text": words.FRAME}),
        task=subtask.kind,
        schema=enforced,
        prompt_schema=schema if enforced is None else None,
        handoff=tuple({"type": "text", "text": text} for text in told),
        assessed=True,
        result_schema=subtask.schema,
    )


def _shown(source: Source) -> dict[str, Any]:
    mark = {"unsettled": source.unsettled_because} if source.unsettled_because else {}
    return {**mark, "text": source.text}
