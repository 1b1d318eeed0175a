"""What came of an item, as a line of the results file."""

from __future__ import annotations

from typing import Any

from cascade.batch.calls import encode_json
from cascade.batch.climbing import Finished
from cascade.batch.items import Item, Line

__all__ = ["line_of"]


def line_of(item: Item, ended: Finished) -> Line:
    """The line of an item that has ended. Its `error` is the error's name and message, and `cost_usd` what it cost all the same."""
    answer, error = ended.answer, ended.error
    cost = ended.cost
    values: dict[str, Any] = {
        "id": item.id, "text": None, "rung": None, "model": None, "confidence": None, "degraded": None, "abstained": None,
        "error": None, "cost_usd": cost / 1e9, "escalations": max(0, len(ended.steps) - 1), "request_id": item.request.id,
    }  # fmt: skip
    if answer is not None:
        values["text"], values["rung"], values["model"] = answer.text, answer.rung, answer.model
        values["confidence"], values["degraded"], values["abstained"] = (
            answer.confidence,
            answer.degraded,
            answer.abstained,
        )
        kind = "abstained" if answer.abstained is not None else "answer"
        return Line(item.n, encode_json(values), kind, answer.rung, cost)
    name = type(error).__name__
    values["error"] = {"type": name, "message": str(error)}
    return Line(item.n, encode_json(values), name, None, cost)
