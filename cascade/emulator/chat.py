"""Validate requests as the chat completions API does, and read them as requests of the Messages API. Pure.

So a corpus and a script answer both alike: what the other API calls by another name is turned into this one's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.corpora import text_of
from cascade.emulator.api import triage_keys
from cascade.emulator.caching import prompt_tokens
from cascade.emulator.chat_schemas import check_strict
from cascade.emulator.checks import list_of, object_of, refuse, shorten
from cascade.emulator.prompts import (
    NAMES,
    answer_to_review,
    answers_to_group,
    asks_for_plan,
    plan_to_execute,
    variant_of,
)
from cascade.emulator.requests import ApiError, ApiRequest
from cascade.emulator.tools import NAME_64

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["check_bearer", "read_chat"]

_KNOWN: Final = frozenset(
    {
        "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
        "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed",
        "service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
        "top_p", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
_ROLES: Final = ("developer", "system", "user", "assistant", "tool")
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast")
_PARTS: Final = {"user": ("text", "image_url"), "assistant": ("text", "refusal")}
_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
_MOST_TOKENS: Final = 128_000
_LONGEST_IDENTIFIER: Final = 128


def check_bearer(headers: Mapping[str, str]) -> None:
    """Raise 401 without a key; `headers` have lower-case names."""
    if not headers.get("authorization", "").lower().startswith("bearer "):
        raise ApiError(401, "authentication_error", "You didn't provide an API key.")


def read_chat(body: object, *, names: Mapping[str, str] = NAMES) -> ApiRequest:
    """Check the body of POST /v1/chat/completions. `names`: of the triage prompts that are recognised, by their text."""
    fields = object_of(body, "body")
    for key in fields:
        if key not in _KNOWN:
            refuse(f"Unrecognized request argument supplied: {key[:80]}")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        refuse("you must provide a model parameter")
    _check_settings(fields)
    form = _read_format(fields.get("response_format"))
    system, messages = _read_messages(fields.get("messages"))
    read: dict[str, Any] = {"model": model, "max_tokens": _limit(fields), "messages": messages}
    if system:
        read["system"] = system
    _read_tools(fields, read)
    if form:
        read["output_config"] = {"format": {"type": "json_schema", "schema": form}}
    text, triage = text_of(messages), triage_keys(form)
    answer = (
        {"anyOf": [form["properties"]["answer"]], **{k: form[k] for k in ("$defs",) if k in form}} if triage else form
    )
    return ApiRequest(
        model,
        text,
        False,
        triage,
        prompt_tokens(read),
        answer or None,
        variant_of(read.get("system"), names) if triage else None,
        answers_to_group(read.get("system"), text),
        read,
        answer_to_review(read.get("system"), text),
        asks_for_plan(read.get("system")),
        plan_to_execute(read.get("system")),
        {**read, "cache_control": {"type": "ephemeral"}},
    )


def _check_settings(fields: dict[str, Any]) -> None:
    if fields.get("stream"):
        refuse("stream: streams of chat completions are not emulated")
    if fields.get("n") not in (None, 1):
        refuse("n: more than one choice is not emulated")
    for key, known in (("reasoning_effort", _EFFORTS), ("service_tier", _TIERS)):
        if fields.get(key) not in (None, *known):
            refuse(f"Invalid value: {shorten(fields[key])}. Supported values are: {', '.join(map(repr, known))}.")
    identifier = fields.get("safety_identifier")
    if identifier is not None and len(str(identifier)) > _LONGEST_IDENTIFIER:
        refuse(f"Invalid 'safety_identifier': string too long. Expected at most {_LONGEST_IDENTIFIER} characters.")


def _limit(fields: dict[str, Any]) -> int:
    limit = fields.get("max_completion_tokens", fields.get("max_tokens"))
    if limit is None:
        return _MOST_TOKENS
    if type(limit) is not int or limit < 1:
        refuse("Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1.")
    if limit > _MOST_TOKENS:
        refuse(f"max_tokens is too large: {limit}. This model supports at most {_MOST_TOKENS} completion tokens.")
    return limit


def _read_format(given: object) -> dict[str, Any]:
    """The strict schema that the reply must have; empty for text."""
    form = object_of({"type": "text"} if given is None else given, "response_format")
    if form.get("type") == "text":
        return {}
    if form.get("type") != "json_schema":
        refuse(f"response_format.type: {shorten(form.get('type'))} is not emulated")
    named = object_of(form.get("json_schema"), "response_format.json_schema")
    name = named.get("name")
    if not isinstance(name, str) or not NAME_64.match(name):
        refuse("Invalid 'response_format.json_schema.name'. Expected a string that matches '^[a-zA-Z0-9_-]{1,64}$'.")
    if named.get("strict") is not True:
        refuse("response_format.json_schema.strict: schemas that are not strict are not emulated")
    schema = object_of(named.get("schema"), "response_format.json_schema.schema")
    check_strict(schema, f"response_format {name!r}")
    return schema


def _read_tools(fields: dict[str, Any], read: dict[str, Any]) -> None:
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(list_of(fields.get("tools") or [], "tools"))]
    choice = fields.get("tool_choice")
    if not tools:
        if choice is not None:
            refuse("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.")
        return
    read["tools"] = tools
    if isinstance(choice, str):
        if choice not in _CHOICES:
            refuse(f"Invalid value: {shorten(choice)}. Supported values are: 'none', 'auto', and 'required'.")
        read["tool_choice"] = {"type": _CHOICES[choice]}
    elif choice is not None:
        name = object_of(object_of(choice, "tool_choice").get("function"), "tool_choice.function").get("name")
        if name not in {tool["name"] for tool in tools}:
            refuse(f"Tool choice {shorten(name)} not found in 'tools' parameter.")
        read["tool_choice"] = {"type": "tool", "name": name}


def _tool(given: object, where: str) -> dict[str, Any]:
    tool = object_of(given, where)
    if tool.get("type") != "function":
        refuse(f"Invalid value: {shorten(tool.get('type'))}. Supported values are: 'function'.")
    function = object_of(tool.get("function"), f"{where}.function")
    name = function.get("name")
    if not isinstance(name, str) or not NAME_64.match(name):
        refuse(
            f"Invalid '{where}.function.name'. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
        )
    schema = object_of(function.get("parameters", {"type": "object", "properties": {}}), f"{where}.function.parameters")
    if function.get("strict"):
        check_strict(schema, f"function {name!r}")
    elif schema.get("type") != "object":
        refuse(f"Invalid schema for function {name!r}: schema must be a JSON Schema of 'type: \"object\"'.")
    more = {"description": function["description"]} if function.get("description") else {}
    return {"name": name, "input_schema": schema, **more}


def _read_messages(given: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system prompt's blocks, and the turns, in the Messages API's form."""
    if given is None:
        refuse("Missing required parameter: 'messages'.")
    listed = [object_of(one, f"messages[{at}]") for at, one in enumerate(list_of(given, "messages"))]
    if not listed:
        refuse(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for at, message in enumerate(listed):
        role, where = message.get("role"), f"messages[{at}]"
        if role not in _ROLES:
            refuse(f"Invalid value: {shorten(role)}. Supported values are: {', '.join(map(repr, _ROLES))}.")
        if role == "tool":
            _add_result(message, where, turns, open_calls)
            continue
        _check_answered(open_calls)
        if role == "user":
            _add_user(turns, _content(message.get("content"), where))
            continue
        blocks = _parts(message.get("content"), role, where)
        if role == "assistant":
            calls = list(_calls(message, where))
            open_calls = [block["id"] for block in calls]
            turns.append({"role": role, "content": [*blocks, *calls]})
        elif turns:
            turns.append({"role": "system", "content": blocks})
        else:
            system += blocks
    _check_answered(open_calls)
    return system, turns


def _check_answered(open_calls: list[str]) -> None:
    if open_calls:
        refuse(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
            f"The following tool_call_ids did not have response messages: {', '.join(open_calls)[:400]}"
        )


def _add_result(message: dict[str, Any], where: str, turns: list[dict[str, Any]], open_calls: list[str]) -> None:
    """Add a tool's result to the user's turn after the calls."""
    found = message.get("tool_call_id")
    if found not in open_calls:
        refuse(
            f"Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls' ({where})."
        )
    open_calls.remove(cast("str", found))
    parts = _parts(message.get("content"), "tool", where)
    text = "\n".join(part["text"] for part in parts)
    _add_user(turns, [{"type": "tool_result", "tool_use_id": found, "content": text}])


def _add_user(turns: list[dict[str, Any]], content: str | list[dict[str, Any]]) -> None:
    """What a user's turn says follows its results in the same turn."""
    last = turns[-1] if turns else {}
    if last.get("role") == "user" and isinstance(last["content"], list) and last["content"][0]["type"] == "tool_result":  # pyright: ignore[reportUnknownMemberType]
        last["content"] += [{"type": "text", "text": content}] if isinstance(content, str) else content
    else:
        turns.append({"role": "user", "content": content})


def _content(content: object, where: str) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else list(_parts(content, "user", where))


def _parts(content: object, role: str, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:
        if role != "assistant":
            refuse(f"Invalid value for 'content': expected a string, got null ({where}).")
        return []
    known = _PARTS.get(role, ("text",))
    return [_part(object_of(part, where), known, where) for part in list_of(content, f"{where}.content")]


def _part(part: dict[str, Any], known: Sequence[str], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind not in known:
        refuse(f"Invalid value: {shorten(kind)}. Supported values are: {', '.join(map(repr, known))} ({where}).")
    if kind == "image_url":
        url = object_of(part.get("image_url"), f"{where}.image_url").get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:image/")):
            refuse(f"Invalid image URL ({where}).")
        return {"type": "image", "source": {"type": "url", "url": url}}
    text = part.get("text" if kind == "text" else "refusal")
    if not isinstance(text, str):
        refuse(f"Missing required parameter: '{where}.content.text'.")
    return {"type": "text", "text": text}


def _calls(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    for at, given in enumerate(list_of(message.get("tool_calls") or [], f"{where}.tool_calls")):
        call = object_of(given, f"{where}.tool_calls[{at}]")
        function = object_of(call.get("function"), f"{where}.tool_calls[{at}].function")
        try:
            value = json.loads(function["arguments"])
        except (ValueError, TypeError, KeyError):
            value = {}  # the API takes any text
        yield {"type": "tool_use", "id": str(call.get("id")), "name": str(function.get("name")), "input": value}
