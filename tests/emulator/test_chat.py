"""The emulator's chat completions: what that API refuses, in its own shapes, to the real SDK over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.emulator import Emulator, ScriptedReply

MODEL = "gpt-6-luna"
USAGE = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 7}
CORPUS = Corpus(
    Manifest("chat", (LadderEntry("luna", MODEL),)),
    (Item("1", "hi", {"luna": RecordedReply(0.9, "there", 1.0, usage=USAGE)}),),
)
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """One over CORPUS."""
    with Emulator(CORPUS) as running:
        yield running


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> Iterator[openai.OpenAI]:
    """The SDK's client of it."""
    with client_of(emulator) as made:
        yield made


def client_of(emulator: Emulator) -> openai.OpenAI:
    """A client without retries."""
    return openai.OpenAI(base_url=f"{emulator.base_url}/v1", api_key="k", max_retries=0)


def create(client: Any, *messages: Any, **more: Any) -> Any:
    """Ask for a completion."""
    return client.chat.completions.create(model=more.pop("model", MODEL), messages=list(messages or (USER,)), **more)


def test_a_recorded_reply_is_a_completion(client: openai.OpenAI) -> None:
    """Text, finish and usage, of which the cached tokens are a part."""
    made = create(client)
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason, choice.message.refusal) == ("there", "stop", None)
    usage = made.usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens) == (107, 7, 20)
    assert made._request_id.startswith("req_")


def test_models_are_listed_in_either_apis_form(client: openai.OpenAI) -> None:
    """At one address; the Messages API's clients send a version."""
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "emulator"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


STRICT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def form(**schema: Any) -> dict[str, Any]:
    """A response format with this schema."""
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {**STRICT, **schema}}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"extra_body": {"colour": "red"}}, "Unrecognized request argument supplied: colour"),
    ({"messages": []}, "empty array"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "'developer', 'system', 'user'"),
    ({"messages": [{"role": "user", "content": None}]}, "got null"),
    ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "'text', 'image_url'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "image URL"),
    (
        {"messages": [USER, {"role": "tool", "tool_call_id": "c1", "content": "a"}]},
        "preceeding message with 'tool_calls'",
    ),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, USER]}, "did not have response messages: c1"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}]}, "did not have response messages: c1"),
    ({"max_completion_tokens": 0}, "Expected a value >= 1"),
    ({"max_completion_tokens": 1_000_000}, "too large"),
    ({"reasoning_effort": "hard"}, "'none', 'minimal'"),
    ({"tool_choice": "auto"}, "only allowed when 'tools'"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "not found in 'tools'"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "function.name"),
    ({"tools": [{"type": "function", "function": {**TOOL["function"], "strict": True}}]}, "additionalProperties"),
    ({"response_format": form(required=[])}, "Missing 'a'"),
    ({"response_format": form(additionalProperties=True)}, "additionalProperties"),
    ({"response_format": form(type="array")}, 'type: "object"'),
    ({"response_format": form(properties={"a": {"oneOf": []}})}, "'oneOf' is not permitted"),
    ({"safety_identifier": "u" * 129}, "too long"),
    ({"stream": True}, "not emulated"),
    ({"n": 2}, "not emulated"),
]


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_what_the_api_refuses_is_refused(client: openai.OpenAI, more: dict[str, Any], words: str) -> None:
    """A 400 with its error's shape, which the SDK reads."""
    asked: Any = {"model": MODEL, "messages": [USER], **more}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**asked)
    assert words in str(error.value)
    assert error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code"),
    [
        ("rate_limit", 429, "requests", "rate_limit_exceeded"),
        ("spend_cap", 429, "insufficient_quota", "insufficient_quota"),
        ("overloaded", 503, "server_error", None),
        ("server_error", 500, "server_error", None),
        ("context_overflow_400", 400, "invalid_request_error", "context_length_exceeded"),
        ("stream_unauthorized", 401, "invalid_request_error", "invalid_api_key"),
    ],
)
def test_faults_have_that_apis_errors(
    emulator: Emulator, client: openai.OpenAI, fault: str, status: int, kind: str, code: str | None
) -> None:
    """Status, type and code."""
    emulator.faults = fault  # pyright: ignore[reportAttributeAccessIssue] - its setter reads a spec
    try:
        with pytest.raises(openai.APIStatusError) as error:
            create(client)
    finally:
        emulator.faults = ()
    assert (error.value.status_code, error.value.type, error.value.code) == (status, kind, code)


def test_a_key_is_asked_for(emulator: Emulator) -> None:
    """Without one: 401."""
    with (
        openai.OpenAI(
            base_url=f"{emulator.base_url}/v1", api_key="k", default_headers={"Authorization": "Basic x"}
        ) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        create(client)


def test_a_script_sees_the_messages_apis_form() -> None:
    """System prompt, turns, calls and results, tools and choice: what a script does for one API it does for both."""
    seen: list[dict[str, Any]] = []

    def script(body: dict[str, Any], headers: Any) -> Any:
        seen.append(body)
        thought = {"type": "thinking", "thinking": "hm" * 8}
        return ScriptedReply(
            [thought, {"type": "text", "text": "I look."}, {"type": "tool_use", "name": "look", "input": {"a": 1}}]
        )

    with Emulator(script=script) as emulator, client_of(emulator) as client:
        made = create(
            client, {"role": "developer", "content": "be kind"}, USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "21"}, {"role": "user", "content": "and?"},
            tools=[TOOL], tool_choice="required", max_completion_tokens=50,
        )  # fmt: skip
    (body,) = seen
    assert body["system"] == [{"type": "text", "text": "be kind"}]
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "21"},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    assert (body["tool_choice"], body["max_tokens"]) == ({"type": "any"}, 50)
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"a": 1}
    assert made.usage.completion_tokens_details.reasoning_tokens > 0


def test_prompts_are_cached_without_being_asked() -> None:
    """The second request reads what the first one wrote, above the least that is cached; the script sees no mark of it."""
    bodies: list[dict[str, Any]] = []

    def script(body: dict[str, Any], headers: Any) -> Any:
        bodies.append(body)
        return [{"type": "text", "text": "fine"}]

    system = {"role": "system", "content": "rule " * 1_200}
    with Emulator(script=script, caching=True) as emulator, client_of(emulator) as client:
        first, second = (create(client, system, USER).usage.prompt_tokens_details for _ in range(2))
        short = create(client).usage.prompt_tokens_details
    assert (first.cached_tokens, second.cached_tokens) == (0, first.cache_write_tokens)
    assert first.cache_write_tokens > 1_024
    assert (short.cached_tokens, short.cache_write_tokens) == (0, 0)
    assert all("cache_control" not in body for body in bodies)
