"""The parts of a conversation: its task, its older turns, the user's last words, and its newest turns.

Messages of one side in a row are one turn, as the API reads them. A turn with results of tools stays with the turn that called
them. Messages with the role `system` belong to no turn, and stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cascade.core.messages import Block

__all__ = ["Parts", "Turn", "blocks_of", "has_results", "parts_of", "without_results"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn. `places`: of its messages."""

    is_user: bool
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a conversation, as indices of `turns`.

    Turns before `head` (the first user's turn, which names the task) and from `kept` on (the newest) stay whole. Those in between
    are the older ones, of which the first is the assistant's. `words`: the one of them in which the user spoke last, if it is not
    among the newest: what a tool loop works on.
    """

    turns: tuple[Turn, ...]
    head: int
    kept: int
    words: int | None = None

    def units(self) -> list[tuple[int, ...]]:
        """The older turns that can go, oldest first: each of the assistant's with the user's after it, which may hold its results."""
        return [tuple(range(at, min(at + 2, self.kept))) for at in range(self.head, self.kept, 2)]


def parts_of(messages: Sequence[Block], keep_turns: int) -> Parts:
    """Divide a conversation. One without a turn of the user is left whole."""
    turns = _turns(messages)
    first = next((at for at, turn in enumerate(turns) if turn.is_user), None)
    if first is None:
        return Parts(turns, len(turns), len(turns))
    head = first + 1
    kept = max(head, len(turns) - keep_turns)
    if kept > head and kept < len(turns) and turns[kept].is_user and _answers(messages, turns[kept]):
        kept -= 1  # the calls of these results
    spoke = next((at for at in reversed(range(len(turns))) if turns[at].is_user and _speaks(messages, turns[at])), 0)
    return Parts(turns, head, kept, spoke if head <= spoke < kept else None)


def _turns(messages: Sequence[Block]) -> tuple[Turn, ...]:
    found: list[tuple[bool, list[int]]] = []
    for place, message in enumerate(messages):
        role = message.get("role")
        if role == "system":
            continue
        is_user = role != "assistant"
        if found and found[-1][0] == is_user:
            found[-1][1].append(place)
        else:
            found.append((is_user, [place]))
    return tuple(Turn(is_user, tuple(places)) for is_user, places in found)


def blocks_of(message: Block) -> Sequence[Any]:
    """The blocks of a message; none if its content is a string."""
    content = message.get("content")
    return cast("Sequence[Any]", content) if isinstance(content, (list, tuple)) else ()


def has_results(message: Block) -> bool:
    """Whether it holds results of the caller's tools."""
    return any(_is_result(block) for block in blocks_of(message))


def without_results(message: Block) -> Block | None:
    """The message without results of tools; None if nothing else is in it."""
    if not has_results(message):
        return message
    rest = [block for block in blocks_of(message) if not _is_result(block)]
    return {**message, "content": rest} if rest else None


def _answers(messages: Sequence[Block], turn: Turn) -> bool:
    return any(has_results(messages[place]) for place in turn.places)


def _speaks(messages: Sequence[Block], turn: Turn) -> bool:
    """Whether anything but results of tools is in it."""
    return any(without_results(messages[place]) is not None for place in turn.places)


def _is_result(block: Any) -> bool:
    return isinstance(block, Mapping) and cast("Mapping[str, Any]", block).get("type") == "tool_result"
