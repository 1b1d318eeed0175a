"""Sums of entries: the writer adds them to each batch; `verifying.totals` computes them again and compares.

A step counts in the quarter of an hour of its own entry, a request in that of its outcome's entry. Of a rung that is asked more than
once, every call's cost and tokens count by its own model, and the step once, with its last call. A review is no step: it is counted by
itself, under `REVIEW_BY` and its rung. `workflow` and `key` come from the caller's metadata. A request has escalated if more than one
rung was called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cascade.ledger.records import (
    BUCKET_S,
    DAY_S,
    MISSED_SLOT,
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

# Runs for every step; four times as fast as the named tuple's own constructor.
_make: Callable[..., Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

_COMPARED = ("cascade", "holdout")  # the arms between which a saving is measured


def bucket_of(at: float) -> int:
    """The start (Unix seconds) of the quarter of an hour that contains a time."""
    return int(at // BUCKET_S) * BUCKET_S


def add_step(batch: Batch, at: float, request: RequestBody, step: StepBody) -> None:
    """Count a step, or one call of it. `at`: its entry's time."""
    metadata = request.metadata
    key = _make(SpendKey, (
        bucket_of(at), request.policy, request.task, metadata.get("workflow", ""), metadata.get("key", ""), request.arm,
        step.summed_as, step.model,
    ))  # fmt: skip
    sums = batch.spend.get(key)
    if sums is None:
        sums = batch.spend[key] = [0, 0, 0, 0, 0, 0]
    sums[0] += step.review or step.auxiliary is not None or not step.more
    sums[1] += step.reason is not None
    sums[2] += step.cost
    sums[3] += step.input_tokens + step.cache_write_5m + step.cache_write_1h + step.cache_read
    sums[4] += step.output_tokens
    sums[5] += step.reason == "error"


def add_open(batch: Batch, at: float, request: RequestBody, request_id: str, call: OpenBody) -> None:
    """Count a call that is about to be made. `at`: its entry's time."""
    metadata = request.metadata
    number = call.number
    batch.opened[request_id, number] = OpenCall(
        request_id, number, at, request.policy, request.task, metadata.get("workflow", ""), metadata.get("key", ""),
        request.arm, call.bound,
    )  # fmt: skip


def settle_open(batch: Batch, request_id: str, number: int) -> None:
    """An announced call has its step now. `number`: its `call_number`."""
    if batch.opened.pop((request_id, number), None) is None:
        batch.settled.append((request_id, number))


def add_outcome(batch: Batch, at: float, request: RequestBody, outcome: OutcomeBody) -> None:
    """Count a request that ended. `at`: its outcome's entry's time.

    It is counted once by everything but its slot and, if a saving can be measured on it, again by its slot alone. By both
    together, nearly every request would be a row of its own. If the response cache was asked in vain, it is counted again as that.
    """
    bucket = bucket_of(at)
    _count(batch, outcome, _make(TrafficKey, (
        bucket, request.policy, request.task, request.metadata.get("workflow", ""), outcome.arm, outcome.rung or "", NO_SLOT
    )))  # fmt: skip
    if outcome.arm in _COMPARED and outcome.slot != NO_SLOT:
        _count(batch, outcome, _make(TrafficKey, (bucket, request.policy, "", "", outcome.arm, "", outcome.slot)))
    if outcome.cache == "miss":
        _count(batch, outcome, _make(TrafficKey, (bucket, request.policy, "", "", "cache", "", MISSED_SLOT)))


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
    """The same sums per day (UTC), for reading long periods."""
    found: dict[_Key, list[float]] = {}
    for key, added in sums.items():
        day = key._replace(bucket=key.bucket // DAY_S * DAY_S)
        held = found.get(day)
        found[day] = list(added) if held is None else [one + more for one, more in zip(held, added, strict=True)]
    return found


def parts_of(table: str, since: int, until: int, *, by_days: bool) -> tuple[tuple[str, int, int], ...]:
    """The tables to read for [since, until): daily sums for whole days, quarters of an hour before and after."""
    first, last = -(-since // DAY_S) * DAY_S, until // DAY_S * DAY_S
    if not by_days or first >= last:
        return ((table, since, until),)
    return (table, since, first), (f"{table}_days", first, last), (table, last, until)
