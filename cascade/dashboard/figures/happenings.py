"""Storms and events, from the marks of the ledger and of the audit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from cascade.costs import Period
from cascade.dashboard.values import Episode, Event
from cascade.ledger.marks import HappenedMark, read_marks
from cascade.ledger.stores import Reader

__all__ = ["MOST_EVENTS", "episodes_of", "read_episodes", "read_events"]

MOST_EVENTS: Final = 50

_STORMS: Final = (
    "storm_tripped",
    "storm_released",
    "storm_limit_wrong",
    "errors_tripped",
    "errors_released",
    "errors_continue",
)
_BEGINS, _ENDS = ("storm_tripped", "errors_tripped"), ("storm_released", "errors_released")
_FORGOTTEN_S: Final = 24 * 3600.0
"""A guard in memory ends with its process, without a word: so long after its last mark, an episode counts as over."""
_BACK_S: Final = 30 * 24 * 3600.0  # before a period, for the episodes that were going on at its start


def read_episodes(reader: Reader, period: Period, now: float, policy: str | None) -> tuple[Episode, ...]:
    """The storms, and outages of a rung, that fall into the period, oldest first. Raises LedgerDown."""
    marks = read_marks(reader, period.since - _BACK_S, period.until, _STORMS)
    return tuple(
        one
        for one in episodes_of((mark for mark in marks if policy in (None, mark.policy)), min(now, float(period.until)))
        if one.until is None or one.until >= period.since
    )


def episodes_of(marks: Iterable[HappenedMark], now: float) -> tuple[Episode, ...]:
    """Episodes from marks, oldest first. `now`: until when the marks are known."""
    running: dict[tuple[str, str, str, str], tuple[Episode, float]] = {}
    found: list[Episode] = []
    for mark in marks:
        what = mark.kind.partition("_")[0]
        task, rung = str(mark.details.get("task", "")), str(mark.details.get("rung", ""))
        key = (mark.policy, what, task, rung)
        held = running.get(key)
        if mark.kind in _BEGINS:
            if held is not None and mark.at - held[1] < _FORGOTTEN_S:
                running[key] = held[0], mark.at  # another process's guard tripped too: one episode
                continue
            if held is not None:
                found.append(replace(held[0], until=held[1]))
            running[key] = _episode(mark, "storm" if what == "storm" else "errors", task, rung), mark.at
        elif held is not None and mark.kind in _ENDS:
            found.append(replace(held[0], until=mark.at))
            del running[key]
        elif held is not None:
            running[key] = replace(held[0], limit_wrong=what == "storm"), mark.at
    for episode, last in running.values():
        found.append(episode if now - last < _FORGOTTEN_S else replace(episode, until=last))
    return tuple(sorted(found, key=lambda one: (one.since, one.task, one.rung)))


def _episode(mark: HappenedMark, what: Any, task: str, rung: str) -> Episode:
    rate, limit = float(mark.details.get("rate", 0.0)), float(mark.details.get("limit", 0.0))
    action = str(mark.details.get("action", "alert"))
    return Episode(task, rung, mark.at, None, rate, limit, action, mark.policy, what=what)


def read_events(reader: Reader, period: Period, policy: str | None) -> tuple[Event, ...]:
    """What happened in the period, newest first, at most `MOST_EVENTS`. Raises LedgerDown."""
    marks = [mark for mark in read_marks(reader, period.since, period.until) if policy in (None, mark.policy)]
    events = [Event(mark.at, mark.kind, mark.policy, _text(mark)) for mark in marks]
    events += _audit_events(reader, period, policy)
    return tuple(sorted(events, key=lambda event: -event.at)[:MOST_EVENTS])


def _audit_events(reader: Reader, period: Period, policy: str | None) -> Iterator[Event]:
    """Alarms, ratchet steps and resets. An alarm that several workers put on record is one: the first."""
    question = "SELECT at, policy, kind, details FROM audit_marks WHERE at >= :since AND at < :until ORDER BY id DESC LIMIT 500"
    told: set[tuple[str, object, object]] = set()
    rows: Sequence[Any] = [*reader.select(question, {"since": float(period.since), "until": float(period.until)})]
    for at, name, kind, written in reversed(rows):
        details: dict[str, Any] = json.loads(written)
        alarm = (name, details.get("epoch"), details.get("task"))
        if policy not in (None, name) or (kind == "alarm" and alarm in told):
            continue
        if kind == "alarm":
            told.add(alarm)
        yield Event(at, f"audit_{kind}", name, _audit_text(name, kind, details))


def _audit_text(policy: str, kind: str, details: dict[str, Any]) -> str:
    if kind == "alarm":
        whose = f"task {details['task']} of {policy}" if details.get("task") else policy
        return (
            f"{whose}: the audit finds more wrong answers than {details.get('alpha') or 0:.3g}:"
            f" {details.get('losses')} of {details.get('results')} results"
        )
    if kind == "step":
        return f"{policy}: the audit has ratcheted the thresholds, step {details.get('step')} of {details.get('steps')}"
    return f"{policy}: the audit was reset"


def _text(mark: HappenedMark) -> str:
    said, details = mark.details.get("text"), mark.details
    if isinstance(said, str):
        return said
    rung, rate, limit = details.get("rung", ""), float(details.get("rate", 0.0)), float(details.get("limit", 0.0))
    whose = (
        f"{mark.policy}: {rung}"
        if mark.kind.startswith("errors")
        else f"{mark.policy}, task {details.get('task', '')}: {rung}"
    )
    counted = f"{rate:.0%} of the last {details.get('samples', 0)} requests"
    match mark.kind:
        case "storm_tripped":
            return f"{whose}: {counted} escalated, over the limit of {limit:.0%}; the storm guard acts ({details.get('action', 'alert')})"
        case "storm_released":
            return f"{whose}: the storm is over, {counted} escalated"
        case "storm_limit_wrong":
            return f"{whose}: {counted} escalated for so long that the limit of {limit:.0%} is wrong for this task; the guard only alerts"
        case "errors_tripped":
            return f"{whose}: {counted} failed, over the limit of {limit:.0%}; requests climb and cost more"
        case "errors_released":
            return f"{whose}: it answers again, {counted} failed"
        case _:
            return f"{whose}: {counted} still fail"
