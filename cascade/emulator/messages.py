"""Replies in the API's form: messages, stream events, errors. Pure: the same reply always makes the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cascade.core.messages import Usage
from cascade.emulator.content import block_events, characters_of, cut_content, encode, sent_block
from cascade.emulator.faults import chance
from cascade.emulator.signatures import prefix_of, sign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade.corpora import RecordedReply
    from cascade.emulator.content import Content
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.requests import ApiError, ApiRequest

__all__ = [
    "EmulatedReply", "change_confidence", "change_reply", "error_event", "error_json", "make_reply",
    "message_json", "stream_events", "verdict_text",
]  # fmt: skip

PROSE = "I am quite sure about this one, and would rather explain it in my own words than fill in a form."
_NOTES: dict[str, str | None] = {
    "reasoning": "[emulator] The steps were not recorded.",
    "alternative": None,
    "doubt": "[emulator] Doubts were not recorded.",
}
"""What a verdict says under the keys of which a corpus holds nothing."""
_BAD_CONFIDENCES = (1.5, -0.1, 85)
_AT_END = frozenset({"output_tokens_details", "server_tool_use"})  # usage that is not known when a stream begins
_ONLY_FIRST = frozenset({"cache_creation", "service_tier"})  # usage that message_delta does not repeat


@dataclass(frozen=True, slots=True)
class EmulatedReply:
    """A reply to send: its content blocks, its stop reason and its usage. `raw_usage`: further fields of the usage."""

    content: Content
    usage: Usage
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    has_usage: bool = True
    raw_usage: dict[str, Any] = field(default_factory=dict[str, Any])


def make_reply(request: ApiRequest, recorded: RecordedReply, fault: FaultKind | None, seed: int) -> EmulatedReply:
    """The recorded answer as the request wants it, as a triage verdict or plain text, changed by the fault if any."""
    answer = recorded.answer
    if request.triage:
        confidence = change_confidence(request, recorded.confidence, fault, seed)
        text = verdict_text(request.triage, confidence, answer)
    else:
        text = answer if isinstance(answer, str) else "" if answer is None else _dump(answer)
    usage = _full_usage(request, recorded, text)
    reply = EmulatedReply(_text(text), usage, raw_usage=dict(recorded.usage or {}))
    return change_reply(reply, fault, request)


def verdict_text(keys: Sequence[str], confidence: float | None, answer: object) -> str:
    """A triage verdict with these keys, in this order; without a confidence if there is none."""
    verdict = {**_NOTES, "confidence": confidence, "answer": answer}
    return _dump({key: verdict[key] for key in keys if key != "confidence" or confidence is not None})


def change_confidence(
    request: ApiRequest, confidence: float | None, fault: FaultKind | None, seed: int
) -> float | None:
    """The confidence, or one outside 0..1 if the fault asks for it."""
    if fault != "bad_confidence":
        return confidence
    return _BAD_CONFIDENCES[int(chance(seed, request.text) * len(_BAD_CONFIDENCES))]


def change_reply(reply: EmulatedReply, fault: FaultKind | None, request: ApiRequest) -> EmulatedReply:
    """The reply as a fault changes it; the usage stays."""
    return replace(reply, **_changes(reply.content, request).get(fault, {})) if fault else reply


def _changes(content: Content, request: ApiRequest) -> dict[str, dict[str, Any]]:
    half = cut_content(content, sum(map(characters_of, content)) // 2)
    signature = sign(request.model, "", prefix_of(request.body, request.body["messages"]))
    thought = {"type": "thinking", "thinking": "", "signature": signature}
    return {
        "truncated_json": {"content": half, "stop_reason": "max_tokens"},
        "context_overflow": {"content": half, "stop_reason": "model_context_window_exceeded"},
        "prose": {"content": _text(PROSE)},
        "refusal": {"content": (), "stop_reason": "refusal"},
        "empty": {"content": ()},
        "no_usage": {"has_usage": False},
        "unknown_stop": {"stop_reason": "a_reason_of_the_future"},
        "thinking": {"content": (thought, *content)},
    }


def _text(text: str) -> Content:
    return ({"type": "text", "text": text},) if text else ()


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
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [sent_block(block) for block in reply.content],
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": _stop_details(reply),
        "usage": _usage_json(reply) if reply.has_usage else None,
    }


def stream_events(request: ApiRequest, reply: EmulatedReply, message_id: str) -> Iterator[tuple[bytes, int]]:
    """The events of a stream, each with its number of output tokens (for the latency)."""
    whole = message_json(request, reply, message_id)
    first: dict[str, Any] | None = None
    if reply.has_usage:  # as in the API, message_start reports one output token and message_delta all of them
        first = {key: value for key, value in whole["usage"].items() if key not in _AT_END}
        first["output_tokens"] = min(1, reply.usage.output_tokens)
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    yield _event({"type": "message_start", "message": {**whole, **empty, "usage": first}}), 0
    yield _event({"type": "ping"}), 0
    blocks = [block_events(block) for block in reply.content]
    shares = _shares(reply, blocks)
    for index, (start, deltas) in enumerate(blocks):
        yield _event({"type": "content_block_start", "index": index, "content_block": start}), 0
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}), next(shares)
        yield _event({"type": "content_block_stop", "index": index}), 0
    end = {
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": _stop_details(reply),
    }
    total = None
    if reply.has_usage:
        total = {key: value for key, value in whole["usage"].items() if key not in _ONLY_FIRST}
    yield _event({"type": "message_delta", "delta": end, "usage": total}), next(shares)
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


def _shares(reply: EmulatedReply, blocks: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]) -> Iterator[int]:
    """The output tokens of each delta, and what is left for the end.

    Deltas of thinking share the thinking tokens if their number is known; all others share the rest evenly.
    """
    known = reply.usage.thinking_tokens
    flat: list[
        tuple[bool, bool]
    ] = []  # of each delta: whether thinking tokens are meant for it, and whether it has any
    for start, deltas in blocks:
        is_thought = known > 0 and start["type"] == "thinking"
        written = [_has_text(delta) for delta in deltas]
        flat += [(is_thought, has_text or (is_thought and not any(written))) for has_text in written]
    apart = known if any(is_thought for is_thought, _ in flat) else 0
    left = {True: apart, False: reply.usage.output_tokens - apart}
    number = Counter(is_thought for is_thought, carries in flat if carries)
    for is_thought, carries in flat:
        share = left[is_thought] // number[is_thought] if carries else 0
        number[is_thought] -= carries
        left[is_thought] -= share
        yield share
    yield left[True] + left[False]


def _has_text(delta: dict[str, Any]) -> bool:
    return bool(delta.get("text") or delta.get("thinking") or delta.get("partial_json"))


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
