"""Recognise what cascade asks by its system prompt: a variant of triage, the judge of a vote, or a review. Pure.

The emulator's judge groups answers whose words and numbers are the same (`same: normalized`), for it cannot read. For the same
reason its reviewer accepts every answer.
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

__all__ = ["ACCEPTED", "NAMES", "answers_to_group", "group_answers", "is_review", "variant_of"]

NAMES: Mapping[str, str] = {text: name for name, text in RULES.items()}
"""The built-in variants' names, by their text."""


ACCEPTED: Mapping[str, str] = {"verdict": "accept", "reason": "The emulator accepts every answer."}
"""What the emulator's reviewer replies."""


def is_review(system: object) -> bool:
    """Whether a request asks for the review of an answer."""
    return REVIEW_RULES in _texts(system)


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


def _texts(system: object) -> Iterable[str]:
    if isinstance(system, str):
        return (system,)
    blocks = cast("list[dict[str, Any]]", system) if isinstance(system, list) else []
    return tuple(block["text"] for block in blocks)
