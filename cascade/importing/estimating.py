"""Estimate usage and cost of replies without them, from text lengths and list prices. Estimates are marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from pydantic_core import to_json

from cascade.core.messages import Usage
from cascade.core.policy import Rung
from cascade.core.prices import Rates, cost
from cascade.core.signals import CHARACTERS_PER_TOKEN
from cascade.corpora.items import LadderEntry
from cascade.policy.pricing import NoPrice, rates_of

__all__ = ["ESTIMATE", "METHODS", "list_prices", "with_estimates"]

ESTIMATE: Final = "estimate"
"""The key of a reply, or a manifest, that lists what is estimated in it."""

METHODS: Final = {"usage": f"characters / {CHARACTERS_PER_TOKEN}", "cost_usd": "list prices"}
"""The method of each estimate."""


def list_prices(ladder: Iterable[LadderEntry]) -> dict[str, Rates]:
    """The list prices of each rung whose model has one."""
    found: dict[str, Rates] = {}
    for entry in ladder:
        with suppress(NoPrice):
            if entry.model is not None:
                found[entry.rung] = rates_of(Rung.model_construct(rung=entry.rung, model=entry.model, max_tokens=1))
    return found


def with_estimates(fields: Mapping[str, Any], reply: Mapping[str, Any], rates: Rates | None) -> Mapping[str, Any]:
    """The reply with its missing cost, or usage and cost, estimated; its further `samples` too.

    The output is the `response` if a filter extracted the answer from it, else the `answer`, else the `choice`. Of a vote
    it is all `responses`, and the prompt counts once for each. Without any of these texts the usage stays unknown; without
    `rates` the cost does.
    """
    estimates: dict[str, Any] = {}
    outputs = reply.get("responses") or [reply.get("response", reply.get("answer", reply.get("choice")))]
    if "usage" not in reply and "cost_usd" not in reply and None not in outputs:
        prompt = _tokens(fields.get("input")) + _tokens(fields.get("system"))
        estimates["usage"] = {"input_tokens": prompt * len(outputs), "output_tokens": sum(map(_tokens, outputs))}
    usage = estimates.get("usage", reply.get("usage"))
    if rates is not None and "cost_usd" not in reply and usage and {"input_tokens", "output_tokens"} <= usage.keys():
        estimates["cost_usd"] = cost(rates, Usage.from_api(usage)) / 1e9
    marked = {**estimates, ESTIMATE: list(estimates)} if estimates else {}
    if further := cast("list[dict[str, Any]]", reply.get("samples") or []):
        marked["samples"] = [with_estimates(fields, sample, rates) for sample in further]
    return {**reply, **marked}


def _tokens(value: object) -> int:
    """The estimated tokens of a text, or of all texts in a JSON value. Other values count as their JSON."""
    return -(-_characters(value) // CHARACTERS_PER_TOKEN)


def _characters(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_characters, cast("list[object]", value)))
    if isinstance(value, dict) and "content" in value:  # a turn
        return _characters(cast("dict[str, object]", value)["content"])
    if isinstance(value, dict) and "text" in value:  # a block
        return _characters(cast("dict[str, object]", value)["text"])
    return len(to_json(value))
