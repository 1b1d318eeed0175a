from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.messages import Usage
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.content import block_events, characters_of, cut_content, stop_at
from cascade.emulator.messages import EmulatedReply, stream_events
from cascade.emulator.requests import ApiRequest

from .conftest import CORPUS, HAIKU, asking

Play = Callable[..., tuple[Emulator, anthropic.Anthropic]]
_CALL: dict[str, Any] = {
    "type": "tool_use",
    "id": "toolu_1",
    "name": "look",
    "input": {"city": "Zürich", "days": [1, 2]},
}
_THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": "h" * 64, "signature": "s"}
_TEXT: dict[str, Any] = {"type": "text", "text": "t" * 48}


@pytest.fixture
def play() -> Iterator[Play]:
    """An emulator that always answers these blocks, and a client of it."""
    with ExitStack() as stack:

        def start(
            *blocks: dict[str, Any], told: dict[str, Any] | None = None, **options: Any
        ) -> tuple[Emulator, anthropic.Anthropic]:
            script = lambda _body, _headers: ScriptedReply(blocks, usage=told or {})  # noqa: E731
            emulator = stack.enter_context(Emulator(script=script, **options))
            client = anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0, timeout=20)
            return emulator, stack.enter_context(client)

        yield start


def shares(*blocks: dict[str, Any], usage: Usage) -> list[tuple[str, int]]:
    """The kinds of a stream's deltas and its end, with their output tokens."""
    request = ApiRequest(HAIKU, "", True, (), 1)
    found: list[tuple[str, int]] = []
    for event, tokens in stream_events(request, EmulatedReply(blocks, usage), "msg_1"):
        data = json.loads(event.decode().split("data: ", 1)[1])
        if data["type"] in ("content_block_delta", "message_delta"):
            found.append((data["delta"].get("type", "end"), tokens))
        else:
            assert tokens == 0
    return found


def test_the_tokens_of_a_stream_are_spread_over_its_deltas() -> None:
    """Thinking takes the thinking tokens, all else the rest; what writes nothing takes none."""
    found = shares(_THOUGHT, _TEXT, _CALL, usage=Usage(1, 100, thinking_tokens=40))
    written = json.dumps(_CALL["input"], ensure_ascii=False)
    assert len(written) == 34
    assert found == [
        *[("thinking_delta", 10)] * 4, ("signature_delta", 0), *[("text_delta", 10)] * 3,
        ("input_json_delta", 0), *[("input_json_delta", 10)] * 3, ("end", 0),
    ]  # fmt: skip


def test_thinking_that_is_not_shown_takes_its_time_all_the_same() -> None:
    """Before its signature; where no number of tokens is known, it takes none."""
    hidden = {**_THOUGHT, "thinking": ""}
    assert shares(hidden, _TEXT, usage=Usage(1, 70, thinking_tokens=40))[:2] == [
        ("signature_delta", 40),
        ("text_delta", 10),
    ]
    assert shares(hidden, _TEXT, usage=Usage(1, 30))[:2] == [("signature_delta", 0), ("text_delta", 10)]


_BLOCKS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, st.text(min_size=1, max_size=60)),
        st.builds(lambda text: {**_THOUGHT, "thinking": text}, st.text(max_size=60)),
        st.builds(
            lambda value: {**_CALL, "input": value},
            st.dictionaries(
                st.text(max_size=5), st.text(max_size=30) | st.integers() | st.lists(st.booleans()), max_size=3
            ),
        ),
    ),
    max_size=5,
)


@given(blocks=_BLOCKS, output=st.integers(0, 300), thinking=st.integers(0, 300))
def test_no_token_of_a_stream_is_lost(blocks: list[dict[str, Any]], output: int, thinking: int) -> None:
    """Whatever it holds, the deltas and the end add up to the output tokens, and none is negative."""
    found = shares(*blocks, usage=Usage(1, output, thinking_tokens=min(thinking, output)))
    assert min(tokens for _, tokens in found) >= 0
    assert sum(tokens for _, tokens in found) == output


@given(blocks=_BLOCKS, characters=st.integers(0, 200))
def test_a_cut_reply_is_the_beginning_of_the_reply(blocks: list[dict[str, Any]], characters: int) -> None:
    """What its deltas bring is exactly as long as the limit allows, and is what the whole reply's begin with."""

    def written(content: Any) -> str:
        parts: list[str] = []
        for block in content:
            parts.append(block.get("name", ""))
            parts += [
                value
                for delta in block_events(block)[1]
                for key, value in delta.items()
                if key in ("text", "thinking", "partial_json")
            ]
        return "".join(parts)

    cut = cut_content(tuple(blocks), characters)
    assert written(blocks).startswith(written(cut))
    assert sum(map(characters_of, cut)) <= characters
    if characters >= sum(map(characters_of, blocks)):
        assert cut == tuple(blocks)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_call_that_is_cut_off_has_what_can_be_read_of_its_input(play: Play, stream: bool) -> None:
    """max_tokens in the middle of a call: its JSON breaks off in the stream; a whole message has the readable part."""
    _, client = play(_TEXT, _CALL)
    parameters = asking(max_tokens=12 + 7)
    if stream:
        with client.messages.stream(**parameters) as events:
            deltas = [event.delta for event in events if event.type == "content_block_delta"]
            pieces = [delta.partial_json for delta in deltas if delta.type == "input_json_delta"]
            message = events.get_final_message()
        assert "".join(pieces) == '{"city": "Zürich", "days'[:24]
    else:
        message = client.messages.create(**parameters)
    call = message.content[1].to_dict()
    assert (call["input"], call.keys() & {"partial_json"}) == ({"city": "Zürich"}, set())
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 19)


def test_thinking_counts_toward_the_limit(play: Play) -> None:
    """A limit that the thinking uses up leaves no text, and thinking that is cut off is not signed."""
    _, client = play({"type": "thinking", "thinking": "h" * 64}, _TEXT)
    (thought,) = client.messages.create(**asking(max_tokens=10)).content
    assert (thought.type, thought.thinking, thought.signature) == ("thinking", "h" * 40, "")
    usage = client.messages.create(**asking(max_tokens=16)).usage
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (16, 16)  # type: ignore[union-attr]


def test_a_script_whose_usage_is_larger_is_billed_at_most_its_limit(play: Play) -> None:
    """Nobody is billed more output than max_tokens."""
    _, client = play(_TEXT, told={"output_tokens": 900})
    assert client.messages.create(**asking(max_tokens=100)).usage.output_tokens == 100


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_stop_sequence_ends_the_reply(play: Play, stream: bool) -> None:
    """The text ends before it, it is named, what follows is not written, and only what was written is billed."""
    _, client = play({"type": "text", "text": "one END two STOP"}, _CALL)
    parameters = asking(stop_sequences=["STOP", "END"])
    if stream:
        with client.messages.stream(**parameters) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**parameters)
    assert [block.to_dict()["text"] for block in message.content] == ["one "]
    assert (message.stop_reason, message.stop_sequence, message.usage.output_tokens) == ("stop_sequence", "END", 1)


def test_a_limit_before_the_stop_sequence_comes_first(play: Play) -> None:
    """What ends the reply earlier is why it stopped."""
    _, client = play({"type": "text", "text": "12345678 END"})
    message = client.messages.create(**asking(stop_sequences=["END"], max_tokens=1))
    assert (message.content[0].to_dict()["text"], message.stop_reason, message.stop_sequence) == (
        "1234",
        "max_tokens",
        None,
    )


@given(
    texts=st.lists(st.text("abc", max_size=8), max_size=3),
    stops=st.lists(st.text("abc", min_size=1, max_size=2), max_size=3),
)
def test_no_stop_sequence_is_left_in_the_texts(texts: list[str], stops: list[str]) -> None:
    """What is left is the beginning, and it is whole if none occurs."""
    blocks = tuple({"type": "text", "text": text} for text in texts if text)
    left, found = stop_at(blocks, stops)
    assert all(stop not in block["text"] for block in left for stop in stops)
    assert (found is None) == (left == blocks)


def test_recorded_replies_are_not_cut() -> None:
    """A corpus tells what was answered under its own limit: neither a limit nor a stop sequence changes it."""
    with Emulator(CORPUS) as emulator, anthropic.Anthropic(base_url=emulator.base_url, api_key="t") as client:
        message = client.messages.create(**asking(max_tokens=1, stop_sequences=["ja"]))
    assert (message.content[0].to_dict()["text"], message.stop_reason) == ("yes – ja", "end_turn")


def test_closing_a_stream_early_saves_the_time_and_the_tokens_that_are_left(play: Play) -> None:
    """The first delta comes after its own tokens; who leaves then does not wait for the other 300, nor are they billed."""
    emulator, client = play({"type": "text", "text": "x" * 1216}, token_latency_s=0.02)
    began = time.monotonic()
    with client.messages.create(**asking(), stream=True) as events:
        for event in events:
            if event.type == "content_block_delta":
                break
    took = time.monotonic() - began
    assert 0.08 <= took < 304 * 0.02 / 2
    give_up = time.monotonic() + 20
    while emulator.open_streams and time.monotonic() < give_up:
        pass
    (closed,) = emulator.closed_early
    assert closed.output_tokens == emulator.billed.usage.output_tokens == 4


def test_thinking_takes_its_time_before_the_first_text(play: Play) -> None:
    """64 characters of thinking are 16 tokens: the text cannot come before they are over."""
    _, client = play({"type": "thinking", "thinking": "h" * 64}, _TEXT, token_latency_s=0.005)
    began = time.monotonic()
    with client.messages.stream(**asking()) as stream:
        next(iter(stream.text_stream))
        assert time.monotonic() - began >= (16 + 4) * 0.005


@pytest.mark.parametrize("blocks", [(_CALL,), (_THOUGHT, _TEXT, _CALL)], ids=["call", "all"])
@pytest.mark.parametrize("fault", ["cut", "stream_overloaded", "stream_unauthorized"])
def test_a_stream_with_calls_breaks_off_in_the_middle(
    play: Play, blocks: tuple[dict[str, Any], ...], fault: str
) -> None:
    """Some of it has come by then; the error is the one of a text's stream, and the beginning is billed."""
    emulator, client = play(*blocks, told={"input_tokens": 100}, faults=fault)
    seen: list[str] = []
    wanted: type[Exception] = httpx2.RemoteProtocolError if fault == "cut" else anthropic.APIStatusError
    with client.messages.stream(**asking()) as events, pytest.raises(wanted) as caught:
        seen.extend(event.type for event in events)
    assert "content_block_start" in seen
    assert "message_stop" not in seen
    if isinstance(caught.value, anthropic.APIStatusError):
        assert caught.value.type == {"stream_overloaded": "overloaded_error"}.get(fault, "authentication_error")
    assert (emulator.billed.replies, emulator.billed.broken_off, emulator.billed.usage) == (0, 1, Usage(100, 1))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_call_may_be_truncated_by_a_fault(play: Play, stream: bool) -> None:
    """Half of the reply, with the stop reason of a limit; thinking before it may be inserted too."""
    emulator, client = play(_CALL, faults="truncated_json")

    def ask() -> anthropic.types.Message:
        if not stream:
            return client.messages.create(**asking())
        with client.messages.stream(**asking()) as events:
            return events.get_final_message()

    message = ask()
    assert (message.stop_reason, message.content[0].to_dict()["input"]) == ("max_tokens", {})
    emulator.faults = "thinking"
    assert [block.type for block in ask().content] == ["thinking", "tool_use"]


def test_a_slow_start_sends_the_beginning_at_once(play: Play) -> None:
    """message_start is there before the content: a client can tell it from a dead connection."""
    _, client = play(_TEXT, faults="slow_start,delay_s=0.3")
    began = time.monotonic()
    arrived: dict[str, float] = {}
    with client.messages.create(**asking(), stream=True) as events:
        for event in events:
            arrived.setdefault(event.type, time.monotonic() - began)
    assert arrived["content_block_start"] - arrived["message_start"] >= 0.2
    client.messages.create(**asking())
    assert time.monotonic() - began >= 0.6
