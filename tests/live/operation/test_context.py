"""Long conversations, live: what the endpoints get, what is on record and what it costs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import anthropic
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from cascade import AsyncCascade, BudgetExceeded, Cascade, Policy
from cascade.core.context.trimming import DROPPED
from cascade.core.prompts.summariser import RULES
from cascade.emulator import Emulator, ScriptedReply
from cascade.ledger.exporting.requests import line_of, rows_of
from cascade.ledger.reading import reading
from cascade.ledger.requests import gather
from cascade.ledger.verifying.verification import verify
from cascade.telemetry import OpenTelemetry, Prometheus
from tests.live.conftest import COST, HAIKU, SONNET, USAGE, Asking, Emulate, ladder
from tests.live.operation.test_books import bodies, entries, files

SUMMARY = "SUMMARY-5e1d"
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "the task"},
    {"role": "assistant", "content": "a" * 900},
    {"role": "user", "content": "PROMPT-7f3a " + "b" * 900},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "the newest"},
]
SUMMARIZE: dict[str, Any] = {"above_tokens": 100}


def is_summary(body: Mapping[str, Any]) -> bool:
    """Whether a summary is asked for."""
    return isinstance(body.get("system"), list) and body["system"][0]["text"] == RULES


def saying(words: str, **more: Any) -> ScriptedReply:
    """A scripted reply of USAGE."""
    return ScriptedReply([{"type": "text", "text": words}], usage=USAGE, **more)


def script(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
    """A summary where one is asked for; Haiku is unsure, the others are not."""
    return saying(SUMMARY) if is_summary(body) else saying("fine", confidence=0.5 if body["model"] == HAIKU else 0.9)


@pytest.fixture
def played(emulate: Emulate) -> Emulator:
    """An emulator that plays `script`."""
    return emulate((), script=script)


def summarising(summarize: Mapping[str, Any] = SUMMARIZE, **more: Any) -> Policy:
    """The ladder, with summaries."""
    return ladder(prepare={"summarize": summarize}, **more)


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_a_summary_is_on_record_with_the_step_that_it_was_made_for(
    asking: Asking, played: Emulator, durability: str
) -> None:
    """Once, to the nano-USD; how the conversation was shortened is with each rung's step; nothing stays open."""
    answer = asking(summarising(ledger={"durability": durability}), played).ask(TALK)
    assert [is_summary(one.body) for one in played.requests] == [True, False, False]
    assert [SUMMARY in json.dumps(one.body["messages"]) for one in played.requests] == [False, True, True]
    assert (answer.rung, answer.cost_nanousd) == ("sonnet", 2 * COST["haiku"] + COST["sonnet"])
    kept = entries()
    steps = bodies(kept, "step")
    assert [(one["rung"], one.get("auxiliary"), one["cost"]) for one in steps] == [
        ("haiku", "summary", COST["haiku"]), ("haiku", None, COST["haiku"]), ("sonnet", None, COST["sonnet"]),
    ]  # fmt: skip
    assert [one.get("prepared", {}).get("turns") for one in steps] == [None, 2, 2]
    assert bodies(kept, "outcome")[0]["cost"] == answer.cost_nanousd
    with reading(None) as reader:
        assert verify(reader).unsettled == 0
        (record,) = gather(reader)
        assert json.loads(line_of(record))["steps"][1]["prepared"]["kind"] == "summary"
        assert [row["prepared"] is None for row in rows_of(record)] == [True, False, False]


@pytest.mark.parametrize("content", [False, True])
def test_the_text_of_a_summary_is_kept_only_where_texts_are(
    emulate: Emulate, played: Emulator, *, content: bool
) -> None:
    """It says what users wrote."""
    with anthropic.Anthropic(api_key="test", base_url=played.base_url) as client:
        Cascade(summarising(ledger={"content": content}), client=client).ask(TALK)
    entries()
    written = b"".join(path.read_bytes() for path in files())
    assert (SUMMARY.encode() in written) is content
    assert (b"PROMPT-7f3a" in written) is content


def test_a_rung_beside_the_ladder_summarises_at_its_own_endpoint(
    asking: Asking, played: Emulator, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any endpoint, with its own key and price."""
    other = emulate((), script=script)
    monkeypatch.setenv("OTHER_KEY", "other")
    by = {"rung": "writer", "model": "another", "max_tokens": 9, "thinking": None, "base_url": other.base_url,
          "api_key_env": "OTHER_KEY", "price": {"input": "1", "output": "1"}}  # fmt: skip
    driver = asking(summarising({**SUMMARIZE, "by": {key: one for key, one in by.items() if one is not None}}), played)
    answer = driver.ask(TALK)
    assert [one.body["model"] for one in other.requests] == ["another"]
    assert [one.body["model"] for one in played.requests] == [HAIKU, SONNET]
    (made,) = answer.steps[0].auxiliaries
    assert (made.variant, made.cost_nanousd) == ("summary:writer", 120 * 1_000)
    driver.close()


@pytest.mark.parametrize("durability", ["batched", "commit"])
def test_a_request_cut_off_after_its_summary_leaves_its_cost(emulate: Emulate, durability: str) -> None:
    """The summary is on record though no step ever came; the metrics and the spans have its cost, too."""
    reached, release = threading.Event(), asyncio.Event()

    async def hold(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        if not is_summary(body):
            reached.set()
            await release.wait()
        return script(body, headers)

    emulator, registry, exporter = emulate((), script=hold), CollectorRegistry(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = (Prometheus(registry), OpenTelemetry(tracer_provider=provider))

    async def ask() -> None:
        policy = summarising(ledger={"durability": durability})
        async with anthropic.AsyncAnthropic(api_key="test", base_url=emulator.base_url) as client:
            driver = AsyncCascade(policy, client=client, hooks=hooks)
            task = asyncio.create_task(driver.ask(TALK))
            assert await asyncio.to_thread(reached.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())
    kept = entries()
    (outcome,) = bodies(kept, "outcome")
    assert (outcome["error"], outcome["cost"], outcome["steps"]) == ("cancelled", COST["haiku"], 0)
    assert [(one["auxiliary"], one["cost"]) for one in bodies(kept, "step")] == [("summary", COST["haiku"])]
    with reading(None) as reader:
        assert verify(reader).unsettled == (1 if durability == "commit" else 0)
    paid = {
        name: one for name in (HAIKU,) if (one := registry.get_sample_value("cascade_cost_usd_total", _labels(name)))
    }
    assert paid == {HAIKU: pytest.approx(COST["haiku"] / 1e9)}
    spans = exporter.get_finished_spans()
    assert [dict(span.attributes or {}).get("error.type") for span in spans][:2] in (
        [None, "cancelled"],
        ["cancelled", None],
    )


def _labels(model: str) -> dict[str, str]:
    return {"policy": "live", "rung": "haiku", "model": model, "arm": "cascade"}


def test_a_budget_without_room_for_a_summary_costs_the_summary_alone(asking: Asking, played: Emulator) -> None:
    """The first rung is asked all the same, with the original, and the answer says why."""
    spent = {"daily_usd": 1e-9, "on_exhausted": "hold", "per": "policy"}
    driver = asking(summarising(budget=spent), played)
    answer = driver.ask(TALK)
    assert (answer.rung, answer.degraded) == ("haiku", "budget")
    assert [is_summary(one.body) for one in played.requests] == [False]
    assert answer.notes[0].startswith("asked without a summary: ")
    with pytest.raises(BudgetExceeded, match="nothing was asked and nothing was paid"):
        asking(summarising(budget={**spent, "on_exhausted": "reject"}), played).ask(TALK)


def test_a_tool_loop_is_trimmed_and_goes_on_where_it_was(emulate: Emulate) -> None:
    """Its place is known by the caller's own conversation; the thinking of a changed one is not sent back, which the API refuses."""

    def play(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        turns = len(body["messages"])
        if body["model"] == HAIKU:
            return saying("no", confidence=0.1)
        if turns >= 9:
            return saying("done", confidence=0.9)
        look = {"type": "tool_use", "name": "look", "input": {"at": turns}}
        return ScriptedReply([{"type": "thinking", "thinking": "hm"}, look], usage=USAGE)

    emulator = emulate((), script=play, prefix_check=True)
    tool: Any = {"name": "look", "input_schema": {"type": "object"}}
    client = anthropic.Anthropic(api_key="test", base_url=emulator.base_url)
    talk: list[Any] = [{"role": "user", "content": "the task"}]
    policy = ladder(prepare={"trim": {"max_tokens": 1_200, "keep_turns": 2}})
    with client, Cascade(policy, client=client) as driver:
        for number in range(5):
            made = driver.messages.create(model="cascade", max_tokens=500, messages=talk, tools=[tool])
            calls = [block for block in made.content if block.type == "tool_use"]
            if not calls:
                break
            result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": f"result {number} " + "r" * 1_500}
            talk += [{"role": "assistant", "content": made.content}, {"role": "user", "content": [result]}]
    assert len(talk) == 9
    last = emulator.requests[-1].body
    assert last["model"] == SONNET
    assert DROPPED in json.dumps(last["messages"])
    assert last["messages"][0]["content"] == "the task"
    assert [one.body["model"] for one in emulator.requests].count(HAIKU) == 1
