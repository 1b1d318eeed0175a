"""Prices for a usage export: list prices, the policy's, or the user's own (`--price model=in/out`), live and in batches.

All arithmetic is in `core.prices`: whole nano-USD, rounded once for each sum of tokens at one price.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from pydantic import ValidationError

from cascade.core import prices
from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.core.models import identify
from cascade.core.policy import Policy, Price, Rung
from cascade.core.prices import Rates, RateTier
from cascade.policy.binding import called_rungs
from cascade.policy.pricing import NoPrice, rates_of
from cascade.savings.sums import SIZE_STEP, Slice

__all__ = ["BothRates", "PriceBook", "cost_of", "read_prices"]

_HINT = "--price MODEL=IN/OUT or MODEL=IN/OUT/CACHE_READ/CACHE_WRITE, in USD per million tokens"


class BothRates(NamedTuple):
    """A model's prices, live and in batches."""

    live: Rates
    batch: Rates


class PriceBook:
    """The prices of models: from `--price`, else from the policy, else list prices. Compiled once.

    Batches cost half, but for a `price` of the policy, which is what its endpoint takes (`policy.pricing`).
    """

    def __init__(self, own: Mapping[str, Price], policy: Policy) -> None:
        self._own = {_canonical(model): price for model, price in own.items()}
        self._rungs = {_canonical(rung.model): rung for rung in called_rungs(policy) if _is_own(rung)}
        self._known: dict[tuple[str, bool], Rates] = {}

    def rates(self, model: str, where: str = "usage", *, batch: bool = False) -> Rates:
        """A model's prices, live or in batches. Raises UsageExportError, which names `where`, if it has none."""
        if (known := self._known.get((model, batch))) is None:
            known = self._known[model, batch] = self._look_up(model, where, batch)
        return known

    def both(self, model: str, where: str = "usage") -> BothRates:
        """A model's prices, live and in batches."""
        return BothRates(self.rates(model, where), self.rates(model, where, batch=True))

    def _look_up(self, model: str, where: str, batch: bool) -> Rates:
        name = _canonical(model)
        try:
            if (price := self._own.get(name)) is not None:
                own = rates_of(Rung(rung="own", model="own", max_tokens=1, price=price))
                return _halved(own) if batch else own
            if (rung := self._rungs.get(name)) is not None:
                same = rung.model_copy(update={"model": model})  # the platform of the row, not the rung's
                return rates_of(same, batch=batch)
            return rates_of(Rung(rung="list", model=model, max_tokens=1), batch=batch)
        except (NoPrice, ValidationError):
            problem = f"there is no price for model {model[:128]!r}"
            raise UsageExportError(problem, where=where, hint=f"--price {model[:128]}=IN/OUT") from None


def _is_own(rung: Rung) -> bool:
    """Whether its price is not the list's: its own, or that of another vendor's table, where its name stands for one model."""
    return bool(rung.price or rung.discount or rung.provider != "anthropic")


def read_prices(pairs: Iterable[str]) -> dict[str, Price]:
    """Read `--price`, by model. Raises UsageExportError if one is invalid."""
    own: dict[str, Price] = {}
    for pair in pairs:
        model, equals, amounts = pair.rpartition("=")
        try:
            numbers = [Decimal(part.strip()) for part in amounts.split("/")]
        except InvalidOperation:
            numbers = []
        if not equals or not model.strip() or len(numbers) not in (2, 4) or not all(_is_price(one) for one in numbers):
            raise UsageExportError(f"{pair!r} is not a price", where="--price", hint=_HINT)
        read, write = numbers[2:] or (None, None)
        own[model.strip()] = Price(input=numbers[0], output=numbers[1], cache_read=read, cache_write=write)
    return own


def _halved(rates: Rates) -> Rates:
    """The user's own list prices, in a batch: half of everything."""
    names = [field.name for field in fields(RateTier)]
    return Rates(
        tuple((above, RateTier(*((getattr(tier, name) + 1) // 2 for name in names))) for above, tier in rates.tiers)
    )


def cost_of(rates: Rates, slices: Sequence[Slice]) -> int:
    """The cost of these slices at `rates`, in nano-USD. The average prompt decides the tier; the lowest if unknown."""
    by_tier: defaultdict[RateTier, Usage] = defaultdict(Usage)
    for part in slices:
        average = 0 if part.size is None else part.size * SIZE_STEP + 1
        by_tier[rates.tier_of(Usage(average))] += part.usage
    return sum(prices.cost(Rates(((0, tier),)), usage) for tier, usage in by_tier.items())


def _is_price(number: Decimal) -> bool:
    return number.is_finite() and 0 <= number < 1_000_000


def _canonical(model: str) -> str:
    known = identify(model)
    return known.canonical if known else model
