"""Prompt → the arguments of `chat.completions.create`. Nothing is dropped: what has no place there is an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cascade.core.carrying import uncarried
from cascade.core.errors import RequestError
from cascade.core.messages import Block
from cascade.core.strict import strict_form
from cascade.core.triage import Prompt

__all__ = ["parameters"]

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_LONGEST_ID = 128  # of safety_identifier
_FAILED = "The tool failed:\n"
# The other API's "auto" may be a dearer tier that the account has chosen, whose price is not the one that is counted.
_TIERS = {"auto": "default", "standard_only": "default"}


def parameters(prompt: Prompt) -> dict[str, Any]:
    """The arguments of `chat.completions.create` for a prompt.

    Stop sequences are not among them: models that reason do not take them, and the API does not say at which one it stopped.
    `replies` cuts the reply. OpenAI itself is told not to store the completion, and to bill the standard tier, whose price is
    known. Raises RequestError for what has no place.
    """
    fault = "it cannot climb" if prompt.raw is not None else uncarried(prompt, prompt.extra)
    if fault is not None:
        raise RequestError(f"{fault}, which rung {prompt.rung.rung} (provider openai) has no place for")
    params: dict[str, Any] = {
        "model": prompt.rung.model,
        "messages": [*_system(prompt.system), *_turns(prompt.messages)],
        "max_completion_tokens": prompt.max_tokens,  # what the model reasons counts too
    }
    if prompt.rung.base_url is None:
        params |= {"store": False, "service_tier": "default"}
    if (tier := prompt.extra.get("service_tier")) is not None:
        params["service_tier"] = _TIERS[tier]
    if prompt.user_id is not None:
        # Others know the older name, and may refuse a request with the newer one.
        params["safety_identifier" if prompt.rung.base_url is None else "user"] = _identifier(prompt.user_id)
    if (effort := _effort(prompt)) is not None:
        params["reasoning_effort"] = effort
    if prompt.schema is not None:
        form = {"name": "reply", "strict": True, "schema": dict(strict_form(prompt.schema).schema)}
        params["response_format"] = {"type": "json_schema", "json_schema": form}
    if prompt.tools:
        params["tools"] = [_tool(tool) for tool in prompt.tools]
        params |= _choice(prompt.tool_choice)
    return params


def _effort(prompt: Prompt) -> str | None:
    """How much the model reasons: the caller's word, else the rung's; None leaves it to the model."""
    thinking: Mapping[str, Any] = prompt.extra.get("thinking") or {"type": prompt.rung.thinking}
    if thinking["type"] == "disabled":
        return "none"
    output: Mapping[str, Any] = prompt.extra.get("output_config") or {}
    return output.get("effort") or prompt.rung.effort


def _identifier(user_id: str) -> str:
    return user_id if len(user_id) <= _LONGEST_ID else hashlib.sha256(user_id.encode()).hexdigest()


def _system(system: str | Sequence[Block] | None) -> Iterator[dict[str, Any]]:
    """The system prompt as one message: its blocks stay parts of their own, so that a prefix stays a prefix."""
    if isinstance(system, str):
        if system:
            yield {"role": "system", "content": system}
    elif system:
        yield {"role": "system", "content": [_text(block) for block in system]}


def _turns(messages: Sequence[Block]) -> Iterator[dict[str, Any]]:
    for message in messages:
        role, content = message["role"], message["content"]
        if isinstance(content, str):
            yield {"role": role, "content": content}
        elif role == "assistant":
            yield _assistant(content)
        else:
            yield from _user(role, content)


def _assistant(blocks: Sequence[Block]) -> dict[str, Any]:
    texts = [_text(block) for block in blocks if block["type"] == "text"]
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    turn: dict[str, Any] = {"role": "assistant", "content": texts or None}
    return {**turn, "tool_calls": calls} if calls else turn


def _call(block: Block) -> dict[str, Any]:
    arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}


def _user(role: str, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """A turn's results, each a message of its own, which must follow the calls; then what else the turn says."""
    for block in blocks:
        if block["type"] == "tool_result":
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _result(block)}
    parts = [_part(block) for block in blocks if block["type"] != "tool_result"]
    if parts:
        yield {"role": role, "content": parts}


def _result(block: Block) -> str:
    """A result's text. The API has no flag for a tool that failed, so the text says it."""
    content = block.get("content") or ""
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    return f"{_FAILED}{text}" if block.get("is_error") else text


def _part(block: Block) -> dict[str, Any]:
    if block["type"] == "text":
        return _text(block)
    source = block["source"]
    url = source["url"] if source["type"] == "url" else f"data:{source['media_type']};base64,{source['data']}"
    # Never more detail than "high": budgets count no more tokens than that takes.
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def _text(block: Block) -> dict[str, Any]:
    return {"type": "text", "text": block["text"]}


def _tool(tool: Block) -> dict[str, Any]:
    schema: Mapping[str, Any] = tool.get("input_schema") or {"type": "object", "properties": {}}
    function: dict[str, Any] = {"name": tool["name"], "parameters": dict(schema)}
    if tool.get("description"):
        function["description"] = tool["description"]
    if tool.get("strict"):
        function |= {"strict": True, "parameters": dict(strict_form(schema).schema)}
    return {"type": "function", "function": function}


def _choice(choice: Block | None) -> dict[str, Any]:
    if choice is None:
        return {}
    one = choice["type"] == "tool"
    chosen = {"type": "function", "function": {"name": choice["name"]}} if one else _CHOICES[choice["type"]]
    return {
        "tool_choice": chosen,
        **({"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}),
    }
