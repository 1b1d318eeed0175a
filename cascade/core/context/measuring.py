"""How long a conversation is, in characters: four make a token, as everywhere here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = ["CHARACTERS_PER_TOKEN", "characters", "characters_of_json", "tokens"]

CHARACTERS_PER_TOKEN = 4

_IMAGE = 1_600 * CHARACTERS_PER_TOKEN  # about what a picture of the usual size takes
_FILE_SHARE = 8  # of a file's base64 text, the part that counts: how many pages it has is not known
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def characters(content: Any) -> int:
    """The length of a message's content, of a block, or of blocks.

    A call counts with its input, an image and a file as an estimate. Of a block of another kind all its text counts.
    """
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return _block_characters(cast("Mapping[str, Any]", content))
    if isinstance(content, Sequence):
        return sum(map(characters, cast("Sequence[Any]", content)))
    dump: Any = getattr(content, "model_dump", None)  # a block of one of the SDK's classes, as in a reply of the API
    return characters(dump(mode="json", exclude_none=True)) if callable(dump) else 0


def _block_characters(block: Mapping[str, Any]) -> int:
    kind = block.get("type")
    if kind == "text":
        return characters(block.get("data" if "data" in block else "text"))
    if kind == "tool_result":
        return characters(block.get("content"))
    if kind in _CALLS:
        return characters(block.get("name")) + characters_of_json(block.get("input"))
    if kind == "thinking":
        return characters(block.get("thinking"))
    if kind == "image":
        return _IMAGE
    if kind == "base64":
        return characters(block.get("data")) // _FILE_SHARE
    if kind in ("url", "file"):
        return _IMAGE
    return sum(characters(value) for key, value in block.items() if key not in ("type", "cache_control"))


def characters_of_json(value: Any) -> int:
    """The length of a value as JSON; 0 for nothing, and for what is none."""
    if not value:
        return 0
    try:
        return len(json.dumps(value, ensure_ascii=False, default=str))
    except (TypeError, ValueError, RecursionError):
        return 0


def tokens(count: int) -> int:
    """Characters as tokens, rounded up."""
    return -(-count // CHARACTERS_PER_TOKEN)
