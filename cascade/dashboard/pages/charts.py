"""Where the lines and bars of the charts are. Pure geometry: a plot is `WIDTH` × `HEIGHT` units and is stretched to its box.

Text does not stand in a plot, where it would be stretched too, but beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cascade.dashboard.pages.texts import day, moment, percent, usd
from cascade.dashboard.values import Episode, EscalationSeries, SpendPoint

__all__ = ["Bar", "Chart", "Spark", "Tick", "rate_spark", "spend_chart"]

WIDTH: Final = 1_000
HEIGHT: Final = 200
_SPARK_WIDTH: Final = 160
_SPARK_HEIGHT: Final = 28
_GAP: Final = 0.22  # of a slice's width
_DAY_S: Final = 86_400
_TICKS: Final = 5
_USD: Final = 1_000_000_000
_CENT: Final = _USD // 100
_MOST: Final = 48
"""Slices that are drawn: of more, neighbours are drawn as one."""
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, and what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid, or a label under the plot. `at`: its place; `text`: what it says."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Spend by slice: bars, and the baseline as a stepped line (`path`; empty: it is known of no slice)."""

    bars: tuple[Bar, ...]
    path: str
    grid: tuple[Tick, ...]
    times: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spark:
    """A rate over time: a line, the storms behind it, and the highest rate that it reaches."""

    path: str
    storms: tuple[Bar, ...]
    highest: float


def spend_chart(points: Sequence[SpendPoint]) -> Chart:
    """What was spent in each slice, against what the baseline would have cost."""
    if not points:
        return Chart((), "", (), ())
    points = _merged(points)
    step, steps = _scale(max(max(one.cost, one.baseline) for one in points))
    top = step * steps
    since, until = points[0].since, points[-1].until
    whole = until - since
    bars: list[Bar] = []
    path: list[str] = []
    for one in points:
        x, width = _share(one.since - since, whole), _share(one.until - one.since, whole)
        title = f"{moment(one.since)} to {moment(one.until)}: {usd(one.cost)} for {one.requests:,} requests"
        if one.baseline:
            title += f"; the baseline {usd(one.baseline)}"
        height = one.cost / top * HEIGHT
        bars.append(
            Bar(
                _round(x + width * _GAP / 2), _round(HEIGHT - height), _round(width * (1 - _GAP)), _round(height), title
            )
        )
        y = _round(HEIGHT - one.baseline / top * HEIGHT)
        path.append(f"{'L' if path else 'M'}{_round(x)} {y}H{_round(x + width)}")
    in_cents = _USD <= top < 1_000 * _USD and step % _CENT == 0  # all alike: not $0.5000 below $1.00
    said = [f"${step * number / _USD:.2f}" if in_cents else usd(step * number) for number in range(steps + 1)]
    grid = tuple(Tick(HEIGHT - HEIGHT * number / steps, said[number]) for number in range(steps, -1, -1))
    label = day if whole > 2 * _DAY_S else moment
    times = tuple(label(since + whole * number / (_TICKS - 1)) for number in range(_TICKS))
    return Chart(tuple(bars), "".join(path) if any(one.baseline for one in points) else "", grid, times)


def rate_spark(series: EscalationSeries, episodes: Sequence[Episode], now: float) -> Spark:
    """A task's escalation rate by slice, and its storms. Slices without a request leave a gap."""
    if not series.points:
        return Spark("", (), 0.0)
    since = series.points[0][0]
    length = series.points[1][0] - since if len(series.points) > 1 else 1
    whole = length * len(series.points)
    size = -(-len(series.points) // _MOST)
    groups = [series.points[at : at + size] for at in range(0, len(series.points), size)]
    counts = [(sum(one[1] for one in group), sum(one[2] for one in group)) for group in groups]
    rates = [escalated / requests if requests else None for requests, escalated in counts]
    highest = max((rate for rate in rates if rate is not None), default=0.0)
    path, is_open = "", False
    for number, rate in enumerate(rates):
        if rate is None:
            is_open = False
            continue
        x = _round((number + 0.5) / len(rates) * _SPARK_WIDTH)
        y = _round(_SPARK_HEIGHT - 2 - rate / (highest or 1.0) * (_SPARK_HEIGHT - 4))
        path += f"{'L' if is_open else 'M'}{x} {y}"
        path += "" if is_open else "h.01"  # a slice alone is a point
        is_open = True
    storms: list[Bar] = []
    for one in episodes:
        start, end = max(one.since, since), min(one.until if one.until is not None else now, since + whole)
        if one.what == "storm" and one.task == series.task and end > start:
            x = (start - since) / whole * _SPARK_WIDTH
            width = max(3.0, (end - start) / whole * _SPARK_WIDTH)
            ended = moment(one.until) if one.until is not None else "goes on"
            title = f"storm at {one.rung}: {moment(one.since)} to {ended}, {percent(one.rate)} escalated"
            storms.append(Bar(_round(min(x, _SPARK_WIDTH - width)), 0, _round(width), _SPARK_HEIGHT, title))
    return Spark(path, tuple(storms), highest)


def _merged(points: Sequence[SpendPoint]) -> Sequence[SpendPoint]:
    size = -(-len(points) // _MOST)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [
        SpendPoint(
            group[0].since, group[-1].until, sum(one.cost for one in group), sum(one.baseline for one in group),
            sum(one.compared for one in group), sum(one.requests for one in group),
        )
        for group in groups
    ]  # fmt: skip


def _scale(highest: int) -> tuple[float, int]:
    """A round step in nano-USD, and how many of them hold the highest value: two to four."""
    wanted = max(highest, 1) / 4
    power = 1.0
    while power * 10 <= wanted:
        power *= 10
    step = next(power * one for one in _STEPS if power * one >= wanted)
    return step, max(2, -int(-highest // step))


def _share(part: int, whole: int) -> float:
    return part / whole * WIDTH if whole else 0.0


def _round(value: float) -> float:
    return round(value, 2)
