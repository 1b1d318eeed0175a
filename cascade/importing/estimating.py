"""Usage and cost for replies whose source recorded none: by the texts' lengths and at list prices, marked as estimates."""

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
"""The key of a reply, and of a manifest, that names what is estimated in it."""

METHODS: Final = {"usage": f"characters / {CHARACTERS_PER_TOKEN}", "cost_usd": "list prices"}
"""By what each is estimated."""


def list_prices(ladder: Iterable[LadderEntry]) -> dict[str, Rates]:
    """The list prices of the rungs whose model has some."""
    found: dict[str, Rates] = {}
    for entry in ladder:
        with suppress(NoPrice):
            if entry.model is not None:
                found[entry.rung] = rates_of(Rung.model_construct(rung=entry.rung, model=entry.model, max_tokens=1))
    return found


def with_estimates(about: Mapping[str, Any], reply: Mapping[str, Any], rates: Rates | None) -> Mapping[str, Any]:
    """The reply with usage and cost estimated where its source has neither, or the latter alone; its further samples too.

    What came back is the whole `response` where a filter took a part of it, else the `answer`, else the `choice` that
    was taken; of a vote it is every one of the `responses`, and the prompt counts as often. Where there is no text of
    any of these, the usage stays unknown; so does the cost without `rates`.
    """
    found: dict[str, Any] = {}
    said = reply.get("responses") or [reply.get("response", reply.get("answer", reply.get("choice")))]
    if "usage" not in reply and "cost_usd" not in reply and None not in said:
        asked = _tokens(about.get("input")) + _tokens(about.get("system"))
        found["usage"] = {"input_tokens": asked * len(said), "output_tokens": sum(map(_tokens, said))}
    used = found.get("usage", reply.get("usage"))
    if rates is not None and "cost_usd" not in reply and used and {"input_tokens", "output_tokens"} <= used.keys():
        found["cost_usd"] = cost(rates, Usage.from_api(used)) / 1e9
    marked = {**found, ESTIMATE: list(found)} if found else {}
    if further := cast("list[dict[str, Any]]", reply.get("samples") or []):
        marked["samples"] = [with_estimates(about, sample, rates) for sample in further]
    return {**reply, **marked}


def _tokens(value: object) -> int:
    """About how many tokens a text is, or all texts in a JSON value; what is not a text counts as its JSON."""
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
