"""Another vendor's rungs at work: keys, endpoints, tools, schemas, images, time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from cascade import AsyncCascade, Cascade, MissingExtra, MissingKey, Policy
from cascade.cli import run_command
from cascade.core.errors import RequestError
from cascade.emulator import Emulator, ScriptedReply
from cascade.telemetry import OpenTelemetry
from tests.live.conftest import HAIKU, SONNET, Asking, Emulate, Script
from tests.live.vendors.conftest import CLIMBS, LUNA, at_home, mixed


def asked_of(emulator: Emulator, model: str) -> list[Any]:
    """The bodies that this model was sent."""
    return [request.body for request in emulator.requests if request.body["model"] == model]


def headers_of(emulator: Emulator, path: bytes) -> list[dict[str, str]]:
    """The headers of the requests to an address, credentials included."""
    return [
        {name.decode().lower(): value.decode() for name, value in raw.headers}
        for raw in emulator.raw_requests
        if raw.path == path
    ]


def test_each_vendor_gets_its_own_key_and_no_header_of_the_other(both: Emulator) -> None:
    """The driver makes both clients of the environment; a caller's headers for Anthropic stay with Claude."""
    headers = {"anthropic-beta": "x-2026", "x-of-the-caller": "the-callers"}
    with Cascade(mixed()) as driver:
        answer = driver.messages.create(
            model="claude-cascade-mixed",
            max_tokens=50,
            messages=[{"role": "user", "content": "top"}],
            extra_headers=headers,
        )
    assert [step.rung for step in answer.cascade.steps] == ["haiku", "middle", "top"]
    (there,) = headers_of(both, b"/v1/chat/completions")
    assert there["authorization"] == "Bearer key-of-openai"
    assert not [name for name in there if name.startswith("anthropic")]
    assert "the-callers" not in str(there)
    for here in headers_of(both, b"/v1/messages"):
        assert "key-of-openai" not in str(here)
        assert here["anthropic-beta"] == "x-2026"


def test_another_endpoint_gets_nothing_of_the_account_at_openai(
    both: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its key, its organisation, its project nor its headers: only the key that the rung names."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: 1\nAuthorization: Bearer custom-secret")
    monkeypatch.setenv("KEY_OF_LUNA", "key-of-luna")
    policy = mixed()
    own: dict[str, Any] = {"base_url": f"{both.base_url}/v1"}
    for more in (own, {**own, "api_key_env": "KEY_OF_LUNA"}):
        rung = policy.ladder[1].model_copy(update=more)
        with Cascade(policy.model_copy(update={"ladder": (policy.ladder[0], rung, policy.ladder[2])})) as driver:
            assert str(driver.ask("middle")) == "luna's"
    nameless, named = headers_of(both, b"/v1/chat/completions")
    assert (nameless["authorization"], named["authorization"]) == ("Bearer none", "Bearer key-of-luna")
    assert "secret" not in f"{nameless}{named}"
    assert "key-of-openai" not in f"{nameless}{named}"


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_another_endpoint_of_the_messages_api_gets_nothing_of_the_account_at_anthropic(
    both: Emulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The headers that the environment adds to every call are for Anthropic, as its key is."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"x-secret: 1\nx-api-key: secret\n{name}: Bearer custom-secret")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-secret")
    monkeypatch.setenv("KEY_OF_HAIKU", "key-of-haiku\n")
    policy = mixed()
    own: dict[str, Any] = {"base_url": both.base_url}
    for more in (own, {**own, "api_key_env": "KEY_OF_HAIKU"}):
        rung = policy.ladder[0].model_copy(update=more)
        with Cascade(policy.model_copy(update={"ladder": (rung, *policy.ladder[1:])})) as driver:
            assert str(driver.ask("middle")) == "luna's"
    nameless, named = headers_of(both, b"/v1/messages")
    assert (nameless["authorization"], named["authorization"]) == ("Bearer none", "Bearer key-of-haiku")
    assert "secret" not in f"{nameless}{named}"
    assert "key-of-anthropic" not in f"{nameless}{named}"


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"])
@pytest.mark.parametrize("key", ["sk-Ä", "sk-one\nsk-two"])
def test_a_key_that_no_header_can_hold_is_told_without_it(
    both: Emulator, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    """Before anything is sent, and without the transport's error, which quotes it."""
    monkeypatch.setenv(name, key)
    with pytest.raises(MissingKey, match=rf"^rung \w+: the environment variable {name} holds a line break") as raised:
        ask("sync", mixed())
    assert "sk-" not in str(raised.value)
    assert both.requests == ()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_missing_key_is_told_before_anything_is_sent(
    way: str, both: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line: the rung, and the variable."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKey, match=r"^rung middle: the environment variable OPENAI_API_KEY is not set [^\n]*$"):
        ask(way, mixed())
    assert both.requests == ()


def ask(way: str, policy: Policy, text: str = "middle") -> str:
    """Ask once, by a driver that makes its own clients of the environment."""
    import asyncio  # noqa: PLC0415 - for this alone

    if way == "sync":
        with Cascade(policy) as driver:
            return str(driver.ask(text))

    async def scene() -> str:
        async with AsyncCascade(policy) as driver:
            return str(await driver.ask(text))

    return asyncio.run(scene())


def test_each_event_loop_has_clients_of_its_own(both: Emulator) -> None:
    """One driver, asked in three loops one after the other, with connections of none of the others."""
    import asyncio  # noqa: PLC0415 - for this alone

    driver = AsyncCascade(mixed())

    async def scene() -> str:
        return str(await driver.ask("middle"))

    assert [asyncio.run(scene()) for _ in range(3)] == ["luna's"] * 3
    assert len(asked_of(both, LUNA)) == 3


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    way: str, both: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"^a rung of provider openai needs .*cascade-ladder\[openai\]"):
        ask(way, mixed())
    assert both.requests == ()


class Order(BaseModel):
    """With a key that may be left out, which the other API's strict schemas do not know."""

    number: str
    note: str | None = None
    tags: ClassVar[list[str]] = []


@pytest.mark.parametrize("top", ["anthropic", "openai"])
def test_a_callers_type_comes_back(asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch, top: str) -> None:
    """In the envelope and bare: the strict schema is taken, and the nulls in its stead are gone."""

    def script(body: dict[str, Any], headers: Any) -> Any:
        return ScriptedReply([{"type": "text", "text": '{"number": "A-1"}'}], confidence=0.1)

    emulator = at_home(emulate((), script=script), monkeypatch)
    answer = asking(mixed(top=top), emulator).ask("?", response_model=Order)
    assert answer.data == Order(number="A-1")
    assert [step.verdict.kind for step in answer.steps] == ["answered"] * 3
    (form, *_) = [body["response_format"]["json_schema"] for body in asked_of(emulator, LUNA)]
    assert form["strict"] is True


def test_tools_are_called_and_their_results_read(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over the other vendor's rung: Haiku hands over, the middle calls, and goes on with the result."""

    def script(body: dict[str, Any], headers: Any) -> Any:
        names = [tool["name"] for tool in body["tools"]]
        if body["model"] == HAIKU:
            return [{"type": "tool_use", "name": "cascade_escalate", "input": {"reason": "unsure"}}]
        assert names == ["look", "cascade_escalate"]
        last = body["messages"][-1]["content"]
        if isinstance(last, list) and last[0]["type"] == "tool_result":
            return ScriptedReply([{"type": "text", "text": f"It is {last[0]['content']}."}], confidence=0.9)
        return [{"type": "tool_use", "name": "look", "input": {"city": "Zürich"}}]

    at_home(emulate((), script=script), monkeypatch)
    tool = {
        "name": "look",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    with Cascade(mixed()) as driver:
        asked: dict[str, Any] = {"model": "claude-cascade-mixed", "max_tokens": 99, "tools": [tool]}
        turn: list[Any] = [{"role": "user", "content": "How warm is it?"}]
        called = driver.messages.create(**asked, messages=turn)
        assert called.stop_reason == "tool_use"
        (block,) = called.content
        assert (block.name, block.input) == ("look", {"city": "Zürich"})
        result = {"type": "tool_result", "tool_use_id": block.id, "content": "21 °C"}
        turn += [{"role": "assistant", "content": [block.to_dict()]}, {"role": "user", "content": [result]}]
        ended = driver.messages.create(**asked, messages=turn)
    assert ended.content[0].text == "It is 21 °C."
    assert ended.cascade.rung == "middle"
    assert [step.rung for step in ended.cascade.steps] == ["middle"], "it goes on with the rung that called"


def test_an_input_that_breaks_the_tools_schema_climbs(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is checked, whoever made it."""

    def script(body: dict[str, Any], headers: Any) -> Any:
        if body["model"] == SONNET:
            return [{"type": "text", "text": "no call"}]
        name = "cascade_escalate" if body["model"] == HAIKU else "look"
        return [{"type": "tool_use", "name": name, "input": {"town": 1}}]

    emulator = at_home(emulate((), script=script), monkeypatch)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    with Cascade(mixed()) as driver:
        message = driver.messages.create(
            model="claude-cascade-mixed", max_tokens=9, messages=[{"role": "user", "content": "?"}],
            tools=[{"name": "look", "input_schema": schema}],
        )  # fmt: skip
    assert [step.reason for step in message.cascade.steps] == ["declined", "check_failed", None]
    assert emulator.requests_by_model[LUNA] == 1


def test_the_top_rung_streams_whole_and_stops_at_the_callers_sequence(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream over another vendor's top rung has the Messages API's events, and ends where the caller said."""

    def script(body: dict[str, Any], headers: Any) -> Any:
        return ScriptedReply([{"type": "text", "text": "one END two"}], confidence=0.1)

    at_home(emulate((), script=script), monkeypatch)
    with (
        Cascade(mixed(top="openai")) as driver,
        driver.messages.stream(
            model="claude-cascade-mixed",
            max_tokens=99,
            messages=[{"role": "user", "content": "?"}],
            stop_sequences=["END"],
        ) as stream,
    ):
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "one "
    assert (message.stop_reason, message.stop_sequence, stream.cascade.rung) == ("stop_sequence", "END", "top")


def test_what_it_has_no_place_for_is_refused_before_anything_is_sent(both: Emulator) -> None:
    """A document, with the rung that cannot read it."""
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
    turn = {"role": "user", "content": [document, {"type": "text", "text": "?"}]}
    with (
        Cascade(mixed()) as driver,
        pytest.raises(RequestError, match=r"type document, and rung middle \(provider openai\)"),
    ):
        driver.ask([turn])
    assert both.requests == ()


def test_a_slow_body_does_not_outlast_the_rungs_time(
    asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that trickles is given up when its time is over, and the climb goes on."""
    emulator = at_home(emulate(CLIMBS, f"trickle,delay_s=0.2,model={LUNA}"), monkeypatch)
    policy = mixed()
    quick = policy.ladder[1].model_copy(update={"timeout_s": 0.3})
    policy = policy.model_copy(
        update={
            "ladder": (policy.ladder[0], quick, policy.ladder[2]),
            "retry": policy.retry.model_copy(update={"attempts": 1}),
        }
    )
    answer = asking(policy, emulator).ask("middle")
    assert (answer.text, answer.steps[1].reason) == ("sonnet's", "error")
    assert answer.steps[1].verdict.detail.startswith("timeout")


def test_it_is_not_asked_again_where_the_endpoint_says_so(asking: Asking, script: Script, emulate: Emulate) -> None:
    """Its own hints: `x-should-retry`, and an error that no retry mends; else the climb's retries are taken."""
    busy = {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}
    quota = {"error": {"message": "no money", "type": "insufficient_quota", "code": "insufficient_quota"}}
    emulator = emulate(CLIMBS)
    for response, attempts in (
        ((429, {"x-should-retry": "false"}, busy), 1),
        ((429, {"retry-after-ms": "1"}, busy), 3),
        ((429, {}, quota), 1),
        ((503, {"retry-after": "900"}, busy), 1),
    ):
        there = script(response)
        policy = mixed()
        rung = policy.ladder[1].model_copy(update={"base_url": f"{there.base_url}/v1"})
        policy = policy.model_copy(update={"ladder": (policy.ladder[0], rung, policy.ladder[2])})
        answer = asking(policy, emulator).ask("middle")
        assert (there.requests, answer.steps[1].attempts, answer.rung) == (attempts, attempts, "top")


def test_an_endpoint_that_is_not_there_is_named(asking: Asking, emulate: Emulate) -> None:
    """In the trail, without a key; and the climb goes on past it."""
    policy = mixed()
    rung = policy.ladder[1].model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    policy = policy.model_copy(update={"ladder": (policy.ladder[0], rung, policy.ladder[2])})
    answer = asking(policy, emulate(CLIMBS)).ask("middle")
    assert answer.rung == "top"
    assert answer.steps[1].verdict.detail == "unreachable, http://127.0.0.1:9/v1: connection refused"
    assert answer.steps[1].attempts == 2


def test_a_voter_may_be_of_another_vendor(asking: Asking, emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Haiku's rung asks Haiku and Luna, and ships what both say."""

    def script(body: dict[str, Any], headers: Any) -> Any:
        return ScriptedReply([{"type": "text", "text": "42"}], confidence=0.9)

    emulator = at_home(emulate((), script=script), monkeypatch)
    ladder = [
        {
            "rung": "haiku", "model": HAIKU, "max_tokens": 99, "thinking": "disabled",
            "samples": {"max": 2, "agree": 2, "variants": ["confidence_first", {"model": LUNA, "provider": "openai"}]},
        },
        {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 99},
    ]  # fmt: skip
    answer = asking(Policy.model_validate({"version": 1, "name": "votes", "ladder": ladder}), emulator).ask("?")
    assert (answer.text, answer.rung) == ("42", "haiku")
    assert dict(emulator.requests_by_model) == {HAIKU: 1, LUNA: 1}


def test_a_span_names_its_rungs_vendor(both: Emulator) -> None:
    """Of each call; the climb's own is the first rung's, whose vendor is Anthropic by the law of the ladder."""
    spans, tracers, meters = InMemorySpanExporter(), TracerProvider(), MeterProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    with Cascade(mixed(), ledger="off", hooks=[OpenTelemetry(tracers, meters)]) as driver:
        driver.ask("middle")
    told = {span.name: (span.attributes or {})["gen_ai.provider.name"] for span in spans.get_finished_spans()}
    assert told == {"invoke_workflow": "anthropic", f"chat {HAIKU}": "anthropic", f"chat {LUNA}": "openai"}
    tracers.shutdown()
    meters.shutdown()


def test_a_recording_and_its_replay_know_another_vendors_rung(
    both: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`record` asks it through its own API, and `replay` climbs over what was recorded as the live climb did."""
    policy, inputs, made = tmp_path / "mixed.yaml", tmp_path / "inputs.jsonl", tmp_path / "made.jsonl"
    policy.write_text(json.dumps(mixed().model_dump(mode="json", exclude_unset=True)))
    inputs.write_text(
        "".join(json.dumps({"id": text, "input": text, "expected": "luna's"}) + "\n" for text in ("middle", "top"))
    )
    code = run_command(
        ["record", str(inputs), "-o", str(made), "--policy", str(policy), "--max-usd", "1", "--grader", "exact"]
    )
    assert code == 0, capsys.readouterr()
    assert both.requests_by_model[LUNA] == 2
    capsys.readouterr()
    assert run_command(["replay", str(made), "--policy", str(policy), "--json"]) == 0
    assert '"middle"' in capsys.readouterr().out
