"""Tool loops, without I/O: which turn this is, whether its rung is stuck, where it begins. And nothing raises on any JSON."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.loops import Turn, begin_at, call_ids, read_turn, stuck_because

Block = dict[str, Any]


def says(text: str) -> Block:
    """A user's turn."""
    return {"role": "user", "content": text}


def calls(*ids: str, name: str = "search", **more: Any) -> Block:
    """An assistant's turn with a tool call for each id; its input is the id, or `input`."""
    blocks = [{"type": "tool_use", "id": one, "name": name, "input": more.get("input", {"q": one})} for one in ids]
    return {"role": "assistant", "content": blocks}


def results(*ids: str, errors: int = 0) -> Block:
    """A tool_result turn; the last `errors` of them failed."""
    blocks = [{"type": "tool_result", "tool_use_id": one, "content": "…"} for one in ids]
    return {"role": "user", "content": [*blocks[: len(ids) - errors], *({**one, "is_error": True} for one in blocks[len(ids) - errors :])]}  # fmt: skip


def failing(count: int, *, start: int = 0) -> list[Block]:
    """Turns of a loop: calls that all differ and all fail."""
    turns = [(calls(f"t{start + one}"), results(f"t{start + one}", errors=1)) for one in range(count)]
    return [message for pair in turns for message in pair]


def test_a_message_with_results_answers_the_calls_it_names() -> None:
    """In order, each once, whoever else speaks in it."""
    turn = read_turn([says("go"), calls("a", "b"), results("b", "a", "b")])
    assert turn == Turn("tool_result", ("b", "a"))
    mixed = {"role": "user", "content": [*results("a")["content"], {"type": "text", "text": "and hurry"}]}
    assert read_turn([says("go"), calls("a"), mixed]) == Turn("tool_result", ("a",))


def test_user_messages_in_a_row_are_one_turn() -> None:
    """As the API reads them."""
    assert read_turn([says("go"), calls("a", "b"), results("a"), results("b")]) == Turn("tool_result", ("a", "b"))
    assert read_turn([says("go"), calls("a"), results("a"), says("and hurry")]) == Turn("tool_result", ("a",))


def test_a_turn_that_the_api_paused_is_known_by_its_server_tools() -> None:
    """The assistant's message comes last then."""
    paused = {
        "role": "assistant",
        "content": [{"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}],
    }
    assert read_turn([says("go"), paused]) == Turn("pause", ("srv_1",))
    assert read_turn([says("go"), {"role": "assistant", "content": "I"}]) == Turn("user")


@pytest.mark.parametrize(
    "history",
    [[], [calls("a"), results("a"), {"role": "assistant", "content": "so"}], [calls("a"), results("a"), calls("b")]],
)
def test_what_the_user_says_is_a_user_turn(history: list[Block]) -> None:
    """Whatever loop came before."""
    assert read_turn([says("go"), *history, says("and now?")]) == Turn("user")


def test_a_user_turn_begins_at_the_first_rung_whatever_is_known() -> None:
    """The user's law: nothing makes a new turn begin above Haiku."""
    assert {begin_at(Turn("user"), asked, top, stuck=stuck) for asked in (None, 0, 1, 2) for top in (2, 5) for stuck in (False, True)} == {0}  # fmt: skip


@given(st.sampled_from(["tool_result", "pause"]), st.integers(1, 15), st.booleans(), st.data())
def test_a_loop_never_falls_and_climbs_one_rung_at_most(kind: Any, top: int, stuck: bool, data: st.DataObject) -> None:
    """It goes on where it is, or one rung above where that is stuck and there is one."""
    asked = data.draw(st.integers(0, top))
    index = begin_at(Turn(kind, ("a",)), asked, top, stuck=stuck)
    assert index == (min(asked + 1, top) if stuck else asked)
    assert begin_at(Turn(kind, ("a",)), None, top, stuck=stuck) == 0


def test_the_same_call_twice_in_a_row_is_a_sign() -> None:
    """Name and input are equal, whatever the order of its keys; one call among several is enough."""
    again = calls("b", input={"y": [1, {"z": None}], "x": 1})
    loop = [says("go"), calls("a", input={"x": 1, "y": [1, {"z": None}]}), results("a"), again, results("b")]
    assert stuck_because(loop, 3) == "the same tool call twice in a row"
    loop[3] = {"role": "assistant", "content": [*calls("other")["content"], *again["content"]]}
    assert stuck_because(loop, 3) == "the same tool call twice in a row"


@pytest.mark.parametrize("other", [
    calls("b", input={"q": "b"}), calls("b", name="fetch", input={"q": "a"}), calls("b", input={"q": "a", "page": 2}),
    calls("b", input={"q": ["a"]}),
])  # fmt: skip
def test_another_call_is_no_sign(other: Block) -> None:
    """Another name, another input."""
    assert stuck_because([says("go"), calls("a", input={"q": "a"}), results("a"), other, results("b")], 3) is None


def test_a_call_that_was_made_before_the_last_one_is_no_sign() -> None:
    """The loop climbed for it then; the rung above has made a call of its own since."""
    twice = [calls("a", input={}), results("a"), calls("b", input={}), results("b")]
    assert stuck_because([says("go"), *twice, calls("c"), results("c")], 3) is None
    assert (
        stuck_because([says("go"), calls("a"), results("a"), calls("c"), results("c"), calls("a"), results("a")], 3)
        is None
    )


def test_what_the_user_says_begins_the_loop_anew() -> None:
    """Trying again is no repetition then; nor do the failures before it count."""
    assert stuck_because([says("go"), calls("a", input={}), results("a"), says("again"), calls("b", input={}), results("b")], 3) is None  # fmt: skip
    assert stuck_because([says("go"), *failing(2), says("again"), *failing(1)], 3) is None
    mixed = {"role": "user", "content": [*results("t1", errors=1)["content"], {"type": "text", "text": "again"}]}
    assert stuck_because([says("go"), *failing(1), calls("t1"), mixed, *failing(1, start=2)], 3) is None


def test_so_many_failed_calls_in_a_row_are_a_sign() -> None:
    """Exactly so many: not one less; and a call that works in between starts the count anew."""
    assert [stuck_because([says("go"), *failing(count)], 3) for count in range(4)] == [
        None,
        None,
        None,
        "3 tool errors in a row",
    ]
    worked = [calls("ok"), results("ok")]
    assert stuck_because([says("go"), *failing(2), *worked, *failing(2, start=5)], 3) is None
    assert stuck_because([says("go"), *failing(3), *worked], 3) is None
    assert stuck_because([says("go"), *failing(1)], 1) == "1 tool error in a row"


def test_each_rung_has_so_many_failed_calls_of_its_own() -> None:
    """The fourth failure is the next rung's first."""
    signs = [bool(stuck_because([says("go"), *failing(count)], 3)) for count in range(1, 10)]
    assert signs == [False, False, True] * 3


def test_parallel_results_count_one_by_one() -> None:
    """Four at once pass three; the newest is the last."""
    assert stuck_because([says("go"), calls(*"abcd"), results(*"abcd", errors=4)], 3) == "4 tool errors in a row"
    assert stuck_because([says("go"), calls(*"abcd"), results(*"abcd", errors=2)], 3) is None
    first_failed = results(*"ba", errors=1)
    first_failed["content"].reverse()
    assert stuck_because([says("go"), *failing(2), calls(*"ab"), first_failed], 3) is None


@pytest.mark.parametrize(
    "content", ["", " \n", [], [{"type": "text", "text": " "}], [{"type": "thinking", "thinking": "hm"}]]
)
def test_an_empty_turn_is_a_sign(content: Any) -> None:
    """No call and no text; thinking is for nobody."""
    empty = {"role": "assistant", "content": content}
    assert stuck_because([says("go"), calls("a"), results("a"), empty], 3) == "an empty turn"
    assert stuck_because([says("go"), {"role": "assistant", "content": "so"}], 3) is None


def test_the_calls_of_the_newest_turns_are_found() -> None:
    """So many of the assistant's turns; those of the API's own tools too."""
    searched = {"role": "assistant", "content": [{"type": "server_tool_use", "id": "srv"}, *calls("c")["content"]]}
    messages = [says("go"), calls("a"), results("a"), calls("b", "d"), results("b", "d"), searched, results("c")]
    assert [call_ids(messages, turns) for turns in range(4)] == [
        frozenset(), {"srv", "c"}, {"srv", "c", "b", "d"}, {"srv", "c", "b", "d", "a"},
    ]  # fmt: skip


def test_random_conversations_are_read_as_they_were_made() -> None:
    """Three hundred seeded ones: loops of unique calls with failures here and there, against a plain count of the failures."""
    chance = random.Random(13)
    for _ in range(300):
        messages, run, number = [says("go")], 0, 0
        for _ in range(chance.randrange(1, 25)):
            if chance.random() < 0.1:
                messages += [{"role": "assistant", "content": "done"}, says("more")]
                run = 0
            ids = [f"t{number + one}" for one in range(chance.randrange(1, 4))]
            number += len(ids)
            failed = [chance.random() < 0.6 for _ in ids]
            messages += [calls(*ids), {"role": "user", "content": [{**block, "is_error": bad} for block, bad in zip(results(*ids)["content"], failed, strict=True)]}]  # fmt: skip
            before = run
            for bad in failed:
                run = run + 1 if bad else 0
            here = next((one for one, bad in enumerate(reversed(failed)) if not bad), len(failed))
            before = run - here
            assert read_turn(messages) == Turn("tool_result", tuple(ids))
            wanted = f"{run} tool errors in a row" if run // 3 > before // 3 else None
            assert stuck_because(messages, 3) == wanted


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "type", "id", "text", "tool_use_id", "is_error", "name", "input", "x"]), inner, max_size=5),
    max_leaves=8,
)  # fmt: skip
_WORDS = st.sampled_from(
    ["user", "assistant", "tool_use", "tool_result", "server_tool_use", "text", "thinking", "a", ""]
)
_BLOCKS = _JSON | st.fixed_dictionaries(
    {"type": _WORDS | _JSON},
    optional={"id": _WORDS | _JSON, "tool_use_id": _WORDS | _JSON, "is_error": _JSON, "input": _JSON, "text": _JSON, "name": _WORDS | _JSON},
)  # fmt: skip
_MESSAGES = _JSON | st.lists(
    _JSON | st.fixed_dictionaries({"role": _WORDS | _JSON, "content": _JSON | st.lists(_BLOCKS, max_size=4)}),
    max_size=5,
)


@given(_MESSAGES, st.integers(-1, 5))
def test_no_json_makes_it_fail(messages: Any, number: int) -> None:
    """The API refuses odd shapes, in its own words."""
    assert read_turn(messages).kind in ("user", "tool_result", "pause")
    stuck_because(messages, number)
    call_ids(messages, number)


def test_an_input_that_is_too_deep_to_compare_equals_nothing() -> None:
    """Nor is it an error."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    loop = [says("go"), calls("a", input=deep), results("a"), calls("b", input=deep), results("b")]
    assert stuck_because(loop, 3) is None
    assert stuck_because([says("go"), {"role": "assistant", "content": [{"type": "text", "text": deep}]}], 3) is None


def test_a_long_conversation_is_read_in_linear_time() -> None:
    """A hundred times as long takes no ten thousand times as long: all in one turn, and a loop of errors to its beginning."""

    def seconds(count: int) -> float:
        one_side = [says("x")] * count
        loop = [says("go"), *failing(count)]
        started = time.process_time()
        for messages in (
            one_side,
            loop,
            [says("go"), calls(*map(str, range(count))), results(*map(str, range(count)))],
        ):
            read_turn(messages)
            stuck_because(messages, 3)
            call_ids(messages, count)
        return time.process_time() - started

    small = min(seconds(100) for _ in range(5))
    assert seconds(10_000) < 1_500 * max(small, 1e-4)
