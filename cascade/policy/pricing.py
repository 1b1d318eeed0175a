"""Prices of the rungs, compiled once from genai-prices (its only importer) or from the policy.

An unknown model is an error, never a price of 0.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from cascade.core.models import identify
from cascade.core.policy import Price, Rung
from cascade.core.prices import Rates, RateTier

__all__ = ["NoPrice", "rates_of"]


class NoPrice(LookupError):
    """There is no price for a model; the message names the model and the mend."""


def rates_of(rung: Rung, *, batch: bool = False) -> Rates:
    """The rates of a rung: its own `price`, else the list price of its model, less its `discount`.

    `batch`: of the Message Batches API, half of all list prices. A `price` of the rung's own is what its endpoint takes either
    way. Raises NoPrice for a model that has none.
    """
    factor = 1 - Decimal(str(rung.discount))
    if rung.price is not None:
        return _from_policy(rung.price, factor)
    return _from_table(rung.model, factor, batch)


def _from_policy(price: Price, factor: Decimal) -> Rates:
    write = price.input if price.cache_write is None else price.cache_write
    read = price.input if price.cache_read is None else price.cache_read
    tier = RateTier.from_usd(
        input=price.input, output=price.output, write_5m=write, write_1h=write, read=read, factor=factor
    )
    return Rates(((0, tier),))


@lru_cache(maxsize=128)
def _from_table(model: str, factor: Decimal, batch: bool) -> Rates:
    import genai_prices  # noqa: PLC0415 - it takes time to import, and a rung may have a price of its own

    known = identify(model)
    name = known.canonical if known else model
    if known is None and "claude" in model.lower():
        # The table matches by prefix: claude-haiku-4-5-anything finds a price there. `identify` knows the names better.
        raise NoPrice(f"there is no price for model {model!r}")
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(),
            name,
            provider_id="anthropic" if known else None,
            price_context={"processing": "batch"} if batch else None,
        )
    except LookupError:
        raise NoPrice(f"there is no price for model {model!r}") from None
    prices = found.model_price
    starts = sorted({0, *(tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ()))})
    return Rates(tuple((start, _tier(prices, start, factor)) for start in starts))


def _tier(prices: object, start: int, factor: Decimal) -> RateTier:
    def at(key: str) -> Decimal | None:
        value = getattr(prices, key, None)
        if value is None or isinstance(value, Decimal):
            return value
        passed = [tier.price for tier in value.tiers if tier.start <= start and start > 0]
        return passed[-1] if passed else value.base

    input_price, output_price = at("input_mtok"), at("output_mtok")
    if input_price is None or output_price is None:
        raise NoPrice("the price table has no input or output price for this model")
    write_5m = at("cache_write_mtok")
    write_5m = input_price if write_5m is None else write_5m
    write_1h, read = at("cache_write_1h_mtok"), at("cache_read_mtok")
    return RateTier.from_usd(
        input=input_price,
        output=output_price,
        write_5m=write_5m,
        write_1h=write_5m if write_1h is None else write_1h,
        read=input_price if read is None else read,
        factor=factor,
    )
