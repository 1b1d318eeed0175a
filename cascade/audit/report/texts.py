"""The texts of disagreements, where the ledger keeps content: what was asked, and what was shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cascade.audit.grading import Shipped, read_shipped
from cascade.ledger.audit import Sample
from cascade.ledger.stores import Reader

__all__ = ["Texts", "read_texts"]


@dataclass(frozen=True, slots=True)
class Texts:
    """The last words of the user, and the shipped answer; None for what is not kept."""

    question: str | None
    answer: str | None


def read_texts(reader: Reader, samples: Sequence[Sample], longest_s: float) -> Mapping[str, Texts]:
    """By request. `longest_s`: the longest that a request takes. Raises LedgerDown."""
    read = ((one.request, read_shipped(reader, one, longest_s)) for one in samples)
    return {request: Texts(_question(one), one.text) for request, one in read if isinstance(one, Shipped)}


def _question(shipped: Shipped) -> str | None:
    content = next(
        (one.get("content") for one in reversed(shipped.request.messages) if one.get("role") == "user"), None
    )
    if isinstance(content, str):
        return content
    blocks = cast("list[dict[str, Any]]", content if isinstance(content, list) else [])
    return "\n".join(str(block["text"]) for block in blocks if "text" in block) or None
