"""Chat completions are read in full: what was said, why it ended, what is billed; and what is none is a failure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cascade.core.messages import Failure, Reply, Usage
from cascade.core.policy import Rung
from cascade.core.triage import Prompt
from cascade.openai.replies import outcome_of

RUNG = Rung.model_validate({"rung": "r", "model": "gpt-6-luna", "max_tokens": 9, "provider": "openai"})
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def outcome(message: Any = None, finish: Any = "stop", *, usage: Any = USAGE, **prompt: Any) -> Reply | Failure:
    """What is read of a completion."""
    said = {"role": "assistant", "content": "hi", "refusal": None, **(message or {})}
    body = {
        "id": "chatcmpl-1",
        "model": "gpt-6-luna-x",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
    }
    return read(json.dumps({**body, **({} if usage is None else {"usage": usage})}).encode(), **prompt)


def read(body: bytes, **prompt: Any) -> Reply | Failure:
    """What is read of a body."""
    asked = Prompt(RUNG, ({"role": "user", "content": "?"},), None, prompt.pop("schema", None), 50, **prompt)
    return outcome_of(body, asked, {"x-request-id": "req_1"})


def reply(*given: Any, **more: Any) -> Reply:
    """What is read, which must be a reply."""
    made = outcome(*given, **more)
    assert isinstance(made, Reply), made
    return made


def call(arguments: str, name: str = "look") -> dict[str, Any]:
    """A message that calls a tool."""
    return {
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}],
    }


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({}, "stop", "end_turn"),
        ({}, "length", "max_tokens"),
        (call("{}"), "tool_calls", "tool_use"),
        (call("{}"), "stop", "tool_use"),
        ({}, "content_filter", "refusal"),
        ({"content": None, "refusal": "I can't."}, "stop", "refusal"),
        ({}, "a_reason_of_the_future", "a_reason_of_the_future"),
        ({}, None, ""),
    ],
)
def test_each_end_is_the_messages_apis(message: dict[str, Any], finish: str | None, expected: str) -> None:
    """One that is not known stays as it is: the verdict marks it."""
    made = reply(message, finish)
    assert made.message is not None
    assert (made.stop_reason, made.message.stop_reason, made.request_id) == (expected, expected, "req_1")


def test_a_reply_has_the_messages_apis_form() -> None:
    """Text, then the calls."""
    made = reply({**call('{"city": "Zürich"}'), "content": "I look."}, "tool_calls")
    assert made.message is not None
    assert made.message.content == (
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"city": "Zürich"}},
    )
    assert (made.text, made.model, made.message.id) == ("I look.", "gpt-6-luna-x", "chatcmpl-1")


def test_a_call_that_was_cut_off_has_what_came_of_it() -> None:
    """Its input is read as far as it goes; the verdict says that it was truncated."""
    made = reply(call('{"city": "Zür'), "length")
    assert made.message is not None
    assert made.message.content[0]["input"] in ({"city": "Zür"}, {})
    assert made.stop_reason == "max_tokens"


@pytest.mark.parametrize("arguments", ['{"to": "bob", "amount": 100', "[1]", "null", '{"amount": NaN}', "look"])
def test_a_call_with_half_an_input_is_no_call(arguments: str) -> None:
    """Where nothing cut the reply off, what is no JSON object is not made one: the call would do something else. It is paid."""
    made = outcome(call(arguments), "tool_calls")
    assert isinstance(made, Failure)
    assert (made.kind, made.usage) == ("unreadable", Usage(100, 20))


@pytest.mark.parametrize("given", [None, "", "functions.look:0", "x" * 65])
def test_an_id_that_claude_would_not_take_back_is_made_anew(given: str | None) -> None:
    """A conversation may climb with it later. The same completion always has the same ids."""
    message = call("{}")
    message["tool_calls"] = [{**message["tool_calls"][0], "id": one} for one in (given, "c", "c")]
    first, second = (reply(message, "tool_calls").message for _ in range(2))
    assert first is not None
    assert first == second
    ids = [block["id"] for block in first.content]
    assert ids[1] == "c"
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", one) for one in ids)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, Usage(100, 20)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 30}}, Usage(70, 20, cache_read=30)),
        (
            {**USAGE, "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50}},
            Usage(20, 20, cache_write_5m=50, cache_read=30),
        ),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 15}}, Usage(100, 20, thinking_tokens=15)),
        (
            {**USAGE, "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}},
            Usage(100, 20),
        ),
        # Some count what was reasoned in the total alone.
        (
            {**USAGE, "total_tokens": 135, "completion_tokens_details": {"reasoning_tokens": 15}},
            Usage(100, 35, thinking_tokens=15),
        ),
        # What does not add up is never negative.
        ({**USAGE, "total_tokens": 7}, Usage(100, 20)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 130}}, Usage(0, 20, cache_read=100)),
    ],
)
def test_cached_tokens_are_counted_once(usage: dict[str, Any], expected: Usage) -> None:
    """The API's prompt includes what the cache read and wrote; ours does not. What was reasoned is a part of the output."""
    made = reply(usage=usage).usage
    assert made == expected
    assert made.prompt_tokens == 100


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        (None, 50),
        ({}, 50),
        ({"completion_tokens": 7}, 7),
        ({"prompt_tokens": -1, "completion_tokens": 7}, 50),
        ("many", 50),
    ],
)
def test_missing_counts_are_the_most_that_they_may_be(usage: Any, output: int) -> None:
    """And marked as an estimate."""
    made = reply(usage=usage).usage
    assert made.is_estimate
    assert made.output_tokens == output
    assert made.prompt_tokens > 1_000


def test_an_output_that_is_not_counted_is_the_most_it_may_be() -> None:
    """The prompt's count stands."""
    made = reply(usage={"prompt_tokens": 10}).usage
    assert (made.input_tokens, made.output_tokens, made.is_estimate) == (10, 50, True)


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("one END two STOP", "stop", ("one ", "stop_sequence", "END")),
        ("one END two", "length", ("one ", "stop_sequence", "END")),
        ("one", "stop", ("one", "end_turn", None)),
        ("ENDING", "stop", ("", "stop_sequence", "ENDING")),
    ],
)
def test_stop_sequences_end_the_text(text: str, finish: str, expected: tuple[str, str, str | None]) -> None:
    """At the first one in it, which is told, as the Messages API does."""
    made = reply({"content": text}, finish, stop_sequences=("STOP", "END", "ENDING"))
    assert made.message is not None
    assert (made.text, made.stop_reason, made.message.stop_sequence) == expected


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (SCHEMA, '{"a": "x", "b": null}', '{"a": "x"}'),
        (SCHEMA, '{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
        (SCHEMA, "not JSON", "not JSON"),
        ({"type": "array", "items": {"type": "number"}}, '{"answer": [1, 2]}', "[1, 2]"),
    ],
)
def test_an_answer_comes_back_in_the_callers_form(schema: dict[str, Any], text: str, expected: str) -> None:
    """Nulls for what was left out are gone, and the root that the strict form needs."""
    assert reply({"content": text}, schema=schema).text == expected


def test_the_input_of_a_strict_tool_comes_back_in_the_callers_form() -> None:
    """As its answers do."""
    tool = {"name": "look", "input_schema": SCHEMA, "strict": True}
    made = reply(call('{"a": "x", "b": null}'), "tool_calls", tools=(tool,))
    assert made.message is not None
    assert made.message.content[0]["input"] == {"a": "x"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"null", b'"x"', b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": 7}]}',
        b'{"choices": [{"message": {"content": null, "function_call": {"name": "a"}}, "finish_reason": "function_call"}]}',
        b'{"choices": [{"message": {"tool_calls": [{}]}, "finish_reason": "tool_calls"}]}',
    ],
)  # fmt: skip
def test_what_is_no_completion_is_a_failure(body: bytes) -> None:
    """Never an invented answer, and never a crash."""
    made = read(body)
    assert isinstance(made, Failure)
    assert (made.kind, made.status) == ("unreadable", 200)


def test_an_error_in_a_200_is_that_failure() -> None:
    """As proxies send it."""
    made = read(b'{"error": {"message": "slow", "code": 429}}')
    assert isinstance(made, Failure)
    assert made.kind == "rate_limited"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"choices": None, "error": {"message": "slow", "code": 429}}, "rate_limited", 429),
        ({"choices": [], "error": {"message": "no", "code": "insufficient_quota"}}, "spend_cap", 429),
        ({"choices": [{"message": {"content": "Half an"}, "error": {"message": "up", "code": 502}}]}, "server", 502),
        ({"error": "the model is not loaded"}, "server", 200),
    ],
)
def test_an_error_beside_a_reply_is_that_failure(body: dict[str, Any], kind: str, status: int) -> None:
    """Half an answer is none. What was billed is kept."""
    made = read(json.dumps({**body, "usage": USAGE}).encode())
    assert isinstance(made, Failure)
    assert (made.kind, made.status, made.usage) == (kind, status, Usage(100, 20))
    assert made.message


def test_what_was_billed_for_an_unreadable_reply_is_kept() -> None:
    """It is paid all the same."""
    made = read(json.dumps({"choices": [], "usage": USAGE}).encode())
    assert isinstance(made, Failure)
    assert made.usage == Usage(100, 20)
