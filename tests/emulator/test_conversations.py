from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.messages import Usage
from cascade.emulator import Emulator
from cascade.emulator.api import read_count, read_request
from cascade.emulator.caching import PromptCache
from cascade.emulator.requests import ApiError, ApiRequest
from cascade.emulator.signatures import read_signature, sign

from .conftest import HAIKU, SONNET, TRIAGE, asking

Start = Callable[..., anthropic.Anthropic]
_TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
_USER = {"role": "user", "content": "look it up"}
_CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
_RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}
_SEARCH: dict[str, Any] = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
_FOUND: dict[str, Any] = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
_TEXT = {"type": "text", "text": "so"}


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    """An assistant's turn."""
    return {"role": "assistant", "content": list(blocks)}


def told(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A user's turn."""
    return {"role": "user", "content": list(blocks)}


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body of one request."""
    return {**asking(), "messages": list(messages), "tools": [_TOOL], **more}


def other(block: dict[str, Any], number: int = 2) -> dict[str, Any]:
    """The same block with another id."""
    return {**block, **{key: f"{value[:-1]}{number}" for key, value in block.items() if key in ("id", "tool_use_id")}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (body(_USER, said(_CALL), _USER), "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1. Each"),
    (body(_USER, said(_CALL)), "messages.1: `tool_use` ids were found without"),
    (body(_USER, said(_CALL, other(_CALL)), told(other(_RESULT))), "immediately after: toolu_1. Each"),
    (body(_USER, said(_CALL), told(_TEXT, _RESULT)), "messages.1: `tool_use` ids were found without"),
    (body(told(_RESULT)), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1. Each"),
    (body(_USER, said(_CALL), told(_RESULT, other(_RESULT))), "messages.2.content.1: unexpected `tool_use_id` found"),
    (body(_USER, said(_CALL), told(_RESULT), said(_TEXT), told(_RESULT)), "messages.4.content.0: unexpected `tool_use_id`"),
    (body(_USER, said(_CALL), told(_RESULT, _RESULT)), "messages.2.content.1: each tool_use must have a single result"),
    (body(_USER, said(_CALL, _CALL), told(_RESULT)), "messages: `tool_use` ids must be unique"),
    (body(told(_CALL)), "messages.0: `tool_use` blocks can only be in `assistant` messages"),
    (body(_USER, said(_RESULT), _USER), "messages.1: `tool_result` blocks can only be in `user` messages"),
    (body(_USER, said({**_CALL, "input": "x"}), told(_RESULT)), "messages.1.content.0.tool_use.input: Input should be a valid dictionary"),
    (body(_USER, said({"type": "tool_use"}), told(_RESULT)), "messages.1.content.0.tool_use.id: Field required"),
    (body(_USER, said(_CALL), told({"type": "tool_result"})), "messages.2.content.0.tool_result.tool_use_id: Field required"),
    (body(_USER, said({"type": "thinking", "thinking": "hm"}, _TEXT), _USER), "messages.1.content.0.thinking.signature: Field required"),
    (body(_USER, said(_FOUND), _USER), "messages.1.content.0: unexpected `tool_use_id` found in `web_search_tool_result`"),
    (body(_USER, said(_SEARCH), _USER), "messages.1: `web_search` tool use with id `srvtoolu_1` was found without a corr"),
    (body(_USER, tools=[{**_TOOL, "name": "look up"}]), "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
    (body(_USER, tools=[{**_TOOL, "name": "x" * 129}]), "tools.0.custom.name: String should match pattern"),
    (body(_USER, tools=[_TOOL, {"input_schema": {"type": "object"}}]), "tools.1.custom.name: Field required"),
    (body(_USER, tools=[{"name": "look"}]), "tools.0.custom.input_schema: Field required"),
    (body(_USER, tools=[{"name": "look", "input_schema": []}]), "tools.0.custom.input_schema: Input should be an object"),
    (body(_USER, tools=[{"name": "look", "input_schema": {}}]), "tools.0.custom.input_schema.type: Field required"),
    (body(_USER, tools=[{"name": "look", "input_schema": {"type": "array"}}]), "input_schema.type: Input should be object"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
@pytest.mark.parametrize("read", [read_request, read_count])
def test_turns_that_do_not_fit_are_refused(read: Callable[..., Any], sent: dict[str, Any], problem: str) -> None:
    """A 400 in the API's words, whether a message is asked for or a count."""
    if read is read_count:
        sent = {key: value for key, value in sent.items() if key != "max_tokens"}
    with pytest.raises(ApiError) as caught:
        read(sent, beta=False)
    assert caught.value.status == 400
    assert problem in caught.value.message


TAKEN: list[dict[str, Any]] = [
    body(_USER, said(_TEXT, _CALL), told(_RESULT, _TEXT)),
    body(_USER, said(_CALL, other(_CALL)), told(other(_RESULT), _RESULT)),
    body(_USER, said(_CALL), said(other(_CALL)), told(_RESULT), told(other(_RESULT))),
    body(_USER, said(_CALL), told({**_RESULT, "is_error": True}), said(other(_CALL)), told(other(_RESULT))),
    body(_USER, said(_CALL), told({**_RESULT, "content": [_TEXT]}), said(_TEXT), _USER),
    body(_USER, said(_CALL), told(_RESULT), {"role": "system", "content": "be brief"}),
    body(_USER, said(_SEARCH, _FOUND, _TEXT), _USER),
    body(_USER, said(_TEXT, _SEARCH)),
    body(_USER, tools=[{**_TOOL, "name": "x" * 128}, {"type": "web_search_20260209", "name": "web_search"}]),
    body(_USER, tools=[{**_TOOL, "type": "custom", "strict": True, "eager_input_streaming": True}]),
]


@pytest.mark.parametrize("sent", TAKEN, ids=str)
def test_turns_that_fit_are_taken(sent: dict[str, Any]) -> None:
    """Results in any order, turns in several messages, text after results, a paused turn sent back as it was."""
    assert read_request(sent, beta=False).model == HAIKU


_ANY = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers() | st.just(_TEXT), max_size=2)
_KEYS = st.sampled_from(
    [
        "id",
        "name",
        "input",
        "content",
        "tool_use_id",
        "thinking",
        "signature",
        "text",
        "type",
        "cache_control",
        "is_error",
    ]
)


@given(
    changes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), _KEYS, _ANY), max_size=3),
    dropped=st.none() | st.integers(0, 4),
    model=st.sampled_from([HAIKU, "claude-haiku-4-5"]),
    more=st.dictionaries(st.sampled_from(["thinking", "tools", "system", "cache_control"]), _ANY, max_size=2),
)
def test_hostile_turns_are_taken_or_refused(
    changes: list[Any], dropped: int | None, model: str, more: dict[str, Any]
) -> None:
    """Whatever becomes of a valid conversation's blocks, the checks end in an answer or in an error of the API."""
    thought = {"type": "thinking", "thinking": "", "signature": sign(model, "", {})}
    kinds = [(_TEXT,), (thought, _TEXT, _CALL), (_RESULT, _TEXT), (_SEARCH, _FOUND, other(_CALL)), (other(_RESULT),)]
    turns = [[dict(block) for block in blocks] for blocks in kinds]
    for turn, at, key, value in changes:
        turns[turn][at % len(turns[turn])][key] = value
    messages = [{"role": ("user", "assistant")[turn % 2], "content": blocks} for turn, blocks in enumerate(turns)]
    sent = {**asking(model=model), "messages": [m for turn, m in enumerate(messages) if turn != dropped], **more}
    try:
        outcome: object = read_request(sent, beta=False)
    except ApiError as error:
        outcome = error.status
    else:
        assert PromptCache(lambda: 0.0).bill(model, sent, Usage(9, 1)).prompt_tokens >= 9
    assert outcome == 400 or isinstance(outcome, ApiRequest)
    if not changes and dropped is None and not more:
        assert outcome != 400


def _think(sent: dict[str, Any], _headers: Any) -> list[dict[str, Any]]:
    """Think, and call the tool again and again."""
    return [
        {"type": "thinking", "thinking": f"turn {len(sent['messages'])}"},
        {"type": "tool_use", "name": "look", "input": {}},
    ]


@pytest.fixture
def start() -> Iterator[Start]:
    """A client of an emulator that thinks and calls a tool."""
    with ExitStack() as stack:

        def begin(script: Any = _think, **options: Any) -> anthropic.Anthropic:
            emulator = stack.enter_context(Emulator(script=script, **options))
            return stack.enter_context(anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0))

        yield begin


def go_on(messages: list[Any], reply: anthropic.types.Message) -> list[Any]:
    """The conversation after the reply's call has been answered."""
    content = [block.to_dict() for block in reply.content]
    result = {"type": "tool_result", "tool_use_id": content[-1]["id"], "content": "found"}
    return [*messages, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]


def create(
    client: anthropic.Anthropic, messages: list[Any], model: str = HAIKU, **more: Any
) -> anthropic.types.Message:
    """One reply in the loop."""
    return client.messages.create(**{**asking(model=model, tools=[_TOOL], **more), "messages": messages})


def test_a_loop_goes_on_with_the_models_own_thinking(start: Start) -> None:
    """Signed by it, in JSON and in a stream, sent back as it was; a name with a date is the same model."""
    client, messages = start(), [_USER]
    for model in (HAIKU, HAIKU + "-20260901", HAIKU):
        messages = go_on(messages, create(client, messages, model))
        with client.messages.stream(**{**asking(tools=[_TOOL]), "messages": messages}) as stream:
            messages = go_on(messages, stream.get_final_message())
    assert len(messages) == 13


def test_another_models_thinking_is_refused_in_the_loop_that_goes_on(start: Start) -> None:
    """Without its thinking blocks the other model takes the loop over, and once the loop is over they may stay."""
    client = start()
    messages = go_on([_USER], create(client, [_USER]))
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(client, messages, SONNET)
    problem = "messages.1.content.0: Invalid `signature` in `thinking` block. A model's thinking blocks are bound to it"
    assert problem in str(caught.value)
    bare = [messages[0], {**messages[1], "content": messages[1]["content"][1:]}, messages[2]]
    assert create(client, bare, SONNET).stop_reason == "tool_use"
    over = [*messages, {"role": "assistant", "content": "done"}, _USER]
    assert create(client, over, SONNET).stop_reason == "tool_use"


@pytest.mark.parametrize("changed", [{"thinking": "other"}, {"signature": "bm9uZQ=="}, {"signature": "é"}], ids=str)
def test_thinking_that_was_changed_is_refused(start: Start, changed: dict[str, Any]) -> None:
    """Its text, or its signature."""
    client = start()
    messages = go_on([_USER], create(client, [_USER]))
    messages[1]["content"][0] |= changed
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature` in `thinking`"):
        create(client, messages)


def test_a_signature_that_the_script_made_up_is_known_as_its_models(start: Start) -> None:
    """A script may name it; sent back to another model it is refused."""
    thought = {"type": "thinking", "thinking": "", "signature": "made-up"}
    client = start(lambda _body, _headers: [thought, {"type": "tool_use", "name": "look", "input": {}}])
    messages = go_on([_USER], create(client, [_USER]))
    assert create(client, messages).content[0].to_dict() == thought
    with pytest.raises(anthropic.BadRequestError, match="bound to it, and this one is of claude-haiku-5-5"):
        create(client, messages, SONNET)


def test_with_a_thinking_budget_the_last_turn_must_begin_with_thinking(start: Start) -> None:
    """The manual mode's own rule: a loop whose thinking was removed goes on only without it."""
    client, old = start(), "claude-haiku-4-5"
    budget = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    messages = go_on([_USER], create(client, [_USER], old))
    assert create(client, messages, old, **budget).stop_reason == "tool_use"
    messages[1]["content"] = messages[1]["content"][1:]
    with pytest.raises(
        anthropic.BadRequestError, match="Expected `thinking` or `redacted_thinking`, but found `tool_use`"
    ):
        create(client, messages, old, **budget)
    assert create(client, messages, old).stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"system": "Be long."}, "`system`"),
        ({"tools": [{**_TOOL, "description": "new"}]}, "`tools`"),
        ({"messages": "another question"}, "`messages`"),
        ({}, None),
        ({"cache_control": {"type": "ephemeral"}}, None),
        ({"output_config": TRIAGE, "tool_choice": {"type": "none"}}, None),
    ],
    ids=["system", "tools", "message", "nothing", "mark", "settings"],
)
@pytest.mark.parametrize("strict", [True, False], ids=["checked", "unchecked"])
def test_thinking_is_bound_to_what_stood_before_it(
    start: Start, change: dict[str, Any], differs: str | None, strict: bool
) -> None:
    """Where the emulator is asked to check: a changed system prompt, tool or message makes it invalid; a cache mark does not."""
    client = start(prefix_check=strict)
    parts: dict[str, Any] = {**asking(), "tools": [_TOOL], "system": "Be brief.", "messages": [_USER]}
    messages = go_on([_USER], client.messages.create(**parts))
    changed = {**parts, **change, "messages": messages}
    if "messages" in change:
        changed["messages"] = [{"role": "user", "content": change["messages"]}, *messages[1:]]
    if differs is None or not strict:
        assert client.messages.create(**changed).stop_reason == "tool_use"
        return
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**changed)
    assert "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different" in str(
        caught.value
    )
    assert f"created: {differs}." in str(caught.value)
    dropping: Any = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    betas = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
    kept = client.messages.create(**changed, thinking=dropping, extra_headers=betas)
    assert kept.stop_reason == "tool_use"
    with pytest.raises(anthropic.BadRequestError, match="block_binding: Extra inputs are not permitted"):
        client.messages.create(**changed, thinking=dropping)


@given(model=st.text(max_size=20), thinking=st.text(max_size=20), changed=st.text(max_size=20))
def test_a_signature_names_its_model_and_fits_one_text(model: str, thinking: str, changed: str) -> None:
    """Whatever the names hold."""
    prefix = {"system": "1", "tools": "2", "messages": "3"}
    signature = sign(model, thinking, prefix)
    read = read_signature(signature, thinking)
    assert read is not None
    assert (read.model, read.prefix) == (model, prefix)
    assert (read_signature(signature, changed) is None) == (changed != thinking)
