"""Replies in the API's form: messages, stream events, errors. Pure: the same reply always makes the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cascade.core.messages import Usage
from cascade.emulator.faults import chance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade.corpora import RecordedReply
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.requests import ApiError, ApiRequest

__all__ = ["EmulatedReply", "encode", "error_event", "error_json", "make_reply", "message_json", "stream_events"]

PROSE = "I am quite sure about this one, and would rather explain it in my own words than fill in a form."
_DELTA = 16  # characters in a delta of a stream: about four tokens
_NOTES: dict[str, str | None] = {
    "reasoning": "[emulator] The steps were not recorded.",
    "alternative": None,
    "doubt": "[emulator] Doubts were not recorded.",
}
"""What a verdict says under the keys of which a corpus holds nothing."""
_BAD_CONFIDENCES = (1.5, -0.1, 85)


@dataclass(frozen=True, slots=True)
class EmulatedReply:
    """A reply to send: its text (no text block if empty), its stop reason and its usage."""

    text: str
    usage: Usage
    stop_reason: str = "end_turn"
    thinking: bool = False
    has_usage: bool = True
    raw_usage: dict[str, Any] = field(default_factory=dict[str, Any])


def make_reply(request: ApiRequest, recorded: RecordedReply, fault: FaultKind | None, seed: int) -> EmulatedReply:
    """The recorded answer as the request wants it, as a triage verdict or plain text, changed by the fault if any."""
    confidence, answer = recorded.confidence, recorded.answer
    if fault == "bad_confidence":
        confidence = _BAD_CONFIDENCES[int(chance(seed, request.text) * len(_BAD_CONFIDENCES))]
    if request.triage:
        verdict = {**_NOTES, "confidence": confidence, "answer": answer}
        keys = [key for key in request.triage if key != "confidence" or confidence is not None]
        text = _dump({key: verdict[key] for key in keys})
    else:
        text = answer if isinstance(answer, str) else "" if answer is None else _dump(answer)
    reply = EmulatedReply(text, _full_usage(request, recorded, text), raw_usage=dict(recorded.usage or {}))
    return replace(reply, **_fault_changes(text).get(fault or "", {}))


def _fault_changes(text: str) -> dict[str, dict[str, Any]]:
    half = text[: len(text) // 2]
    return {
        "truncated_json": {"text": half, "stop_reason": "max_tokens"},
        "context_overflow": {"text": half, "stop_reason": "model_context_window_exceeded"},
        "prose": {"text": PROSE},
        "refusal": {"text": "", "stop_reason": "refusal"},
        "empty": {"text": ""},
        "no_usage": {"has_usage": False},
        "unknown_stop": {"stop_reason": "a_reason_of_the_future"},
        "thinking": {"thinking": True},
    }


def _full_usage(request: ApiRequest, recorded: RecordedReply, text: str) -> Usage:
    # Counts that were not recorded are estimated, at four characters per token.
    known, usage = recorded.tokens, recorded.usage or {}
    return replace(
        known,
        input_tokens=known.input_tokens if "input_tokens" in usage else request.estimated_tokens,
        output_tokens=known.output_tokens if "output_tokens" in usage else max(1, len(text) // 4),
    )


def message_json(request: ApiRequest, reply: EmulatedReply, message_id: str) -> dict[str, Any]:
    """The whole message, as POST /v1/messages returns it."""
    content = [{"type": "text", "text": reply.text}] if reply.text else []
    if reply.thinking:
        content.insert(0, {"type": "thinking", "thinking": "", "signature": "ZW11bGF0ZWQ="})
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": _stop_details(reply),
        "usage": _usage_json(reply) if reply.has_usage else None,
    }


def stream_events(request: ApiRequest, reply: EmulatedReply, message_id: str) -> Iterator[tuple[bytes, int]]:
    """The events of a stream, each with its number of output tokens (for the latency)."""
    whole = message_json(request, reply, message_id)
    # As in the API, message_start reports one output token and message_delta all of them.
    first = {**whole["usage"], "output_tokens": min(1, reply.usage.output_tokens)} if reply.has_usage else None
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_details": None, "usage": first}
    yield _event({"type": "message_start", "message": {**whole, **empty}}), 0
    yield _event({"type": "ping"}), 0
    left = reply.usage.output_tokens
    for index, block in enumerate(whole["content"]):
        start, deltas = _block_events(block)
        yield _event({"type": "content_block_start", "index": index, "content_block": start}), 0
        for number, delta in enumerate(deltas):
            share = left // (len(deltas) - number) if block["type"] == "text" else 0
            left -= share
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}), share
        yield _event({"type": "content_block_stop", "index": index}), 0
    delta = {"stop_reason": reply.stop_reason, "stop_sequence": None, "stop_details": _stop_details(reply)}
    total = None
    if reply.has_usage:
        total = {key: value for key, value in whole["usage"].items() if key not in ("cache_creation", "service_tier")}
    yield _event({"type": "message_delta", "delta": delta, "usage": total}), left
    yield _event({"type": "message_stop"}), 0


def error_json(error: ApiError, request_id: str) -> dict[str, Any]:
    """An error in the API's shape."""
    body: dict[str, Any] = {"type": error.kind, "message": error.message}
    if error.details:
        body["details"] = {"error_code": error.details}
    return {"type": "error", "error": body, "request_id": request_id}


def error_event(error: ApiError, request_id: str) -> bytes:
    """An error inside a stream."""
    return _event(error_json(error, request_id))


def encode(value: object) -> bytes:
    """`value` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _block_events(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        return {**block, "signature": ""}, [{"type": "signature_delta", "signature": block["signature"]}]
    text: str = block["text"]
    pieces = [text[at : at + _DELTA] for at in range(0, len(text), _DELTA)]
    return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), encode(data))


def _usage_json(reply: EmulatedReply) -> dict[str, Any]:
    usage = reply.usage
    fields = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }
    return {**fields, **{key: value for key, value in reply.raw_usage.items() if key not in fields}}


def _stop_details(reply: EmulatedReply) -> dict[str, Any] | None:
    refused = reply.stop_reason == "refusal"
    return {"type": "refusal", "category": None, "explanation": None} if refused else None


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
