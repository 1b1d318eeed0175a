"""What entries add up to: the writer adds them to each batch, `verifying` adds them up again and compares.

A step counts in the quarter of an hour of its own entry, a request in that of its outcome's. `workflow` and `key` are the
caller's, from the metadata; a request has escalated where more than one rung was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cascade.ledger.records import (
    BUCKET_S,
    DAY_S,
    NO_SLOT,
    Batch,
    OpenBody,
    OpenCall,
    OutcomeBody,
    RequestBody,
    SpendKey,
    StepBody,
    TrafficKey,
)

__all__ = ["add_open", "add_outcome", "add_step", "bucket_of", "by_days", "parts_of", "settle_open"]

_Key = TypeVar("_Key", SpendKey, TrafficKey)

# For every step, in a quarter of the time that a named tuple's own takes.
_make: Callable[..., Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

_COMPARED = ("cascade", "holdout")  # the arms that a saving is measured between


def bucket_of(at: float) -> int:
    """The quarter of an hour (its first Unix second) that a time falls into."""
    return int(at // BUCKET_S) * BUCKET_S


def add_step(batch: Batch, at: float, asked: RequestBody, step: StepBody) -> None:
    """Count a step. `at`: its entry's."""
    metadata = asked.metadata
    key = _make(SpendKey, (
        bucket_of(at), asked.policy, asked.task, metadata.get("workflow", ""), metadata.get("key", ""), asked.arm, step.rung,
        step.model,
    ))  # fmt: skip
    sums = batch.spend.get(key)
    if sums is None:
        sums = batch.spend[key] = [0, 0, 0, 0, 0, 0]
    sums[0] += 1
    sums[1] += step.reason is not None
    sums[2] += step.cost
    sums[3] += step.input_tokens + step.cache_write_5m + step.cache_write_1h + step.cache_read
    sums[4] += step.output_tokens
    sums[5] += step.reason == "error"


def add_open(batch: Batch, at: float, asked: RequestBody, request: str, call: OpenBody) -> None:
    """Count a call that is about to be made. `at`: its entry's."""
    metadata = asked.metadata
    batch.opened[request, call.index] = OpenCall(
        request, call.index, at, asked.policy, asked.task, metadata.get("workflow", ""), metadata.get("key", ""),
        asked.arm, call.bound,
    )  # fmt: skip


def settle_open(batch: Batch, request: str, step: int) -> None:
    """A call that was announced has its step."""
    if batch.opened.pop((request, step), None) is None:
        batch.settled.append((request, step))


def add_outcome(batch: Batch, at: float, asked: RequestBody, outcome: OutcomeBody) -> None:
    """Count a request that is over. `at`: its outcome's entry's.

    Once by all that it is summed up by but its slot; and, where a saving may be measured on it, once by its slot alone:
    by both at once nearly every request would be a row of its own.
    """
    bucket = bucket_of(at)
    _count(batch, outcome, _make(TrafficKey, (
        bucket, asked.policy, asked.task, asked.metadata.get("workflow", ""), outcome.arm, outcome.rung or "", NO_SLOT
    )))  # fmt: skip
    if outcome.arm in _COMPARED and outcome.slot != NO_SLOT:
        _count(batch, outcome, _make(TrafficKey, (bucket, asked.policy, "", "", outcome.arm, "", outcome.slot)))


def _count(batch: Batch, outcome: OutcomeBody, key: TrafficKey) -> None:
    sums = batch.traffic.get(key)
    if sums is None:
        sums = batch.traffic[key] = [0, 0, 0, 0, 0, 0.0, 0, 0]
    sums[0] += 1
    sums[1] += outcome.rung is not None
    sums[2] += outcome.resolved
    sums[3] += outcome.steps > 1
    sums[4] += outcome.cost
    sums[5] += float(outcome.cost) ** 2
    if outcome.estimate is not None:
        sums[6] += outcome.estimate
        sums[7] += 1


def by_days(sums: Mapping[_Key, Sequence[float]]) -> dict[_Key, list[float]]:
    """The same, by days (UTC): what a long period is read from."""
    found: dict[_Key, list[float]] = {}
    for key, added in sums.items():
        day = key._replace(bucket=key.bucket // DAY_S * DAY_S)
        held = found.get(day)
        found[day] = list(added) if held is None else [one + more for one, more in zip(held, added, strict=True)]
    return found


def parts_of(table: str, since: int, until: int, *, by_days: bool) -> tuple[tuple[str, int, int], ...]:
    """Which tables hold the sums of [since, until): the whole days from the days', what is before and after from the quarters'."""
    first, last = -(-since // DAY_S) * DAY_S, until // DAY_S * DAY_S
    if not by_days or first >= last:
        return ((table, since, until),)
    return (table, since, first), (f"{table}_days", first, last), (table, last, until)
