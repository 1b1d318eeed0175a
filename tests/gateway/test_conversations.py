"""The same scripted conversations by the real SDK, directly and through the gateway: equal but for what the climb must change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

import anthropic
import pytest

from cascade.emulator import Emulator, ScriptedReply
from tests.gateway.serving import Gateway

Way = Literal["create", "stream", "async create", "async stream"]
CASCADE, OPUS = "claude-cascade-default", "claude-opus-5-5"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOLS: list[Any] = [
    {
        "name": "step",
        "description": "Takes a step.",
        "input_schema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
]
FIRST: list[Any] = [
    {"type": "text", "text": "Walk ten steps through this.", "cache_control": {"type": "ephemeral"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A map."}, "title": "map"},
]
SYSTEM: list[Any] = [{"type": "text", "text": "You walk.", "cache_control": {"type": "ephemeral"}}]


def walks(body: dict[str, Any], headers: Mapping[str, str]) -> Any:
    """Ten calls of a tool, a text beside each; then an answer. Every rung does the same."""
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    if turns < 10:
        text = f"Step {turns}: \N{RIGHTWARDS ARROW} “on”\n"
        return [{"type": "text", "text": text}, {"type": "tool_use", "name": "step", "input": {"number": turns}}]
    return ScriptedReply([{"type": "text", "text": "Arrived – \N{GRINNING FACE}."}], confidence=0.95)


def thinks(body: dict[str, Any], headers: Mapping[str, str]) -> Any:
    """Only Opus knows, and it thinks first."""
    if body["model"] != OPUS:
        return ScriptedReply([], confidence=0.1)
    return [{"type": "thinking", "thinking": "Six by seven."}, {"type": "text", "text": "42"}]


async def say(base_url: str, way: Way, asked: dict[str, Any]) -> dict[str, Any]:
    """One message of the SDK, as a dict."""
    if way.startswith("async"):
        async with anthropic.AsyncAnthropic(base_url=base_url, api_key="x", max_retries=0) as client:
            if way == "async create":
                return (await client.messages.create(**asked)).to_dict()
            async with client.messages.stream(**asked) as stream:
                return (await stream.get_final_message()).to_dict()

    def blocking() -> dict[str, Any]:
        with anthropic.Anthropic(base_url=base_url, api_key="x", max_retries=0) as client:
            if way == "create":
                return client.messages.create(**asked).to_dict()
            with client.messages.stream(**asked) as stream:
                return stream.get_final_message().to_dict()

    return await asyncio.to_thread(blocking)


def converse(base_url: str, way: Way, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """All messages of a conversation, whose calls get a result until there are no more."""
    messages: list[Any] = list(asked["messages"])
    said: list[dict[str, Any]] = []
    while True:
        message = asyncio.run(say(base_url, way, {**asked, "messages": messages}))
        said.append(message)
        messages.append({"role": "assistant", "content": message["content"]})
        calls = [block for block in message["content"] if block["type"] == "tool_use"]
        if not calls:
            return said
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "done"} for call in calls]
        messages.append({"role": "user", "content": results})


def without_ids(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be the same: not the ids, the model, the billed tokens, or the signature, which a request's number is part of."""
    gone = ("id", "model", "usage", "signature", "parsed_output", "caller", "citations")

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cleaned(one) for name, one in value.items() if name not in gone and one is not None}
        return [cleaned(one) for one in value] if isinstance(value, list) else value

    return [cleaned(message) for message in said]


@pytest.mark.parametrize("way", ["create", "stream", "async create", "async stream"])
def test_a_tool_loop_of_ten_turns_with_images_documents_and_cache_marks(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], way: Way
) -> None:
    """The same texts, calls, inputs and stop reasons; and the endpoint sees the caller's blocks as they were."""
    emulator = emulate(script=walks)
    gateway = start(emulator.base_url, policies=("default",))
    asked: dict[str, Any] = {
        "max_tokens": 400, "system": SYSTEM, "tools": TOOLS, "messages": [{"role": "user", "content": FIRST}],
    }  # fmt: skip
    directly = converse(emulator.base_url, way, {**asked, "model": OPUS})
    climbing = converse(gateway.base_url, way, {**asked, "model": CASCADE})
    assert len(climbing) == 11
    assert without_ids(climbing) == without_ids(directly)
    assert {message["model"] for message in climbing} == {"claude-haiku-5-5"}
    for seen in emulator.requests:
        assert seen.body["messages"][0]["content"] == FIRST
        assert seen.body["system"][0] == SYSTEM[0]
        assert seen.body["tools"][0] == TOOLS[0]


@pytest.mark.parametrize("way", ["create", "stream", "async create", "async stream"])
def test_extended_thinking_on_the_top_rung(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], way: Way
) -> None:
    """It comes back with its signature, as it does directly; the rungs below are not told to think."""
    emulator = emulate(script=thinks)
    gateway = start(emulator.base_url, policies=("default",))
    asked: dict[str, Any] = {
        "max_tokens": 4_000, "thinking": {"type": "adaptive"}, "messages": [{"role": "user", "content": "6 × 7?"}],
    }  # fmt: skip
    directly = converse(emulator.base_url, way, {**asked, "model": OPUS})
    climbing = converse(gateway.base_url, way, {**asked, "model": CASCADE})
    assert [block["type"] for block in climbing[0]["content"]] == ["thinking", "text"]
    assert climbing[0]["content"][0]["signature"]
    assert without_ids(climbing) == without_ids(directly)
    told = {seen.body["model"]: seen.body.get("thinking") for seen in emulator.requests}
    assert told[OPUS] == {"type": "adaptive"}
    assert told["claude-haiku-5-5"] == {"type": "disabled"}
