"""A chat completion → Reply, in the Messages API's shape, so that all who read replies read this one alike."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic_core import from_json

from cascade.core.budgets import max_usage
from cascade.core.messages import Block, Failure, Message, Reply, Usage, token_count
from cascade.core.strict import strict_form, unstrict
from cascade.core.triage import Prompt
from cascade.openai.failures import failure_of_body
from cascade.transport.failures import Unreadable

__all__ = ["outcome_of"]

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""What a `finish_reason` is in the Messages API; one that is not known yet stays as it is, and is marked as such."""
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # of a call, as the Messages API takes it back


def outcome_of(body: bytes, prompt: Prompt, headers: Mapping[str, str]) -> Reply | Failure:
    """The body of an HTTP 200 as a Reply, or a Failure with the billed usage if it is not a completion."""
    completion: Any = None
    request_id = headers.get("x-request-id")
    try:
        completion = from_json(body, allow_inf_nan=False)
        if (broken := _broken(completion)) is not None:
            return replace(failure_of_body(broken, 200, headers), usage=_known_usage(completion))
        return _reply_of(completion, prompt, request_id)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, Unreadable) as problem:
        text = f"HTTP 200, but not a chat completion ({type(problem).__name__})"
        return Failure("unreadable", text, status=200, usage=_known_usage(completion), request_id=request_id)


def _broken(completion: Any) -> object:
    """The body or the choice that holds an error in the place of a reply, or beside its beginning; None if none does.

    Proxies that have sent their headers tell so what their upstream did.
    """
    if not isinstance(completion, dict):
        return None
    body = cast("dict[str, Any]", completion)
    choices: Any = body.get("choices")
    if not choices:
        return body if body.get("error") else None
    return choices[0] if choices[0].get("error") else None


def _reply_of(completion: Any, prompt: Prompt, request_id: str | None) -> Reply:
    choice = completion["choices"][0]
    said, finish = choice["message"], choice.get("finish_reason") or ""
    if not isinstance(finish, str):
        raise TypeError("finish_reason")
    calls = _calls(completion, said, prompt.tools, is_cut=finish == "length")
    if not calls and said.get("function_call"):
        raise Unreadable("a call in a form that is no longer used")
    text, refusal = said.get("content") or "", said.get("refusal")
    if not isinstance(text, str):
        raise TypeError("content")
    stop = _STOPS.get(finish, finish)
    if refusal:
        text, stop = str(refusal), "refusal"
    elif stop == "end_turn" and calls:  # a call that `tool_choice` names ends with "stop"
        stop = "tool_use"
    sequence = None
    if prompt.schema is not None and stop == "end_turn":
        text = _unstrict(text, prompt.schema)
    elif stop in ("end_turn", "max_tokens") and prompt.stop_sequences:
        text, sequence = _stopped(text, prompt.stop_sequences)
        stop = "stop_sequence" if sequence is not None else stop
    content: tuple[Block, ...] = (*(({"type": "text", "text": text},) if text else ()), *calls)
    message = Message(str(completion.get("id") or ""), content, stop, sequence)
    usage = _usage_of(completion, prompt)
    return Reply(text, stop, usage, str(completion.get("model") or ""), request_id, message=message)


def _calls(
    completion: Mapping[str, Any], said: Mapping[str, Any], tools: Sequence[Block], *, is_cut: bool
) -> list[Block]:
    """The calls of tools. An id that the Messages API would not take back, or that stands twice, is made anew."""
    calls: list[Block] = []
    for at, call in enumerate(said.get("tool_calls") or ()):
        made: Any = call.get("id")
        taken = {one["id"] for one in calls}
        if not isinstance(made, str) or not _ID.fullmatch(made) or made in taken:
            named = f"{completion.get('id')} {at} {made}"
            made = f"call_{hashlib.sha256(named.encode()).hexdigest()[:24]}"
        calls.append(_call(call, made, tools, is_cut=is_cut))
    return calls


def _call(call: Mapping[str, Any], made: str, tools: Sequence[Block], *, is_cut: bool) -> Block:
    """One call, with the id `made`. `is_cut`: the reply ended at its limit, so the input may be there only in part."""
    function = call["function"]
    schema = next((tool.get("input_schema") for tool in tools if tool["name"] == function["name"]), None)
    is_strict = any(tool.get("strict") for tool in tools if tool["name"] == function["name"])
    arguments = function.get("arguments") or "{}"
    # Part of an input that nothing cut off is no input: a call with it would do something else than the model said.
    value = from_json(arguments, allow_inf_nan=False, allow_partial=is_cut)
    if is_strict and schema is not None:
        value = unstrict(value, schema, wrapped=False)
    if not isinstance(value, dict):
        raise Unreadable("the input of a call is no object")
    return {"type": "tool_use", "id": made, "name": str(function["name"]), "input": cast("Any", value)}


def _unstrict(text: str, schema: Mapping[str, Any]) -> str:
    """The reply's JSON in the form that the caller's schema has; text that is no JSON as it is."""
    form = strict_form(schema)
    if not form.changed:
        return text
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        return text
    return json.dumps(unstrict(value, schema, wrapped=form.wrapped), ensure_ascii=False)


def _stopped(text: str, sequences: Sequence[str]) -> tuple[str, str | None]:
    """The text before the first stop sequence in it, and that one."""
    places = [(text.find(one), -len(one), one) for one in sequences if one and one in text]
    if not places:
        return text, None
    at, _, sequence = min(places)
    return text[:at], sequence


def _usage_of(completion: Mapping[str, Any], prompt: Prompt) -> Usage:
    """The billed usage. Counts that are missing or invalid are set to their maximum, and marked as an estimate."""
    usage: Any = completion.get("usage")
    try:
        known, has = _read_usage(usage), [usage.get(key) is not None for key in ("prompt_tokens", "completion_tokens")]
    except (ValueError, TypeError, AttributeError):
        known, has = Usage(), [False, False]
    if all(has):
        return known
    most = replace(max_usage(prompt)[0], is_estimate=True)
    if has[0]:
        return replace(known, output_tokens=most.output_tokens, is_estimate=True)
    return replace(most, output_tokens=known.output_tokens) if has[1] else most


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    """The API's `usage`. Its prompt includes what was read from the cache and written to it; ours does not.

    Some endpoints count what the model reasoned only in the total, and bill it.
    """
    asked: Mapping[str, Any] = usage.get("prompt_tokens_details") or {}
    said: Mapping[str, Any] = usage.get("completion_tokens_details") or {}
    whole = token_count(usage, "prompt_tokens")
    read = min(whole, token_count(asked, "cached_tokens"))
    written = min(whole - read, token_count(asked, "cache_write_tokens"))
    output = max(token_count(usage, "completion_tokens"), token_count(usage, "total_tokens") - whole)
    return Usage(
        input_tokens=whole - read - written,
        output_tokens=output,
        cache_write_5m=written,
        cache_read=read,
        thinking_tokens=min(output, token_count(said, "reasoning_tokens")),
    )


def _known_usage(completion: Any) -> Usage:
    try:
        return _read_usage(completion["usage"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Usage()
