"""A prompt as the other API takes it: nothing of it is lost, and what has no place there is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from cascade.core.errors import RequestError
from cascade.core.policy import Rung
from cascade.core.triage import Prompt
from cascade.openai.wire import parameters

CONTRACT: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
ASKED = ({"role": "user", "content": "hi"},)


def rung(**more: Any) -> Rung:
    """A rung of the other vendor."""
    return Rung.model_validate({"rung": "r", "model": "gpt-6-luna", "max_tokens": 9, "provider": "openai", **more})


def sent(messages: Any = ASKED, *, of: Rung | None = None, **more: Any) -> dict[str, Any]:
    """What a prompt is sent as; the SDK's own types take it, with nothing besides."""
    prompt = Prompt(of or rung(), tuple(messages), more.pop("system", None), more.pop("schema", None), 99, **more)
    made = parameters(prompt)
    check(CONTRACT.validate_python(json.loads(json.dumps(made)), extra="forbid"))
    return made


def check(lazy: Any) -> None:
    """Read everything that was validated: what the types call iterable is checked as it is read."""
    for part in lazy.values() if isinstance(lazy, dict) else () if isinstance(lazy, str) else lazy:
        if not isinstance(part, (str, int, float, bool, type(None))):
            check(part)


def test_a_part_that_is_not_the_apis_is_noticed() -> None:
    """Guards the check in `sent`: it can fail, deep in a message too."""
    for part in ({"type": "document"}, {"type": "text", "text": "a", "colour": "red"}):
        body = {"model": "m", "messages": [{"role": "user", "content": [part]}]}
        with pytest.raises(ValueError, match="validation error"):
            check(CONTRACT.validate_python(body, extra="forbid"))


def test_a_plain_prompt() -> None:
    """The reply's room includes what is reasoned; OpenAI stores nothing of it and bills its listed price."""
    assert sent() == {
        "model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 99, "store": False,
        "service_tier": "default",
    }  # fmt: skip


def test_another_endpoint_is_sent_nothing_that_only_openai_knows() -> None:
    """Neither the two settings of OpenAI's account, nor its newer name for the user's id."""
    there = sent(of=rung(base_url="http://127.0.0.1:1/v1"), user_id="u-1")
    assert not {"store", "service_tier", "safety_identifier"} & there.keys()
    assert there["user"] == "u-1"


@pytest.mark.parametrize("tier", ["auto", "standard_only"])
def test_the_callers_tier_is_never_a_dearer_one(tier: str) -> None:
    """The other API's `auto` is whatever the account has chosen, and may cost twice what is counted."""
    assert sent(extra={"service_tier": tier})["service_tier"] == "default"


@pytest.mark.parametrize(
    ("of", "extra", "effort"),
    [
        ({}, {}, None),
        ({"effort": "low"}, {}, "low"),
        ({"effort": "max"}, {"output_config": {"effort": "medium"}}, "medium"),
        ({"thinking": "disabled"}, {}, "none"),
        ({"effort": "high"}, {"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": "disabled", "effort": "high"}, {"thinking": {"type": "adaptive"}}, "high"),
    ],
)
def test_how_much_it_reasons_is_the_callers_word_or_the_rungs(
    of: dict[str, Any], extra: dict[str, Any], effort: str | None
) -> None:
    """Left out where neither says it: models that do not reason refuse the parameter."""
    assert sent(of=rung(**of), extra=extra).get("reasoning_effort") == effort


def test_the_system_prompt_keeps_its_blocks() -> None:
    """So that its beginning stays the beginning, which the other API caches by itself."""
    blocks = ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"})
    system, _ = sent(system=blocks)["messages"]
    assert system == {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert sent(system="s")["messages"][0] == {"role": "system", "content": "s"}


def test_images_are_sent_as_addresses() -> None:
    """Base64 becomes a data URL; the detail is bounded, as budgets count on."""
    inline = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    (turn,) = sent([{"role": "user", "content": [inline, linked, {"type": "text", "text": "?"}]}])["messages"]
    urls = [part["image_url"] for part in turn["content"][:2]]
    assert urls == [
        {"url": "data:image/png;base64,aGk=", "detail": "high"},
        {"url": "https://a.example/b.png", "detail": "high"},
    ]


LOOP = [
    {"role": "user", "content": "?"},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "look", "input": {"city": "Zürich"}},
            {"type": "tool_use", "id": "b", "name": "look", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "a",
                "content": [{"type": "text", "text": "21"}, {"type": "text", "text": "°C"}],
            },
            {"type": "tool_result", "tool_use_id": "b", "content": "no such city", "is_error": True},
            {"type": "text", "text": "And?"},
        ],
    },
]


def test_calls_and_results_become_turns_of_their_own() -> None:
    """Each result follows the calls at once; one that failed says so in its text; then what else the turn says."""
    _, called, first, second, said = sent(LOOP)["messages"]
    assert called["content"] == [{"type": "text", "text": "I look."}]
    assert [json.loads(call["function"]["arguments"]) for call in called["tool_calls"]] == [{"city": "Zürich"}, {}]
    assert first == {"role": "tool", "tool_call_id": "a", "content": "21\n°C"}
    assert second == {"role": "tool", "tool_call_id": "b", "content": "The tool failed:\nno such city"}
    assert said == {"role": "user", "content": [{"type": "text", "text": "And?"}]}


TOOL = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": False},
        ),
    ],
)
def test_tools_and_the_choice_among_them(choice: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    """Each choice has its word there."""
    made = sent(tools=(TOOL,), tool_choice=choice)
    function = {"name": "look", "parameters": TOOL["input_schema"], "description": "Looks."}
    assert made["tools"] == [{"type": "function", "function": function}]
    assert {key: made[key] for key in ("tool_choice", "parallel_tool_calls") if key in made} == expected


def test_a_strict_tool_has_a_strict_schema() -> None:
    """Its optional key becomes a required one that may be null."""
    ((tool,),) = [sent(tools=({**TOOL, "strict": True},))["tools"]]
    assert tool["function"]["strict"] is True
    assert tool["function"]["parameters"] == {
        "type": "object", "properties": {"city": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["city"],
        "additionalProperties": False,
    }  # fmt: skip


def test_an_answers_schema_is_enforced_strictly() -> None:
    """Under the other API's name for it."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "number"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = sent(schema=schema)["response_format"]
    assert form == {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


def test_the_users_id_fits() -> None:
    """A longer one is sent as its hash, of which the same user has the same."""
    assert sent(user_id="u-1")["safety_identifier"] == "u-1"
    long = sent(user_id="u" * 129)["safety_identifier"]
    assert len(long) == 64
    assert long == sent(user_id="u" * 129)["safety_identifier"]


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "a"}}]}]},
        {
            "messages": [
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "a", "signature": "b"}]},
                *ASKED,
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
        {"tools": ({"type": "web_search_20260209", "name": "web_search"},)},
        {"tools": ({**TOOL, "defer_loading": True},)},
        {"extra": {"container": "c"}},
        {"raw": {"messages": []}},
        {"schema": {"type": "object", "additionalProperties": {"type": "string"}}},
    ],
)
def test_what_has_no_place_there_is_refused(more: dict[str, Any]) -> None:
    """Never dropped: the error names the rung."""
    with pytest.raises(RequestError, match=r"rung r \(provider openai\)"):
        sent(**more)
