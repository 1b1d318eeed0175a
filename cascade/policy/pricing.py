"""Prices of the rungs, from genai-prices (this is its only importer) or from the policy.

A Claude model has the price of the platform that the form of its name belongs to: `us.anthropic.claude-…` Bedrock's
regional price, `global.anthropic.claude-…` its global one, `claude-…@20251001` Vertex AI's global one. Anything else
(Vertex AI's dearer regional endpoints, a contract) needs the rung's `price` or `discount`. Another vendor's model (`provider`) is
looked up in that vendor's table alone. An unknown model is an error, never free.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from cascade.core.models import Model, Platform, identify
from cascade.core.policy import Price, Rung
from cascade.core.prices import Rates, RateTier

__all__ = ["NoPrice", "rates_of"]


class NoPrice(LookupError):
    """There is no price for a model, which the message names."""


def rates_of(rung: Rung, *, batch: bool = False) -> Rates:
    """The rates of a rung: its `price`, else its model's list price, minus its `discount`.

    `batch`: for batch processing, which halves list prices, but not a `price` of the policy. Raises NoPrice for a model
    without a price.
    """
    factor = 1 - Decimal(str(rung.discount))
    if rung.price is not None:
        return _from_policy(rung.price, factor)
    return _from_table(rung.model, rung.provider, factor, batch)


def _from_policy(price: Price, factor: Decimal) -> Rates:
    write = price.input if price.cache_write is None else price.cache_write
    read = price.input if price.cache_read is None else price.cache_read
    tier = RateTier.from_usd(
        input=price.input, output=price.output, write_5m=write, write_1h=write, read=read, factor=factor
    )
    return Rates(((0, tier),))


@lru_cache(maxsize=128)
def _from_table(model: str, provider: str, factor: Decimal, batch: bool) -> Rates:
    known = identify(model) if provider == "anthropic" else None
    if provider != "anthropic":
        prices = _of_provider(provider, model, batch)
    else:
        prices = _claude(known, model, batch) if known is not None else _other(model, batch)
    if batch and known is not None and known.platform != "api":
        factor /= 2  # the table has batch prices only for Anthropic's API; the platforms halve theirs as well
    starts = sorted({0, *(tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ()))})
    return Rates(tuple((start, _tier(prices, start, factor)) for start in starts))


_TABLES: dict[Platform, tuple[str, ...]] = {
    "api": ("anthropic",),
    "bedrock": ("aws",),
    "bedrock_global": ("aws",),
    "vertex": ("google", "anthropic"),  # Vertex AI's global prices are Anthropic's, unless the table has its own
}
"""The price table's providers for each platform, in the order of preference."""


def _claude(known: Model, name: str, batch: bool) -> object:
    """A Claude model's prices on the platform of its name, found by family and version.

    The table's own search matches by prefix (`claude-haiku-4-50` finds the price of `claude-haiku-4-5`) and does not know
    every form of a name.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as below

    providers = {provider.id: provider for provider in get_snapshot().providers}
    for table in _TABLES[known.platform]:
        for info in providers[table].models:
            listed = identify(info.id)
            if listed is None or (listed.family, _release(listed)) != (known.family, _release(known)):
                continue
            if table == "aws" and (listed.platform == "bedrock_global") != (known.platform == "bedrock_global"):
                continue
            context = {"processing": "batch"} if batch and known.platform == "api" else None
            return info.get_prices(datetime.now(UTC), context)
    raise NoPrice(f"there is no price for model {name!r}")


def _release(model: Model) -> tuple[int, ...]:
    return model.version[:-1] if model.version[1:] == (0,) else model.version  # claude-opus-4-0 is claude-opus-4


def _of_provider(provider: str, name: str, batch: bool) -> object:
    """The prices of another vendor's model, by its exact name or that name with a date, and in that vendor's table alone.

    The table's own search may go by a prefix, and finds in every vendor's.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as below
    from genai_prices.types import ClauseEquals, ClauseOr, ClauseRegex  # noqa: PLC0415 - as below

    def is_exact(clause: object) -> bool:
        if isinstance(clause, ClauseOr):
            return any(map(is_exact, clause.or_))
        return isinstance(clause, (ClauseEquals, ClauseRegex)) and clause.is_match(name)

    context = {"processing": "batch"} if batch else None
    for table in get_snapshot().providers:
        for info in table.models if table.id == provider else ():
            if is_exact(info.match):
                return info.get_prices(datetime.now(UTC), context)
    raise NoPrice(f"there is no price for model {name!r} of provider {provider}")


def _other(name: str, batch: bool) -> object:
    """The prices of a model other than Claude, by the table's own search."""
    import genai_prices  # noqa: PLC0415 - it takes time to import, and a rung may have a price of its own

    if "claude" in name.lower():  # a name that `identify` does not know may still match a known model by its prefix
        raise NoPrice(f"there is no price for model {name!r}")
    context = {"processing": "batch"} if batch else None
    try:
        return genai_prices.calc_price(genai_prices.Usage(), name, price_context=context).model_price
    except LookupError:
        raise NoPrice(f"there is no price for model {name!r}") from None


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
