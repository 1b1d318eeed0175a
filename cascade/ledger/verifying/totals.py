"""Compares the stored sums with those of the entries: per quarter of an hour, per day, and for buckets without any entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cascade.ledger.records import BUCKET_S, NO_SLOT, Batch, SpendKey, TrafficKey
from cascade.ledger.stores import Reader
from cascade.ledger.utc_months import moment_text

__all__ = ["compare"]

_SPEND = ("steps", "escalated", "cost", "input", "output", "errors")
_TRAFFIC = ("requests", "answers", "resolved", "escalated", "cost", "cost_squared", "estimate", "estimated")
_ALL = 1 << 40  # Unix seconds: later than any entry

_Ask = Callable[..., Iterator[tuple[Any, ...]]]
_Labels = tuple[Any, ...]
_Table = dict[_Labels, Sequence[float]]


def compare(reader: Reader, added: Batch, since: int = 0) -> Iterator[str]:
    """The differences between the stored sums and those in `added`, one line each.

    `since`: the beginning of a day (Unix seconds); what was before it has no entries any more, and is not compared.
    """
    yield from _compare(
        "steps", reader.spend, {at: one for at, one in added.spend.items() if at.bucket >= since}, _SPEND, since
    )
    yield from _compare(
        "requests",
        reader.traffic,
        {at: one for at, one in added.traffic.items() if at.bucket >= since},
        _TRAFFIC,
        since,
    )


def _compare(
    what: str,
    ask: _Ask,
    added: Mapping[SpendKey, Sequence[float]] | Mapping[TrafficKey, Sequence[float]],
    names: Sequence[str],
    since: int,
) -> Iterator[str]:
    by_bucket: dict[int, _Table] = {}
    for key, sums in added.items():
        bucket, *labels = key
        by_bucket.setdefault(bucket, {})[tuple(labels)] = sums
    checked: _Table = {}
    for bucket in sorted(by_bucket):
        on_record = _table(ask(bucket, bucket + BUCKET_S, by_days=False), len(names))
        for labels, sums in on_record.items():
            before = checked.get(labels, (0,) * len(names))
            checked[labels] = [one + other for one, other in zip(before, sums, strict=True)]
        plain = {labels[1:]: sums for labels, sums in on_record.items()}  # without the day
        when = moment_text(bucket, "%Y-%m-%d %H:%M")
        yield from _differences(f"{what} of {when} UTC", names, plain, by_bucket[bucket])
    # Per day, to find sums of hours that have no entries.
    by_quarters = _table(ask(since, _ALL, by_days=False), len(names))
    for labels, sums in sorted(by_quarters.items()):
        day = moment_text(labels[0] * 86_400, "%Y-%m-%d")
        expected = checked.get(labels, (0,) * len(names))
        yield from _differences(f"{what} of {day} UTC", names, {labels[1:]: sums}, {labels[1:]: expected})
    yield from _differences(f"{what} by days", names, _table(ask(since, _ALL), len(names)), by_quarters)


def _table(rows: Iterator[tuple[Any, ...]], sums: int) -> _Table:
    return {row[:-sums]: row[-sums:] for row in rows}


def _differences(what: str, names: Sequence[str], on_record: _Table, expected: _Table) -> Iterator[str]:
    nothing = (0,) * len(names)
    for labels in sorted(on_record.keys() | expected.keys()):
        pairs = zip(names, on_record.get(labels, nothing), expected.get(labels, nothing), strict=True)
        wrong = [f"{name} {one}, not {other}" for name, one, other in pairs if not _same(one, other)]
        if wrong:
            label = "/".join(str(label) for label in labels if label not in ("", NO_SLOT))
            yield f"the sums of {what}, {label}: {', '.join(wrong)}"


def _same(one: float, other: float) -> bool:
    # Squares are floats, added in any order; everything else is an integer.
    return one == other or (isinstance(one, float) and math.isclose(one, other, rel_tol=1e-9))
