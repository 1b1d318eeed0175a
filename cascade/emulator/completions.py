"""Replies in the chat completions API's form: completions, models, errors. Pure: the same reply always makes the same bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cascade.emulator.chat_schemas import strict_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade.emulator.messages import EmulatedReply
    from cascade.emulator.requests import ApiError, ApiRequest

__all__ = ["chat_error", "chat_models", "completion_json", "describe_chat_model"]

_FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "refusal": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_REFUSAL: Final = "I'm sorry, but I can't help with that."
_OVERFLOW: Final = (
    "This model's maximum context length is 1000000 tokens. However, your messages resulted in 1000001 tokens. Please reduce "
    "the length of the messages."
)
_ERRORS: Final[dict[str, tuple[str, str | None]]] = {
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "not_found_error": ("invalid_request_error", "model_not_found"),
    "rate_limit_error": ("requests", "rate_limit_exceeded"),
    "overloaded_error": ("server_error", None),
    "api_error": ("server_error", None),
    "request_too_large": ("invalid_request_error", None),
}
"""`type` and `code` of an error, by its type in the Messages API."""
_QUOTA: Final = "You exceeded your current quota, please check your plan and billing details."
_OVERLOADED_THERE, _OVERLOADED_HERE = 529, 503


def completion_json(request: ApiRequest, reply: EmulatedReply, completion_id: str) -> dict[str, Any]:
    """The whole completion, as POST /v1/chat/completions returns it."""
    text = "".join(block["text"] for block in reply.content if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)},
        }
        for block in reply.content
        if block["type"] == "tool_use"
    ]
    refused = reply.stop_reason == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or (calls and not text) else _in_form(request, reply, text),
        "refusal": _REFUSAL if refused else None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    finish = _FINISHES.get(reply.stop_reason, reply.stop_reason)
    return {
        "id": completion_id.replace("msg_", "chatcmpl-"),
        "object": "chat.completion",
        "created": 0,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(reply) if reply.has_usage else None,
        "service_tier": "default",
    }


def _in_form(request: ApiRequest, reply: EmulatedReply, text: str) -> str:
    """The text, in the strict schema's form if there is one and the text is JSON."""
    form = request.body.get("output_config")
    if form is None or reply.stop_reason != "end_turn":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        if request.triage or list(form["format"]["schema"]["properties"]) != ["answer"]:
            return text
        value = text
    made = strict_answer(value, form["format"]["schema"], triage=bool(request.triage))
    return text if made == value else json.dumps(made, ensure_ascii=False)


def _usage(reply: EmulatedReply) -> dict[str, Any]:
    """Its prompt includes what was read from the cache and written to it."""
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.thinking_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_error(error: ApiError) -> tuple[int, dict[str, Any]]:
    """The status and the body of an error."""
    kind, code = _ERRORS.get(error.kind, (error.kind, None))
    status, message = error.status, error.message
    if error.details:  # a spend cap
        kind = code = "insufficient_quota"
        message = _QUOTA
    elif message.startswith("prompt is too long"):
        code, message = "context_length_exceeded", _OVERFLOW
    elif status == _OVERLOADED_THERE:
        status, message = _OVERLOADED_HERE, "The server is currently overloaded with other requests."
    return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat_models(models: Sequence[str]) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": [describe_chat_model(model) for model in models]}


def describe_chat_model(name: str) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "emulator"}
