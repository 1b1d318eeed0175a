"""An answer in the shapes of the Messages API: a whole message, or the events of its stream. Plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cascade.core.messages import Block, Message, Usage
from cascade.core.trail import Answer

__all__ = [
    "block_stop",
    "content_events",
    "end_events",
    "message_dict",
    "message_id",
    "start_event",
    "text_delta",
    "text_start",
    "usage_dict",
]

_FIRST_ONLY = (
    "cache_creation",
    "service_tier",
    "inference_geo",
    "speed",
)  # of a usage: as in the API, the last event has none
_WITH_INPUT = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def message_id(request_id: str) -> str:
    """The id of a message that this library makes, from the request's own id."""
    return f"msg_{request_id.removeprefix('casc_')}"


def message_dict(answer: Answer) -> dict[str, Any]:
    """The answer as a whole message. The usage is that of the step that was shipped; the trail has the others'."""
    message, shipped = answer.message, answer.shipped
    return {
        "id": message.id or message_id(answer.request_id),
        "type": "message",
        "role": "assistant",
        "model": answer.model or "",
        "content": [dict(block) for block in message.content],
        "stop_reason": message.stop_reason,
        "stop_sequence": message.stop_sequence,
        "stop_details": None,
        **message.more,
        "usage": {**usage_dict(shipped.usage if shipped is not None else Usage()), **message.more.get("usage", {})},
    }


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Billed tokens in the API's shape. `estimate` is there only if some were not told, as in `Usage.from_api`."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
        **({"estimate": True} if usage.is_estimate else {}),
    }


def start_event(
    id: str,  # noqa: A002 - the API's word
    model: str,
    usage: Usage,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The first event of a stream. `usage`: what is known of it so far, the prompt's tokens at least. `more`: of a Message."""
    message: dict[str, Any] = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**usage_dict(usage), **(more or {}).get("usage", {})},
    }
    return {"type": "message_start", "message": message}


def text_start(index: int) -> dict[str, Any]:
    """The event that begins a block of text."""
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}


def text_delta(index: int, text: str) -> dict[str, Any]:
    """The event that adds to a block of text."""
    return _delta(index, {"type": "text_delta", "text": text})


def block_stop(index: int) -> dict[str, Any]:
    """The event that ends a block."""
    return {"type": "content_block_stop", "index": index}


def content_events(message: Message, first: int = 0) -> Iterator[dict[str, Any]]:
    """The events of a message's blocks, each in one piece. `first`: the index of the first block."""
    for index, block in enumerate(message.content, first):
        start, deltas = _parts(block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield _delta(index, delta)
        yield block_stop(index)


def end_events(message: Message, usage: Usage) -> tuple[dict[str, Any], ...]:
    """The events that end a message's stream. `usage`: of the whole reply."""
    counts = {**usage_dict(usage), **message.more.get("usage", {})}
    for name in _FIRST_ONLY:
        counts.pop(name, None)
    delta = {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
    delta |= {name: message.more.get(name) for name in ("stop_details", "container")}
    return {"type": "message_delta", "delta": delta, "usage": counts}, {"type": "message_stop"}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _parts(block: Block) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its first event has it, and what is added to it. Blocks of other types stand in the first event whole."""
    kind = block.get("type")
    if kind == "text":
        start = {**block, "text": ""}
        citations = start.pop("citations", None)
        deltas = [{"type": "text_delta", "text": block["text"]}] if block.get("text") else []
        return start, [*deltas, *({"type": "citations_delta", "citation": one} for one in citations or ())]
    if kind in _WITH_INPUT:
        written = json.dumps(block.get("input", {}), ensure_ascii=False)
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]
    if kind == "thinking":
        thought, signature = block.get("thinking"), block.get("signature")
        deltas = [{"type": "thinking_delta", "thinking": thought}] if thought else []
        if signature:
            deltas.append({"type": "signature_delta", "signature": signature})
        return {**block, "thinking": "", "signature": ""}, deltas
    return dict(block), []
