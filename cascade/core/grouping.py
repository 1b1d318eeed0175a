"""The judge of a vote on free text: one call of the first rung that groups answers by meaning.

A grouping puts every answer into exactly one group. One that contradicts itself is malformed, and then only answers with
the same text are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from cascade.core.messages import Reply, Request
from cascade.core.policy import Policy
from cascade.core.prompts.judge import RULES, SCHEMA
from cascade.core.text.parsing import parse
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt

__all__ = ["build_judge_prompt", "grouping_text", "groups_of", "read_groups"]
_REPLY_TOKENS = 1024  # thinking of a model that always thinks is included; the groups of 32 answers take less than 200


def build_judge_prompt(policy: Policy, request: Request, answers: Sequence[str]) -> Prompt:
    """What the first rung is asked to group these answers to a request. The question goes with them, without the system prompt."""
    shown = {"question": request.user_text(), "answers": {str(n): text for n, text in enumerate(answers, 1)}}
    content = json.dumps(shown, ensure_ascii=False, indent=1)
    return Prompt(
        policy.ladder[0],
        ({"role": "user", "content": content},),
        ({"type": "text", "text": RULES},),
        SCHEMA,
        _REPLY_TOKENS,
        request.metadata.get("user_id"),
    )


def read_groups(reply: Reply, answers: int) -> Verdict:
    """The verdict on a grouping; its text is the grouping. Malformed if it does not group every answer exactly once."""
    value, repaired = parse(reply.text, None, triage=False) if reply.stop_reason == "end_turn" else (None, True)
    groups = cast("dict[str, Any]", value).get("groups") if isinstance(value, dict) else None
    text = None if repaired else json.dumps(groups)
    if text is None or groups_of(text, answers) is None:
        return Verdict("malformed", detail="not a grouping of the answers")
    return Verdict("answered", text=text)


def groups_of(text: str, answers: int) -> tuple[int, ...] | None:
    """The group of each answer, from a grouping's text such as "[[1, 3], [2]]"; None if it is not one."""
    try:
        groups = json.loads(text)
        places = {number: place for place, members in enumerate(groups) for number in members}
        total = sum(len(members) for members in groups)
    except (ValueError, TypeError, RecursionError):
        return None
    if total != answers or any(type(number) is not int for number in places):
        return None
    if places.keys() != set(range(1, answers + 1)):
        return None
    return tuple(places[number] for number in range(1, answers + 1))


def grouping_text(groups: Sequence[int]) -> str:
    """The text of a grouping, from the group of each answer."""
    by_group: dict[int, list[int]] = {}
    for number, group in enumerate(groups, 1):
        by_group.setdefault(group, []).append(number)
    return json.dumps(list(by_group.values()))
