"""What rungs are told at a handoff. The words are fixed: nothing of a request stands in them but quoted, as JSON.

A version names the words: it changes with every change of them, so that answers made under other words can be told apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cascade.core.messages import Block
from cascade.core.prompts.handoff import (
    BEFORE,
    CARRIED,
    CHECKS,
    DOUBT,
    EXECUTION,
    PLAN,
    PLAN_ALONE,
    PLAN_IN_ENVELOPE,
    WHY,
)
from cascade.core.trail import NATURAL, Step

__all__ = [
    "doubt_block",
    "execution_block",
    "is_plan_request",
    "plan_block",
    "plan_in",
]

_EXECUTION_HEAD = EXECUTION.removesuffix("{plan}")

_LONGEST_NAME = 80
_MOST_NAMES = 8


def doubt_block(below: Step) -> Block | None:
    """What a rung is told of the step below it; None where its reason says nothing of the answer.

    Neither the answer nor a number is told. The names of checks are the policy's and the caller's own.
    """
    if below.reason not in NATURAL:
        return None
    names = [name[:_LONGEST_NAME] for name in below.verdict.failed_checks[:_MOST_NAMES]]
    checks = CHECKS.format(names=json.dumps(names)) if names and below.reason == "check_failed" else ""
    return _text(DOUBT.format(why=WHY[below.reason], checks=checks))


def plan_block(carried: Mapping[str, Any] | None, *, triage: bool) -> Block:
    """What a planning rung is told. `triage`: its reply is the envelope. `carried`: the plan of the conversation's last answer."""
    parts = [PLAN, PLAN_IN_ENVELOPE if triage else PLAN_ALONE]
    if carried is not None:
        parts.append(CARRIED.format(plan=_written(carried)))
    return _text("\n\n".join(parts))


def execution_block(plan: Mapping[str, Any], carried: Mapping[str, Any] | None) -> Block:
    """What the rung that answers by a plan is told."""
    before = BEFORE.format(plan=_written(carried)) if carried is not None else ""
    return _text(EXECUTION.format(plan=_written(plan)) + before)


def is_plan_request(text: str) -> bool:
    """Whether a block of a system prompt asks for a plan."""
    return text.startswith(PLAN)


def plan_in(text: str) -> Mapping[str, Any] | None:
    """The plan in a block of a system prompt that asks for the answer by it; None if it is another block."""
    if not text.startswith(_EXECUTION_HEAD):
        return None
    found, _ = json.JSONDecoder().raw_decode(text, len(_EXECUTION_HEAD))
    return found


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _written(plan: Mapping[str, Any]) -> str:
    """The plan as JSON, in which no text of a request can end its string."""
    return json.dumps(dict(plan), ensure_ascii=False, indent=1)
