"""A conversation as plain JSON, for a model that judges or summarises it: material, not messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from cascade.core.messages import Block

__all__ = ["shown"]

_SEEN = frozenset({"image", "document"})
_UNSHOWN = frozenset({"cache_control", "citations"})
_HIDDEN = frozenset({"thinking", "redacted_thinking"})


def shown(content: Any, seen: list[Block]) -> Any:
    """Content as text and plain blocks; images and documents are moved to `seen`, and named by their number there."""
    if isinstance(content, (list, tuple)):
        blocks = [_plain(block) for block in cast("Sequence[Any]", content)]
        return [shown(block, seen) for block in blocks if _kind(block) not in _HIDDEN]
    kind = _kind(content)
    if kind is None:
        return content
    if kind == "text":
        return content.get("text")
    bare = {key: value for key, value in content.items() if key not in _UNSHOWN}
    if kind in _SEEN:
        seen.append(bare)
        return f"[{kind}: number {len(seen)} of the blocks before this one]"
    return {**bare, "content": shown(bare["content"], seen)} if "content" in bare else bare


def _plain(block: Any) -> Any:
    """A block of one of the SDK's classes, of which a reply of the API consists, as the mapping that is sent."""
    dump: Any = None if isinstance(block, (str, Mapping)) else getattr(block, "model_dump", None)
    return dump(mode="json", exclude_none=True) if callable(dump) else block  # pyright: ignore[reportUnknownVariableType]


def _kind(block: Any) -> str | None:
    """The type of a content block; None for anything else."""
    return block.get("type") if isinstance(block, Mapping) else None  # pyright: ignore
