"""Sums of a whole period, and by slices of it, grouped by the database: a month's are as few rows as a day's.

`Reader.spend` and `Reader.traffic` have a row for each day and key; what needs neither reads these instead. Both databases understand the
same words. Periods are whole quarters of an hour. Money is integer nano-USD.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

from cascade.core.arms import LADDER_ARMS, PLAN_ARMS
from cascade.ledger.records import DAY_S, NO_SLOT
from cascade.ledger.stores import Reader
from cascade.ledger.sums import parts_of

__all__ = [
    "SpendSlice",
    "TrafficSlice",
    "spend_slices",
    "spent_by",
    "spent_by_policy",
    "traffic_slices",
    "whole_spend",
    "whole_traffic",
]

_Row = tuple[Any, ...]

_MOST_KNOWN: Final = 8
_SPEND_NAMES: Final = 8
_SPEND: Final = ("steps", "escalated", "cost", "input", "output", "errors")
_TRAFFIC: Final = {
    **dict.fromkeys(("requests", "answers", "resolved", "escalated", "cost"), "bigint"),
    "cost_squared": "double precision", "estimate": "bigint", "estimated": "bigint",
}  # fmt: skip
_UNASKED: Final = {"shadow", "audit", *PLAN_ARMS}
_WEEK_S: Final = 7 * DAY_S
_MONDAY_S: Final = 4 * DAY_S  # 1970-01-01 was a Thursday


class SpendSlice(NamedTuple):
    """What was spent in the slice that starts at `since` (Unix seconds; the first one of a period may start before it), and in how many steps."""

    since: int
    cost: int
    steps: int


class TrafficSlice(NamedTuple):
    """Requests of a slice by task, where `task` is one of those that were named, "" for the others; without those that nobody asked (shadows, audits, plans).

    `climbs`: those that the ladder answered, and `escalated` of them. `estimate`: what the baseline alone would have cost the climbs that have
    an estimate, `compared`: what they cost.
    """

    since: int
    task: str
    requests: int
    climbs: int
    escalated: int
    compared: int
    estimate: int


class KnownDays:
    """What the sums of ranges of whole days were, for pages that are asked for again and again. Safe between threads.

    Sums only grow. So if a range has as many rows as before, and all its totals are what they were, none of its rows has changed, and they are not
    grouped again: that takes five times as long as to add them up.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, ...], tuple[_Row, Sequence[_Row]]] = OrderedDict()
        self._lock = Lock()

    def read(self, reader: Reader, question: str, totals: str, values: Mapping[str, str]) -> Sequence[_Row]:
        """The rows of a question; `totals`: the question for the totals of the rows that they are grouped from."""
        (stamp,) = reader.select(totals, values)
        key = (question, *values.values())
        with self._lock:
            held = self._held.get(key)
            if held is not None and held[0] == stamp:
                self._held.move_to_end(key)
                return held[1]
        rows = tuple(reader.select(question, values))
        with self._lock:
            self._held[key] = stamp, rows
            self._held.move_to_end(key)
            while len(self._held) > _MOST_KNOWN:
                self._held.popitem(last=False)
        return rows


def whole_spend(
    reader: Reader, since: int, until: int, policy: str | None = None, *, known: KnownDays | None = None
) -> Iterator[_Row]:
    """`Reader.spend` without days and keys: `day` is that of `since`, `key` is empty. Of one policy, or of all. `known`: kept between calls."""
    names = "policy, task, workflow, arm, rung, model"
    of, values = _of(policy)
    sums = _summed(dict.fromkeys(_SPEND, "bigint"))
    found: dict[_Row, list[Any]] = {}
    for part, first, last in parts_of("spend", since, until, by_days=True):
        rows = f"FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"
        question = (
            f"SELECT {since // DAY_S:d}, policy, task, workflow, '', arm, rung, model, {sums} {rows} GROUP BY {names}"
        )
        for row in _read(reader, question, _totals(_SPEND, rows), values, known if part.endswith("_days") else None):
            key, added = row[:_SPEND_NAMES], row[_SPEND_NAMES:]
            held = found.get(key)
            found[key] = [*added] if held is None else [one + more for one, more in zip(held, added, strict=True)]
    return ((*key, *added) for key, added in found.items())


def whole_traffic(
    reader: Reader,
    since: int,
    until: int,
    policy: str | None = None,
    *,
    by_slot: bool = True,
    known: KnownDays | None = None,
) -> Iterator[_Row]:
    """`Reader.traffic` without days, but for the rows with a slot: a holdout is compared day by day. The same names may come several times.

    `by_slot`: with the rows that have a slot; only a measured saving needs them. `known`: kept between calls. A day's row some of whose requests
    have no estimate is not added to those whose requests all have one: readers tell them apart.
    """
    names = "policy, task, workflow, arm, rung, slot"
    of, values = _of(policy)
    sums = _summed(_TRAFFIC)
    for part, first, last in parts_of("traffic", since, until, by_days=True):
        rows = f"FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"
        is_days = part.endswith("_days")
        alike = "CASE WHEN estimated = requests THEN 1 ELSE 0 END" if is_days else f"bucket / {DAY_S}"
        question = f"SELECT {since // DAY_S:d}, {names}, {sums} {rows} AND slot = {NO_SLOT} GROUP BY {names}, {alike}"
        if by_slot and is_days:
            question += (
                f" UNION ALL SELECT bucket / {DAY_S}, {names}, {', '.join(_TRAFFIC)} {rows} AND slot <> {NO_SLOT}"
            )
        elif by_slot:
            question += (
                f" UNION ALL SELECT bucket / {DAY_S}, {names}, {sums} {rows} AND slot <> {NO_SLOT}"
                f" GROUP BY bucket / {DAY_S}, {names}"
            )
        whole = [name for name, kind in _TRAFFIC.items() if kind == "bigint"]
        yield from _read(reader, question, _totals(whole, rows), values, known if is_days else None)


def _read(
    reader: Reader, question: str, totals: str, values: Mapping[str, str], known: KnownDays | None
) -> Iterable[_Row]:
    return reader.select(question, values) if known is None else known.read(reader, question, totals, values)


def _totals(columns: Iterable[str], rows: str) -> str:
    return f"SELECT count(*), {', '.join(f'sum({name})' for name in columns)} {rows}"


def spend_slices(
    reader: Reader, since: int, until: int, width: int, *, policy: str | None = None, model: str | None = None
) -> tuple[SpendSlice, ...]:
    """What was spent by slices of `width` seconds (a multiple of 900; weeks begin on Monday), in order. Slices without a step are left out."""
    of, values = _of(policy)
    if model is not None:
        of, values = f"{of} AND model = :model", {**values, "model": model}
    found: dict[int, tuple[int, int]] = {}
    question = _in_order("spend", "bucket", "sum(cost), sum(steps)", (since, until, width), of)
    for bucket, cost, steps in reader.select(question, values):
        start = _start(bucket, width)
        held = found.get(start, (0, 0))
        found[start] = held[0] + int(cost), held[1] + int(steps)
    return tuple(SpendSlice(start, *found[start]) for start in sorted(found))


def traffic_slices(
    reader: Reader, since: int, until: int, width: int, *, policy: str | None = None, tasks: Sequence[str] = ()
) -> tuple[TrafficSlice, ...]:
    """Requests by slices, in the same way, and by those of these tasks."""
    of, values = _of(policy)
    climbs = f"rung <> '' AND arm IN ({_listed(LADDER_ARMS)})"
    known = f"{climbs} AND estimated = requests"
    counted = (climbs, "requests"), (climbs, "escalated"), (known, "cost"), (known, "estimate")
    sums = ", ".join(f"sum(CASE WHEN {when} THEN {column} ELSE 0 END)" for when, column in counted)
    asked = f"{of} AND slot = {NO_SLOT} AND arm NOT IN ({_listed(_UNASKED)})"
    question = _in_order("traffic", "bucket, policy, task", f"sum(requests), {sums}", (since, until, width), asked)
    shown, found = frozenset(tasks), dict[tuple[int, str], list[int]]()
    for bucket, _, task, *added in reader.select(question, values):
        key = _start(bucket, width), task if task in shown else ""
        held = found.get(key)
        found[key] = (
            [int(more) for more in added]
            if held is None
            else [one + int(more) for one, more in zip(held, added, strict=True)]
        )
    return tuple(TrafficSlice(*key, *found[key]) for key in sorted(found))


def spent_by_policy(reader: Reader, since: int, until: int) -> Mapping[str, int]:
    """What each policy's steps cost in [since, until), without the audit's."""
    found: dict[str, int] = {}
    question = _in_order("spend", "bucket, policy", "sum(cost)", (since, until, DAY_S), " AND arm <> 'audit'")
    for _, policy, cost in reader.select(question, {}):
        found[policy] = found.get(policy, 0) + int(cost)
    return found


def spent_by(reader: Reader, policy: str, column: str, since: int, until: int) -> Mapping[str, int]:
    """What a policy's steps cost in [since, until) by "task", "workflow", "key" or "arm"; without the audit's, but by arm."""
    if column not in ("task", "workflow", "key", "arm"):
        raise ValueError(column)
    of = " AND policy = :policy" + ("" if column == "arm" else " AND arm <> 'audit'")
    each = " UNION ALL ".join(
        f"SELECT {column}, cost FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of}"  # noqa: S608 - as above
        for part, first, last in parts_of("spend", since, until, by_days=True)
    )
    question = f"SELECT {column}, CAST(sum(cost) AS bigint) FROM ({each}) AS parts GROUP BY 1"  # noqa: S608 - as above
    return {str(value): int(cost) for value, cost in reader.select(question, {"policy": policy})}


def _in_order(table: str, names: str, sums: str, slices: tuple[int, int, int], of: str) -> str:
    """Sums by the first names of the tables' keys: in their order, so that nothing is sorted. Whole days are read, where a slice has whole days."""
    since, until, width = slices
    return " UNION ALL ".join(
        f"SELECT {names}, {sums} FROM {part} WHERE bucket >= {first:d} AND bucket < {last:d}{of} GROUP BY {names}"  # noqa: S608 - as above
        for part, first, last in parts_of(table, since, until, by_days=width % DAY_S == 0)
    )


def _start(bucket: int, width: int) -> int:
    after = _MONDAY_S if width == _WEEK_S else 0
    return (bucket - after) // width * width + after


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _summed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"CAST(sum({name}) AS {kind}) AS {name}" for name, kind in columns.items())


def _of(policy: str | None) -> tuple[str, dict[str, str]]:
    return ("", {}) if policy is None else (" AND policy = :policy", {"policy": policy})
