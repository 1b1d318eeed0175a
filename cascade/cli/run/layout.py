"""Where the boxes of a plan stand, and how the lines between them run. Pure: the same plan always has the same picture.

Subtasks stand in rows by their level, so every line goes downwards. A line that passes a row has a place of its own there, between the
boxes; the lines from one subtask share it. Rows are ordered by the mean place of their neighbours, which removes most crossings, and
then each place is moved as near to its neighbours as the others let it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cascade.core.planning.graph import Plan

__all__ = ["HEIGHT", "WIDTH", "Box", "Layout", "Line", "lay_out"]

WIDTH, HEIGHT = 216, 74
_GAP, _BETWEEN_ROWS, _MARGIN = 28, 60, 6
_PASSING = 12  # the width of a place where a line passes
_SWEEPS = 6
_SETTLING = 4

_Node = tuple[str, int]
"""A subtask at its row, or the line from it where that passes a later row."""


@dataclass(frozen=True, slots=True)
class Box:
    """A subtask's box: its upper left corner. All are WIDTH by HEIGHT."""

    id: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Line:
    """From (x, y) of `start` down to that of `end`, both between two rows. `arrives`: at a box; else it goes on through the row."""

    start: tuple[int, int]
    end: tuple[int, int]
    arrives: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The boxes, in the plan's order, and the lines. `passing`: lines straight through a row, (x, from y, to y)."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    passing: tuple[tuple[int, int, int], ...]


def lay_out(plan: Plan) -> Layout:
    """The picture of a valid plan."""
    level = {one.id: row for row, ones in enumerate(plan.levels()) for one in ones}
    edges = _edges(plan, level)
    rows = _ordered(_rows(plan, level, edges), edges)
    places = _places(rows, edges)
    left = min(x - _room(node, level) / 2 for node, x in places.items())
    at = {node: round(x - left) + _MARGIN for node, x in places.items()}
    width = max(x + _room(node, level) // 2 for node, x in at.items()) + _MARGIN
    boxes = tuple(Box(one.id, at[one.id, level[one.id]] - WIDTH // 2, _top(level[one.id])) for one in plan.subtasks)
    lines = tuple(
        Line((at[above], _top(above[1]) + HEIGHT), (at[below], _top(below[1])), arrives=level[below[0]] == below[1])
        for above, below in edges
    )
    passing = tuple((at[node], _top(node[1]), _top(node[1]) + HEIGHT) for node in at if level[node[0]] != node[1])
    return Layout(width, _top(len(rows) - 1) + HEIGHT + _MARGIN, boxes, lines, passing)


def _top(row: int) -> int:
    return _MARGIN + row * (HEIGHT + _BETWEEN_ROWS)


def _room(node: _Node, level: Mapping[str, int]) -> int:
    return WIDTH if level[node[0]] == node[1] else _PASSING


def _edges(plan: Plan, level: Mapping[str, int]) -> tuple[tuple[_Node, _Node], ...]:
    """The lines from row to row, each once: subtask to subtask, by way of the rows between."""
    found: dict[tuple[_Node, _Node], None] = {}
    for one in plan.subtasks:
        for name in plan.needs(one):
            here = (name, level[name])
            for row in range(level[name] + 1, level[one.id]):
                found[here, (name, row)] = None
                here = (name, row)
            found[here, (one.id, level[one.id])] = None
    return tuple(found)


def _rows(plan: Plan, level: Mapping[str, int], edges: Iterable[tuple[_Node, _Node]]) -> list[list[_Node]]:
    rows: list[list[_Node]] = [[] for _ in range(1 + max(level.values()))]
    for one in plan.subtasks:
        rows[level[one.id]].append((one.id, level[one.id]))
    for node in dict.fromkeys(below for _, below in edges):
        if level[node[0]] != node[1]:
            rows[node[1]].append(node)
    return rows


def _ordered(rows: list[list[_Node]], edges: Sequence[tuple[_Node, _Node]]) -> list[list[_Node]]:
    """The rows in the order, of those tried, that has the fewest crossings."""
    above, below = _neighbours(edges)
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        rows = [list(row) for row in rows]
        order = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
        for index in order:
            beside = rows[index - 1 if downwards else index + 1]
            place = {node: number for number, node in enumerate(beside)}
            near = above if downwards else below
            own = {node: number for number, node in enumerate(rows[index])}
            # A node without neighbours there stays where it is.
            key = {node: _mean([place[one] for one in near.get(node, ())], own[node]) for node in rows[index]}
            rows[index].sort(key=lambda node, key=key: key[node])
        if (crossings := _crossings(rows, below)) < fewest:
            best, fewest = rows, crossings
    return best


def _neighbours(
    edges: Iterable[tuple[_Node, _Node]],
) -> tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]]:
    above: dict[_Node, list[_Node]] = {}
    below: dict[_Node, list[_Node]] = {}
    for upper, lower in edges:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def _crossings(rows: Sequence[Sequence[_Node]], below: Mapping[_Node, Sequence[_Node]]) -> int:
    """How many pairs of lines cross: of lines sorted by their upper ends, the pairs whose lower ends are the other way round."""
    total = 0
    for upper, lower in pairwise(rows):
        place = {node: number for number, node in enumerate(lower)}
        ends: list[int] = []
        for node in upper:
            own = sorted(place[one] for one in below.get(node, ()))
            total += sum(len(ends) - bisect_right(ends, end) for end in own)
            for end in own:
                insort(ends, end)
    return total


def _places(rows: Sequence[Sequence[_Node]], edges: Sequence[tuple[_Node, _Node]]) -> dict[_Node, float]:
    """The middle of each node, rows in turn moved towards those beside them."""
    above, below = _neighbours(edges)
    level = {node[0]: node[1] for row in reversed(rows) for node in row}  # the first row that it is in
    places: dict[_Node, float] = {}
    for row in rows:
        places |= zip(row, _apart([0.0] * len(row), row, level), strict=True)
    for turn in range(_SETTLING):
        downwards = turn % 2 == 0
        for row in rows if downwards else reversed(rows):
            near = above if downwards else below
            wanted = [_mean([places[one] for one in near.get(node, ())], places[node]) for node in row]
            places |= zip(row, _apart(wanted, row, level), strict=True)
    return places


def _apart(wanted: Sequence[float], row: Sequence[_Node], level: Mapping[str, int]) -> list[float]:
    """The places nearest to the wanted ones, by least squares, at which nothing in the row overlaps: isotonic regression."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (_room(left, level) + _room(right, level)) / 2 + _GAP)
    blocks: list[tuple[float, int]] = []  # their mean, and how many nodes they hold
    for place, offset in zip(wanted, offsets, strict=False):
        mean, size = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
