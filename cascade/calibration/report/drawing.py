"""The geometry of the page's charts: scales, ticks and positions in SVG units. The template and the CSS style them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cascade.calibration.report.inputs import Level, ReportInput, reliability_of
from cascade.calibration.search.counts import Counts

__all__ = ["Axis", "Frontier", "Mark", "Reliability", "draw_frontier", "draw_reliability"]

_MOST_POINTS = 400
"""The most points of the frontier to draw; more would be finer than a pixel."""

_LETTER, _LINE = 7.2, 16.0  # approximate width of a letter and height of a line, in SVG units


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale: values from `low` to `high` map to positions `start` to `end`; `ticks` are (position, text)."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, value: float) -> float:
        """The position of a value; values outside are clamped."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with a label beside it; `kind` is its CSS class."""

    x: float
    y: float
    label: str
    kind: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Frontier:
    """Quality over cost: the steps of the frontier, its single points where they are few, and the marks.

    `interval`: the chosen point's x, and the ends of its quality interval, as positions.
    """

    width: int
    height: int
    x: Axis
    y: Axis
    path: str
    dots: tuple[tuple[float, float], ...]
    marks: tuple[Mark, ...]
    interval: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """One rung's confidence against how often it is right. `dots`: x, y, radius and level. `silent`: replies without a level."""

    rung: str
    x: Axis
    y: Axis
    dots: tuple[tuple[float, float, float, Level], ...]
    levels: tuple[Level, ...]
    silent: int


def per_thousand(cost_per_request: float) -> float:
    """USD per 1,000 requests."""
    return cost_per_request * 1000


def draw_frontier(report: ReportInput, width: int = 760, height: int = 420) -> Frontier:
    """The frontier with every baseline and the chosen point."""
    n = max(1, report.counts.n)
    points = [(point.cost / n / 1e6, point.quality) for point in report.frontier]
    singles = [(per_thousand(cost), quality, name) for name, (quality, cost) in report.baselines.items()]
    chosen = report.chosen
    here = [(chosen.point.cost / n / 1e6, chosen.point.quality)] if chosen else []
    ci = chosen.quality_ci95 if chosen else None
    costs = [0.0, *(x for x, *_ in (*points, *singles, *here))]
    qualities = [y for _, y, *_ in (*points, *singles, *here)] + list(ci or ())
    x = _axis(costs, 64, width - 24, about=6)
    y = _axis(_padded(qualities), height - 52, 20, about=6)
    shown = _thinned(points, _MOST_POINTS)
    wanted = [(x(a), y(b), "chosen", "chosen") for a, b in here]
    wanted += [(x(a), y(b), _label(name, chosen is None), name.partition(":")[0]) for a, b, name in singles]
    interval = (x(here[0][0]), y(ci[0]), y(ci[1])) if ci and here else None
    places = [(x(a), y(b)) for a, b in shown]
    dots = tuple(places) if len(shown) <= 80 else ()
    taken = _boxes_of(places)
    if interval:
        taken.append((interval[0] - 7, interval[2], interval[0] + 7, interval[1]))
    path = _stairs(places)
    return Frontier(width, height, x, y, path, dots, tuple(_labelled(wanted, width, taken)), interval)


def draw_reliability(counts: Counts, rung: int, width: int = 340, height: int = 260) -> Reliability:
    """How often a rung is right at each level of its confidence."""
    levels, silent = reliability_of(counts, rung)
    low = min([0.0, *(level.low for level in levels)])
    x = _axis([low, 1.0], 44, width - 16, about=5)
    y = _axis([0.0, 1.0], height - 44, 12, about=5)
    most = max((level.items for level in levels), default=1)
    dots = tuple(
        (
            x((level.low + level.high) / 2),
            y(level.right / level.items),
            round(3 + 9 * math.sqrt(level.items / most), 1),
            level,
        )
        for level in levels
        if level.items
    )
    return Reliability(counts.rungs[rung], x, y, dots, levels, silent)


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """A step path: between two points, the cheaper one is what can be reached."""
    if not points:
        return ""
    (x, y), *rest = points
    return f"M{x:g},{y:g}" + "".join(f"H{x:g}V{y:g}" for x, y in rest)


def _thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]


def _padded(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    pad = max((high - low) * 0.06, 0.005)
    return [low - pad, high + pad]


def _axis(values: Iterable[float], start: float, end: float, about: int) -> Axis:
    known = list(values)
    low, high = min(known), max(known)
    if high <= low:
        high = low + (abs(low) or 1.0)
    if low == 0:
        high += (high - low) * 0.04 if high != 1 else 0.0
    axis = Axis(low, high, start, end, ())
    step = _nice((high - low) / about)
    digits = max(
        0, -math.floor(math.log10(step) + 1e-9) + (1 if round(step / 10 ** math.floor(math.log10(step)), 6) % 1 else 0)
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    ticks = tuple((axis(number * step), f"{number * step:.{digits}f}") for number in range(first, last + 1))
    return Axis(low, high, start, end, ticks)


def _nice(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next(nice * magnitude for nice in (1, 2, 2.5, 5, 10) if nice * magnitude >= step * 0.999)


def _label(name: str, is_guess: bool) -> str:
    """A baseline's label. `is_guess`: nothing was chosen, so the random mix climbs as often as at 0.80."""
    kind, _, rung = name.partition(":")
    if kind == "single" and rung:
        return f"{rung[:40]} alone"
    if name == "random_mix":
        return "random, as often as at 0.80" if is_guess else "random, as often"
    return name[:48]


def _boxes_of(stairs: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """The boxes that the step path covers, horizontal and vertical."""
    boxes: list[tuple[float, float, float, float]] = []
    for (x, y), (right, above) in pairwise(stairs):
        boxes += [(x, y - 3, right, y + 3), (right - 3, above, right + 3, y)]
    return boxes


def _labelled(
    wanted: Sequence[tuple[float, float, str, str]], width: int, covered: Sequence[tuple[float, float, float, float]]
) -> Iterator[Mark]:
    """Each mark with its label where it overlaps other labels, points and lines least."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y, *_ in wanted] + list(covered)
    for x, y, label, kind in wanted:
        long = len(label) * _LETTER
        places = [
            (x + 14, y + 5, "start"), (x - 14, y + 5, "end"), (x + 8, y - 12, "start"), (x - 8, y - 12, "end"),
            (x + 8, y + 22, "start"), (x - 8, y + 22, "end"), (x + 8, y + 38, "start"), (x - 8, y - 28, "end"),
        ]  # fmt: skip
        boxes = [
            (
                at - (long if anchor == "end" else 0),
                line - _LINE * 0.75,
                at + (0 if anchor == "end" else long),
                line + 4,
            )
            for at, line, anchor in places
        ]
        costs = [
            sum(_overlap(box, other) for other in taken) + (10_000 if box[0] < 60 or box[2] > width else 0)
            for box in boxes
        ]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        yield Mark(x, y, label, kind, *places[best])


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
