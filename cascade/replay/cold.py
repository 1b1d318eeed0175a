"""What the prompts of a climb cost above the first rung where the policy says `prompt_cache: auto`: their beginning is written anew.

A recording asks every rung about every item, so its caches were warm, or there were none. Live, a request that climbs comes to a rung
that few requests reach: its beginning is in no cache there, and is written. All of this is an estimate; it holds for costs at the
policy's prices alone (`--reprice`), and a single model's cost stays that of the recorded usage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from cascade.core.messages import Request, Usage
from cascade.core.policy import Policy, Rung
from cascade.core.prompt_caching import as_cold, minimum_of, prefix_tokens
from cascade.corpora.items import Item
from cascade.replay.closing import CostOf

if TYPE_CHECKING:
    from cascade.replay.columns import PolicyMapping

__all__ = ["climbs_cold", "cold_notes", "cold_tokens", "recorded_prefix"]


def climbs_cold(policy: Policy, index: int, cost_of: CostOf) -> bool:
    """Whether the prompts of the rung at `index` are priced as written anew."""
    return index > 0 and cost_of == "policy" and policy.prompt_cache == "auto"


def cold_notes(mapping: PolicyMapping) -> tuple[str, ...]:
    """What to say of the costs; nothing without `prompt_cache: auto`."""
    if mapping.plan.policy.prompt_cache != "auto":
        return ()
    if mapping.cost_of == "recorded":
        return ("prompt_cache: auto changes no recorded cost; --reprice adds the cold writes that escalations pay",)
    estimate = (
        "costs include an estimate: above the first rung the beginning of a prompt is priced as a cold cache write"
    )
    return (f"{estimate} (prompt_cache: auto); a single model's cost has none",)


def cold_tokens(rung: Rung, tokens: Usage, prefix: int) -> Usage:
    """The tokens of one call, as they are billed after a climb. `prefix`: see `recorded_prefix`."""
    return as_cold(tokens, prefix, minimum_of(rung))


def recorded_prefix(item: Item, request: Request) -> int:
    """The tokens before the newest turn of a recorded request, with the item's `tools`, if it has any (characters / 4)."""
    tools: Any = (item.extra or {}).get("tools")
    listed = cast("list[object]", tools) if isinstance(tools, list) else []
    return prefix_tokens(
        replace(request, tools=tuple(cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)))
    )
