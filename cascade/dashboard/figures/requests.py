"""Requests with their trails: the last ones, and one by its id."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.costs import Period
from cascade.dashboard.values import LargeRequest, OpenCallRow, RequestRow, StepRow
from cascade.ledger.naming import text_part
from cascade.ledger.records import StepBody
from cascade.ledger.requests import RequestRecord
from cascade.ledger.stores import Reader
from cascade.ledger.trails import asked_of

__all__ = ["large_requests", "request_row"]

_LOOKED_AT = 200  # of the large requests, to find those of one policy


def request_row(record: RequestRecord, texts: Mapping[str, str] | None = None) -> RequestRow:
    """A request as it is shown. `texts`: its stored texts, by part; None: they were not read."""
    asked, outcome = record.request, record.outcome
    steps = tuple(_step(at, step, texts or {}) for at, step in record.steps)
    latency = outcome.latency_ms if outcome is not None else sum(step.latency_ms for step in steps)
    return RequestRow(
        request=record.id, at=record.at, policy=asked.policy, task=asked.task, workflow=asked.metadata.get("workflow", ""),
        arm=asked.arm if outcome is None else outcome.arm, steps=steps, ended=outcome is not None,
        rung=outcome.rung if outcome is not None else None,
        degraded=outcome.degraded if outcome is not None else None,
        error=outcome.error if outcome is not None else None,
        cost=outcome.cost if outcome is not None else sum(step.cost for step in steps),
        latency_ms=latency,
        prompt=None if texts is None else texts.get("prompt"),
        answer=None if texts is None else _answer(record, texts),
        model=outcome.model if outcome is not None else None,
        abstained=outcome.abstained if outcome is not None else None,
        confidence=outcome.confidence if outcome is not None else None,
        estimate=outcome.estimate if outcome is not None else None,
        cache=outcome.cache if outcome is not None else None,
        certificate=outcome.certificate if outcome is not None else "",
        observed_as=asked.observed_as,
        texts_removed=texts is not None and bool(asked.content) and "prompt" not in texts,
        open_calls=tuple(OpenCallRow(call.rung, call.model, call.bound) for call in record.open_calls.values()),
    )  # fmt: skip


def _step(at: float, step: StepBody, texts: Mapping[str, str]) -> StepRow:
    prompt = step.input_tokens + step.cache_write_5m + step.cache_write_1h + step.cache_read
    return StepRow(
        step.rung, step.model, step.verdict, step.confidence, step.reason, step.cost, step.latency_ms, at, _role(step), prompt,
        step.output_tokens, step.detail, tuple(step.failed_checks), texts.get(step.part),
    )  # fmt: skip


def _role(step: StepBody) -> str:
    if step.review:
        return "review"
    if step.auxiliary is not None:
        return step.auxiliary
    if step.judge:
        return "judge"
    return "rung" if step.sample is None else "sample"


def _answer(record: RequestRecord, texts: Mapping[str, str]) -> str | None:
    """The text of the step that was shipped: the last of the rung that answered. Of a vote, the first of those that agree."""
    if record.outcome is None or record.outcome.rung is None:
        return None
    for _, step in reversed(record.steps):
        if step.rung == record.outcome.rung and not step.review and step.auxiliary is None and not step.more:
            if step.vote is not None and step.vote.members:
                return texts.get(text_part(step.index, step.vote.members[0]))
            return texts.get(step.part)
    return None


def large_requests(
    reader: Reader, period: Period, above: int | None, most: int, policy: str | None
) -> tuple[LargeRequest, ...]:
    """The dearest requests that cost more than `above` nano-USD (None: any), of one policy or of all. Raises LedgerDown."""
    found = reader.large(
        0 if above is None else above, period.since, period.until, most if policy is None else _LOOKED_AT
    )
    asked = asked_of(reader, [request for request, _ in found])
    rows: list[LargeRequest] = []
    for request, cost in found:
        at, body = asked.get(request, (0.0, None))
        if policy is None or (body is not None and body.policy == policy):
            own = ("", "", "") if body is None else (body.policy, body.task, body.metadata.get("workflow", ""))
            rows.append(LargeRequest(request, cost, at, *own))
    return tuple(rows[:most])
