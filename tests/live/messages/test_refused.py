"""Keywords that cannot climb: named before anything is sent, or sent to the baseline unchanged where the policy says so."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.core.errors import RequestError, UpstreamRejected
from cascade.core.parameters import CannotClimb
from tests.live.conftest import HAIKU, OPUS, ladder

from .conftest import BASE, Open, plain, saying, text
from .dialogues import WEATHER
from .test_conversations import trail_of

ASKED: dict[str, Any] = {**BASE, "messages": [{"role": "user", "content": "x"}]}
PREFILL = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is ("}]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0}, "temperature: "),
    ({"extra_body": {"top_p": 0.5}}, "top_p: "),
    ({"messages": PREFILL}, "messages: .*prefill"),
    ({"max_tokens": 0}, "max_tokens: "),
    ({"thinking": {"type": "disabled"}}, f"thinking.type: .*{OPUS}"),
    ({"extra_query": {"a": "b"}}, "extra_query: "),
    ({"extra_headers": {"Authorization": "Bearer x"}}, "extra_headers: "),
    ({"timeout": "soon"}, "timeout: "),
    ({"timeout": -1}, "timeout|deadline_s: "),
    ({"model": "claude-cascade-other"}, "model: 'claude-cascade-other' .*claude-cascade-live"),
    ({"model": None}, "model: "),
]


@pytest.mark.parametrize(("keywords", "told"), REFUSED)
def test_what_cannot_climb_is_refused_before_anything_is_sent(stage: Open, keywords: dict[str, Any], told: str) -> None:
    """In every way to ask, with the name of what is refused."""
    play = stage(lambda *_: saying(text("fine")))
    with pytest.raises(RequestError, match=f"^(?:{told})"):
        play.climbing(**{**ASKED, **keywords})
    assert not play.emulator.requests


@pytest.mark.parametrize("way", ["create"])
@pytest.mark.parametrize("stream", [None, "yes", 1])
def test_a_stream_is_wanted_or_not(stage: Open, stream: object) -> None:
    """Anything else is a mistake."""
    play = stage(lambda *_: saying(text("fine")))
    with pytest.raises(RequestError, match=r"^stream: "):
        play.driver.messages.create(**ASKED, stream=stream)


CITED = {
    "type": "document", "citations": {"enabled": True},
    "source": {"type": "text", "media_type": "text/plain", "data": "Three years."},
}  # fmt: skip


def test_bypass_sends_it_to_the_baseline_unchanged(stage: Open) -> None:
    """The very body but for the model, and the answer says that it did not climb, and why."""
    play = stage(lambda *_: saying(text("B)")), policy=ladder(bypass="baseline"))
    asked: dict[str, Any] = {
        **ASKED, "messages": [{"role": "user", "content": [CITED]}], "model": "claude-cascade-live", "system": "s",
        "service_tier": "auto", "output_config": {"effort": "low"}, "metadata": {"user_id": "u"},
    }  # fmt: skip
    message = play.climbing(**asked)
    answer = trail_of(play, message)
    (body,) = (seen.body for seen in play.emulator.requests)
    assert {**body, "stream": None} == {**asked, "model": OPUS, "stream": None}
    assert (message.content[0].text, message.model) == ("B)", OPUS)
    assert (answer.arm, answer.bypass, answer.rung) == ("bypass", True, "opus")
    (note,) = answer.notes
    assert note.startswith("sent to the baseline unchanged: messages.0.content.0.citations")


CALL: dict[str, Any] = {"type": "tool_use", "name": "weather", "input": {"day": "not a number"}}


@pytest.mark.parametrize(
    ("content", "stop_reason"),
    [((text("cut o"),), "max_tokens"), ((), "refusal"), ((CALL,), "tool_use"), ((), "end_turn")],
)
def test_whatever_the_baseline_says_is_returned(
    stage: Open, content: tuple[dict[str, Any], ...], stop_reason: str
) -> None:
    """It was to be unchanged: nothing of it is checked."""
    play = stage(lambda *_: saying(*content, stop_reason=stop_reason), policy=ladder(bypass="baseline"))
    asked = {**ASKED, "messages": [{"role": "user", "content": [CITED]}], "tools": [WEATHER]}
    direct, passed = play.direct(**asked), play.climbing(**asked)
    assert plain(passed) == plain(direct)
    assert passed.stop_reason == stop_reason
    assert len(play.emulator.requests) == 2


def test_what_the_baseline_refuses_is_refused_in_the_apis_words(stage: Open) -> None:
    """The bypass promises no more than the baseline alone."""
    play = stage(lambda *_: saying(text("fine")), policy=ladder(bypass="baseline"))
    with pytest.raises(UpstreamRejected, match="temperature") as caught:
        play.climbing(**ASKED, temperature=0)
    assert caught.value.status == 400
    assert len(play.emulator.requests) == 1


def test_what_is_invalid_is_refused_whatever_the_policy_says(stage: Open) -> None:
    """The baseline would refuse it, too."""
    play = stage(lambda *_: saying(text("fine")), policy=ladder(bypass="baseline"))
    with pytest.raises(RequestError, match=r"^max_tokens: ") as caught:
        play.climbing(**{**ASKED, "max_tokens": "many"})
    assert not isinstance(caught.value, CannotClimb)
    assert not play.emulator.requests


@pytest.mark.parametrize("way", ["create", "async create"])
@pytest.mark.parametrize("name", ["with_raw_response", "with_streaming_response", "batches", "creat"])
def test_what_messages_that_climb_lack_says_what_to_do(stage: Open, name: str) -> None:
    """An AttributeError, so that code which looks whether it is there sees that it is not."""
    play = stage(lambda *_: saying(text("fine")))
    with pytest.raises(AttributeError, match=f"{name}.*(climb|it has create)"):
        getattr(play.driver.messages, name)


@pytest.mark.parametrize("way", ["create", "async create"])
def test_tokens_are_counted_for_the_first_rung(stage: Open, connections: Any, way: str) -> None:
    """By the model that is asked first; nothing is generated."""
    play = stage(lambda *_: saying(text("fine")))
    asked = play.driver.messages.count_tokens(model="claude-cascade-live", messages=ASKED["messages"])
    count = connections.runner.run(asked) if way.startswith("async") else asked
    (seen,) = play.emulator.requests
    assert (seen.path, seen.body["model"]) == ("/v1/messages/count_tokens", HAIKU)
    assert count.input_tokens > 0
