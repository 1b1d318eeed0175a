"""OpenTelemetry and Prometheus on a real driver: every request has its own spans, and none of them holds a text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from cascade import AsyncCascade, UpstreamRejected
from cascade.hooks import Begun, Calling, Ended
from cascade.telemetry import OpenTelemetry, Prometheus
from tests.live.conftest import COST, HAIKU, SONNET, Asking, Emulate, Emulator, Script, error_body, ladder


class Traced:
    """A hook on a provider of its own, and the spans that come out of it."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider()
        self.hook = OpenTelemetry(self.tracers, self.meters)

    def below(self, span: ReadableSpan) -> list[ReadableSpan]:
        """A span's own, as they began."""
        found = (one for one in self.spans.get_finished_spans() if one.parent == span.get_span_context())
        return sorted(found, key=lambda one: one.start_time or 0)


@pytest.fixture
def traced() -> Iterator[Traced]:
    """A hook and its provider."""
    made = Traced()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def test_a_climb_is_traced_and_counted(asking: Asking, emulator: Emulator, traced: Traced) -> None:
    """Two rungs asked: two calls below the climb, their money on both; no word of what was asked or answered."""
    registry = CollectorRegistry()
    driver = asking(ladder(), emulator, ledger="off", hooks=[traced.hook, Prometheus(registry)])
    with traced.tracers.get_tracer("app").start_as_current_span("theirs") as theirs:
        answer = driver.ask("unsure", system="a system prompt", metadata={"customer": "four"})
    (climb,) = traced.below(theirs)  # type: ignore[arg-type]
    calls = traced.below(climb)
    assert [(one.name, (one.attributes or {}).get("cascade.reason")) for one in calls] == [
        (f"chat {HAIKU}", "low_confidence"),
        (f"chat {SONNET}", None),
    ]
    assert (climb.attributes or {})["cascade.cost_usd"] == answer.cost_usd
    for one in (climb, *calls):
        assert (climb.start_time or 0) <= (one.start_time or 0) <= (one.end_time or 0) <= (climb.end_time or 0)
    written = "".join(one.to_json() for one in (climb, *calls)) + generate_latest(registry).decode()
    for text in ("unsure", "a system prompt", "four", "haiku's", "sonnet's"):
        assert text not in written
    labels = {"policy": "live", "rung": "sonnet", "model": SONNET, "arm": "cascade"}
    assert registry.get_sample_value("cascade_cost_usd_total", labels) == COST["sonnet"] / 1e9


def test_what_the_endpoint_refuses_is_an_error_without_its_words(
    asking: Asking, script: Script, traced: Traced
) -> None:
    """The endpoint may quote the request: only the kind of error is told."""
    refusing = script((400, {}, error_body("invalid_request_error", "you asked: unsure")))
    driver = asking(ladder(), refusing, ledger="off", hooks=[traced.hook])
    with pytest.raises(UpstreamRejected):
        driver.ask("unsure")
    call, climb = traced.spans.get_finished_spans()
    assert [(one.attributes or {})["error.type"] for one in (call, climb)] == ["rejected", "UpstreamRejected"]
    assert "unsure" not in call.to_json() + climb.to_json()


def test_requests_that_run_side_by_side_do_not_mix(emulate: Emulate, traced: Traced) -> None:
    """Twelve at once on one loop: each climb is below its own caller, with its own calls."""
    emulator = emulate()
    texts = ["sure", "unsure", "hard"] * 4
    callers = traced.tracers.get_tracer("app")

    async def one(driver: AsyncCascade, text: str) -> tuple[ReadableSpan, int]:
        with callers.start_as_current_span(text) as span:
            answer = await driver.ask(text)
        return span, len(answer.steps)  # type: ignore[return-value]

    async def all_of_them() -> list[tuple[ReadableSpan, int]]:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url) as client:
            driver = AsyncCascade(ladder(), client=client, ledger="off", hooks=[traced.hook])
            return await asyncio.gather(*(one(driver, text) for text in texts))

    for span, steps in asyncio.run(all_of_them()):
        (climb,) = traced.below(span)
        assert len(traced.below(climb)) == steps


class Cancelling:
    """A hook that cancels the request as its call is about to be made."""

    def begin(self, begun: Begun) -> Cancelling:
        """Its own track."""
        return self

    def calling(self, call: Calling) -> None:
        """Cancel; the next thing that is waited for is cut off."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    def ended(self, end: Ended) -> None:
        """It is over."""


def test_a_request_that_is_cancelled_ends_its_spans(emulator: Emulator, traced: Traced) -> None:
    """Whoever cancels, the call under way and the climb are told as cancelled."""

    async def cancelled() -> None:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url) as client:
            driver = AsyncCascade(ladder(), client=client, ledger="off", hooks=[traced.hook, Cancelling()])
            with pytest.raises(asyncio.CancelledError):
                await driver.ask("sure")

    asyncio.run(cancelled())
    told = [(one.name, (one.attributes or {})["error.type"]) for one in traced.spans.get_finished_spans()]
    assert told == [(f"chat {HAIKU}", "cancelled"), ("invoke_workflow", "cancelled")]
