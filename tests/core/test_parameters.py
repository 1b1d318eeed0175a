"""What a caller of the Messages API sends becomes a request: nothing is dropped, and whatever is wrong is named."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import anthropic
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cascade.core.errors import RequestError
from cascade.core.messages import Request
from cascade.core.parameters import CannotClimb, check_top, read_parameters, split_keywords

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "name": "weather",
    "description": "",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
PAUSED = {
    "role": "assistant",
    "content": [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}],
}
CITED = {
    "type": "document", "citations": {"enabled": True}, "source": {"type": "text", "media_type": "text/plain", "data": "x"},
}  # fmt: skip


def body(**more: Any) -> dict[str, Any]:
    """A body with what the API requires, and these parameters."""
    return {"model": "claude-cascade-default", "max_tokens": 100, "messages": HELLO, **more}


def read(**more: Any) -> Request:
    """The request of a call of the SDK with such keywords."""
    return read_parameters(*split_keywords(body(**more)))


EVERYTHING: dict[str, Any] = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "metadata": {"user_id": "u-1"},
    "stop_sequences": ["END"],
    "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "service_tier": "auto",
    "cache_control": {"type": "ephemeral"},
    "container": "container_1",
    "inference_geo": None,
    "speed": "standard",
    "diagnostics": {"previous_message_id": None},
    "stream": False,
}


def test_every_parameter_of_the_sdk_has_its_place() -> None:
    """What is ours to apply has a field; what only the top rung is sent, and what every rung is sent, stand apart."""
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(body(**EVERYTHING), extra="forbid")
    assert set(MessageCreateParamsNonStreaming.__annotations__) - set(body(**EVERYTHING)) == {
        "user_profile_id",
        "workspace_id",
    }
    assert read(**EVERYTHING, user_profile_id="p-1", workspace_id="w-1") == Request(
        messages=tuple(HELLO),
        system=tuple(EVERYTHING["system"]),
        schema=SCHEMA,
        max_tokens=100,
        metadata={"user_id": "u-1"},
        tools=tuple(EVERYTHING["tools"]),
        tool_choice=EVERYTHING["tool_choice"],
        stop_sequences=("END",),
        extra={
            name: EVERYTHING[name]
            for name in ("service_tier", "cache_control", "container", "inference_geo", "speed", "diagnostics")
        },
        top_extra={"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        headers={"anthropic-user-profile-id": "p-1", "anthropic-workspace-id": "w-1"},
    )


def test_a_parameter_of_the_future_is_sent_on_untouched() -> None:
    """Whatever its type: only the API knows what it means."""
    for value in (None, 1, "x", [{}], {"a": [1]}):
        assert read(a_new_one=value).extra == {"a_new_one": value}


def test_blocks_and_messages_are_passed_through_as_they_are() -> None:
    """The very objects, so that a prompt cache still matches."""
    messages = [
        {"role": "user", "content": [{"text": "look", "type": "text", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"signature": "s", "thinking": "t", "type": "thinking"}, {"type": "tool_use", "name": "weather", "input": {}, "id": "t1"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": False, "content": [{"type": "text", "text": "19"}]}]},
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}]},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "and?"},
    ]  # fmt: skip
    assert all(one is other for one, other in zip(read(messages=messages).messages, messages, strict=True))


def test_a_turn_that_the_api_paused_may_be_continued() -> None:
    """Its last message is the assistant's, which is a prefill otherwise."""
    assert read(messages=[*HELLO, PAUSED]).messages[-1] == PAUSED


def test_extra_body_wins_as_in_the_sdk() -> None:
    """Its parameters are read like any other."""
    request = read(extra_body={"max_tokens": 7, "mcp_servers": [{"name": "m"}]}, stop_sequences=["A"])
    assert (request.max_tokens, request.extra, request.stop_sequences) == (7, {"mcp_servers": [{"name": "m"}]}, ("A",))


def test_headers_and_betas_go_with_every_call() -> None:
    """Beta names are one list, whichever way they were given."""
    request = read(extra_headers={"Anthropic-Beta": "one", "X-Team": "search"}, betas=["two", "three"])
    assert request.headers == {"anthropic-beta": "one,two,three", "x-team": "search"}
    assert request.extra == {}


def test_our_own_headers_are_parts_of_the_request() -> None:
    """They are sent to no model; the session is the caller's to read."""
    own = {
        "X-Cascade-Task": "refund",
        "x-cascade-flags": "vip, new ,",
        "x-cascade-session": "s",
        "x-cascade-metadata-team": "a",
    }
    request = read(extra_headers=own, metadata={"user_id": "u"})
    assert (request.task, request.flags, request.headers) == ("refund", frozenset({"vip", "new"}), {})
    assert request.metadata == {"user_id": "u", "team": "a"}


def test_a_json_body_has_no_keywords_of_the_sdk() -> None:
    """What only the SDK's methods take is not known to the API: it is sent on, and the API refuses it."""
    given_ = {"extra_headers": {"x": "y"}, "betas": ["b"], "timeout": 5}
    request = read_parameters(body(**given_))
    assert (request.extra, request.headers) == (given_, {})


def test_metadata_holds_strings_for_the_ledger_beside_the_user() -> None:
    """An absent user is no user."""
    assert read(metadata={"user_id": None, "customer": "c-1"}).metadata == {"customer": "c-1"}


def test_an_older_name_of_the_format_is_read_too() -> None:
    """As a beta it was a parameter of its own."""
    assert read(output_format={"type": "json_schema", "schema": SCHEMA}).schema == SCHEMA
    assert read(output_format=None, output_config={"format": None, "effort": None}).schema is None


@pytest.mark.parametrize("value", [None, 1, 1.0])
def test_sampling_parameters_at_their_default_ask_for_nothing(value: object) -> None:
    """They are what the API does without them."""
    assert read(temperature=value, top_p=value, top_k=None).extra == {}


CANNOT: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0}, "temperature"),
    ({"temperature": 0.0}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0.9}, "top_p"),
    ({"top_k": 1}, "top_k"),
    ({"prefill": "The"}, "prefill"),
    ({"thread": {"type": "create"}}, "thread"),
    ({"fallbacks": "default"}, "fallbacks"),
    ({"fallback_credit_token": "t"}, "fallback_credit_token"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "The answer is ("}]}, "messages"),
    ({"messages": [{"role": "user", "content": [CITED]}]}, "messages.0.content.0.citations"),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [CITED]}]}]},
        "messages.0.content.0.citations",
    ),
]


@pytest.mark.parametrize(("given_", "name"), CANNOT)
def test_what_cannot_climb_is_named_and_kept_for_the_baseline(given_: dict[str, Any], name: str) -> None:
    """The error says what to do, and carries the request unchanged."""
    whole = body(**given_, system="s", service_tier="auto")
    with pytest.raises(CannotClimb, match=f"^{name}: .*bypass: baseline") as caught:
        read_parameters(*split_keywords(whole))
    request = caught.value.request
    assert request.raw == {key: value for key, value in whole.items() if key != "model"}
    assert request.messages == tuple(whole["messages"])


def test_every_reason_is_told_at_once() -> None:
    """So that one mend is enough."""
    with pytest.raises(CannotClimb, match=r"temperature: .*; top_k: ") as caught:
        read(temperature=0, top_k=5, extra_headers={"anthropic-beta": "b"})
    assert caught.value.request.headers == {"anthropic-beta": "b"}


WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"messages": value}, "messages") for value in (None, 5, "hello", {}, [])),
    *(({"messages": [value]}, "messages.0") for value in (None, 5, "hello", [])),
    *(({"messages": [{"role": value, "content": "x"}]}, "messages.0.role") for value in (None, "tool", 5, [])),
    *(({"messages": [{"role": "user", "content": value}]}, "messages.0.content") for value in (None, 5, {}, [], "", "\ud800")),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    *(({"messages": [{"role": "user", "content": [value]}]}, "messages.0.content.0") for value in (None, 5, "x", [], {}, {"type": 5})),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0.tool_use_id"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": 5}]}]}, "messages.0.content.0.id"),
    *(({"max_tokens": value}, "max_tokens") for value in (None, "5", 1.5, True, -1, [])),
    *(({"system": value}, "system") for value in (None, 5, {})),
    *(({"system": [value]}, "system.0") for value in (None, "x", {})),
    ({"system": [{"type": "text", "text": 5}]}, "system.0.text"),
    *(({"metadata": value}, "metadata") for value in (None, 5, "u", [])),
    ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    ({"metadata": {"customer": None}}, "metadata.customer"),
    *(({"stop_sequences": value}, "stop_sequences") for value in (None, "END", 5, {})),
    *(({"stop_sequences": ["A", value]}, "stop_sequences.1") for value in (None, 5, "", " \n")),
    *(({"tools": value}, "tools") for value in (None, 5, {}, "weather")),
    *(({"tools": [value]}, "tools.0") for value in (None, "weather", [])),
    ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
    ({"tools": [{"name": "weather"}]}, "tools.0.input_schema"),
    ({"tools": [{"type": 5, "name": "weather"}]}, "tools.0.type"),
    ({"tools": [TOOL, TOOL]}, "tools.1.name"),
    *(({"tools": [TOOL], "tool_choice": value}, "tool_choice") for value in (None, "auto", 5, [])),
    ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice"),
    ({"tools": [], "tool_choice": {"type": "any"}}, "tool_choice"),
    *(({"thinking": value}, "thinking") for value in (None, 5, "adaptive", [])),
    *(({"thinking": {"type": value}}, "thinking.type") for value in (None, "much", [])),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    *(({"output_config": value}, "output_config") for value in (None, 5, [])),
    *(({"output_config": {"effort": value}}, "output_config.effort") for value in ("most", 5, [])),
    *(({"output_config": {"format": value}}, "output_config.format") for value in (5, "json", [])),
    ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    *(({"extra_headers": value}, "extra_headers") for value in (5, "x", [], {"a": 5}, {"a": "b\r\nc: d"}, {"a": "é"})),
    *(({"extra_headers": {name: "x"}}, "extra_headers") for name in ("Authorization", "x-api-key", "Host")),
    *(({"extra_body": value}, "extra_body") for value in (5, "x", [], {5: 6})),
    ({"extra_query": {"a": "b"}}, "extra_query"),
    ({"extra_headers": {"X-Cascade-Tsk": "a"}}, "'x-cascade-tsk'"),
    *(({"betas": value}, "betas") for value in (5, "x", [5], ["a\n"])),
    *(({"workspace_id": value}, "workspace_id") for value in (None, 5, "a\nb")),
]  # fmt: skip


@pytest.mark.parametrize(("given_", "name"), WRONG)
def test_what_is_invalid_is_named(given_: dict[str, Any], name: str) -> None:
    """No model could take it, so it does not go to the baseline either."""
    with pytest.raises(RequestError, match=f"^{name}[:.]") as caught:
        read(**given_)
    assert not isinstance(caught.value, CannotClimb)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["messages", "max_tokens"])
def test_what_the_api_requires_is_required(name: str) -> None:
    """It is named, too."""
    with pytest.raises(RequestError, match=f"^{name}: it is missing"):
        read_parameters({key: value for key, value in body().items() if key != name})


def test_no_error_shows_a_prompt() -> None:
    """An error may be logged."""
    for given_, _ in (*WRONG, *CANNOT):
        whole = body(**given_)
        whole["messages"] = [
            *(whole["messages"] if isinstance(whole["messages"], list) else []),
            {"role": "user", "content": ["SECRET"]},
        ]
        with pytest.raises(RequestError) as caught:
            read_parameters(*split_keywords(whole))
        assert "SECRET" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = [
    *body(),
    *EVERYTHING,
    "extra_body",
    "extra_headers",
    "extra_query",
    "betas",
    "temperature",
    "output_format",
    "workspace_id",
]


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), st.booleans())
def test_no_json_raises_anything_else(given_: dict[str, Any], whole: bool) -> None:
    """The gateway reads whatever is sent to it."""
    with contextlib.suppress(RequestError):
        read_parameters({**body(), **given_} if whole else given_)
    with contextlib.suppress(RequestError):
        read_parameters(*split_keywords({**body(), **given_} if whole else given_))


def test_a_body_with_one_part_broken_is_refused_wherever_the_sdk_refuses_it() -> None:
    """For random breaks of a full body: what the SDK's own types refuse at the top level is never read as a request."""
    chance = random.Random(5)
    sdk = TypeAdapter(MessageCreateParamsNonStreaming)
    broken: list[object] = [5, "text", True, {"a": 1}, [5]]
    ours = set(EVERYTHING) - {
        "service_tier",
        "cache_control",
        "container",
        "inference_geo",
        "speed",
        "diagnostics",
        "stream",
    }
    for name in sorted(ours):
        for value in chance.sample(broken, len(broken)):
            whole = body(**{**EVERYTHING, name: value})
            try:
                sdk.validate_python(whole)
            except ValueError:
                with pytest.raises(RequestError):
                    read_parameters(whole)


@pytest.mark.parametrize(
    ("given_", "model", "name"),
    [
        ({"thinking": {"type": "disabled"}}, "claude-opus-5-5", "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "claude-opus-5-5", "thinking.type"),
        ({"output_config": {"effort": "xhigh"}}, "claude-sonnet-4-6", "output_config.effort"),
        ({"output_config": {"effort": "low"}}, "claude-haiku-4-5", "output_config.effort"),
    ],
)
def test_what_the_top_rung_would_refuse_is_refused_before_anything_is_paid(
    given_: dict[str, Any], model: str, name: str
) -> None:
    """The error names the model and what it accepts."""
    with pytest.raises(RequestError, match=f"^{name}: .*{model}"):
        check_top(read(**given_), model)


def test_what_the_top_rung_accepts_passes() -> None:
    """Of a model that is not known, nothing is assumed."""
    check_top(read(thinking={"type": "adaptive"}, output_config={"effort": "max"}), "claude-opus-5-5")
    check_top(read(thinking={"type": "enabled", "budget_tokens": 1024}), "some-model")
    check_top(read(), "claude-haiku-4-5")


def test_the_sdk_knows_no_parameter_that_we_have_not_thought_about() -> None:
    """A new version may bring one: it is sent on, which may be wrong."""
    assert set(MessageCreateParamsNonStreaming.__annotations__) == {
        *body(),
        *EVERYTHING,
        "user_profile_id",
        "workspace_id",
    }, f"look at the new parameters of anthropic {anthropic.__version__}"
