"""Content blocks of replies: how they are cut, and the deltas in which a stream brings them. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CALLS",
    "UNREADABLE",
    "Content",
    "block_events",
    "characters_of",
    "cut_content",
    "encode",
    "parse_body",
    "sent_block",
    "stop_at",
    "tokens_of",
    "unmarked",
]

Content = tuple["Mapping[str, Any]", ...]
"""The blocks of one message, in the Messages API's own shapes."""

CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""The kinds of blocks whose input comes as pieces of JSON."""
_PARTIAL: Final = "partial_json"  # where a call that was cut off keeps the JSON it got to; never sent
_DELTA: Final = 16  # characters in a delta of a stream: about four tokens
_TOKEN: Final = 4  # characters
_TEXTS: Final = {"text": "text", "thinking": "thinking"}  # the key under which these kinds have their text


def characters_of(block: Mapping[str, Any]) -> int:
    """Characters that the model writes for a block: its text, or a call's name and input. A server's results count as none."""
    if block["type"] in CALLS:
        return len(block["name"]) + len(_written(block))
    return len(block[_TEXTS[block["type"]]]) if block["type"] in _TEXTS else 0


def tokens_of(blocks: Iterable[Mapping[str, Any]]) -> int:
    """Output tokens of blocks, estimated at four characters each, rounded up."""
    return -(-sum(map(characters_of, blocks)) // _TOKEN)


def encode(value: object) -> bytes:
    """`value` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def unmarked(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block without its cache_control: where a mark stands is no part of the prompt."""
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    if isinstance(content := bare.get("content"), list):
        inside = cast("list[object]", content)
        bare["content"] = [
            unmarked(cast("dict[str, Any]", part)) if isinstance(part, dict) else part for part in inside
        ]
    return bare


def cut_content(content: Content, characters: int) -> Content:
    """The first `characters` of a reply, as a limit leaves them: a call that is cut has what can be read of its input."""
    kept: list[Mapping[str, Any]] = []
    left = characters
    for block in content:
        length = characters_of(block)
        if length <= left:
            kept.append(block)
            left -= length
            continue
        if left > len(block.get("name", "")):  # a name is never cut
            kept.append(_cut_block(block, left))
        break
    return tuple(kept)


def stop_at(content: Content, sequences: Sequence[str]) -> tuple[Content, str | None]:
    """The reply up to the first stop sequence in one of its texts, and that sequence; None if there is none."""
    for index, block in enumerate(content):
        if block["type"] != "text":
            continue
        found = [(at, sequence) for sequence in sequences if (at := block["text"].find(sequence)) >= 0]
        if found:
            at, sequence = min(found)
            before = ({**block, "text": block["text"][:at]},) if at else ()
            return (*content[:index], *before), sequence
    return content, None


def sent_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block as a whole message has it."""
    return {key: value for key, value in block.items() if key != _PARTIAL}


def block_events(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block with which a stream begins, and the deltas that fill it."""
    kind = block["type"]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        signed = [{"type": "signature_delta", "signature": block["signature"]}] if block["signature"] else []
        return {**block, "thinking": "", "signature": ""}, deltas + signed
    if kind == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        cited = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations") or ()]
        return {**block, "text": ""} | ({"citations": []} if cited else {}), deltas + cited
    if kind in CALLS:
        written = _written(block)
        deltas = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in (
                "",
                *_pieces(written, min(_DELTA, -(-len(written) // 2))),
            )  # at least two pieces and, as in the API, an empty one
        ]
        return {**sent_block(block), "input": {}}, deltas
    return dict(block), []


def _cut_block(block: Mapping[str, Any], characters: int) -> Mapping[str, Any]:
    kind = block["type"]
    if kind in CALLS:
        written = _written(block)[: characters - len(block["name"])]
        read: dict[str, Any] = from_json(written, allow_partial=True)
        return {**block, "input": read, _PARTIAL: written}
    cut = {**block, _TEXTS[kind]: block[_TEXTS[kind]][:characters]}
    return cut | {"signature": ""} if kind == "thinking" else cut  # a thought that was cut off is never signed


def _written(block: Mapping[str, Any]) -> str:
    partial: str | None = block.get(_PARTIAL)
    return json.dumps(block["input"], ensure_ascii=False) if partial is None else partial


def _pieces(text: str, size: int = _DELTA) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size or 1)]


UNREADABLE: Final = object()
"""What `parse_body` makes of a body that is not JSON."""


def parse_body(body: bytes) -> object:
    """A request's body as JSON values."""
    try:
        return from_json(body, allow_inf_nan=False) if body else UNREADABLE
    except ValueError:
        return UNREADABLE
