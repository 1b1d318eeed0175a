"""Hand-overs → a batch: bodies are encoded, texts redacted and digested, entries chained, sums added up. The writer's thread's work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cascade.core.trail import Step
from cascade.hooks import Calling
from cascade.ledger import prompts, sums
from cascade.ledger.chain import content_digest, link, start
from cascade.ledger.hook import Asked, Ending, HandOver
from cascade.ledger.records import (
    NO_SLOT,
    Batch,
    Content,
    Kind,
    OpenBody,
    OutcomeBody,
    RequestBody,
    Row,
    StepBody,
)

__all__ = ["Composer"]

_SALT_BYTES = 16
_encode = msgspec.json.Encoder().encode


class Composer:
    """One writer's chain as it grows. `tell(event, **details)` is called once, for the first text that cannot be redacted."""

    __slots__ = ("_head", "_open", "_seq", "_tell", "withheld")

    def __init__(self, writer: str, tell: Callable[..., None]) -> None:
        self._tell = tell
        self.withheld = 0
        """Texts that were not stored, because `redact` failed on them."""
        self.begin(writer)

    def begin(self, writer: str) -> None:
        """Begin another chain."""
        self._head, self._seq = start(writer), 0
        self._open: set[tuple[str, int]] = set()  # calls that were announced and have no step yet

    def compose(self, taken: deque[HandOver], most: int) -> tuple[Batch, list[HandOver], list[HandOver]]:
        """A batch of the first hand-overs: at least one, and no more after `most` entries.

        Returns it, all of them, and those of them that cannot be written: told, and `lost`. Nothing is taken away, and what
        interrupts it (it raises nothing itself) leaves the chain where it was.
        """
        before = self._head, self._seq, self._open.copy()
        try:
            return self._compose(taken, most)
        except BaseException:
            self._head, self._seq, self._open = before
            raise

    def _compose(self, taken: Iterable[HandOver], most: int) -> tuple[Batch, list[HandOver], list[HandOver]]:
        batch, told, unwritable = Batch(), list[HandOver](), list[HandOver]()
        for one in taken:
            if len(batch.entries) >= most:
                break
            told.append(one)
            try:
                self.add(batch, one)
            except Exception as problem:  # noqa: BLE001 - one request's values must not stop all others'
                one.asked.lost = True
                unwritable.append(one)
                self._tell("ledger_row_unwritable", error=type(problem).__name__, request=one.asked.begun.request.id)
        return batch, told, unwritable

    def add(self, batch: Batch, one: HandOver) -> None:
        """Put a hand-over at the end of the batch: all of it, or (where this raises) nothing."""
        asked, at = one.asked, one.at
        contents: list[Content] = []
        body: RequestBody | None = asked.memo
        if one.first or body is None:  # the first is made anew where it was interrupted: its texts belong to this batch
            body = asked.memo = self._request(asked, contents if one.first else [])
        request, seq, head = _clean(asked.begun.request.id), self._seq, self._head
        rows: list[Row] = []

        def chained(when: float, kind: Kind, written: bytes) -> None:
            nonlocal seq, head
            seq += 1
            head = link(head, seq, when, kind, request, written)
            rows.append((seq, when, kind, request, written, head))

        if one.first:
            chained(asked.begun.at, "request", _bytes(body))
        steps = [self._step(asked, step, at, contents) for step in one.steps]
        for step in steps:
            chained(at, "step", _bytes(step))
        call = _open(one.call) if one.call is not None else None
        if call is not None:
            chained(at, "open", _bytes(call))
        outcome = _outcome(asked, one.ending) if one.ending is not None else None
        if outcome is not None:
            chained(at, "outcome", _bytes(outcome))
        # Nothing fails from here on.
        batch.entries.extend(rows)
        self._seq, self._head = seq, head
        if contents:
            batch.contents.extend(contents)
        for step in steps:
            sums.add_step(batch, at, body, step)
        if outcome is not None:
            sums.add_outcome(batch, at, body, outcome)
        self._note_calls(batch, one, body, request, call)

    def _note_calls(self, batch: Batch, one: HandOver, body: RequestBody, request: str, call: OpenBody | None) -> None:
        if self._open:
            self._settle(batch, one, request)
        if call is not None:
            self._open.add((request, call.index))
            sums.add_open(batch, one.at, body, request, call)

    def _settle(self, batch: Batch, one: HandOver, request: str) -> None:
        """Calls that were announced have their steps; or never will, where the request was cut off."""
        for step in one.steps:
            if (request, step.index) in self._open:
                self._open.remove((request, step.index))
                sums.settle_open(batch, request, step.index)
        if one.ending is not None:
            self._open -= {(request, index) for index in range(len(one.asked.begun.plan.policy.ladder))}

    def _request(self, asked: Asked, contents: list[Content]) -> RequestBody:
        begun = asked.begun
        policy, document = begun.plan.policy, prompts.canonical(*asked.prompt)
        kept: dict[str, str] = {}
        if asked.content:
            digest = self._keep(asked, "prompt", begun.at, document, contents)
            kept = {"prompt": digest} if digest is not None else {}
        return RequestBody(
            policy=policy.name,
            policy_hash=policy.hash,
            prompt_hash=prompts.prompt_hash(document),
            task=_clean(begun.task),
            arm=begun.arm,
            metadata=_names(asked.metadata),
            flags=sorted(map(_clean, begun.request.flags)) if begun.request.flags else [],
            content=kept,
            observed_as=begun.observed_as,
        )

    def _step(self, asked: Asked, step: Step, at: float, contents: list[Content]) -> StepBody:
        verdict, usage, kept = step.verdict, step.usage, None
        if asked.content and verdict.text is not None:
            kept = self._keep(asked, f"step:{step.index}", at, verdict.text, contents)
        return StepBody(  # by position: names would take twice as long, once for every step
            step.index, step.rung, step.model, verdict.kind, step.cost_nanousd,
            usage.input_tokens, usage.output_tokens, usage.cache_write_5m, usage.cache_write_1h, usage.cache_read,
            usage.thinking_tokens, verdict.confidence, verdict.source, verdict.self_reported, step.reason,
            list(verdict.failed_checks), verdict.detail, verdict.repaired, step.attempts, _ms(step.latency_s),
            step.request_id, kept, usage.is_estimate,
        )  # fmt: skip

    def _keep(self, asked: Asked, part: str, at: float, text: str | bytes, contents: list[Content]) -> str | None:
        """Keep a text; returns its digest, None where it must not be kept."""
        if asked.redact is not None:
            try:
                if isinstance(text, bytes):
                    system, messages = (prompts.redacted(one, asked.redact) for one in asked.prompt)
                    text = prompts.canonical(system, messages)
                else:
                    text = prompts.redacted(text, asked.redact)
            except Exception as problem:  # noqa: BLE001 - a user's function: what it could not read must not be stored
                self.withheld += 1
                if self.withheld == 1:
                    self._tell(
                        "ledger_redact_failed",
                        policy=asked.begun.plan.policy.name,
                        error=type(problem).__name__,
                        hint="texts that `redact` fails on are not stored: fix the function",
                    )
                return None
        plain = text.decode() if isinstance(text, bytes) else _clean(text)
        salt = os.urandom(_SALT_BYTES)
        contents.append(Content(_clean(asked.begun.request.id), part, at, salt, plain))
        return content_digest(salt, plain)


def _open(call: Calling) -> OpenBody:
    return OpenBody(call.index, call.rung.rung, call.rung.model, call.bound)


def _outcome(asked: Asked, ending: Ending) -> OutcomeBody:
    begun, answer = asked.begun, ending.answer
    cost = sum(step.cost_nanousd for step in ending.steps)
    latency_ms = _ms(ending.latency_s)
    if answer is None:
        return OutcomeBody(
            begun.arm,
            cost,
            len(ending.steps),
            latency_ms,
            error=ending.error,
            estimate=ending.estimate,
            slot=begun.slot if ending.steps else NO_SLOT,  # nothing was asked: that is no saving
        )
    return OutcomeBody(  # by position, as above
        answer.arm, cost, len(ending.steps), latency_ms, answer.rung, answer.model, answer.confidence,
        answer.confidence_source, answer.degraded, answer.abstained, None,
        answer.text is not None and answer.degraded is None, answer.certificate, ending.estimate, begun.slot,
    )  # fmt: skip


def _ms(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3


def _clean(text: str) -> str:
    """The text without what a database refuses: half surrogate pairs, and NUL."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _names(metadata: dict[str, str]) -> dict[str, str]:
    """The caller's names and values as texts that can be stored."""
    try:
        together = "".join((*metadata, *metadata.values()))
    except TypeError:  # not all of them are texts
        together = "\0"
    if together.isascii() and "\0" not in together:
        return metadata
    return {_clean(str(name)): _clean(str(value)) for name, value in metadata.items()}


def _bytes(body: msgspec.Struct) -> bytes:
    try:
        return _encode(body)
    except UnicodeEncodeError:  # half a surrogate pair, in a name of the caller's or of the endpoint's
        return _encode(_cleaned(msgspec.to_builtins(body)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _cleaned(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
