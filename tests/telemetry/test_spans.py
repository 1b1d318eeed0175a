"""OpenTelemetry: spans and metrics by the GenAI conventions, read back from the real SDK."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cascade.core.errors import AllRungsFailed, MissingExtra
from cascade.core.trail import Verdict
from cascade.hooks import Ended
from cascade.telemetry import OpenTelemetry
from tests.telemetry.scenes import ANSWERED, FAILED, PLAN, UNSURE, answer_of, begun, told

SECOND = 1_000_000_000


@dataclass
class Seen:
    """A hook on providers of its own, and what comes out of them; its clock stands at 1,000 s until it is told to go."""

    now: int = 1_000 * SECOND
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader])
        self.hook = OpenTelemetry(self.tracers, self.meters, wall=lambda: self.now)

    def passes(self, seconds: float) -> None:
        """Time goes by."""
        self.now += int(seconds * SECOND)

    def finished(self) -> tuple[ReadableSpan, ...]:
        """All spans that have ended, in the order they ended in."""
        return self.spans.get_finished_spans()

    def points(self, metric: str) -> list[tuple[dict[str, Any], int, float]]:
        """A histogram's points: attributes, count and sum."""
        data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), point.count, point.sum)  # type: ignore[union-attr]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for one in scope.metrics
            if one.name == metric
            for point in one.data.data_points
        ]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """A hook and its providers."""
    made = Seen()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def test_a_climb_is_a_span_with_one_below_it_for_each_call(seen: Seen) -> None:
    """Each call from when it was told, for as long as its step took; the climb around all of them."""
    told(
        seen.hook,
        UNSURE,
        ANSWERED,
        answer=answer_of(UNSURE, ANSWERED),
        ticks=[lambda: None, lambda: seen.passes(0.3), lambda: seen.passes(0.6)],
    )
    haiku, sonnet, climb = seen.finished()
    assert [one.name for one in (haiku, sonnet, climb)] == ["chat model-0", "chat model-1", "invoke_workflow"]
    assert [one.kind for one in (haiku, sonnet, climb)] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.INTERNAL]
    assert climb.parent is None
    assert haiku.parent == sonnet.parent == climb.get_span_context()
    start = 1_000 * SECOND
    times = [((one.start_time or 0) - start, (one.end_time or 0) - start) for one in (haiku, sonnet, climb)]
    assert times == [(0, 250_000_000), (300_000_000, 800_000_000), (0, 900_000_000)]


def test_a_calls_span_says_what_came_of_it(seen: Seen) -> None:
    """The conventions' names, the prompt's tokens with those of the cache among them, and why it went up."""
    told(seen.hook, UNSURE, ANSWERED, answer=answer_of(UNSURE, ANSWERED))
    assert dict(seen.finished()[0].attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "model-0",
        "gen_ai.response.model": "model-0",
        "gen_ai.usage.input_tokens": 112,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.cache_creation.input_tokens": 7,
        "cascade.policy": "test",
        "cascade.rung": "r0",
        "cascade.index": 0,
        "cascade.verdict": "answered",
        "cascade.confidence": 0.5,
        "cascade.confidence_source": "self_reported",
        "cascade.reason": "low_confidence",
        "cascade.cost_usd": 0.0003,
        "cascade.attempts": 2,
        "cascade.upstream_request_id": "req_1",
    }


def test_a_climbs_span_says_who_answered(seen: Seen) -> None:
    """And under which policy, task and arm, for how much, and whether what it shipped is only the best held."""
    told(
        seen.hook,
        UNSURE,
        answer=answer_of(UNSURE, degraded="budget"),
        begin=begun(arm="shadow", observed_as="casc_0"),
    )
    assert dict(seen.finished()[-1].attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": "model-0",
        "cascade.policy": "test",
        "cascade.policy_hash": PLAN.policy.hash,
        "cascade.task": "refund",
        "cascade.arm": "shadow",
        "cascade.request_id": "casc_1",
        "cascade.observed_as": "casc_0",
        "cascade.rung": "r0",
        "cascade.confidence": 0.5,
        "cascade.confidence_source": "self_reported",
        "cascade.degraded": "budget",
        "cascade.cost_usd": 0.0003,
        "cascade.escalations": 0,
    }


def test_a_climbs_span_says_how_far_the_thresholds_were_raised(seen: Seen) -> None:
    """By the audit's ratchet, and only then."""
    for step in (0, 2):
        told(seen.hook, UNSURE, begin=replace(begun(), plan=replace(PLAN, ratchet=step)))
    climbs = [dict(one.attributes or {}) for one in seen.finished() if one.name == "invoke_workflow"]
    assert [one.get("cascade.ratchet") for one in climbs] == [None, 2]


def test_the_callers_span_is_the_climbs_parent(seen: Seen) -> None:
    """And a climb never becomes the caller's current span."""
    with seen.tracers.get_tracer("app").start_as_current_span("theirs") as theirs:
        track = seen.hook.begin(begun())
        with seen.tracers.get_tracer("app").start_as_current_span("also theirs") as also:
            assert also.parent == theirs.get_span_context()  # type: ignore[attr-defined]
        track.ended(Ended((), None, None, 0.0))
    climb = next(one for one in seen.finished() if one.name == "invoke_workflow")
    assert climb.parent == theirs.get_span_context()


@pytest.mark.parametrize(
    ("error", "why"), [(None, "cancelled"), (AllRungsFailed("SECRET", steps=()), "AllRungsFailed"), (OSError("SECRET"), "OSError")]
)  # fmt: skip
def test_a_request_that_is_cut_off_ends_its_spans(seen: Seen, error: BaseException | None, why: str) -> None:
    """The call under way ends now, by what cut it off; nothing that an error says is told."""
    told(seen.hook, UNSURE, error=error, calls=2, ticks=[int, int, lambda: seen.passes(7)])
    _, cut, climb = seen.finished()
    for one in (cut, climb):
        assert (one.status.status_code, one.status.description) == (StatusCode.ERROR, None)
        assert (one.attributes or {})["error.type"] == why
        assert one.end_time == seen.now
    assert "SECRET" not in "".join(one.to_json() for one in seen.finished())


def test_a_call_that_failed_is_an_error_of_its_kind(seen: Seen) -> None:
    """It has no tokens; a reply that is worth nothing is a reply, with why it ended."""
    refused = replace(ANSWERED, verdict=Verdict("refused"), reason="refused")
    told(seen.hook, FAILED, refused, error=AllRungsFailed("no", steps=()))
    failed, worthless, _ = seen.finished()
    assert (worthless.attributes or {})["gen_ai.response.finish_reasons"] == ("refusal",)
    assert worthless.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    attributes = dict(failed.attributes or {})
    assert attributes["error.type"] == "overloaded"
    assert "gen_ai.response.model" not in attributes
    assert [one for one, _, _ in seen.points("gen_ai.client.token.usage") if one["cascade.rung"] == "r0"] == []


def test_the_conventions_histograms_are_filled(seen: Seen) -> None:
    """Tokens by type, and seconds by operation."""
    told(
        seen.hook,
        UNSURE,
        ANSWERED,
        answer=answer_of(UNSURE, ANSWERED),
        ticks=[int, lambda: seen.passes(1), lambda: seen.passes(1)],
    )
    tokens = seen.points("gen_ai.client.token.usage")
    assert [(one["cascade.rung"], one["gen_ai.token.type"], total) for one, _, total in tokens] == [
        ("r0", "input", 112),
        ("r0", "output", 20),
        ("r1", "input", 100),
        ("r1", "output", 20),
    ]
    seconds = seen.points("gen_ai.client.operation.duration")
    assert [(one["gen_ai.operation.name"], total) for one, _, total in seconds] == [
        ("chat", 0.25),
        ("chat", 0.5),
        ("invoke_workflow", 2.0),
    ]
    assert tokens[0][0] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "model-0",
        "gen_ai.response.model": "model-0",
        "gen_ai.token.type": "input",
        "cascade.policy": "test",
        "cascade.rung": "r0",
    }


def test_without_the_package_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, where the hook is made; not at the first request."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"cascade-ladder\[otel\]"):
        OpenTelemetry()
