"""Pending entries → a batch: encodes bodies, redacts and digests texts, chains entries, adds up sums. Runs on the writing thread."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from cascade.core.bound_policy import BoundPolicy
from cascade.core.planning.reviewer import verdict_in
from cascade.core.step_calls import FIRST_AUXILIARY, bare_step, calls_of
from cascade.core.trail import Sample, Step
from cascade.hooks import Calling
from cascade.ledger import prompts, sums
from cascade.ledger.chain import content_digest, link, start
from cascade.ledger.hook import PendingEntries, RequestContext, RequestEnd, UnfinishedVote
from cascade.ledger.naming import handed_part, storable, text_part
from cascade.ledger.records import (
    ASKED_PART,
    NO_SLOT,
    AuditRow,
    Batch,
    Content,
    HandedBody,
    Kind,
    OpenBody,
    OutcomeBody,
    RequestBody,
    Row,
    StepBody,
    VoteBody,
)
from cascade.ledger.writing.request_parts import plan_body, prompts_in

__all__ = ["Encoder"]

_SALT_BYTES = 16
_encode = msgspec.json.Encoder().encode


class Encoder:
    """One writer's chain so far. `log(event, **details)` reports entries that cannot be written, and the first failure of `redact`."""

    __slots__ = ("_head", "_log", "_open", "_seq", "withheld")

    def __init__(self, writer: str, log: Callable[..., None]) -> None:
        self._log = log
        self.withheld = 0
        """Texts that were not stored because `redact` failed."""
        self.begin(writer)

    def begin(self, writer: str) -> None:
        """Begin another chain."""
        self._head, self._seq = start(writer), 0
        self._open: dict[str, frozenset[int]] = {}  # the numbers of each request's announced calls without a step

    def encode(
        self, taken: deque[PendingEntries], most: int
    ) -> tuple[Batch, list[PendingEntries], list[PendingEntries]]:
        """Encode the first of `taken`: at least one, and no more once the batch has `most` entries.

        Returns the batch, what was encoded, and the part of it that cannot be written (logged, and marked `lost`). `taken` is
        unchanged, and an interruption (nothing is raised here) leaves the chain where it was.
        """
        before = self._head, self._seq, self._open.copy()
        try:
            return self._encode_all(taken, most)
        except BaseException:
            self._head, self._seq, self._open = before
            raise

    def _encode_all(
        self, taken: Iterable[PendingEntries], most: int
    ) -> tuple[Batch, list[PendingEntries], list[PendingEntries]]:
        batch, included, unwritable = Batch(), list[PendingEntries](), list[PendingEntries]()
        for one in taken:
            if len(batch.entries) >= most:
                break
            included.append(one)
            try:
                self.add(batch, one)
            except Exception as problem:  # noqa: BLE001 - one request's values must not stop the others
                one.context.lost = True
                unwritable.append(one)
                self._log("ledger_row_unwritable", error=type(problem).__name__, request=one.context.begun.request.id)
        return batch, included, unwritable

    def add(self, batch: Batch, one: PendingEntries) -> None:
        """Append pending entries to the batch: all of them, or none if this raises."""
        context, at = one.context, one.at
        contents: list[Content] = []
        body: RequestBody | None = context.body
        if one.first or body is None:  # encoded again after an interruption: its texts belong to this batch
            body = context.body = self._request(context, contents if one.first else [])
        request, seq, head = storable(context.begun.request.id), self._seq, self._head
        rows: list[Row] = []

        def append(when: float, kind: Kind, written: bytes) -> None:
            nonlocal seq, head
            seq += 1
            head = link(head, seq, when, kind, request, written)
            rows.append((seq, when, kind, request, written, head))

        if one.first:
            append(context.begun.at, "request", _bytes(body))
        steps = list(self._calls(one, contents))
        for step in steps:
            append(at, "step", _bytes(step))
        call = _open(one.call, context.begun.plan) if one.call is not None else None
        if call is not None:
            append(at, "open", _bytes(call))
        outcome = self._outcome(one, one.end, body, contents) if one.end is not None else None
        if outcome is not None:
            append(at, "outcome", _bytes(outcome))
        # Nothing fails from here on.
        batch.entries.extend(rows)
        self._seq, self._head = seq, head
        if contents:
            batch.contents.extend(contents)
        for step in steps:
            sums.add_step(batch, at, body, step)
        if outcome is not None:
            _add_outcome(batch, one, body, outcome)
        self._note_calls(batch, one, body, steps, call)

    def _note_calls(
        self, batch: Batch, one: PendingEntries, body: RequestBody, steps: list[StepBody], call: OpenBody | None
    ) -> None:
        """Calls that were announced have their results; or never will, where the request was cut off."""
        if not self._open and call is None:
            return
        request = storable(one.context.begun.request.id)
        numbers = self._open.pop(request, frozenset[int]())
        for step in steps:
            if step.number in numbers:
                numbers -= {step.number}
                sums.settle_open(batch, request, step.number)
        if call is not None:
            numbers |= {call.number}
            sums.add_open(batch, one.at, body, request, call)
        if numbers and one.end is None:
            self._open[request] = numbers

    def _request(self, context: RequestContext, contents: list[Content]) -> RequestBody:
        begun = context.begun
        policy, document = begun.plan.policy, prompts.canonical(*context.prompt)
        digests: dict[str, str] = {}
        if context.content:
            digest = self._keep(context, "prompt", begun.at, document, contents)
            digests = {"prompt": digest} if digest is not None else {}
        return RequestBody(
            policy=policy.name,
            policy_hash=policy.hash,
            prompt_hash=prompts.prompt_hash(document),
            task=storable(begun.task),
            arm=begun.arm,
            metadata=_names(context.metadata),
            flags=sorted(map(storable, begun.request.flags)) if begun.request.flags else [],
            content=digests,
            observed_as=begun.observed_as,
            prompts=prompts_in(begun),
            plan=plan_body(begun.part),
        )

    def _calls(self, one: PendingEntries, contents: list[Content]) -> Iterator[StepBody]:
        """The results of the steps' calls, and of those of a step that goes on."""
        passed, passed_beside = one.passed, one.passed_beside
        for step in one.steps:
            if step.samples:
                vote = UnfinishedVote(step.index, passed, step.samples[passed:])
                yield from self._samples(one, vote, contents, step)
            else:
                digest = self._text(one, text_part(step.index), step.verdict.text, contents)
                fields = _call_fields(bare_step(step), step.index, step.rung, step.reason, digest)
                yield StepBody(*fields, **self._further(one, step, contents))
            passed = 0
            if step.review is not None and not step.review.refused:
                own = len(step.samples) or 1
                yield self._beside(one, step.index, calls_of(step)[own], own, contents)
            for place, call in enumerate(step.auxiliaries[passed_beside:], FIRST_AUXILIARY + passed_beside):
                yield self._beside(one, step.index, call, place, contents)
            passed_beside = 0
        if one.unfinished is not None:
            yield from self._samples(one, one.unfinished, contents, None)
        if one.beside is not None:
            for place, call in enumerate(one.beside.calls, FIRST_AUXILIARY + one.beside.first):
                yield self._beside(one, one.beside.index, call, place, contents)

    def _samples(
        self, one: PendingEntries, vote: UnfinishedVote, contents: list[Content], step: Step | None
    ) -> Iterator[StepBody]:
        """The results of some calls of a vote. `step`: what became of it, if the last of them was its last."""
        rung, last = one.context.begun.plan.policy.ladder[vote.index].rung, vote.first + len(vote.calls) - 1
        for call, sample in enumerate(vote.calls, vote.first):
            done = step if call == last else None
            digest = self._text(one, text_part(vote.index, call), sample.verdict.text, contents)
            yield StepBody(
                *_call_fields(sample, vote.index, rung, None if done is None else done.reason, digest),
                call=call,
                sample=None if sample.is_judge else sample.number,
                variant=None if sample.is_judge else sample.variant,
                judge=sample.is_judge,
                more=done is None,
                vote=None if done is None else _vote(done),
                **({} if done is None else self._further(one, done, contents)),
            )

    def _beside(
        self, one: PendingEntries, index: int, call: Step | Sample, number: int, contents: list[Content]
    ) -> StepBody:
        """A call beside the rung's own: the review, whose text is the reviewer's reason, or an auxiliary one. `number`: its place."""
        assert isinstance(call, Sample), "only the rung's own call is a step"
        rung = one.context.begun.plan.policy.ladder[index].rung
        digest = self._text(one, text_part(index, number), call.verdict.text, contents)
        fields = _call_fields(call, index, rung, None, digest)
        return StepBody(
            *fields, call=number, variant=call.variant, more=True, review=call.is_review, auxiliary=call.auxiliary
        )

    def _further(self, one: PendingEntries, step: Step, contents: list[Content]) -> dict[str, Any]:
        """The fields of the entry that completes a step which few steps have: how its conversation was shortened, what passed between rungs."""
        if step.prepared is None and step.handed is None:
            return {}
        prepared = None if step.prepared is None else step.prepared.to_dict()
        return {"prepared": prepared, "handed": self._handed(one, step, contents)}

    def _handed(self, one: PendingEntries, step: Step, contents: list[Content]) -> HandedBody | None:
        """What passed between rungs at a step; its plan is stored where answers are."""
        handed = step.handed
        if handed is None:
            return None
        digest = None
        if one.context.content and handed.artifact is not None:
            digest = self._keep(one.context, handed_part(step.index), one.at, dict(handed.artifact), contents)
        return HandedBody(handed.kind, handed.version, handed.executed_by, handed.model, digest)

    def _text(self, one: PendingEntries, part: str, text: str | None, contents: list[Content]) -> str | None:
        """Add an answer's text to be stored, if the policy says so; returns its digest."""
        return (
            self._keep(one.context, part, one.at, text, contents) if one.context.content and text is not None else None
        )

    def _keep(
        self, context: RequestContext, part: str, at: float, text: str | bytes | dict[str, Any], contents: list[Content]
    ) -> str | None:
        """Add a text to be stored, or a plan, as JSON; returns its digest, or None if it must not be stored."""
        if context.redact is not None:
            try:
                if isinstance(text, bytes):
                    system, messages = (prompts.redacted(one, context.redact) for one in context.prompt)
                    text = prompts.canonical(system, messages)
                else:
                    text = prompts.redacted(text, context.redact)
            except Exception as problem:  # noqa: BLE001 - a user's function: what it failed on must not be stored
                self.withheld += 1
                if self.withheld == 1:
                    self._log(
                        "ledger_redact_failed",
                        policy=context.begun.plan.policy.name,
                        error=type(problem).__name__,
                        hint="texts that `redact` fails on are not stored: fix the function",
                    )
                return None
        if isinstance(text, dict):
            text = json.dumps(text, ensure_ascii=False)
        plain = text.decode() if isinstance(text, bytes) else storable(text)
        return _store(context, part, at, plain, contents)

    def _outcome(self, one: PendingEntries, end: RequestEnd, body: RequestBody, contents: list[Content]) -> OutcomeBody:
        """How the request ended. What was asked beside the prompt is stored where the prompt is."""
        asked = None
        if end.asked is not None and body.content:
            asked = _store(one.context, ASKED_PART, one.at, _bytes(end.asked).decode(), contents)
        return _outcome(one.context, end, asked)


def _store(context: RequestContext, part: str, at: float, plain: str, contents: list[Content]) -> str:
    salt = os.urandom(_SALT_BYTES)
    contents.append(Content(storable(context.begun.request.id), part, at, salt, plain))
    return content_digest(salt, plain)


def _call_fields(call: Step | Sample, index: int, rung: str, reason: str | None, digest: str | None) -> tuple[Any, ...]:
    """The fields of `StepBody` that every call has, in its order: keywords would take twice as long, for every step."""
    verdict, usage = call.verdict, call.usage
    return (
        index, rung, call.model, verdict.kind, call.cost_nanousd,
        usage.input_tokens, usage.output_tokens, usage.cache_write_5m, usage.cache_write_1h, usage.cache_read,
        usage.thinking_tokens, verdict.confidence, verdict.source, verdict.self_reported, reason,
        list(verdict.failed_checks), verdict.detail, verdict.repaired, call.attempts, _ms(call.latency_s),
        call.request_id, digest, usage.is_estimate,
    )  # fmt: skip


def _vote(step: Step) -> VoteBody | None:
    verdict, vote = step.verdict, step.verdict.vote
    if vote is None:
        return None
    return VoteBody(vote.agree, vote.most, vote.asked, list(vote.members), verdict.confidence, verdict.source)


def _open(call: Calling, plan: BoundPolicy) -> OpenBody:
    """The announcement. The judge of a vote is of the rung whose samples it groups, a review of the rung it reviews."""
    return OpenBody(call.index, plan.policy.ladder[call.index].rung, call.rung.model, call.bound, call.place)


def _add_outcome(batch: Batch, one: PendingEntries, body: RequestBody, outcome: OutcomeBody) -> None:
    """To the sums, and to what will be audited."""
    sums.add_outcome(batch, one.at, body, outcome)
    sampled = one.end.sampled if one.end is not None else None
    if sampled is None:
        return
    begun = one.context.begun
    ladder = begun.plan.policy.ladder
    place = next((place for place, rung in enumerate(ladder) if rung.rung == outcome.rung), -1)
    row = AuditRow(
        storable(begun.request.id), one.at, body.policy, sampled.epoch, body.task, body.metadata.get("workflow", ""),
        sampled.why, outcome.rung or "", place, int(place + 1 == len(ladder)), outcome.confidence, outcome.source,
        outcome.cost, outcome.estimate, _encode(body.flags).decode(), outcome.degraded, int(bool(body.content)),
        _executed_by(one.end),
    )  # fmt: skip
    batch.samples.append(row)


def _executed_by(end: RequestEnd | None) -> str:
    """The rung that answered by a plan of the one that answered; "" if none did."""
    shipped = end.answer.shipped if end is not None and end.answer is not None else None
    return (shipped.handed.executed_by or "") if shipped is not None and shipped.handed is not None else ""


def _outcome(context: RequestContext, end: RequestEnd, asked: str | None) -> OutcomeBody:
    begun, answer = context.begun, end.answer
    cost = sum(step.cost_nanousd for step in (*end.steps, *end.unfinished))
    latency_ms = _ms(end.latency_s)
    if answer is None:
        return OutcomeBody(
            begun.arm,
            cost,
            len(end.steps),
            latency_ms,
            error=end.error,
            estimate=end.estimate,
            slot=begun.slot if end.steps or end.unfinished else NO_SLOT,  # no call was made, so nothing was saved
            review="unusable" if begun.arm == "reviewer" else None,
        )
    return OutcomeBody(  # by position, as above
        answer.arm, cost, len(end.steps), latency_ms, answer.rung, answer.model, answer.confidence,
        answer.confidence_source, answer.degraded, answer.abstained, None,
        answer.text is not None and answer.degraded is None, answer.certificate, end.estimate, begun.slot, asked, answer.cache,
        answer.assessment.level if answer.assessment is not None else None,
        verdict_in(answer.data) if begun.arm == "reviewer" else None,
    )  # fmt: skip


def _ms(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3


def _names(metadata: dict[str, str]) -> dict[str, str]:
    """The caller's names and values as strings that can be stored."""
    try:
        together = "".join((*metadata, *metadata.values()))
    except TypeError:  # not all of them are strings
        together = "\0"
    if together.isascii() and "\0" not in together:
        return metadata
    return {storable(str(name)): storable(str(value)) for name, value in metadata.items()}


def _bytes(body: msgspec.Struct | dict[str, Any]) -> bytes:
    try:
        return _encode(body)
    except UnicodeEncodeError:  # an unpaired surrogate in a name from the caller or the endpoint
        return _encode(_cleaned(msgspec.to_builtins(body)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
