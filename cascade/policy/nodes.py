"""Positions of the parts of a YAML text: `loading` finds them, `editing` changes the text at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a YAML text: `text[start:end]`. White space and comments after it extend to `after`.

    `line` and `column` are those of its start, from 0. `pairs`: a mapping's keys and values. `parts`: a list's entries.
    `value`: a scalar's text. `style`: "flow" or "block"; for a scalar its quote, "|", ">", or "" if plain.
    """

    kind: Literal["mapping", "list", "scalar"]
    style: str
    value: str
    pairs: tuple[tuple[Node, Node], ...]
    parts: tuple[Node, ...]
    start: int
    end: int
    after: int
    line: int
    column: int

    def find(self, key: str) -> tuple[Node, Node] | None:
        """A key of a mapping and its value."""
        return next((pair for pair in self.pairs if pair[0].value == key), None)

    def at(self, path: tuple[str | int, ...]) -> Node:
        """The key at the end of a path, or the entry of a list; the nearest part around it, if it is not there."""
        node = self
        for part in path:
            if isinstance(part, int):
                node = node.parts[part] if part < len(node.parts) else node
            elif (pair := node.find(part)) is not None:
                key, node = pair
                if part == path[-1]:
                    return key
        return node
