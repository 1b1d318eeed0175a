"""Sums of a whole period, and by slices of it, grouped by the database: a month's are as few rows as a day's.

`Reader.spend` and `Reader.traffic` have a row for each day and key; what needs neither reads these instead. Both databases understand the
same words. Periods are whole quarters of an hour. Money is integer nano-USD.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from cascade.ledger.records import DAY_S, NO_SLOT
from cascade.ledger.stores import Reader
from cascade.ledger.sums import parts_of

__all__ = ["SpendSlice", "TrafficSlice", "spend_slices", "spent_by", "traffic_slices", "whole_spend", "whole_traffic"]

_SPEND: Final = ("steps", "escalated", "cost", "input", "output", "errors")
_TRAFFIC: Final = {
    **dict.fromkeys(("requests", "answers", "resolved", "escalated", "cost"), "bigint"),
    "cost_squared": "double precision", "estimate": "bigint", "estimated": "bigint",
}  # fmt: skip
_WEEK_S: Final = 7 * DAY_S
_MONDAY_S: Final = 4 * DAY_S  # 1970-01-01 was a Thursday


class SpendSlice(NamedTuple):
    """What was spent in the slice that starts at `since` (Unix seconds; the first one of a period may start before it), and in how many steps."""

    since: int
    cost: int
    steps: int


class TrafficSlice(NamedTuple):
    """Requests of a slice by arm and task, where `task` is one of those that were named, "" for the others.

    `answered`: 1 of those that were answered, 0 of the others. `estimate`: what the baseline alone would have cost those that have an estimate,
    `compared`: what they cost.
    """

    since: int
    task: str
    arm: str
    answered: int
    requests: int
    escalated: int
    compared: int
    estimate: int


def whole_spend(
    reader: Reader, since: int, until: int, policy: str | None = None
) -> Iterator[tuple[str | int | float, ...]]:
    """`Reader.spend` without days and keys: `day` is that of `since`, `key` is empty. Of one policy, or of all."""
    names = "policy, task, workflow, arm, rung, model"
    of, values = _of(policy)
    each = " UNION ALL ".join(
        f"SELECT {names}, {', '.join(_SPEND)} FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"  # noqa: S608 - constants and numbers
        for part, first, last in parts_of("spend", since, until, by_days=True)
    )
    question = (
        f"SELECT {since // DAY_S:d}, policy, task, workflow, '', arm, rung, model, {_summed(dict.fromkeys(_SPEND, 'bigint'))}"  # noqa: S608 - as above
        f" FROM ({each}) AS parts GROUP BY {names}"
    )
    return reader.select(question, values)


def whole_traffic(
    reader: Reader, since: int, until: int, policy: str | None = None
) -> Iterator[tuple[str | int | float, ...]]:
    """`Reader.traffic` without days, but for the rows with a slot: a holdout is compared day by day.

    A day's row some of whose requests have no estimate is not added to those whose requests all have one: readers tell them apart.
    """
    names = "policy, task, workflow, arm, rung, slot"
    of, values = _of(policy)
    days = f"SELECT bucket / {DAY_S} AS day, {names}"
    each = " UNION ALL ".join(
        f"{days}, {', '.join(_TRAFFIC)} FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"
        if part.endswith("_days")
        else f"{days}, {_summed(_TRAFFIC)} FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of} GROUP BY 1, {names}"
        for part, first, last in parts_of("traffic", since, until, by_days=True)
    )
    question = (
        f"SELECT CASE WHEN slot = {NO_SLOT} THEN {since // DAY_S:d} ELSE day END, {names}, {_summed(_TRAFFIC)}"  # noqa: S608 - as above
        f" FROM ({each}) AS parts GROUP BY 1, {names}, CASE WHEN estimated = requests THEN 1 ELSE 0 END"
    )
    return reader.select(question, values)


def spend_slices(
    reader: Reader, since: int, until: int, width: int, *, policy: str | None = None, model: str | None = None
) -> tuple[SpendSlice, ...]:
    """What was spent by slices of `width` seconds (a multiple of 900; weeks begin on Monday), in order. Slices without a step are left out."""
    of, values = _of(policy)
    if model is not None:
        of, values = f"{of} AND model = :model", {**values, "model": model}
    each = _parts("spend", "bucket, cost, steps", (since, until, width), of)
    question = (
        f"SELECT {_slice(width)}, CAST(sum(cost) AS bigint), CAST(sum(steps) AS bigint) FROM ({each}) AS parts"  # noqa: S608 - as above
        " GROUP BY 1 ORDER BY 1"
    )
    return tuple(map(SpendSlice._make, reader.select(question, values)))


def traffic_slices(
    reader: Reader, since: int, until: int, width: int, *, policy: str | None = None, tasks: Sequence[str] = ()
) -> tuple[TrafficSlice, ...]:
    """Requests by slices, in the same way, by arm and by those of these tasks."""
    of, values = _of(policy)
    names = {f"task_{place}": task for place, task in enumerate(tasks)}
    task = f"CASE WHEN task IN ({', '.join(f':{name}' for name in names)}) THEN task ELSE '' END" if names else "''"
    columns = "bucket, task, arm, rung, requests, escalated, cost, estimate, estimated"
    each = _parts("traffic", columns, (since, until, width), f"{of} AND slot = {NO_SLOT}")
    known = "CAST(sum(CASE WHEN rung <> '' AND estimated = requests THEN {} ELSE 0 END) AS bigint)"
    question = (
        f"SELECT {_slice(width)}, {task}, arm, CASE WHEN rung = '' THEN 0 ELSE 1 END, CAST(sum(requests) AS bigint),"  # noqa: S608 - as above
        f" CAST(sum(escalated) AS bigint), {known.format('cost')}, {known.format('estimate')} FROM ({each}) AS parts"
        " GROUP BY 1, 2, 3, 4 ORDER BY 1"
    )
    return tuple(map(TrafficSlice._make, reader.select(question, {**values, **names})))


def spent_by(reader: Reader, policy: str, column: str, since: int, until: int) -> Mapping[str, int]:
    """What a policy's steps cost in [since, until) by "policy", "task", "workflow", "key" or "arm"; without the audit's, but by arm."""
    if column not in ("policy", "task", "workflow", "key", "arm"):
        raise ValueError(column)
    of = " AND policy = :policy" + ("" if column == "arm" else " AND arm <> 'audit'")
    each = _parts("spend", f"{column}, cost", (since, until, DAY_S), of)
    question = f"SELECT {column}, CAST(sum(cost) AS bigint) FROM ({each}) AS parts GROUP BY 1"  # noqa: S608 - as above
    return {str(value): int(cost) for value, cost in reader.select(question, {"policy": policy})}


def _parts(table: str, columns: str, slices: tuple[int, int, int], of: str) -> str:
    """The rows of the tables that the slices are added up from: whole days, where a slice has whole days."""
    since, until, width = slices
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"  # noqa: S608 - as above
        for part, first, last in parts_of(table, since, until, by_days=width % DAY_S == 0)
    )


def _slice(width: int) -> str:
    after = _MONDAY_S if width == _WEEK_S else 0
    return f"(bucket - {after}) / {width:d} * {width:d} + {after}"


def _summed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"CAST(sum({name}) AS {kind}) AS {name}" for name, kind in columns.items())


def _of(policy: str | None) -> tuple[str, dict[str, Any]]:
    return ("", {}) if policy is None else (" AND policy = :policy", {"policy": policy})
