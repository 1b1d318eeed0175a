"""Where the parts of a YAML text stand: what `loading` tells `editing`, which changes a text without writing it anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a YAML text: `text[start:end]`, without what white space and comments come after it, up to `after`.

    `column` and `line` are of its start, from 0. `pairs` are a mapping's keys and values, `parts` a list's, `value` is a
    scalar's text; `style` is a scalar's quote (or | or >), else "flow" or "block", and "" where it is plain.
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
