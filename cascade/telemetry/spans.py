"""OpenTelemetry: a span for the climb, a child span for each call, and the two client metrics of the conventions.

    invoke_workflow                         the caller's current span is its parent
    ├── chat claude-haiku-5-5               cascade.reason: low_confidence
    └── chat claude-sonnet-5-5

Spans hold names, amounts and reasons. They hold no text of a prompt or an answer, and no error message, which may quote one.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra
from cascade.core.trail import Step
from cascade.hooks import Begun, Calling, Ended
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

    __slots__ = ("_call", "_context", "_instruments", "_shared", "_span", "_started")

    def __init__(self, instruments: _Instruments, begun: Begun, parent: Context) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - an extra

        policy = begun.plan.policy
        self._instruments, self._started = instruments, instruments.wall()
        self._shared: Attributes = {names.PROVIDER: names.PROVIDER_NAME, names.POLICY: policy.name}
        own = {
            names.OPERATION: names.WORKFLOW,
            names.POLICY_HASH: policy.hash,
            names.TASK: begun.task,
            names.ARM: begun.arm,
            names.REQUEST_ID: begun.request.id,
            names.OBSERVED_AS: begun.observed_as,
        }
        self._span = instruments.tracer.start_span(
            names.WORKFLOW, parent, SpanKind.INTERNAL, _known({**self._shared, **own}), start_time=self._started
        )
        self._context = set_span_in_context(self._span, parent)
        self._call: _Call | None = None

    def calling(self, call: Calling) -> None:
        """End the previous call's span, and start this call's."""
        self._end_call(call.steps, None)
        self._call = _Call(self._instruments, call, self._shared, self._context)

    def ended(self, end: Ended) -> None:
        """End the last call's span, and the climb's."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        why = None if end.answer is not None else _error_name(end.error)
        self._end_call(end.steps, why)
        now, span, answer = self._instruments.wall(), self._span, end.answer
        known: Attributes = {
            names.COST_USD: sum(step.cost_nanousd for step in end.steps) / 1e9,
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

    def _end_call(self, steps: tuple[Step, ...], why: str | None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.end(steps[call.place] if call.place < len(steps) else None, why or names.CANCELLED)


class _Call:
    """The span of one call. Its result is known when the next call begins, or the request ends."""

    __slots__ = ("_context", "_instruments", "_measured", "_span", "_started", "place")

    def __init__(self, instruments: _Instruments, call: Calling, shared: Attributes, parent: Context) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - an extra

        self.place, self._instruments, self._started = len(call.steps), instruments, instruments.wall()
        model, rung = call.rung.model, call.rung.rung
        self._measured: Attributes = {
            **shared, names.OPERATION: names.CHAT, names.REQUEST_MODEL: model, names.RUNG: rung,
        }  # fmt: skip
        self._span: Span = instruments.tracer.start_span(
            f"{names.CHAT} {model}",
            parent,
            SpanKind.CLIENT,
            {**self._measured, names.INDEX: call.index},
            start_time=self._started,
        )
        self._context = set_span_in_context(self._span, parent)

    def end(self, step: Step | None, why: str) -> None:
        """End the span. It lasts as long as the step; without a step the call was interrupted just now, by `why`."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        now = self._instruments.wall()
        end = now if step is None else min(now, self._started + int(step.latency_s * 1e9))
        error = why if step is None else _error_of(step)
        self._span.set_attributes(
            _known(_of_step(step) if step is not None else {}) | _known({names.ERROR_TYPE: error})
        )
        if error is not None:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(end)
        self._measure(step, (end - self._started) / 1e9, error)

    def _measure(self, step: Step | None, seconds: float, error: str | None) -> None:
        measured = self._measured
        if step is not None and step.verdict.kind != "failed":
            measured = {**measured, names.RESPONSE_MODEL: step.model}
        self._instruments.durations.record(seconds, _known({**measured, names.ERROR_TYPE: error}), self._context)
        if step is None or (not step.usage.prompt_tokens and not step.usage.output_tokens):
            return
        for kind, count in (("input", step.usage.prompt_tokens), ("output", step.usage.output_tokens)):
            self._instruments.tokens.record(count, {**measured, names.TOKEN_TYPE: kind}, self._context)


def _of_step(step: Step) -> Attributes:
    verdict, usage = step.verdict, step.usage
    replied = verdict.kind != "failed"
    finished = "refusal" if verdict.kind == "refused" else _FINISHED.get(verdict.detail)
    return {
        names.RESPONSE_MODEL: step.model if replied else None,
        names.FINISH_REASONS: (finished,) if finished else None,
        names.INPUT_TOKENS: usage.prompt_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.CACHE_READ: usage.cache_read or None,
        names.CACHE_WRITTEN: (usage.cache_write_5m + usage.cache_write_1h) or None,
        names.VERDICT: verdict.kind,
        names.CONFIDENCE: verdict.confidence,
        names.CONFIDENCE_SOURCE: verdict.source,
        names.REASON: step.reason,
        names.COST_USD: step.cost_nanousd / 1e9,
        names.USAGE_IS_ESTIMATE: usage.is_estimate or None,
        names.ATTEMPTS: step.attempts,
        names.UPSTREAM_REQUEST_ID: step.request_id,
    }


def _error_name(error: BaseException | None) -> str:
    """The name of an error's class, never its message; "cancelled" for every kind of cancellation."""
    return names.CANCELLED if error is None or isinstance(error, CancelledError) else type(error).__name__


def _error_of(step: Step) -> str | None:
    """The kind of failure: "overloaded", "timeout" …; None for a reply, even a useless one."""
    return step.verdict.detail.partition(",")[0] if step.verdict.kind == "failed" else None


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
