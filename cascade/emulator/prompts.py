"""Recognise what cascade asks by its system prompt: a variant of triage, the judge of a vote, a review, or a handoff. Pure.

The emulator's judge groups answers whose words and numbers are the same (`same: normalized`), for it cannot read. For the same
reason its reviewer accepts every answer of which no review was recorded. A plan has the recorded answer as its intent, and the answer
by a plan is that intent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from cascade.core.handoff.words import is_plan_request, plan_in
from cascade.core.prompts.judge import RULES as JUDGE_RULES
from cascade.core.prompts.review_gate import RULES as REVIEW_RULES
from cascade.core.prompts.triage import RULES
from cascade.core.text.answers import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "NAMES",
    "UNRECORDED",
    "answer_to_review",
    "answers_to_group",
    "asks_for_plan",
    "group_answers",
    "plan_for",
    "plan_to_execute",
    "said_by_reviewer",
    "variant_of",
]

NAMES: Mapping[str, str] = {text: name for name, text in RULES.items()}
"""The built-in variants' names, by their text."""


def variant_of(system: object, names: Mapping[str, str]) -> str | None:
    """The name of the triage prompt in a request's system prompt; None if there is none of these. `names`: by text."""
    return next((names[text] for text in _texts(system) if text in names), None)


def answers_to_group(system: object, text: str) -> tuple[str, ...] | None:
    """The answers that a judge is asked to group; None if the request asks for something else."""
    if JUDGE_RULES not in _texts(system):
        return None
    try:
        shown: Any = json.loads(text)
        answers = tuple(shown["answers"][str(number)] for number in range(1, len(shown["answers"]) + 1))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return answers if all(isinstance(answer, str) for answer in answers) else None


def group_answers(answers: Sequence[str]) -> dict[str, Any]:
    """What the emulator's judge replies: the answers' numbers, from 1, grouped by their words and numbers."""
    groups: dict[str, list[int]] = {}
    for number, answer in enumerate(answers, 1):
        groups.setdefault(normalised(answer) or answer, []).append(number)
    return {"groups": list(groups.values())}


def answer_to_review(system: object, text: str) -> tuple[str, str] | None:
    """The last user turn's text and the answer that a reviewer is to read; None if the request asks for something else."""
    if REVIEW_RULES not in _texts(system):
        return None
    try:
        shown: Any = json.loads(text)
        turns = [turn["content"] for turn in shown["request"]["turns"] if turn["role"] == "user"]
        asked = (
            turns[-1] if isinstance(turns[-1], str) else "\n".join(part for part in turns[-1] if isinstance(part, str))
        )
        return asked, str(shown["answer"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


UNRECORDED: dict[str, Any] = {"verdict": "accept", "reason": "No review of this answer was recorded."}
"""What the emulator's reviewer replies where it knows nothing of the answer."""


def said_by_reviewer(accepted: bool | None) -> str | dict[str, Any]:
    """What the emulator's reviewer replies where a review was recorded; None: prose."""
    if accepted is None:
        return "I cannot say."
    return {"verdict": "accept" if accepted else "reject", "reason": "As it was recorded."}


def asks_for_plan(system: object) -> bool:
    """Whether a rung is asked for a plan in place of the answer."""
    return any(is_plan_request(text) for text in _texts(system))


def plan_to_execute(system: object) -> Mapping[str, Any] | None:
    """The plan that a rung is asked to answer by; None if the request asks for something else."""
    try:
        return next((plan for text in _texts(system) if (plan := plan_in(text)) is not None), None)
    except ValueError:
        return None


_MOST_INTENT = 1_000  # characters, well under what a plan may have


def plan_for(answer: object) -> dict[str, Any] | None:
    """The emulator's plan for a recorded answer; None for one that was declined."""
    if answer is None:
        return None
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    lists: dict[str, Any] = {"must_mention": [], "forbidden": []}
    return {"intent": text[:_MOST_INTENT] or "Answer.", "tone": "as recorded", **lists, "next_action": ""}


def _texts(system: object) -> Iterable[str]:
    if isinstance(system, str):
        return (system,)
    blocks = cast("list[dict[str, Any]]", system) if isinstance(system, list) else []
    return tuple(block["text"] for block in blocks)
