"""What came of an item, as a line of the results file."""

from __future__ import annotations

from typing import Any

from cascade.batch.calls import encode_json
from cascade.batch.climbing import Finished
from cascade.batch.items import Item, Line

__all__ = ["line_of"]

_FIELDS = (
    "id", "text", "rung", "model", "confidence", "degraded", "abstained", "error", "cost_usd", "escalations", "request_id",
)  # fmt: skip


def line_of(item: Item, ended: Finished) -> Line:
    """The line of an item that has ended. Its `error` is the error's name and message, and `cost_usd` what it cost all the same."""
    answer, error = ended.answer, ended.error
    cost = ended.cost
    values: dict[str, Any] = dict.fromkeys(_FIELDS)
    values |= {
        "id": item.id,
        "cost_usd": cost / 1e9,
        "escalations": max(0, len(ended.steps) - 1),
        "request_id": item.request.id,
    }
    if answer is not None:
        values |= {
            "text": answer.text, "rung": answer.rung, "model": answer.model, "confidence": answer.confidence,
            "degraded": answer.degraded, "abstained": answer.abstained,
        }  # fmt: skip
        kind = "abstained" if answer.abstained is not None else "answer"
        return Line(item.n, encode_json(values), kind, answer.rung, cost)
    name = type(error).__name__
    values["error"] = {"type": name, "message": str(error)}
    return Line(item.n, encode_json(values), name, None, cost)
