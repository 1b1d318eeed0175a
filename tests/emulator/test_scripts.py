from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx2
import pytest

from cascade.core.messages import Usage
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.requests import ApiError

from .conftest import CORPUS, HAIKU, TRIAGE, asking

Make = Callable[..., anthropic.Anthropic]
_HEADERS = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}
_WEATHER: dict[str, Any] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_CALL: dict[str, Any] = {"type": "tool_use", "name": "weather", "input": {"city": "Zürich, 8001", "days": [1, 2]}}
_EVERY_KIND: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "The user wants the weather. I have a tool for it."},
    {"type": "text", "text": "I look it up – one moment."},
    {"type": "server_tool_use", "name": "web_search", "input": {"query": "weather Zürich"}},
    {"type": "web_search_tool_result", "content": []},
    {"type": "redacted_thinking", "data": "c2VjcmV0"},
    _CALL,
    {"type": "tool_use", "name": "now", "input": {}},
]


@pytest.fixture
def play() -> Iterator[Make]:
    """A real client of an emulator that plays a script, without a corpus if none is given."""
    with ExitStack() as stack:

        def start(script: Any, corpus: Any = (), **options: Any) -> anthropic.Anthropic:
            emulator = stack.enter_context(Emulator(corpus, script=script, **options))
            return stack.enter_context(
                anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0, timeout=20)
            )

        yield start


def saying(*blocks: dict[str, Any], **more: Any) -> Callable[..., ScriptedReply]:
    """A script that always answers this."""
    return lambda _body, _headers: ScriptedReply(blocks, **more)


def collect(client: anthropic.Anthropic, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, as they were sent."""
    address = str(client.base_url).rstrip("/")
    response = httpx2.post(f"{address}/v1/messages", json=asking(stream=True, **more), headers=_HEADERS)
    return [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data: ")]


def test_an_agent_loop_is_played_to_its_end(play: Make) -> None:
    """The script sees each turn: it calls a tool, reads the result, and answers."""

    def script(body: dict[str, Any], headers: Any) -> list[dict[str, Any]]:
        last = body["messages"][-1]["content"]
        if isinstance(last, str):
            return [_CALL]
        return [{"type": "text", "text": f"It is {last[0]['content']}."}]

    client = play(script)
    messages: list[Any] = [{"role": "user", "content": "The weather in Zürich?"}]
    first = client.messages.create(model=HAIKU, max_tokens=100, tools=[_WEATHER], messages=messages)  # type: ignore[list-item]
    call: Any = first.content[0]
    assert (first.stop_reason, call.type, call.input) == ("tool_use", "tool_use", _CALL["input"])
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 °C"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(model=HAIKU, max_tokens=100, tools=[_WEATHER], messages=messages) as stream:  # type: ignore[list-item]
        second = stream.get_final_message()
    assert (second.stop_reason, second.content[0].to_dict()["text"]) == ("end_turn", "It is 21 °C.")


def test_a_stream_of_every_kind_of_block_adds_up_to_the_message(play: Make) -> None:
    """The SDK's own accumulation equals the JSON reply, but for its ids."""
    client = play(saying(*_EVERY_KIND))
    whole = client.messages.create(**asking())
    with client.messages.stream(**asking()) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == [block["type"] for block in _EVERY_KIND]
    made = [message.to_dict() for message in (whole, streamed)]
    for message in made:
        message.pop("id")
        for block in message["content"]:  # type: ignore[attr-defined]
            block.pop("id", None)
            block.pop("tool_use_id", None)
    assert made[0] == made[1]


def test_each_kind_of_block_streams_as_in_the_api(play: Make) -> None:
    """Blocks begin empty; thinking ends with its signature; calls come as pieces of JSON, an empty one first."""
    events = collect(play(saying(*_EVERY_KIND)))
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    kinds: dict[int, list[str]] = {}
    pieces: dict[int, list[str]] = {}
    for event in events:
        if event["type"] == "content_block_delta":
            kinds.setdefault(event["index"], []).append(event["delta"].pop("type"))
            pieces.setdefault(event["index"], []).extend(event["delta"].values())
    assert [(start.get("thinking"), start.get("signature")) for start in starts[:1]] == [("", "")]
    assert (starts[1]["text"], starts[2]["input"], starts[5]["input"], starts[4]["data"]) == ("", {}, {}, "c2VjcmV0")
    assert starts[3] == {"type": "web_search_tool_result", "content": [], "tool_use_id": starts[2]["id"]}
    assert kinds[0] == ["thinking_delta"] * 4 + ["signature_delta"]
    assert set(kinds[1]) == {"text_delta"}
    assert set(kinds[2]) == set(kinds[5]) == {"input_json_delta"}
    assert kinds.keys() == {0, 1, 2, 5, 6}
    assert pieces[5][0] == ""
    assert max(map(len, pieces[5])) == 16
    assert (json.loads("".join(pieces[5])), pieces[6]) == (_CALL["input"], ["", "{", "}"])
    assert [event["type"] for event in events if "block" not in event["type"]] == [
        "message_start", "ping", "message_delta", "message_stop",
    ]  # fmt: skip


def test_a_streams_usage_is_told_in_the_end(play: Make) -> None:
    """message_start tells one output token; message_delta all of them, the thinking, and why it stopped."""
    events = collect(play(saying(*_EVERY_KIND)))
    start, end = events[0]["message"], events[-2]
    assert (start["usage"]["output_tokens"], start["stop_reason"]) == (1, None)
    assert "output_tokens_details" not in start["usage"]
    assert end["delta"]["stop_reason"] == "tool_use"
    assert end["usage"]["output_tokens_details"] == {"thinking_tokens": 13}
    assert end["usage"]["output_tokens"] == 41  # 164 characters


def test_ids_are_unique_and_the_same_in_every_run(play: Make) -> None:
    """No two calls share one, and an emulator that is started anew gives them again; a script's own id is kept."""
    own = {**_CALL, "id": "toolu_mine"}
    runs: list[list[str]] = []
    for _ in range(2):
        client = play(saying(_CALL, _CALL, own))
        contents = [client.messages.create(**asking()).content for _ in range(2)]
        runs.append([block.id for content in contents for block in content if block.type == "tool_use"])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 5
    assert all(found.startswith("toolu_") for found in runs[0])
    assert runs[0][2] == "toolu_mine"


def test_a_script_that_has_no_answer_leaves_the_request_to_the_corpus(play: Make) -> None:
    """What the script does not know is answered as recorded, or is a 404."""
    client = play(lambda _body, _headers: None, CORPUS)
    assert client.messages.create(**asking("plain")).content[0].to_dict()["text"] == "yes – ja"
    with pytest.raises(anthropic.NotFoundError, match="model: elsewhere"):
        client.messages.create(**asking("plain", model="elsewhere"))


def test_a_script_sees_the_headers_and_any_model(play: Make) -> None:
    """Its answer may depend on both."""
    client = play(lambda body, headers: [{"type": "text", "text": body["model"] + headers["x-who"]}])
    message = client.messages.create(**asking(model="any-model"), extra_headers={"X-Who": "!"})
    assert (message.content[0].to_dict()["text"], message.model) == ("any-model!", "any-model")


def test_a_script_may_wait(play: Make) -> None:
    """An `async` one does not hold up other requests: two that wait for each other both end."""
    waiting: list[asyncio.Event] = []

    async def script(body: Any, headers: Any) -> list[dict[str, Any]]:
        waiting.append(asyncio.Event())
        if len(waiting) == 2:
            for event in waiting:
                event.set()
        await waiting[-1].wait()
        return [{"type": "text", "text": "met"}]

    async def ask_both(address: str) -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=address, api_key="t", max_retries=0, timeout=20) as client:
            both = await asyncio.gather(*[client.messages.create(**asking()) for _ in range(2)])
            return [message.content[0].to_dict()["text"] for message in both]  # type: ignore[misc]

    assert asyncio.run(ask_both(str(play(script).base_url))) == ["met", "met"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (lambda body, _headers: body["nothing"], "the script raised KeyError('nothing') in line"),
        (saying({"type": "text"}), "content.0: KeyError('text')"),
        (saying({"text": "x"}), "content.0: KeyError('type')"),
        (saying(usage={"input_tokens": "many"}), "input_tokens is not a count of tokens"),
    ],
    ids=["raises", "no text", "no type", "usage"],
)
def test_a_script_that_fails_is_a_400_that_says_why(play: Make, script: Any, told: str) -> None:
    """Nobody retries it, and the emulator goes on serving."""
    client = play(script)
    for _ in range(2):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**asking())
        assert told in str(caught.value)


def test_an_api_error_of_a_script_is_sent(play: Make) -> None:
    """A script may refuse a request as the API would."""

    def script(body: Any, headers: Any) -> None:
        raise ApiError(403, "permission_error", "not you")

    with pytest.raises(anthropic.PermissionDeniedError, match="not you"):
        play(script).messages.create(**asking())


@pytest.mark.parametrize(
    ("blocks", "confidence", "answer"),
    [
        ([{"type": "text", "text": "Three "}, {"type": "text", "text": "years."}], 0.85, "Three years."),
        ([], 0.2, None),
    ],
    ids=["text", "declined"],
)
def test_a_scripted_answer_becomes_a_verdict_where_one_is_asked_for(
    play: Make, blocks: list[dict[str, Any]], confidence: float, answer: str | None
) -> None:
    """One script serves a gated rung and a direct call: the confidence is told to the first only."""
    client = play(saying(*blocks, confidence=confidence))
    verdict = client.messages.create(**asking(output_config=TRIAGE)).content[0].to_dict()["text"]
    assert json.loads(verdict) == {"confidence": confidence, "answer": answer}  # type: ignore[arg-type]
    assert [block.to_dict()["text"] for block in client.messages.create(**asking()).content] == [
        block["text"] for block in blocks
    ]


def test_an_answer_with_a_schema_is_an_object_in_the_verdict(play: Make) -> None:
    """Where the answer's schema takes no text, the scripted text is its JSON."""
    form = {**TRIAGE["format"]["schema"]}
    city = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form["properties"] = {"confidence": {"type": "number"}, "answer": {"anyOf": [city, {"type": "null"}]}}
    client = play(saying({"type": "text", "text": '{"city": "Zürich"}'}, confidence=0.9))
    message = client.messages.create(**asking(output_config={"format": {"type": "json_schema", "schema": form}}))
    assert json.loads(message.content[0].to_dict()["text"]) == {"confidence": 0.9, "answer": {"city": "Zürich"}}  # type: ignore[arg-type]


def test_a_call_is_never_put_into_a_verdict(play: Make) -> None:
    """A gated rung that calls a tool gives no confidence."""
    client = play(saying({"type": "text", "text": "wait"}, _CALL, confidence=0.9))
    message = client.messages.create(**asking(output_config=TRIAGE))
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[0].to_dict()["text"] == "wait"


def test_a_script_says_why_it_stops_and_what_it_costs(play: Make) -> None:
    """Its own stop reason and usage are sent and billed; a count that it leaves out is estimated."""
    usage = {"input_tokens": 7, "cache_read_input_tokens": 900}
    client = play(saying({"type": "text", "text": "x" * 41}, stop_reason="pause_turn", usage=usage))
    message = client.messages.create(**asking())
    assert message.stop_reason == "pause_turn"
    assert Usage.from_api(message.usage.to_dict()) == Usage(7, 11, cache_read=900)
