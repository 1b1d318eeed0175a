"""OpenTelemetry: a span for the climb, a child span for each call, and the two client metrics of the conventions.

    invoke_workflow                         the caller's current span is its parent
    ├── chat claude-haiku-5-5               cascade.reason: low_confidence
    └── chat claude-sonnet-5-5

A rung that is asked more than once has a span for each call; the last of them has the step's reason, and the vote.

Spans hold names, amounts and reasons. They hold no text of a prompt or an answer, and no error message, which may quote one.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra
from cascade.core.step_calls import FIRST_AUXILIARY, call_at
from cascade.core.trail import Sample, Step
from cascade.hooks import Begun, Calling, Ended, unfinished_calls
from cascade.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["OpenTelemetry"]

_FINISHED = {"max_tokens": "max_tokens", "context window": "model_context_window_exceeded"}

Attributes = dict[str, Any]


class OpenTelemetry:
    """A hook that makes spans and metrics: `Cascade(policy, hooks=[OpenTelemetry()])`.

    By default it uses the process's own providers; nothing is configured here. `wall`: Unix nanoseconds. Raises
    MissingExtra if opentelemetry-api is not installed.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        try:
            from opentelemetry import context, metrics, trace  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("OpenTelemetry", "otel") from None
        meter = metrics.get_meter("cascade", meter_provider=meter_provider)
        self._current = context.get_current
        self._instruments = _Instruments(
            trace.get_tracer("cascade", tracer_provider=tracer_provider),
            meter.create_histogram(
                names.DURATION,
                unit="s",
                description="GenAI operation duration.",
                explicit_bucket_boundaries_advisory=names.BUCKETS_S,
            ),
            meter.create_histogram(
                names.TOKEN_USAGE,
                unit="{token}",
                description="Number of input and output tokens used.",
                explicit_bucket_boundaries_advisory=names.BUCKETS_TOKENS,
            ),
            wall,
        )

    def begin(self, begun: Begun) -> _Climb:
        """Start the climb's span, as a child of the caller's current span."""
        return _Climb(self._instruments, begun, self._current())


@dataclass(frozen=True, slots=True)
class _Instruments:
    tracer: Tracer
    durations: Histogram
    tokens: Histogram
    wall: Callable[[], int]


class _Climb:
    """The spans of one request. Its context is never attached, so that concurrent requests cannot mix."""

    __slots__ = ("_calls", "_context", "_instruments", "_last", "_rungs", "_shared", "_span", "_started")

    def __init__(self, instruments: _Instruments, begun: Begun, parent: Context) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - an extra

        policy = begun.plan.policy
        self._instruments, self._started = instruments, instruments.wall()
        self._shared: Attributes = {names.PROVIDER: names.PROVIDER_NAME, names.POLICY: policy.name}
        own = {
            names.OPERATION: names.WORKFLOW,
            names.POLICY_HASH: policy.hash,
            names.RATCHET: begun.plan.ratchet or None,
            names.TASK: begun.task,
            names.ARM: begun.arm,
            names.REQUEST_ID: begun.request.id,
            names.OBSERVED_AS: begun.observed_as,
        }
        self._span = instruments.tracer.start_span(
            names.WORKFLOW, parent, SpanKind.INTERNAL, _known({**self._shared, **own}), start_time=self._started
        )
        self._context = set_span_in_context(self._span, parent)
        self._rungs = tuple(rung.rung for rung in policy.ladder)
        self._calls: list[_Call] = []  # under way; several only in a wave of samples
        self._last: Calling | None = None

    def calling(self, call: Calling) -> None:
        """End the spans of the calls whose results are known, and start this call's."""
        self._end_calls(call.steps, call.taken, call.beside)
        self._last = call
        shared = {**self._shared, names.PROVIDER: call.rung.provider, names.RUNG: self._rungs[call.index]}
        self._calls.append(_Call(self._instruments, call, shared, self._context))

    def ended(self, end: Ended) -> None:
        """End the spans of the last calls, and the climb's."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        why = None if end.answer is not None else _error_name(end.error)
        self._end_calls(end.steps, (), end.beside)
        for call in self._calls:
            call.end(None, None, why or names.CANCELLED)
        now, span, answer = self._instruments.wall(), self._span, end.answer
        known: Attributes = {
            names.COST_USD: sum(one.cost_nanousd for one in (*end.steps, *unfinished_calls(self._last, end))) / 1e9,
            names.ESCALATIONS: max(len(end.steps) - 1, 0),
            names.ERROR_TYPE: why,
        }
        if answer is not None:
            known |= {
                names.RUNG: answer.rung,
                names.RESPONSE_MODEL: answer.model,
                names.CONFIDENCE: answer.confidence,
                names.CONFIDENCE_SOURCE: answer.confidence_source,
                names.DEGRADED: answer.degraded,
                names.ABSTAINED: answer.abstained,
            }
        span.set_attributes(_known(known))
        if why is not None:
            span.set_status(StatusCode.ERROR)
        span.end(now)
        measured = {**self._shared, names.OPERATION: names.WORKFLOW, names.ERROR_TYPE: why}
        self._instruments.durations.record((now - self._started) / 1e9, _known(measured), self._context)

    def _end_calls(self, steps: tuple[Step, ...], taken: tuple[Sample, ...], beside: tuple[Sample, ...]) -> None:
        """End the spans of those that are in `steps`, or in `taken` and `beside`, the calls of the step after them."""
        under_way: list[_Call] = []
        for call in self._calls:
            step = steps[call.step] if call.step < len(steps) else None
            done = call_at(step, call.place) if step is not None else _made(call.place, taken, beside)
            if done is not None:
                completes = step is not None and call.place + 1 == (len(step.samples) or 1)
                call.end(done, step if completes else None, names.CANCELLED)
            else:
                under_way.append(call)
        self._calls = under_way


def _made(place: int, taken: tuple[Sample, ...], beside: tuple[Sample, ...]) -> Sample | None:
    """The call with this number within a step that is not complete; None if it is under way."""
    calls, place = (taken, place) if place < FIRST_AUXILIARY else (beside, place - FIRST_AUXILIARY)
    return calls[place] if place < len(calls) else None


class _Call:
    """The span of one call. Its result is known when the next call begins, or the request ends."""

    __slots__ = ("_context", "_instruments", "_measured", "_span", "_started", "place", "step")

    def __init__(self, instruments: _Instruments, call: Calling, shared: Attributes, parent: Context) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - an extra

        self.step, self.place = len(call.steps), call.place
        self._instruments, self._started = instruments, instruments.wall()
        model = call.rung.model
        self._measured: Attributes = {**shared, names.OPERATION: names.CHAT, names.REQUEST_MODEL: model}
        self._span: Span = instruments.tracer.start_span(
            f"{names.CHAT} {model}",
            parent,
            SpanKind.CLIENT,
            {**self._measured, names.INDEX: call.index},
            start_time=self._started,
        )
        self._context = set_span_in_context(self._span, parent)

    def end(self, result: Step | Sample | None, step: Step | None, why: str) -> None:
        """End the span. It lasts as long as the call; without a result the call was interrupted just now, by `why`.

        `step`: its step, if this was the last call of it.
        """
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        now = self._instruments.wall()
        end = now if result is None else min(now, self._started + int(result.latency_s * 1e9))
        error = why if result is None else _error_of(result)
        found = _of_call(result) if result is not None else {}
        found |= _of_step(step) if step is not None else {}
        self._span.set_attributes(_known(found | {names.ERROR_TYPE: error}))
        if error is not None:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(end)
        self._measure(result, (end - self._started) / 1e9, error)

    def _measure(self, result: Step | Sample | None, seconds: float, error: str | None) -> None:
        measured = self._measured
        if result is not None and result.verdict.kind != "failed":
            measured = {**measured, names.RESPONSE_MODEL: result.model}
        self._instruments.durations.record(seconds, _known({**measured, names.ERROR_TYPE: error}), self._context)
        if result is None or (not result.usage.prompt_tokens and not result.usage.output_tokens):
            return
        for kind, count in (("input", result.usage.prompt_tokens), ("output", result.usage.output_tokens)):
            self._instruments.tokens.record(count, {**measured, names.TOKEN_TYPE: kind}, self._context)


def _of_call(call: Step | Sample) -> Attributes:
    verdict, usage = call.verdict, call.usage
    replied = verdict.kind != "failed"
    finished = "refusal" if verdict.kind == "refused" else _FINISHED.get(verdict.detail)
    found: Attributes = {
        names.RESPONSE_MODEL: call.model if replied else None,
        names.FINISH_REASONS: (finished,) if finished else None,
        names.INPUT_TOKENS: usage.prompt_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.CACHE_READ: usage.cache_read or None,
        names.CACHE_WRITTEN: (usage.cache_write_5m + usage.cache_write_1h) or None,
        names.VERDICT: verdict.kind,
        names.CONFIDENCE: verdict.confidence,
        names.CONFIDENCE_SOURCE: verdict.source,
        names.COST_USD: call.cost_nanousd / 1e9,
        names.USAGE_IS_ESTIMATE: usage.is_estimate or None,
        names.ATTEMPTS: call.attempts,
        names.UPSTREAM_REQUEST_ID: call.request_id,
    }
    if isinstance(call, Sample):
        of_sample = {names.SAMPLE: call.number, names.VARIANT: call.variant}
        of_review = {names.IS_REVIEW: True} if call.is_review else of_sample
        found |= {names.IS_JUDGE: True} if call.is_judge else of_review
    return found


def _of_step(step: Step) -> Attributes:
    """What only the last call of a step tells."""
    found: Attributes = {names.REASON: step.reason}
    if (vote := step.verdict.vote) is not None:
        agreed = len(vote.members)
        found |= {names.VOTE_AGREED: agreed, names.VOTE_ASKED: vote.asked, names.VOTE_NEEDED: vote.agree}
    return found


def _error_name(error: BaseException | None) -> str:
    """The name of an error's class, never its message; "cancelled" for every kind of cancellation."""
    return names.CANCELLED if error is None or isinstance(error, CancelledError) else type(error).__name__


def _error_of(call: Step | Sample) -> str | None:
    """The kind of failure: "overloaded", "timeout" …; None for a reply, even a useless one."""
    return call.verdict.detail.partition(",")[0] if call.verdict.kind == "failed" else None


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
