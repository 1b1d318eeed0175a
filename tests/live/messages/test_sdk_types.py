"""The SDK's own messages and streams, made of an answer: nothing but `cascade` tells them from the API's."""

from __future__ import annotations

import asyncio
import copy
import io
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic import types
from anthropic.lib import streaming

from cascade.claude.messages import (
    NOT_GIVEN,
    AsyncMessageStreamManager,
    AsyncStream,
    MessageStreamManager,
    Stream,
    event_of,
    format_of,
    given,
    is_async,
    message_of,
    seconds_of,
)
from cascade.core.errors import ConfigurationError, RequestError
from cascade.core.message_events import content_events, end_events, message_dict, start_event
from cascade.core.messages import Message, Usage
from cascade.core.trail import Answer, Step, Verdict

USAGE = Usage(100, 20, cache_read=5)
CONTENT = (
    {"type": "text", "text": "Let me look. 😀"},
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Łódź"}},
)


def answer_of(*content: dict[str, Any], stop_reason: str = "end_turn") -> Answer:
    """An answer of one rung with this content."""
    text = "".join(block.get("text", "") for block in content)
    verdict = Verdict("answered", text=text, message=Message("msg_1", content, stop_reason))
    step = Step(0, "haiku", "claude-haiku-5-5", verdict, usage=USAGE, request_id="req_1")
    return Answer(
        text=text, data=None, rung="haiku", model="claude-haiku-5-5", confidence=0.9, confidence_source=None, steps=(step,),
        usage=USAGE, cost_nanousd=1, degraded=None, abstained=None, attempts=1, latency_s=0.1, request_id="casc_1",
        task="other", flags=(), metadata={}, policy="test", policy_hash="x",
    )  # fmt: skip


class Recorded:
    """The events of a finished request: sync and async."""

    def __init__(self, answer: Answer) -> None:
        whole, message = message_dict(answer), answer.message
        start = start_event(whole["id"], whole["model"], Usage(100, 1, cache_read=5))
        end = end_events(message, USAGE)
        self._events, self._answer = [start, *content_events(message), *end], answer
        self.closed, self.read = 0, 0

    @property
    def answer(self) -> Answer | None:
        """There once all was read."""
        return self._answer if self.read == len(self._events) else None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self._events:
            self.read += 1
            yield event

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for event in self._events:
            self.read += 1
            yield event

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1


def test_a_message_is_the_sdks_own() -> None:
    """Its very type, equal to one that the API sent, with what the API says of it; `cascade` is no field of it."""
    answer = answer_of(*CONTENT, stop_reason="tool_use")
    message = message_of(answer)
    assert type(message) is types.Message
    assert message.cascade is answer
    assert message == types.Message.model_validate(message_dict(answer))
    assert "cascade" not in message.model_dump() | message.to_dict()
    assert "cascade" not in message.to_json() + repr(message)
    assert message._request_id == "req_1"
    assert isinstance(message.content[1], types.ToolUseBlock)
    assert copy.copy(message).cascade is answer  # pyright: ignore[reportAttributeAccessIssue]
    assert pickle.loads(pickle.dumps(message)).cascade == answer


def test_a_message_can_be_sent_back_as_it_is() -> None:
    """The SDK's objects become the plain values that the API sent."""
    message = message_of(answer_of(*CONTENT))
    sent = given({"messages": [{"role": "assistant", "content": message.content}, message.to_param()]})
    assert sent == {"messages": [{"role": "assistant", "content": list(CONTENT)}] * 2}


def test_only_what_was_given_is_read() -> None:
    """As in the SDK: what it calls omitted is left out, and any iterable is a list."""
    keywords = {
        "a": anthropic.omit,
        "b": NOT_GIVEN,
        "c": None,
        "d": (x for x in "xy"),
        "e": {"f": anthropic.omit, "g": {}.values()},
    }
    assert given(keywords) == {"c": None, "d": ["x", "y"], "e": {"g": []}}


def test_a_file_is_left_for_the_sdk_to_read() -> None:
    """It is an iterator of lines, too."""
    file = io.BytesIO(b"x")
    assert given({"source": {"data": file}})["source"]["data"] is file


def test_a_parameter_that_holds_itself_is_refused() -> None:
    """It has no end."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RequestError, match="refer to themselves"):
        given({"messages": loop})


def test_a_stream_yields_the_sdks_events() -> None:
    """The answer is there after the last of them."""
    answer = answer_of(*CONTENT)
    recorded = Recorded(answer)
    with Stream(recorded) as stream:
        assert isinstance(stream, anthropic.Stream)
        first = next(stream)
        assert isinstance(first, types.RawMessageStartEvent)
        with pytest.raises(AttributeError):
            _ = stream.cascade
        rest = list(stream)
    assert isinstance(rest[-1], types.RawMessageStopEvent)
    assert stream.cascade is answer
    assert [event.type for event in (first, *rest)] == [event["type"] for event in recorded]
    assert recorded.closed


def test_a_stream_that_is_left_early_is_closed() -> None:
    """At the end of the block, by `close`, or when nobody holds it any more."""
    for leave in ("block", "close", "drop"):
        recorded = Recorded(answer_of(*CONTENT))
        stream = Stream(recorded)
        next(stream)
        if leave == "block":
            with stream:
                pass
        elif leave == "close":
            stream.close()
        else:
            del stream
        assert recorded.closed, leave


def test_a_stream_has_no_response_of_its_own() -> None:
    """It says why."""
    with pytest.raises(AttributeError, match="several HTTP responses"):
        _ = Stream(Recorded(answer_of())).response


def test_the_sdks_helper_reads_the_stream() -> None:
    """Its text, its events and its final message are as if they came from the API, and carry the answer."""
    answer = answer_of(*CONTENT, stop_reason="tool_use")
    recorded = Recorded(answer)
    with MessageStreamManager(lambda: Stream(recorded), NOT_GIVEN) as stream:
        assert isinstance(stream, streaming.MessageStream)
        assert "".join(stream.text_stream) == "Let me look. 😀"
        final: Any = stream.get_final_message()
    assert final.to_dict() == message_of(answer).to_dict()
    assert final.cascade is stream.cascade is answer
    assert stream.request_id == "req_1"
    assert recorded.closed


def test_the_async_helper_reads_the_stream() -> None:
    """As the sync one."""
    answer = answer_of(*CONTENT, stop_reason="tool_use")
    recorded = Recorded(answer)

    async def read() -> Any:
        async with AsyncMessageStreamManager(lambda: AsyncStream(recorded), NOT_GIVEN) as stream:
            assert isinstance(stream, streaming.AsyncMessageStream)
            assert "".join([text async for text in stream.text_stream]) == "Let me look. 😀"
            final: Any = await stream.get_final_message()
        assert stream.cascade is answer
        assert stream.request_id == "req_1"
        return final

    final = asyncio.run(read())
    assert final.to_dict() == message_of(answer).to_dict()
    assert final.cascade is answer
    assert recorded.closed


def test_an_async_stream_that_is_left_early_is_closed() -> None:
    """By the end of the block."""
    recorded = Recorded(answer_of(*CONTENT))

    async def leave() -> None:
        async with AsyncStream(recorded) as stream:
            assert isinstance(stream, anthropic.AsyncStream)
            assert (await anext(stream)).type == "message_start"

    asyncio.run(leave())
    assert recorded.closed


def test_an_event_of_the_future_within_a_known_one_is_kept() -> None:
    """The SDK reads leniently, and so do we."""
    event: Any = event_of({"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "x": 1}})
    assert event.to_dict(warnings=False)["delta"] == {"type": "new_delta", "x": 1}


def test_a_type_becomes_the_schema_that_the_sdk_makes_of_it() -> None:
    """As `messages.parse` and `messages.stream` do."""
    assert format_of(int) == {"type": "json_schema", "schema": {"type": "integer"}}
    for wrong in ({"type": "object"}, object(), "x y"):
        with pytest.raises(RequestError, match=r"^output_format: "):
            format_of(wrong)


def test_a_time_out_is_a_number_of_seconds() -> None:
    """A climb has one deadline, not four."""
    assert (seconds_of(None), seconds_of(5), seconds_of(0.5)) == (None, 5, 0.5)
    with pytest.raises(RequestError, match=r"^timeout: "):
        seconds_of(anthropic.Timeout(5))


def test_clients_of_every_platform_are_told_apart() -> None:
    """Only clients of the SDK can be wrapped."""
    assert not is_async(anthropic.Anthropic(api_key="k"))
    assert is_async(anthropic.AsyncAnthropic(api_key="k"))
    with pytest.raises(ConfigurationError, match="str is not a client"):
        is_async("client")
