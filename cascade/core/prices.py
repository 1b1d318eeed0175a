"""Usage → exact money: integer rates, costs in integer nano-USD, so sums are exact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from cascade.core.messages import Usage

__all__ = ["RateTier", "Rates", "cost", "total"]

_TOKENS_PER_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class RateTier:
    """Prices of one tier, in nano-USD per million tokens (1 USD per million tokens = 1_000_000_000)."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int

    @classmethod
    def from_usd(
        cls, *, input: Decimal, output: Decimal, write_5m: Decimal, write_1h: Decimal, read: Decimal, factor: Decimal
    ) -> RateTier:
        """From USD per million tokens; `factor` scales all of them (1 - discount)."""
        usd = (input, output, write_5m, write_1h, read)
        return cls(*(int((price * factor * 1_000_000_000).to_integral_value()) for price in usd))


@dataclass(frozen=True, slots=True)
class Rates:
    """A model's prices. `tiers`: ((above_prompt_tokens, tier), …), ascending; the last one passed prices the request."""

    tiers: tuple[tuple[int, RateTier], ...]

    def tier_of(self, usage: Usage) -> RateTier:
        """The tier that prices the whole request: the API bills by the length of the prompt, cached tokens included."""
        chosen = self.tiers[0][1]
        if len(self.tiers) > 1:
            for above, tier in self.tiers[1:]:
                if usage.prompt_tokens > above:
                    chosen = tier
        return chosen


def cost(rates: Rates, usage: Usage) -> int:
    """What `usage` costs at `rates`, in nano-USD, rounded half up once."""
    tier = rates.tier_of(usage)
    total = (
        usage.input_tokens * tier.input
        + usage.output_tokens * tier.output
        + usage.cache_write_5m * tier.cache_write_5m
        + usage.cache_write_1h * tier.cache_write_1h
        + usage.cache_read * tier.cache_read
    )
    return (total + _TOKENS_PER_RATE // 2) // _TOKENS_PER_RATE


def total(rates: Rates, billed: Iterable[Usage]) -> int:
    """The cost of several attempts in nano-USD, each priced by itself, since tiers go by the length of one prompt."""
    return sum(cost(rates, usage) for usage in billed)
