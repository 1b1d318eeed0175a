"""Recognise what cascade asks by its system prompt: a variant of triage, the judge of a vote, or a review. Pure.

The emulator's judge groups answers whose words and numbers are the same (`same: normalized`), for it cannot read. For the same
reason its reviewer accepts every answer of which no review was recorded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from cascade.core.grouping import RULES as JUDGE_RULES
from cascade.core.review import RULES as REVIEW_RULES
from cascade.core.text.answers import normalised
from cascade.core.triage import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "NAMES",
    "UNRECORDED",
    "answer_to_review",
    "answers_to_group",
    "group_answers",
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


def _texts(system: object) -> Iterable[str]:
    if isinstance(system, str):
        return (system,)
    blocks = cast("list[dict[str, Any]]", system) if isinstance(system, list) else []
    return tuple(block["text"] for block in blocks)
