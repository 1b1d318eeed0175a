"""The summary of a conversation's older turns: how a rung is asked for it, and the conversation that it stands in.

    the task, whole │ the summary, in words that say what it is │ the user's last words │ the newest turns, whole

The turns are shown as one JSON object, so that nothing in them can end it: they are material, not instructions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.core.context.measuring import CHARACTERS_PER_TOKEN, characters
from cascade.core.context.turns import Parts, parts_of, without_results
from cascade.core.messages import Block, Request
from cascade.core.policy import Rung
from cascade.core.policy.economy import Summarize
from cascade.core.prepared import Prepared
from cascade.core.prompts.summariser import CLOSING, OPENING, RULES
from cascade.core.shown import shown
from cascade.core.tools import history_for
from cascade.core.triage import Prompt, room_for

__all__ = ["Summarised", "build_summary_prompt", "needs_summary", "with_summary"]


@dataclass(frozen=True, slots=True)
class Summarised:
    """A conversation with a summary in it."""

    messages: tuple[Block, ...]
    prepared: Prepared


def needs_summary(messages: tuple[Block, ...], settings: Summarize) -> Parts | None:
    """The parts of a conversation that is long enough to be summarised, and has older turns; else None."""
    least = settings.above_tokens * CHARACTERS_PER_TOKEN
    if sum(characters(message.get("content")) for message in messages) < least:
        return None
    parts = parts_of(messages, settings.keep_turns)
    return parts if parts.head < parts.kept else None


def build_summary_prompt(rung: Rung, request: Request, settings: Summarize) -> Prompt:
    """What a rung is asked for the summary of the older turns. Images and documents go beside the JSON."""
    parts = parts_of(request.messages, settings.keep_turns)
    seen: list[Block] = []
    asked: dict[str, Any] = {"system": shown(request.system, seen)} if request.system else {}
    asked["task"] = [shown(message["content"], seen) for message in _messages(request.messages, parts, 0, parts.head)]
    asked["turns"] = [
        {"role": message["role"], "content": shown(message["content"], seen)}
        for message in _messages(request.messages, parts, parts.head, parts.kept)
    ]
    text = json.dumps(asked, ensure_ascii=False, indent=1, default=str)
    content = [*seen, {"type": "text", "text": text}] if seen else text
    return Prompt(
        rung,
        ({"role": "user", "content": content},),
        ({"type": "text", "text": RULES},),
        None,
        room_for(rung, settings.max_tokens),
        request.metadata.get("user_id"),
    )


def with_summary(messages: tuple[Block, ...], parts: Parts, summary: str) -> Summarised | None:
    """The conversation with a summary in place of its older turns; None if that would not be shorter.

    Thinking goes too: a model's thinking is bound to what stood before it.
    """
    places = {place for turn in parts.turns[parts.head : parts.kept] for place in turn.places}
    words = () if parts.words is None else parts.turns[parts.words].places
    told: Block = {
        "role": "user",
        "content": [{"type": "text", "text": f"{OPENING}{summary.replace('</summary>', '').strip()}{CLOSING}"}],
    }
    made: list[Block] = []
    first = min(places)
    for place, message in enumerate(messages):
        if place == first:
            made.append(told)
        left = message if place not in places else without_results(message) if place in words else None
        if left is not None:
            made.append(left)
    after = history_for(tuple(made), frozenset())
    saved = _length(messages) - _length(after)
    turns = parts.kept - parts.head - (parts.words is not None)
    return Summarised(after, Prepared("summary", turns=turns, characters=saved)) if saved > 0 else None


def _messages(messages: tuple[Block, ...], parts: Parts, start: int, end: int) -> Iterator[Block]:
    for turn in parts.turns[start:end]:
        for place in turn.places:
            yield messages[place]


def _length(messages: tuple[Block, ...]) -> int:
    return sum(characters(message.get("content")) for message in messages)
