"""Shortens a conversation until it fits: first the oldest tool results, then the oldest turns.

What goes, in this order and no further than is needed:

1. All thinking. A model's thinking is bound to what stood before it, and that changes now.
2. The content of tool results, oldest first. The result itself stays, so that its call has one.
3. Older turns, oldest first: one of the assistant's with the user's after it, so that no call loses its result.

The task (the first user's turn), the user's last words and the newest turns stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cascade.core.context.measuring import characters, tokens
from cascade.core.context.turns import Parts, Turn, blocks_of, parts_of, without_results
from cascade.core.messages import Block
from cascade.core.prepared import Prepared
from cascade.core.tools import history_for

__all__ = ["DROPPED", "Trimmed", "trim"]

DROPPED = "[This tool result was removed to shorten the conversation.]"
"""What stands in place of a tool result's content."""

_PLAIN = frozenset({"text", "image", "document", "search_result"})
"""Kinds of content that a result can lose. Others name tools, which later calls may need."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A conversation that was shortened. `prepared`: by how much; None if it fits as it is, and is the same one."""

    messages: tuple[Block, ...]
    prepared: Prepared | None = None


def trim(messages: tuple[Block, ...], room: int, keep_turns: int) -> Trimmed:
    """Shorten a conversation to at most `room` characters, if that can be reached without its newest `keep_turns` turns.

    Linear in its length. A conversation that keeps to the API's rules does so afterwards.
    """
    whole = _characters(messages)
    if whole <= room:
        return Trimmed(messages)
    work = _Work(history_for(messages, frozenset()), room, keep_turns)
    work.drop_results()
    work.drop_turns()
    left = work.left()
    over = max(0, work.over)
    made = Prepared("trim", work.results, work.dropped, whole - (room + work.over), tokens(over))
    return Trimmed(left, made)


def _characters(messages: tuple[Block, ...]) -> int:
    return sum(characters(message.get("content")) for message in messages)


class _Work:
    """A conversation that is being shortened. `over`: the characters above the room, negative once it fits."""

    def __init__(self, messages: tuple[Block, ...], room: int, keep_turns: int) -> None:
        self._messages: list[Block | None] = list(messages)  # None: dropped
        self._lengths = [characters(message.get("content")) for message in messages]
        self._replaced = [0] * len(messages)  # results without their content, by message
        self._parts: Parts = parts_of(messages, keep_turns)
        self.over = sum(self._lengths) - room
        self.dropped = 0  # turns

    @property
    def results(self) -> int:
        """How many results stand without their content."""
        return sum(self._replaced)

    def left(self) -> tuple[Block, ...]:
        """What is left of the conversation."""
        return tuple(message for message in self._messages if message is not None)

    def drop_results(self) -> None:
        """Drop the content of older tool results, oldest first, while it does not fit."""
        parts = self._parts
        for turn in parts.turns[parts.head : parts.kept]:
            for place in turn.places if turn.is_user else ():
                if self.over <= 0:
                    return
                self._drop_results_of(place)

    def _drop_results_of(self, place: int) -> None:
        message = self._messages[place]
        assert message is not None, "results go before turns"
        changed: dict[int, Block] = {}
        saved = 0
        for number, block in enumerate(blocks_of(message)):
            if self.over - saved <= 0:
                break
            gain = _gain(block)
            if gain > 0:
                changed[number] = {**block, "content": DROPPED}
                saved += gain
        if changed:
            blocks = [changed.get(number, block) for number, block in enumerate(blocks_of(message))]
            self._messages[place] = {**message, "content": blocks}
            self._replaced[place] = len(changed)
            self._shorten(place, saved)

    def drop_turns(self) -> None:
        """Drop older turns, oldest first, while it does not fit."""
        parts = self._parts
        for unit in parts.units():
            if self.over <= 0:
                return
            if any(self._is_bound(parts.turns[at]) for at in unit):
                continue
            for at in unit:
                self._drop(parts.turns[at], is_kept=at == parts.words)

    def _is_bound(self, turn: Turn) -> bool:
        """Whether it holds what stands for all that came before it: the API's own summary."""
        messages = (self._messages[place] for place in turn.places)
        return any(_kind(block) == "compaction" for message in messages if message for block in blocks_of(message))

    def _drop(self, turn: Turn, *, is_kept: bool) -> None:
        """Drop a turn; of one that is kept for the user's words, only the results whose calls go."""
        for place in turn.places:
            message = self._messages[place]
            left = without_results(message) if is_kept and message is not None else None
            length = characters(left.get("content")) if left is not None else 0
            self._messages[place] = left
            self._replaced[place] = 0
            self._shorten(place, self._lengths[place] - length)
        self.dropped += not is_kept

    def _shorten(self, place: int, by: int) -> None:
        self._lengths[place] -= by
        self.over -= by


def _gain(block: Any) -> int:
    """By how many characters a block is shorter without its content. Not above 0: it is no result, or must stay."""
    if _kind(block) != "tool_result":
        return 0
    content = block.get("content")
    if not isinstance(content, str) and any(_kind(inside) not in _PLAIN for inside in content or ()):
        return 0
    return characters(content) - len(DROPPED)


def _kind(block: Any) -> Any:
    return cast("Mapping[str, Any]", block).get("type") if isinstance(block, Mapping) else None
