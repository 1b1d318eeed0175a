"""The same conversations on the SDK's own client and on one that climbs: equal but for what the climb must change."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from tests.live.conftest import HAIKU, OPUS, SONNET, ladder

from .conftest import BASE, Open, plain, saying, text

Say = Callable[..., Any]
WEATHER = {
    "name": "weather",
    "description": "The weather of a day.",
    "input_schema": {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]},
}
PIXEL = base64.b64encode(b"not really a picture").decode()


def day_by_day(body: dict[str, Any], headers: Any) -> Any:
    """A model that asks for the weather of ten days, one after the other, and then sums up."""
    results = [
        block for message in body["messages"] if not isinstance(message["content"], str) for block in message["content"]
    ]
    known = [block["content"] for block in results if block["type"] == "tool_result"]
    if len(known) < 10:
        return saying(text(f"Day {len(known)}."), {"type": "tool_use", "name": "weather", "input": {"day": len(known)}})
    return saying(text(f"All ten: {', '.join(known)} 😀"))


def tool_loop(say: Say) -> list[Any]:
    """Ten calls, each answered; the SDK's own objects go back as they came."""
    messages: list[Any] = [{"role": "user", "content": "How was the weather?"}]
    said: list[Any] = []
    while True:
        reply = say(**BASE, tools=[WEATHER], messages=messages)
        said.append(reply)
        calls = [block for block in reply.content if block.type == "tool_use"]
        if not calls:
            return said
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": f"{call.input['day']} °C"} for call in calls
        ]
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]


def test_a_tool_loop_of_ten_turns(stage: Open) -> None:
    """Every call and the last answer are those that the model alone would have given."""
    play = stage(day_by_day)
    direct, climbed = tool_loop(play.direct), tool_loop(play.climbing)
    assert len(direct) == 11
    assert [plain(one) for one in climbed] == [plain(one) for one in direct]
    assert climbed[-1].content[-1].text.endswith("8 °C, 9 °C 😀")
    assert len(play.asked(HAIKU)) == 11  # the first rung, all the way


def echo(body: dict[str, Any], headers: Any) -> Any:
    """A model that says what it was shown, block by block."""
    shown = body["messages"][0]["content"]
    return saying(text(json.dumps([body["system"][0], *shown], sort_keys=True)))


SHOWN = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}, "title": "A"},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Three years."}},
    {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
]


def test_images_documents_and_cache_control_arrive_as_they_are(stage: Open) -> None:
    """Byte for byte, and at the head of the system prompt too."""
    system = [{"type": "text", "text": "Be exact.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    keywords: dict[str, Any] = {**BASE, "system": system, "messages": [{"role": "user", "content": SHOWN}]}
    play = stage(echo)
    direct, climbed = play.direct(**keywords), play.climbing(**keywords)
    assert plain(climbed) == plain(direct)
    assert json.loads(climbed.content[0].text) == [system[0], *SHOWN]


def thinking_at_the_top(body: dict[str, Any], headers: Any) -> Any:
    """A model that is sure only where it thinks."""
    if body.get("thinking") != {"type": "adaptive", "display": "summarized"}:
        return saying(text("Perhaps 7."), confidence=0.1)
    return saying({"type": "thinking", "thinking": "6 times 7 …"}, text("42"))


def test_extended_thinking_on_the_top_rung(stage: Open) -> None:
    """The caller's thinking goes to the top rung alone, and its blocks come back signed."""
    keywords = {
        **BASE,
        "messages": [{"role": "user", "content": "6 x 7?"}],
        "thinking": {"type": "adaptive", "display": "summarized"},
    }
    play = stage(thinking_at_the_top)
    direct, climbed = play.direct(**keywords), play.climbing(**keywords)
    assert plain(climbed) == plain(direct)
    assert [block.type for block in climbed.content] == ["thinking", "text"]
    assert [step.rung for step in trail_of(play, climbed).steps] == ["haiku", "sonnet", "opus"]
    assert all(
        body.get("thinking") in ({"type": "disabled"}, None) for model in (HAIKU, SONNET) for body in play.asked(model)
    )


def thinking_between_calls(body: dict[str, Any], headers: Any) -> Any:
    """A model that is not sure below the top, and there thinks before it calls a tool, and after."""
    if body["model"] != OPUS:
        return saying({"type": "tool_use", "name": "cascade_escalate", "input": {"reason": "hard"}})
    if len(body["messages"]) == 1:
        return saying(
            {"type": "thinking", "thinking": "I need it."}, {"type": "tool_use", "name": "weather", "input": {"day": 1}}
        )
    assert body["messages"][1]["content"][0]["thinking"] == "I need it.", "a loop's thinking must be sent back"
    return saying({"type": "thinking", "thinking": "So."}, text("Warm."))


def test_a_loop_on_the_top_rung_keeps_its_thinking(stage: Open) -> None:
    """It goes on where it is: the rungs below are not asked again, and the thinking is sent back with its signature."""
    play = stage(thinking_between_calls)

    def talk(say: Say) -> list[Any]:
        messages: list[Any] = [{"role": "user", "content": "The weather?"}]
        first = say(**BASE, tools=[WEATHER], messages=messages)
        result = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "19 °C"}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        return [first, say(**BASE, tools=[WEATHER], messages=messages)]

    direct, climbed = talk(play.direct), talk(play.climbing)
    assert [plain(one) for one in climbed] == [plain(one) for one in direct]
    assert (len(play.asked(HAIKU)), len(play.asked(SONNET)), len(play.asked(OPUS))) == (1, 1, 4)


@pytest.mark.parametrize("confidence", [0.95, 0.1])
def test_stop_sequences_end_the_answer(stage: Open, confidence: float) -> None:
    """In the envelope's answer, where we cut it, as on the top rung, where the API does."""
    play = stage(lambda *_: saying(text("one STOP two END three"), confidence=confidence))
    keywords = {**BASE, "messages": [{"role": "user", "content": "Count."}], "stop_sequences": ["END", "STOP"]}
    direct, climbed = play.direct(**keywords), play.climbing(**keywords)
    assert plain(climbed) == plain(direct)
    assert (climbed.content[0].text, climbed.stop_reason, climbed.stop_sequence) == ("one ", "stop_sequence", "STOP")
    assert trail_of(play, climbed).rung == ("haiku" if confidence > 0.9 else "opus")


class Order(BaseModel):
    """What is ordered."""

    item: str
    count: int


FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object", "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["item", "count"], "additionalProperties": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("confidence", [0.95, 0.1])
def test_structured_output(stage: Open, confidence: float) -> None:
    """Whoever answers: the text is the JSON that was asked for."""
    play = stage(lambda *_: saying(text('{"item": "Lämpchen", "count": 2}'), confidence=confidence))
    keywords = {**BASE, "messages": [{"role": "user", "content": "Two lamps."}], "output_config": {"format": FORMAT}}
    direct, climbed = play.direct(**keywords), play.climbing(**keywords)
    assert plain(climbed) == plain(direct)
    assert json.loads(climbed.content[0].text) == {"item": "Lämpchen", "count": 2}


@pytest.mark.parametrize("on", ["create", "async create"])
def test_parse_returns_the_callers_type(stage: Open, connections: Any, on: str, way: str) -> None:
    """As the SDK's own `parse`."""
    if way != "create":
        pytest.skip("once for each client")
    play = stage(lambda *_: saying(text('{"item": "lamp", "count": 2}')), on=on)
    keywords = {**BASE, "messages": [{"role": "user", "content": "Two lamps."}], "output_format": Order}
    asked = play.driver.messages.parse(**keywords)
    message = connections.runner.run(asked) if on.startswith("async") else asked
    assert message.parsed_output == Order(item="lamp", count=2)
    assert message.cascade.rung == "haiku"


@pytest.mark.parametrize(("stop_reason", "degraded"), [("max_tokens", "truncated"), ("refusal", "refused")])
def test_what_is_no_whole_answer_says_so(stage: Open, stop_reason: str, degraded: str) -> None:
    """Where nothing else may ship, the top rung's message is returned as the API sent it, and marked."""
    cut = saying(text("word word"), confidence=None, stop_reason=stop_reason)
    play = stage(lambda body, _: cut if body["model"] == OPUS else saying(confidence=0.5))
    keywords = {**BASE, "messages": [{"role": "user", "content": "Talk."}]}
    direct, climbed = play.direct(**keywords), play.climbing(**keywords)
    assert plain(climbed) == plain(direct)
    assert (climbed.content[0].text, climbed.stop_reason) == ("word word", stop_reason)
    answer = trail_of(play, climbed)
    assert (answer.degraded, answer.text, answer.rung) == (degraded, "word word", "opus")


def test_a_held_answer_is_better_than_a_truncated_one(stage: Open, way: str) -> None:
    """As in `ask`; a stream has begun to give it out by then."""
    if "create" not in way:
        pytest.skip("a stream has begun")
    cut = saying(text("word word"), confidence=None, stop_reason="max_tokens")
    play = stage(lambda body, _: cut if body["model"] == OPUS else saying(text("held"), confidence=0.5))
    climbed = play.climbing(**BASE, messages=[{"role": "user", "content": "Talk."}])
    assert (climbed.content[0].text, climbed.stop_reason) == ("held", "end_turn")
    assert climbed.cascade.degraded == "truncated"


ODD = ["a", "é", " ", "\n", '"', "\\", "/", "\0", "\u2028", "漢", "😀", "{", "}", "\\u0041", "END"]


def test_every_text_delta_concatenated_is_the_answers_text(stage: Open, way: str) -> None:
    """For random texts, in the envelope and plain, in pieces that end within escapes and surrogate pairs."""
    if way not in ("events", "async events"):
        pytest.skip("of a stream")
    chance = random.Random(3)
    answers = ["".join(chance.choices(ODD, k=chance.randrange(1, 60))) + "." for _ in range(25)]
    play = stage(
        lambda body, _: saying(
            text(answers[int(body["messages"][0]["content"])]),
            confidence=0.9 if int(body["messages"][0]["content"]) % 3 else 0.2,
        )
    )
    for number, said in enumerate(answers):
        message = play.climbing(**BASE, messages=[{"role": "user", "content": str(number)}])
        assert message.content[0].text == play.climbing.last.cascade.text == said
        assert play.climbing.last.cascade.rung == ("haiku" if number % 3 else "opus")


def test_what_goes_to_the_api_goes_to_every_rung(stage: Open) -> None:
    """Metadata, service tier, cache control, beta headers and what this version does not know."""
    play = stage(lambda *_: saying(text("hm"), confidence=0.1))
    keywords: dict[str, Any] = {
        **BASE, "messages": [{"role": "user", "content": "x"}], "metadata": {"user_id": "u-1"}, "service_tier": "auto",
        "cache_control": {"type": "ephemeral"}, "extra_headers": {"anthropic-beta": "one"}, "inference_geo": "us",
    }  # fmt: skip
    play.climbing(**keywords)
    for model in (HAIKU, SONNET, OPUS):
        (body,) = play.asked(model)
        sent = {name: body[name] for name in ("metadata", "service_tier", "cache_control", "inference_geo")}
        assert sent == {name: keywords[name] for name in sent}
    assert {seen.headers["anthropic-beta"] for seen in play.emulator.requests} == {"one"}


def test_the_climb_is_told_beside_the_message(stage: Open) -> None:
    """Who answered, and what all of it cost: the message's own usage is that of the rung that answered."""
    play = stage(lambda body, _: saying(text("fine"), confidence=0.9 if body["model"] == SONNET else 0.2))
    message = play.climbing(**BASE, messages=[{"role": "user", "content": "x"}])
    answer = trail_of(play, message)
    assert [step.rung for step in answer.steps] == ["haiku", "sonnet"]
    assert message.model == answer.model == SONNET
    assert message.usage.output_tokens == answer.steps[1].usage.output_tokens < answer.usage.output_tokens


def trail_of(play: Any, message: Any) -> Any:
    """The answer: on the message, or where the events were accumulated by the test, on the stream."""
    return getattr(message, "cascade", None) or play.climbing.last.cascade


def test_a_task_and_flags_come_as_headers(stage: Open) -> None:
    """As at the gateway; no model is sent them."""
    play = stage(lambda *_: saying(text("fine")), policy=ladder(tasks=[{"name": "refund", "floor": "sonnet"}]))
    headers = {"x-cascade-task": "refund", "x-cascade-flags": "vip", "x-cascade-metadata-team": "a"}
    message = play.climbing(**BASE, messages=[{"role": "user", "content": "x"}], extra_headers=headers)
    answer = trail_of(play, message)
    assert (answer.task, answer.flags, answer.metadata, answer.rung) == ("refund", ("vip",), {"team": "a"}, "sonnet")
    assert not any(name.startswith("x-cascade") for seen in play.emulator.requests for name in seen.headers)
