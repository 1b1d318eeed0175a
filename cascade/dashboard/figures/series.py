"""A period cut into slices: quarters of an hour for a day, days for a month."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cascade.costs import Line, Period
from cascade.dashboard.values import EscalationSeries, SpendPoint
from cascade.ledger.records import BUCKET_S, DAY_S
from cascade.ledger.whole_sums import SpendSlice, TrafficSlice

__all__ = ["MOST_TASKS", "escalations_of", "slice_s_of", "slices_of", "spend_points", "tasks_shown"]

MOST_TASKS: Final = 12
"""Tasks whose escalation rate is shown by slice: those with most requests."""

_WIDTHS: Final = (
    (36 * 3600, BUCKET_S), (3 * DAY_S, 3600), (8 * DAY_S, 3 * 3600), (120 * DAY_S, DAY_S), (730 * DAY_S, 7 * DAY_S),
)  # fmt: skip
"""(The longest period, the length of its slices), in seconds."""
_LONGEST: Final = 30 * DAY_S
_WEEK_S, _MONDAY_S = 7 * DAY_S, 4 * DAY_S


def slice_s_of(period: Period) -> int:
    """How long the slices of a period are, in seconds."""
    length = period.until - period.since
    return next((width for longest, width in _WIDTHS if length <= longest), _LONGEST)


def slices_of(period: Period, width: int) -> tuple[int, ...]:
    """Where the period's slices start; the first may start before the period."""
    after = _MONDAY_S if width == _WEEK_S else 0
    first = (period.since - after) // width * width + after
    return tuple(range(first, period.until, width))


def spend_points(
    period: Period, width: int, spend: Iterable[SpendSlice], traffic: Iterable[TrafficSlice] = ()
) -> tuple[SpendPoint, ...]:
    """All slices of the period, those without a request too."""
    cost = {one.since: one.cost for one in spend}
    compared, baseline, requests = dict[int, int](), dict[int, int](), dict[int, int]()
    for one in traffic:
        compared[one.since] = compared.get(one.since, 0) + one.compared
        baseline[one.since] = baseline.get(one.since, 0) + one.estimate
        requests[one.since] = requests.get(one.since, 0) + one.requests
    return tuple(
        SpendPoint(
            max(start, period.since), min(start + width, period.until), cost.get(start, 0), baseline.get(start, 0),
            compared.get(start, 0), requests.get(start, 0),
        )
        for start in slices_of(period, width)
    )  # fmt: skip


def tasks_shown(lines: Sequence[Line]) -> tuple[str, ...]:
    """The tasks whose rate is shown: those with most answered requests of the ladder."""
    asked = sorted((line for line in lines if line.climbs), key=lambda line: (-line.climbs, line.name))
    return tuple(line.name for line in asked[:MOST_TASKS])


def escalations_of(
    period: Period, width: int, traffic: Iterable[TrafficSlice], tasks: Sequence[str]
) -> tuple[EscalationSeries, ...]:
    """The escalation rate of each of these tasks, by slice."""
    counted = {(one.task, one.since): (one.climbs, one.escalated) for one in traffic}
    starts = slices_of(period, width)
    return tuple(
        EscalationSeries(
            task,
            tuple((max(start, period.since), *counted.get((task, start), (0, 0))) for start in starts),
        )
        for task in tasks
    )
