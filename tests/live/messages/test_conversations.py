"""The same conversations on the SDK's own client and on one that climbs: equal but for what the climb must change."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from pydantic import BaseModel

from tests.live.conftest import HAIKU, OPUS, SONNET, ladder

from .conftest import BASE, Open, plain, saying, text
from .dialogues import DIALOGUES, SHOWN


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_conversation_is_the_same_directly_and_climbing(stage: Open, name: str) -> None:
    """What the caller hears of the models is what the top model alone would have said."""
    dialogue = DIALOGUES[name]
    play = stage(dialogue.play)
    direct, climbed = dialogue.talk(play.direct), dialogue.talk(play.climbing)
    assert [plain(one) for one in climbed] == [plain(one) for one in direct]
    assert trail_of(play, climbed[-1]).rung == dialogue.ends_on


def test_a_tool_loop_stays_on_the_first_rung(stage: Open) -> None:
    """All ten turns and the last word, each asked once."""
    play = stage(DIALOGUES["a tool loop of ten turns"].play)
    heard = DIALOGUES["a tool loop of ten turns"].talk(play.climbing)
    assert heard[-1].content[-1].text.endswith("8 °C, 9 °C 😀")
    assert [seen.body["model"] for seen in play.emulator.requests] == [HAIKU] * 11


def test_images_documents_and_cache_control_arrive_as_they_are(stage: Open) -> None:
    """Byte for byte, and at the head of the system prompt too."""
    dialogue = DIALOGUES["images, documents and cache control"]
    (heard,) = dialogue.talk(stage(dialogue.play).climbing)
    assert json.loads(heard.content[0].text)[1:] == SHOWN


def test_thinking_goes_to_the_top_rung_alone(stage: Open) -> None:
    """Below it the policy's own holds, and its blocks come back signed."""
    dialogue = DIALOGUES["extended thinking on the top rung"]
    play = stage(dialogue.play)
    (heard,) = dialogue.talk(play.climbing)
    assert [block.type for block in heard.content] == ["thinking", "text"]
    assert heard.content[0].signature
    assert [body.get("thinking") for model in (HAIKU, SONNET) for body in play.asked(model)] == [
        {"type": "disabled"},
        None,
    ]


def test_a_loop_on_the_top_rung_goes_on_there(stage: Open) -> None:
    """The rungs below are not asked again."""
    dialogue = DIALOGUES["a tool loop that thinks"]
    play = stage(dialogue.play)
    dialogue.talk(play.climbing)
    assert [seen.body["model"] for seen in play.emulator.requests] == [HAIKU, SONNET, OPUS, OPUS]


@pytest.mark.parametrize("name", ["stop sequences", "stop sequences on the top rung"])
def test_stop_sequences_end_the_answer(stage: Open, name: str) -> None:
    """At the first of them, whoever cuts it: we in the envelope's answer, the API on the top rung."""
    (heard,) = DIALOGUES[name].talk(stage(DIALOGUES[name].play).climbing)
    assert (heard.content[0].text, heard.stop_reason, heard.stop_sequence) == ("one ", "stop_sequence", "STOP")


@pytest.mark.parametrize(
    ("name", "stop_reason", "degraded"),
    [("a truncated message", "max_tokens", "truncated"), ("a refusal", "refusal", "refused")],
)
def test_what_is_no_whole_answer_says_so(stage: Open, name: str, stop_reason: str, degraded: str) -> None:
    """Where nothing else may ship, the top rung's message is returned as the API sent it, and marked."""
    play = stage(DIALOGUES[name].play)
    (heard,) = DIALOGUES[name].talk(play.climbing)
    answer = trail_of(play, heard)
    assert (heard.stop_reason, answer.degraded, answer.text) == (stop_reason, degraded, "word word")


class Order(BaseModel):
    """What is ordered."""

    item: str
    count: int


@pytest.mark.parametrize("way", ["create", "async create"])
def test_parse_returns_the_callers_type(stage: Open, connections: Any, way: str) -> None:
    """As the SDK's own `parse`."""
    play = stage(lambda *_: saying(text('{"item": "lamp", "count": 2}')))
    keywords = {**BASE, "messages": [{"role": "user", "content": "Two lamps."}], "output_format": Order}
    asked = play.driver.messages.parse(**keywords)
    message = connections.runner.run(asked) if way.startswith("async") else asked
    assert message.parsed_output == Order(item="lamp", count=2)
    assert message.cascade.rung == "haiku"


@pytest.mark.parametrize("way", ["create", "async create"])
def test_a_held_answer_is_better_than_a_truncated_one(stage: Open) -> None:
    """As in `ask`; a stream has begun to give it out by then."""
    cut = saying(text("word word"), confidence=None, stop_reason="max_tokens")
    play = stage(lambda body, _: cut if body["model"] == OPUS else saying(text("held"), confidence=0.5))
    climbed = play.climbing(**BASE, messages=[{"role": "user", "content": "Talk."}])
    assert (climbed.content[0].text, climbed.stop_reason) == ("held", "end_turn")
    assert climbed.cascade.degraded == "truncated"


ODD = ["a", "é", " ", "\n", '"', "\\", "/", "\0", "\u2028", "漢", "😀", "{", "}", "\\u0041", "END"]


@pytest.mark.parametrize("way", ["events", "async events"])
def test_every_text_delta_concatenated_is_the_answers_text(stage: Open) -> None:
    """For random texts, in the envelope and plain, in pieces that end within escapes and surrogate pairs."""
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
