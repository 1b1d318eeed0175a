"""What an executor is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from cascade.core.assessment import assessed_schema
from cascade.core.messages import Request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.policy import Policy

__all__ = ["Source", "executor_request"]


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a subtask rests on. `unsettled_because`: why it is passed on with a mark; "" if it stands."""

    text: str
    unsettled_because: str = ""


def executor_request(
    plan: Plan, subtask: Subtask, sources: Mapping[str, Source], policy: Policy, *, doubt: str = "", decided: str = ""
) -> Request:
    """The request of a subtask's executor. `doubt`: why the reviewer sent the attempt before back."""
    said = {"goal": plan.goal, "subtask": subtask.id, "instruction": subtask.instruction, "doubt": doubt, "decided": decided,
            "sources": {name: [source.text, source.unsettled_because] for name, source in sources.items()}}  # fmt: skip
    return Request(
        ({"role": "user", "content": json.dumps(said)},), task=subtask.kind, schema=assessed_schema(subtask.schema), assessed=True,
        result_schema=subtask.schema,
    )  # fmt: skip
