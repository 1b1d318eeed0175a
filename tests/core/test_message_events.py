"""An answer in the shapes of the Messages API: the SDK reads the whole message, and makes the same of its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from anthropic import types
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cascade.core.message_events import (
    block_stop,
    content_events,
    end_events,
    message_dict,
    message_id,
    start_event,
    text_delta,
    text_start,
    usage_dict,
)
from cascade.core.messages import Message, Usage
from cascade.core.trail import Answer, Step, Verdict

USAGE = Usage(100, 20, cache_write_5m=3, cache_write_1h=4, cache_read=5, thinking_tokens=6)
ID = "casc_0123456789abcdef"


def answer_of(message: Message | None, text: str | None = "yes", usage: Usage = USAGE) -> Answer:
    """An answer of the second rung with this message."""
    verdict = Verdict("answered" if text is not None else "malformed", text=text, message=message)
    steps = (
        Step(0, "haiku", "claude-haiku-5-5", Verdict("declined"), usage=Usage(1, 1)),
        Step(1, "sonnet", "claude-sonnet-5-5", verdict, usage=usage),
    )
    return Answer(
        text=text, data=None, rung="sonnet", model="claude-sonnet-5-5", confidence=0.9, confidence_source=None, steps=steps,
        usage=usage, cost_nanousd=1, degraded=None, abstained=None, attempts=2, latency_s=0.1, request_id=ID, task="other",
        flags=(), metadata={}, policy="test", policy_hash="x",
    )  # fmt: skip


def events_of(answer: Answer) -> list[dict[str, Any]]:
    """The whole stream of an answer."""
    whole, message = message_dict(answer), answer.message
    end = end_events(message, Usage.from_api(whole["usage"]))
    begun = Usage.from_api({**whole["usage"], "output_tokens": 1})
    return [start_event(whole["id"], whole["model"], begun, message.more), *content_events(message), *end]


def accumulated(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What the SDK makes of a stream, as plain values."""
    adapter: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        read = adapter.validate_python(event)
        snapshot = accumulate_event(event=read, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot.model_dump(mode="json", exclude_none=True)


def whole(answer: Answer) -> dict[str, Any]:
    """What the SDK makes of the whole message, as plain values."""
    return types.Message.model_validate(message_dict(answer)).model_dump(mode="json", exclude_none=True)


CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
CONTENTS: list[tuple[dict[str, Any], ...]] = [
    (),
    ({"type": "text", "text": ""},),
    ({"type": "text", "text": "yes\n\u0000😀"},),
    ({"text": "cited", "type": "text", "citations": [CITATION, CITATION]},),
    ({"type": "text", "text": "let me look"}, {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Łódź"}}),
    ({"type": "tool_use", "id": "t1", "name": "now", "input": {}}, {"type": "tool_use", "id": "t2", "name": "now", "input": {"a": [1]}}),
    (
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "so"},
    ),
    ({"type": "thinking", "thinking": "", "signature": "c2ln"}, {"type": "text", "text": "so"}),
    (
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
    ),
]  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    "end", [("end_turn", None), ("stop_sequence", "END"), ("max_tokens", None), ("tool_use", None)]
)
def test_the_events_make_the_whole_message(content: tuple[dict[str, Any], ...], end: tuple[str, str | None]) -> None:
    """The SDK's own accumulation of the stream is the message that is returned whole."""
    answer = answer_of(Message("msg_1", content, *end))
    assert accumulated(events_of(answer)) == whole(answer)


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=3), max_size=5))
def test_a_text_that_comes_in_pieces_is_the_same_message(text: str, pieces: list[str]) -> None:
    """Its deltas, concatenated, are the text."""
    text = text + "".join(pieces)
    first = text[: len(text) - len("".join(pieces))]
    answer = answer_of(Message("msg_1", ({"type": "text", "text": text},), "end_turn"))
    start, *_, delta, stop = events_of(answer)
    middle = [text_start(0), *(text_delta(0, piece) for piece in (first, *pieces)), block_stop(0)]
    assert accumulated([start, *middle, delta, stop]) == whole(answer)


def test_an_answer_without_a_message_of_its_own_is_one_text_that_ended() -> None:
    """Its id is made of the request's, and its usage is that of the step that was shipped."""
    body = message_dict(answer_of(None))
    assert body["id"] == "msg_0123456789abcdef" == message_id(ID)
    assert (body["content"], body["stop_reason"]) == ([{"type": "text", "text": "yes"}], "end_turn")
    assert (body["role"], body["type"], body["model"]) == ("assistant", "message", "claude-sonnet-5-5")
    assert Usage.from_api(body["usage"]) == USAGE


def test_an_answer_without_text_is_a_message_without_content() -> None:
    """An abstention is no text."""
    assert message_dict(answer_of(None, text=None))["content"] == []


@given(st.builds(Usage, *[st.integers(0, 10**6)] * 6, st.booleans()))
def test_a_usage_is_read_back_as_it_was(usage: Usage) -> None:
    """The API's shape holds all that is known of it."""
    assert Usage.from_api(usage_dict(usage)) == usage
