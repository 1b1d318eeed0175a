"""A run's graph as boxes and curves: what is written in each box, and its colours by rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.cli.output import usd
from cascade.cli.run.layout import HEIGHT, WIDTH, Line, lay_out
from cascade.core.planning.result import Result, SubtaskResult

__all__ = ["Drawn", "DrawnBox", "draw", "fate", "rungs_of"]

COLOURS = 6
"""How many rungs have a colour of their own; the one after them has the first again."""

_MARKS = {"accepted": "✓", "unsettled": "?", "failed": "✗", "skipped": "–", "pending": "…"}
_WORDS = {"pending": "not run yet"}


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """One subtask. `fill`, `outline`: the number of a colour, None without a rung. `told`: everything in one sentence."""

    id: str
    x: int
    y: int
    mark: str
    fate: str
    cost: str
    fill: int | None
    outline: int | None
    told: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """The picture in pixels. `curves`: paths whose ends are arrows; `threads`: paths that another goes on from."""

    width: int
    height: int
    box: tuple[int, int]
    boxes: tuple[DrawnBox, ...]
    curves: tuple[str, ...]
    threads: tuple[str, ...]


def rungs_of(result: Result, ladder: Sequence[str] = ()) -> tuple[str, ...]:
    """The rungs of a run, lowest first: `ladder`, and what else was climbed or assigned, in that order."""
    climbs = [tuple(rung for rung, _ in one.rungs) for each in result.subtasks.values() for one in each.attempts]
    climbed = [rung for climb in sorted(climbs, key=len, reverse=True) for rung in climb]
    return tuple(dict.fromkeys((*ladder, *climbed, *(one.rung for one in result.plan.subtasks if one.rung))))


def fate(one: SubtaskResult) -> str:
    """What became of a subtask, such as "haiku → sonnet, accepted"."""
    path = one.assigned if one.rung in (None, one.assigned) else f"{one.assigned} → {one.rung}"
    return f"{path}, {_WORDS.get(one.status, one.status)}"


def draw(result: Result, rungs: Sequence[str]) -> Drawn:
    """The picture of a run, or of a plan that has not been run."""
    layout = lay_out(result.plan)
    colour = {rung: number % COLOURS for number, rung in enumerate(rungs)}
    boxes: list[DrawnBox] = []
    for place in layout.boxes:
        one = result.subtasks[place.id]
        needs = ", ".join(result.plan.needs(result.plan[place.id]))
        told = f"{place.id}: {fate(one)}{f'; it rests on {needs}' if needs else ''}"
        spent = f"{_tries(one)}, {usd(one.cost_nanousd)} USD" if one.attempts else ""
        fill = None if one.rung is None else colour.get(one.rung)
        boxes.append(
            DrawnBox(
                place.id, place.x, place.y, _MARKS[one.status], fate(one), spent, fill, colour.get(one.assigned), told
            )
        )
    passing = tuple(f"M{x},{start}V{end}" for x, start, end in layout.passing)
    curves = tuple(_curve(line) for line in layout.lines if line.arrives)
    threads = tuple(_curve(line) for line in layout.lines if not line.arrives)
    return Drawn(layout.width, layout.height, (WIDTH, HEIGHT), tuple(boxes), curves, threads + passing)


def _tries(one: SubtaskResult) -> str:
    return "1 attempt" if len(one.attempts) == 1 else f"{len(one.attempts)} attempts"


def _curve(line: Line) -> str:
    """From the one end to the other, leaving and arriving straight down. An arrow's tip takes the last pixels."""
    (x, y), (to_x, to_y) = line.start, line.end
    to_y -= 5 if line.arrives else 0
    middle = (y + to_y) // 2
    return f"M{x},{y}C{x},{middle} {to_x},{middle} {to_x},{to_y}"
