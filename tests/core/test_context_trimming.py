"""Trimming a conversation: what stays, what goes first, and that the API takes what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from anthropic.types import TextBlock, ToolUseBlock
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.core.context.measuring import characters
from cascade.core.context.trimming import DROPPED, trim
from cascade.core.messages import Block
from cascade.core.models import rules_of
from cascade.core.prepared import Prepared
from cascade.emulator.api import read_request
from cascade.emulator.signatures import prefix_of, sign

Messages = tuple[Block, ...]

HAIKU = "claude-haiku-5-5"
SIGNED = "signed by haiku"
THINKING = frozenset({"thinking", "redacted_thinking"})
TOOL: Block = {"name": "look", "input_schema": {"type": "object"}}
IMAGE: Block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def text(words: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": words}


def call(name: str, kind: str = "tool_use") -> Block:
    """A call with this id."""
    return {"type": kind, "id": name, "name": "look" if kind == "tool_use" else "web_search", "input": {"q": "x" * 20}}


def result(name: str, content: Any = "r" * 400, **more: Any) -> Block:
    """The result of the call with this id."""
    return {"type": "tool_result", "tool_use_id": name, "content": content, **more}


def user(*blocks: Block | str) -> Block:
    """A message of the user's."""
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def said(*blocks: Block | str) -> Block:
    """A message of the assistant's."""
    return {"role": "assistant", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def loop(calls: int, *, content: Any = "r" * 400) -> Messages:
    """A tool loop of so many calls, with a text before each."""
    turns: list[Block] = [user("the task")]
    for number in range(calls):
        turns += [said(text(f"step {number}"), call(f"c{number}")), user(result(f"c{number}", content))]
    return tuple(turns)


def length(messages: Sequence[Block]) -> int:
    """Its characters."""
    return sum(characters(message["content"]) for message in messages)


def contents(messages: Sequence[Block]) -> list[Any]:
    """The content of each tool result."""
    return [block["content"] for message in messages for block in blocks(message) if block["type"] == "tool_result"]


def blocks(message: Block) -> Sequence[Any]:
    """The blocks of a message."""
    return message["content"] if isinstance(message["content"], list) else ()


@st.composite
def contents_of_results(draw: st.DrawFn) -> Any:
    """What a tool returns: nothing, text, blocks, an image."""
    words = draw(st.sampled_from(["", "ok", "r" * 90, "r" * 700]))
    return draw(st.sampled_from([words, [text("found " + words)], [text("seen"), IMAGE]]))


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    """Conversations that the API takes: tools, several results a turn, tools of the API's own, thinking, images, system turns."""
    made: list[Block] = [user(draw(st.sampled_from(["the task", "t" * 300])))]
    if draw(st.booleans()):
        made.append(user(text("and a picture"), IMAGE))
    ids = iter(range(1_000))

    def thought() -> list[Block]:
        kind = draw(st.integers(0, 3))
        own: Block = {"type": "thinking", "thinking": "hm " * 30, "signature": SIGNED}
        return [own] if kind == 0 else [{"type": "redacted_thinking", "data": "x" * 40}] if kind == 1 else []

    def server() -> list[Block]:
        if draw(st.integers(0, 3)):
            return []
        name = f"s{next(ids)}"
        found: Block = {
            "type": "web_search_tool_result",
            "tool_use_id": name,
            "content": [{"type": "x", "title": "f" * 200}],
        }
        return [call(name, "server_tool_use"), found]

    for _ in range(draw(st.integers(0, 7))):
        if draw(st.integers(0, 5)) == 0:
            made.append({"role": "system", "content": "be brief"})
        kind = draw(st.sampled_from(["talk", "tools", "tools", "parallel messages"]))
        if kind == "talk":
            made.append(said(*thought(), *server(), text(draw(st.sampled_from(["so", "a" * 300])))))
            made.append(user(draw(st.sampled_from(["go on", "w" * 250]))))
            continue
        names = [f"c{next(ids)}" for _ in range(draw(st.integers(1, 3)))]
        results = [result(name, draw(contents_of_results()), is_error=draw(st.booleans())) for name in names]
        words = [text("and this")] if draw(st.integers(0, 3)) == 0 else []
        if kind == "tools":
            made.append(said(*thought(), *server(), *(call(name) for name in names)))
            made.append(user(*results, *words))
        else:
            made += [said(*thought(), call(name)) for name in names]
            made += [user(one) for one in results]
            made += [user(*words)] if words else []
    if draw(st.integers(0, 4)) == 0:
        made.append(said(*thought(), text("searching"), call(f"s{next(ids)}", "server_tool_use")))
    return tuple(made)


def turns_of(messages: Sequence[Block]) -> list[list[Block]]:
    """Messages of one side in a row, without those of the system: written again, as the rule says it."""
    turns: list[list[Block]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if turns and turns[-1][0]["role"] == message["role"]:
            turns[-1].append(message)
        else:
            turns.append([message])
    return turns


def broken_rules(messages: Sequence[Block]) -> Iterator[str]:
    """The rules of the Messages API that a conversation breaks, checked without the emulator."""
    turns = turns_of(messages)
    if not turns or turns[0][0]["role"] != "user":
        yield "it does not begin with the user"
    if any(not message["content"] for message in messages):
        yield "a message is empty"
    for place, turn in enumerate(turns):
        every = [block for message in turn for block in blocks(message)]
        calls = [block["id"] for block in every if block["type"] == "tool_use"]
        after = [block for message in turns[place + 1] for block in blocks(message)] if place + 1 < len(turns) else []
        first = [block["tool_use_id"] for block in after[: len(calls)] if block["type"] == "tool_result"]
        if sorted(calls) != sorted(first):
            yield f"calls {calls} are answered by {first}"
        answered = [block["tool_use_id"] for block in every if block["type"] == "tool_result"]
        before = [block for message in turns[place - 1] for block in blocks(message)] if place else []
        if set(answered) != {block["id"] for block in before if block["type"] == "tool_use"}:
            yield f"results {answered} have no calls"
        own = [block["id"] for block in every if block["type"] == "server_tool_use"]
        found = [block["tool_use_id"] for block in every if block["type"] == "web_search_tool_result"]
        if own != found and not (place + 1 == len(turns) and own[:-1] == found):
            yield f"calls of the API's own {own} have {found}"


def taken(messages: Messages) -> None:
    """Raises what the emulator would answer, if it does not take the conversation."""
    body = {"model": HAIKU, "max_tokens": 9, "messages": list(messages), "tools": [TOOL]}
    read_request(body, beta=False, signed={SIGNED: HAIKU})


def bare(messages: Sequence[Block]) -> list[Block]:
    """The messages without thinking."""
    made: list[Block] = []
    for message in messages:
        rest = [block for block in blocks(message) if block["type"] not in THINKING]
        if not blocks(message) or len(rest) == len(blocks(message)):
            made.append(message)
        elif rest:
            made.append({**message, "content": rest})
    return made


@settings(max_examples=120, deadline=None)
@given(conversations(), st.floats(0, 1.1), st.integers(1, 6))
def test_trimming_never_breaks_the_rules_of_the_api(messages: Messages, share: float, keep: int) -> None:
    """Every call keeps its result and the reverse, the API's own tools their pairs: by the emulator, and by other code."""
    taken(messages)
    assert not list(broken_rules(messages))
    left = trim(messages, int(length(messages) * share), keep).messages
    assert not list(broken_rules(left))
    taken(left)


@settings(max_examples=120, deadline=None)
@given(conversations(), st.floats(0, 1.1), st.floats(0, 1.1), st.integers(1, 6))
def test_less_room_leaves_less_and_what_must_stay_stays(
    messages: Messages, one: float, other: float, keep: int
) -> None:
    """Within the room where that can be reached; never longer, never more by less room, the same if done twice."""
    small, large = sorted(int(length(messages) * share) for share in (one, other))
    first, second = trim(messages, small, keep), trim(messages, large, keep)
    assert length(first.messages) <= length(second.messages) <= length(messages)
    assert trim(first.messages, small, keep).messages == first.messages
    made = first.prepared
    if made is None:
        assert first.messages is messages
        assert length(messages) <= small
        return
    assert made.characters == length(messages) - length(first.messages)
    assert made.over_tokens == max(0, -(-(length(first.messages) - small) // 4))
    if made.over_tokens:
        assert trim(messages, 0, keep).messages == first.messages  # nothing else could go
    kept = [message for turn in turns_of(messages)[-keep:] for message in turn]
    mine = [message for message in first.messages if message["role"] != "system"]
    wanted = bare(kept)
    assert mine[len(mine) - len(wanted) :] == wanted
    assert mine[0] == messages[0]
    words = [block for turn in turns_of(messages) if turn[0]["role"] == "user" for block in _spoken(turn)]
    assert words[-1] in [block for message in mine for block in _spoken([message])]


def _spoken(turn: Sequence[Block]) -> list[Any]:
    """What the user says in a turn, beside results of tools."""
    said_here: list[Any] = []
    for message in turn:
        content = message["content"]
        said_here += [content] if isinstance(content, str) else [one for one in content if one["type"] != "tool_result"]
    return said_here


def test_the_oldest_results_go_first_and_only_as_many_as_needed() -> None:
    """Each loses its content, keeps its call, and an error is still one."""
    messages = loop(5)
    marked = [*messages]
    marked[2] = user({**result("c0"), "is_error": True})
    trimmed = trim(tuple(marked), length(messages) - 500, 2)
    assert contents(trimmed.messages) == [DROPPED, DROPPED, "r" * 400, "r" * 400, "r" * 400]
    assert trimmed.messages[2]["content"][0] == {**result("c0", DROPPED), "is_error": True}
    assert trimmed.messages[5:] == messages[5:]
    assert trimmed.prepared == Prepared("trim", 2, 0, 2 * (400 - len(DROPPED)))


def test_whole_turns_go_once_no_result_is_left() -> None:
    """A call goes with its result; the task and the newest turns stay."""
    messages = loop(5)
    trimmed = trim(messages, 700, 2)
    assert [message["role"] for message in trimmed.messages] == ["user", *["assistant", "user"] * 3]
    assert trimmed.messages[0] == messages[0]
    assert trimmed.messages[-2:] == messages[-2:]
    assert trimmed.prepared is not None
    assert (trimmed.prepared.turns, trimmed.prepared.tool_results, trimmed.prepared.over_tokens) == (4, 2, 0)
    assert trimmed.prepared.said == "trimmed: 2 tool results, 4 turns"


def test_what_cannot_be_reached_is_said() -> None:
    """The newest turns stay whole though they are too long."""
    messages = (user("the task"), said("so"), user("w" * 4_000))
    trimmed = trim(messages, 400, 1)
    assert trimmed.messages == (messages[0], messages[2])
    assert trimmed.prepared is not None
    assert trimmed.prepared == Prepared("trim", 0, 1, 2, 902)
    assert trimmed.prepared.said == "trimmed: 1 turn; about 902 tokens too long"
    alone = trim(messages[:1], 4, 1)
    assert alone.messages == messages[:1]
    assert alone.prepared is not None
    assert alone.prepared.said == "trimmed: nothing could go; about 1 tokens too long"


def test_the_words_that_a_tool_loop_works_on_stay() -> None:
    """They are the newest that the user said, though many turns of the loop came after them."""
    messages = (user("the first task"), said("done"), *loop(4)[0:0], user("now the second"), *loop(4)[1:])
    trimmed = trim(messages, 0, 2)
    assert trimmed.messages == (messages[0], messages[2], *messages[-2:])
    beside = (*messages[:2], user("more"), said(call("x")), user(result("x"), text("now the second")), *loop(4)[1:])
    assert trim(beside, 0, 2).messages == (beside[0], user(text("now the second")), *beside[-2:])


def test_a_result_that_is_shorter_than_its_mark_stays() -> None:
    """So does one that names tools, which later calls may need."""
    named = [{"type": "tool_reference", "tool_name": "n" * 500}]
    messages = (*loop(1, content="ok"), said(call("d")), user(result("d", named)), said("x" * 900), user("go on"))
    trimmed = trim(messages, length(messages) - 1, 1)
    assert contents(trimmed.messages) == [named]  # the first call went with its result


def test_thinking_goes_with_the_first_change() -> None:
    """A model's thinking is bound to what stood before it: the API refuses it where that has changed."""
    first = loop(3)
    body: dict[str, Any] = {"system": [], "tools": [TOOL], "messages": list(first)}
    signed: Block = {"type": "thinking", "thinking": "hm", "signature": sign(HAIKU, "hm", prefix_of(body, first))}
    messages = (*first, said(signed, call("z")), user(result("z", "fine")))
    sent = {"model": HAIKU, "max_tokens": 9, "tools": [TOOL]}
    read_request({**sent, "messages": list(messages)}, beta=False, prefix_check=True)
    trimmed = trim(messages, length(messages) - 100, 2)
    assert trimmed.messages[-2:] == (said(call("z")), messages[-1])
    read_request({**sent, "messages": list(trimmed.messages)}, beta=False, prefix_check=True)


def test_a_conversation_of_the_sdks_own_blocks_is_measured_and_trimmed() -> None:
    """As a caller has it who passes on `message.content`."""
    turn: Block = {
        "role": "assistant",
        "content": [
            TextBlock(type="text", text="t" * 100),
            ToolUseBlock(type="tool_use", id="c", name="look", input={"q": "x" * 100}, caller=None),  # type: ignore[call-arg]
        ],
    }
    messages: Messages = (user("task"), turn, user(result("c")), said("so"), user("go on"))
    assert characters(turn["content"]) > 200
    assert trim(messages, length(messages) - 100, 1).messages[1:3] == (turn, user(result("c", DROPPED)))
    assert trim(messages, 10, 1).messages == (messages[0], messages[-1])


def test_the_apis_own_summary_is_never_dropped() -> None:
    """Nothing before it is read: without it the conversation would begin in the middle."""
    compacted: Block = {"type": "compaction", "content": "c" * 500}
    messages = (
        user("task"),
        said("old"),
        user("go on"),
        said(compacted, text("so")),
        user("next"),
        said("and"),
        user("end"),
    )
    left = trim(messages, 0, 1).messages
    assert left == (messages[0], messages[3], messages[4], messages[6])


@pytest.mark.parametrize(
    "odd", [(), ({"role": "assistant", "content": "x" * 99},), ({"role": "user", "content": [7, None]},)]
)
def test_odd_conversations_are_left_to_the_api(odd: Messages) -> None:
    """Nothing raises on them, and without a turn of the user nothing goes."""
    assert trim(odd, 0, 1).messages == odd


def test_every_known_window_is_larger_than_its_longest_reply() -> None:
    """There is room for a prompt beside it; a model that is not known has no window."""
    for name, window in [
        ("claude-haiku-4-5", 200_000),
        ("claude-haiku-5-5", 1_000_000),
        ("claude-opus-4-7", 1_000_000),
    ]:
        rules = rules_of(name)
        assert rules is not None
        assert rules.window == window > rules.max_output
    assert rules_of("another") is None


class Counted(list[Any]):
    """The blocks of a message, which count how often they are read through."""

    read = 0

    def __iter__(self) -> Iterator[Any]:
        Counted.read += 1
        return super().__iter__()


def test_a_thousand_turns_are_read_a_bounded_number_of_times() -> None:
    """The work grows with the conversation, not with its square."""
    messages = tuple({**one, "content": Counted(blocks(one))} if blocks(one) else one for one in loop(1_000))
    Counted.read = 0
    trimmed = trim(messages, 0, 4)
    assert len(trimmed.messages) == 5
    assert Counted.read <= 12 * len(messages)
