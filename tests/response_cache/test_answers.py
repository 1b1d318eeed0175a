"""The response cache at work: hits, misses, and what is never returned."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from structlog.testing import capture_logs

from cascade import AllRungsFailed, AsyncCascade, BudgetExceeded, Cascade, RequestError
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.telemetry import OpenTelemetry, Prometheus
from tests.live.conftest import Asking, Clock, Emulate, corpus, item, ladder, reply
from tests.response_cache.conftest import Drive, cached, echo

MARKED: dict[str, Any] = {"cache": {}}


class Sized(BaseModel):
    """An answer's type."""

    size: int


class Large(BaseModel):
    """Another type of the same schema but for its name, that takes large sizes alone."""

    size: int

    def model_post_init(self, _context: object) -> None:
        """Refuse small sizes."""
        if self.size < 100:
            raise ValueError("too small")


def test_a_hit_is_the_same_answer_without_a_climb(asking: Asking, emulate: Emulate) -> None:
    """Its text, rung, model, confidence and certificate as first answered; no step, no cost, and an id of its own."""
    emulator = emulate()
    driver = asking(ladder(**MARKED), emulator)
    first = driver.ask("unsure", cache=True, metadata={"ticket": "1"})
    again = driver.ask("unsure", cache=True, metadata={"ticket": "2"})
    driver.close()
    assert (first.cache, first.arm, again.cache, again.arm) == ("miss", "cascade", "hit", "cache")
    for name in (
        "text",
        "rung",
        "model",
        "confidence",
        "confidence_source",
        "certificate",
        "task",
        "flags",
        "policy_hash",
    ):
        assert getattr(first, name) == getattr(again, name), name
    assert (again.steps, again.cost_nanousd, again.usage, again.attempts) == ((), 0, Usage(), 0)
    assert again.metadata == {"ticket": "2"}
    assert first.request_id != again.request_id
    assert len(emulator.requests) == 2


def test_the_caller_decides_before_the_policy(asking: Asking, emulate: Emulate) -> None:
    """`cache=False` neither reads nor stores; no mark does not either, where the policy caches marked requests."""
    emulator = emulate()
    driver = asking(cached(), emulator)
    assert [driver.ask("sure", cache=mark).cache for mark in (False, None, None, False)] == [None, "miss", "hit", None]
    driver.close()
    assert len(emulator.requests) == 3
    marked = asking(ladder(**MARKED), emulator)
    assert [marked.ask("sure", cache=mark).cache for mark in (None, True, None, True)] == [None, "miss", None, "hit"]
    marked.close()


def test_a_mark_that_has_no_effect_is_an_error(asking: Asking, emulate: Emulate) -> None:
    """Without `cache` in the policy, or with a mark that is none."""
    driver = asking(ladder(), emulate())
    with pytest.raises(RequestError, match="no response cache"):
        driver.ask("sure", cache=True)
    with pytest.raises(RequestError, match=r"cache: must be True or False, not str \(.*Cascade\(cache=…\)"):
        driver.ask("sure", cache="redis://localhost")
    assert driver.ask("sure", cache=False).cache is None
    driver.close()


def test_an_answer_holds_for_so_long(asking: Asking, emulate: Emulate) -> None:
    """By the wall clock that the driver is given."""
    wall = Clock()
    driver = asking(cached(cache={"requests": "all", "ttl_s": 60.0}), emulate(), wall=wall)
    found = []
    for passed in (0, 59, 1, 59.5):
        wall.now += passed
        found.append(driver.ask("sure").cache)
    driver.close()
    assert found == ["miss", "hit", "miss", "hit"]


def test_only_what_stood_by_itself_is_stored(asking: Asking, emulate: Emulate) -> None:
    """A degraded answer is asked again each time, and so is an error."""
    source = corpus(
        item("degraded", reply(0.5, "haiku's"), reply(0.5, ""), reply(None, "")),
        item("failed", reply(0.9, None), reply(0.9, None), reply(None, "")),
    )
    driver = asking(cached(), emulate(source))
    for _ in range(2):
        answer = driver.ask("degraded")
        assert (answer.degraded, answer.cache) == ("check_failed", "miss")
        with pytest.raises(AllRungsFailed):
            driver.ask("failed")
    driver.close()


def test_a_hit_is_read_again_by_the_callers_type(asking: Asking) -> None:
    """An equal schema is an equal request; an answer that this type refuses is asked again."""

    def say(body: dict[str, Any], _headers: Mapping[str, str]) -> ScriptedReply:
        return ScriptedReply([{"type": "text", "text": '{"size": 7}'}], confidence=0.9)

    with Emulator(script=say) as emulator:
        driver = asking(cached(), emulator)
        answers = [driver.ask("how big?", response_model=Sized) for _ in range(2)]
        assert [(one.cache, one.data) for one in answers] == [("miss", Sized(size=7)), ("hit", Sized(size=7))]
        before = len(emulator.requests)
        Large.__name__, Large.__doc__ = Sized.__name__, Sized.__doc__
        with pytest.raises(AllRungsFailed):
            driver.ask("how big?", response_model=Large)
        assert len(emulator.requests) > before
        driver.close()


def is_long(text: str) -> bool:
    """A check of this module."""
    return len(text) > 1


def test_checks_that_nobody_can_compare_keep_a_request_out(asking: Asking, emulate: Emulate) -> None:
    """A module's function is part of the key; a closure is told on the answer, or logged once where nobody asked for the cache."""
    driver = asking(cached(), emulate())
    assert [driver.ask("sure", checks=[is_long]).cache for _ in range(2)] == ["miss", "hit"]
    assert driver.ask("sure").cache == "miss"
    least = 1
    with capture_logs() as logs:
        answers = [
            driver.ask("sure", checks=[lambda text: len(text) > least], cache=mark) for mark in (True, None, None)
        ]
    driver.close()
    assert [one.cache for one in answers] == [None, None, None]
    assert answers[0].notes[0].startswith("not cached: its check <lambda>")
    assert [one["event"] for one in logs] == ["not_cached"]


@pytest.mark.parametrize("more", [{"mode": "off"}, {"mode": "observe"}, {"rollout": {"percent": 0}}])
def test_what_the_baseline_answers_is_not_cached(asking: Asking, emulate: Emulate, more: dict[str, Any]) -> None:
    """Only answers of the ladder are stored and returned."""
    driver = asking(cached(**more), emulate())
    assert [driver.ask("sure").cache for _ in range(2)] == [None, None]
    driver.close()


def test_a_full_budget_lets_hits_pass(asking: Asking, emulate: Emulate) -> None:
    """A hit costs nothing, so no budget is asked."""
    driver = asking(cached(budget={"daily_usd": 0.000_54, "on_exhausted": "reject"}), emulate())
    assert driver.ask("sure").cache == "miss"
    with pytest.raises(BudgetExceeded):
        driver.ask("unsure")
    assert driver.ask("sure").cache == "hit"
    driver.close()


class TestMessages:
    """The faces with the SDK's shapes."""

    BODY: Mapping[str, Any] = {
        "model": "claude-cascade-live", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ["STOP"],
    }  # fmt: skip
    ON: Mapping[str, Any] = {"extra_headers": {"x-cascade-cache": "on"}}

    def test_a_hit_has_the_same_content_and_no_usage(self, drive: Drive) -> None:
        """A message, and one that ended at a stop sequence says so again."""
        driver = drive(ladder(**MARKED))
        stopped = {**self.BODY, "stop_sequences": ["END"]}
        for body in (self.BODY, stopped):
            first, again = (driver.messages.create(**body, **self.ON) for _ in range(2))
            assert (first.cascade.cache, again.cascade.cache) == ("miss", "hit")
            assert first.content == again.content
            assert (first.stop_reason, first.stop_sequence) == (again.stop_reason, again.stop_sequence)
            assert again.id != first.id
            assert (again.usage.input_tokens, again.usage.output_tokens) == (0, 0)
        assert again.stop_reason == "stop_sequence"

    def test_a_stream_is_stored_at_its_end_and_streamed_again(self, drive: Drive, echoing: Emulator) -> None:
        """Streams and whole answers share what is stored; a stream that is left early stores nothing."""
        driver = drive(ladder(**MARKED))
        body = {
            name: value for name, value in self.BODY.items() if name != "stop_sequences"
        }  # they need the whole answer
        with driver.messages.stream(**body, **self.ON) as left:
            next(iter(left))
        texts, kinds = [], []
        for _ in range(2):
            with driver.messages.stream(**body, **self.ON) as stream:
                texts.append("".join(stream.text_stream))
                final: Any = stream.get_final_message()
                kinds.append(final.cascade.cache)
        whole = driver.messages.create(**body, **self.ON)
        assert kinds == ["miss", "hit"]
        assert texts == [whole.content[0].text] * 2
        assert (whole.cascade.cache, len(echoing.requests)) == ("hit", 2)

    def test_a_header_turns_it_off_and_a_wrong_one_is_an_error(self, drive: Drive) -> None:
        """`x-cascade-cache` is on or off."""
        driver = drive(cached())
        off: dict[str, Any] = {"extra_headers": {"x-cascade-cache": "off"}}
        ways: list[dict[str, Any]] = [{}, off, {}]
        assert [driver.messages.create(**self.BODY, **more).cascade.cache for more in ways] == ["miss", None, "hit"]
        with pytest.raises(RequestError, match="x-cascade-cache: must be on or off"):
            driver.messages.create(**self.BODY, extra_headers={"x-cascade-cache": "yes"})

    def test_a_tool_loop_is_not_cached(self, tmp_path: Path) -> None:
        """Neither the call, which the next turn answers, nor the turn that answers it: the climb goes on where it was."""

        def use(body: dict[str, Any], _headers: Mapping[str, str]) -> ScriptedReply:
            if any(
                block["type"] == "tool_result" for block in body["messages"][-1]["content"] if isinstance(block, dict)
            ):
                return ScriptedReply([{"type": "text", "text": "21 °C"}], confidence=0.9)
            return ScriptedReply([{"type": "tool_use", "name": "weather", "input": {}}])

        tools = [{"name": "weather", "description": "It.", "input_schema": {"type": "object"}}]
        with (
            Emulator(script=use) as emulator,
            anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client,
            Cascade(cached(), client=client, cache=tmp_path / "a") as driver,
        ):
            for _ in range(2):
                asked = {**self.BODY, "tools": tools}
                call = driver.messages.create(**asked)
                result = {"type": "tool_result", "tool_use_id": call.content[0].id, "content": "21"}
                turns = [*self.BODY["messages"], {"role": "assistant", "content": [call.content[0].model_dump()]}]
                end = driver.messages.create(**{**asked, "messages": [*turns, {"role": "user", "content": [result]}]})
                assert (call.cascade.cache, end.cascade.cache) == ("miss", None)


OTHERS = {
    "policy": [cached(), cached(max_tokens=501), cached(thresholds=(0.7, 0.8))],
    "system": [None, "Be short.", [{"type": "text", "text": "Be short."}]],
    "tools": [(), ("a",), ("a", "b"), ("b", "a")],
    "key": [{}, {"key": "k1"}, {"key": "k2"}, {"user_id": "u1"}, {"sample": "1"}],
}
WAYS = st.fixed_dictionaries({name: st.integers(0, len(values) - 1) for name, values in OTHERS.items()})


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A driver of each policy, on one store; and the emulator, whose answers tell what was asked."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cascade.response_cache.cache.WAIT_S", 60.0)
        store = tmp_path_factory.mktemp("answers") / "a.sqlite3"
        with (
            Emulator(script=echo) as emulator,
            anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client,
        ):
            yield (
                [Cascade(policy, client=client, cache=store, ledger="off") for policy in OTHERS["policy"]],
                emulator,
                [],
            )


@settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(WAYS, min_size=2, max_size=8))
def test_no_answer_made_under_another_policy_system_tool_set_or_key_is_returned(
    drivers: Any, asked: list[dict[str, int]]
) -> None:
    """Requests with one prompt that differ in these, in any order: each is a hit exactly if the same was asked before, and is its own."""
    policies, emulator, runs = drivers
    runs.append(None)
    answered: dict[tuple[int, ...], str] = {}
    for way in asked:
        policy, system, tools, key = (OTHERS[name][way[name]] for name in OTHERS)
        body: dict[str, Any] = {
            "model": "claude-cascade-live", "max_tokens": 100, "messages": [{"role": "user", "content": f"hi {len(runs)}"}],
            "metadata": key,
        }  # fmt: skip
        body |= {"system": system} if system is not None else {}
        body |= (
            {"tools": [{"name": name, "description": "It.", "input_schema": {"type": "object"}} for name in tools]}
            if tools
            else {}
        )
        before = len(emulator.requests)
        message = policies[way["policy"]].messages.create(**body)
        text, place = message.content[0].text, tuple(way[name] for name in OTHERS)
        assert (message.cascade.cache == "hit") == (place in answered) == (len(emulator.requests) == before)
        assert message.cascade.policy_hash == policy.hash
        assert answered.setdefault(place, text) == text
        _, names, said, *_ = text.split(" ")
        assert [name for name in names.split("+") if name in ("a", "b")] == list(tools)
        assert (said == "short") == (system is not None)


def test_on_the_ledger_a_hit_is_a_request_without_a_step(asking: Asking, emulate: Emulate, tmp_path: Path) -> None:
    """Arm cache, cost 0, and what the climb had cost that it spared; nothing of the prompt is in the store, but the answer is."""
    driver = asking(cached(), emulate(), ledger=tmp_path / "ledger.db", cache=tmp_path / "answers")
    first, again = driver.ask("unsure"), driver.ask("unsure")
    driver.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as file:
        rows = file.execute("SELECT kind, body FROM entries WHERE request = ?", (again.request_id,)).fetchall()
        [body] = file.execute(
            "SELECT body FROM entries WHERE request = ? AND kind = 'outcome'", (first.request_id,)
        ).fetchone()
    bodies = {kind: msgspec.json.decode(body) for kind, body in rows}
    assert set(bodies) == {"request", "outcome"}
    assert bodies["request"]["arm"] == bodies["outcome"]["arm"] == "cache"
    outcome = bodies["outcome"]
    assert (outcome["cost"], outcome["steps"], outcome["estimate"]) == (0, 0, first.cost_nanousd)
    assert (outcome["cache"], msgspec.json.decode(body)["cache"]) == ("hit", "miss")
    held = (tmp_path / "answers").read_bytes()
    assert b"sonnet's" in held
    assert b"unsure" not in held


def test_without_a_cache_nothing_of_it_is_there(asking: Asking, emulate: Emulate, tmp_path: Path) -> None:
    """A policy without `cache` makes no file and no thread, whatever address is given."""
    driver = asking(ladder(), emulate(), cache=tmp_path / "answers")
    assert driver.ask("sure").to_dict().get("cache") is None
    driver.close()
    assert not (tmp_path / "answers").exists()


def broken(path: Path) -> None:
    """A folder in the place of the file."""
    path.mkdir()


def full(path: Path) -> None:
    """A file that is no database."""
    path.write_bytes(b"no database " * 1000)


@pytest.mark.parametrize("spoil", [broken, full])
def test_a_store_that_fails_costs_no_answer(
    asking: Asking, emulate: Emulate, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Every request is answered by a climb, and the failure is logged once."""
    spoil(tmp_path / "answers")
    driver = asking(cached(), emulate(), cache=tmp_path / "answers")
    with capture_logs() as logs:
        answers = [driver.ask("sure") for _ in range(3)]
    driver.close()
    assert [(one.text, one.cache) for one in answers] == [("haiku's", "miss")] * 3
    assert [one["event"] for one in logs] == ["response_cache_down"]


def test_a_store_that_hangs_costs_a_bounded_wait(
    asking: Asking, emulate: Emulate, make_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and says nothing: the answer comes all the same, and the next ones do not wait."""
    monkeypatch.setattr("cascade.response_cache.redis_store._TIMEOUT_S", 3600.0)
    monkeypatch.setattr("cascade.response_cache.cache.WAIT_S", 0.01)
    server = make_redis()
    server.pause()
    driver = asking(cached(), emulate(), cache=server.url)
    with capture_logs() as logs:
        assert [driver.ask("sure").cache for _ in range(3)] == ["miss"] * 3
    server.resume()
    driver.close()
    assert [one["event"] for one in logs] == ["response_cache_down"]


def test_processes_share_a_store_in_redis(redis_server: Any, drive: Drive, echoing: Emulator) -> None:
    """Two drivers of one policy: what one has answered the other returns."""
    policy: Policy = cached(name="shared-in-redis")
    first, second = (drive(policy, cache=redis_server.url) for _ in range(2))
    assert (first.ask("shared?").cache, second.ask("shared?").cache, len(echoing.requests)) == ("miss", "hit", 1)


def test_the_async_driver_reads_what_the_sync_one_stored(drive: Drive, echoing: Emulator, tmp_path: Path) -> None:
    """One file, two drivers."""
    first = drive(cached()).ask("for both?")

    async def ask() -> Any:
        async with (
            anthropic.AsyncAnthropic(api_key="test", base_url=echoing.base_url) as client,
            AsyncCascade(cached(), client=client, cache=tmp_path / "answers.sqlite3") as driver,
        ):
            return await driver.ask("for both?")

    again = asyncio.run(ask())
    assert (again.cache, again.text) == ("hit", first.text)


def test_hooks_see_a_hit_as_a_request_without_a_call(asking: Asking, emulate: Emulate) -> None:
    """Prometheus counts it under its arm, OpenTelemetry has a span without calls below it."""
    registry, spans, tracers = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    driver = asking(cached(), emulate(), hooks=[Prometheus(registry), OpenTelemetry(tracers, MeterProvider())])
    for _ in range(2):
        driver.ask("sure")
    driver.close()
    labels = {"policy": "live", "task": "other", "outcome": "answered"}
    counted = {
        arm: registry.get_sample_value("cascade_requests_total", {**labels, "arm": arm}) for arm in ("cascade", "cache")
    }
    assert counted == {"cascade": 1, "cache": 1}
    assert [span.name.partition(" ")[0] for span in spans.get_finished_spans()].count("chat") == 1
    assert len(spans.get_finished_spans()) == 3
    tracers.shutdown()
