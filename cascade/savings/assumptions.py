"""What a workload leaves open: each assumption with its value, and the month's bills under the alternatives.

If a figure was published for the workload, `ways_to` tells what would have to hold, one thing at a time, for the bill to be that
figure. None of it is a proof of what the authors assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, permutations
from typing import Final

from cascade.core.models import identify
from cascade.policy.loading import load_policy
from cascade.policy.shipped import names
from cascade.savings.month import Month, PricedWorkload, price_workload
from cascade.savings.rates import PriceBook

__all__ = ["NEWER_TOKENIZER", "Alternative", "Way", "alternatives", "ways_to"]

NEWER_TOKENIZER: Final = Fraction(13, 10)
"""The 5.5 models count about so many times the tokens of Haiku 4.5 and Sonnet 4.6 for the same text."""

_GENERATIONS: Final = ("classic", "default")
_READS: Final = ("0.5", "0.8")
_BATCHES: Final = ("0.5", "1")
_HITS: Final = ("0.1", "0.25")
_MOST_NAMES: Final = 6


@dataclass(frozen=True, slots=True)
class Alternative:
    """The month's bills with one assumption changed. `assumption`: a key of the workload. `given`: the value that the workload has."""

    assumption: str
    given: str
    value: str
    month: Month


@dataclass(frozen=True, slots=True)
class Way:
    """One thing that would make the routed bill `usd` (nano-USD in `amount`). `share` None: it cannot, by itself.

    `assumption`: a share of the workload; "unpaid": these names of the mix cost nothing (`names`), which comes nearest; "mix": its
    shares in another order, that of `names`, which is the cheapest.
    """

    assumption: str
    share: Fraction | None
    amount: int
    names: tuple[str, ...] = ()


def alternatives(priced: PricedWorkload, book: PriceBook) -> Iterator[Alternative]:
    """The bills under other values of what is open, one at a time."""
    work = priced.workload
    yield from _generations(priced, book)
    if (order := _cheapest_order(priced)) is not None:
        yield Alternative("mix", _mix_text(work.mix), _mix_text(order.workload.mix), order.month())
    for name, models in work.models.items():
        for model in models[1:]:
            other = work.model_copy(update={"models": {**work.models, name: (model,)}})
            month = price_workload(other, priced.policy, book).month()
            yield Alternative(f"models.{name}", models[0], model, month)
        yield Alternative(f"models.{name}", models[0], "costs nothing", priced.without(frozenset({name})).month())
    yield from _routers(priced)
    for key, values in (("cache_read_share", _READS), ("batch_share", _BATCHES), ("response_cache_share", _HITS)):
        given = getattr(work, key)
        most = 1 - work.cache_write_share if key == "cache_read_share" else Decimal(1)
        for value in map(Decimal, values):
            if given != value <= most:
                yield Alternative(key, _percent(given), _percent(value), priced.with_values(**{key: value}).month())


def _generations(priced: PricedWorkload, book: PriceBook) -> Iterator[Alternative]:
    """The same under the other generation's policy, if it has all the rungs."""
    work, policy = priced.workload, priced.policy
    for name in _GENERATIONS:
        if name == policy.name or name not in names("policies"):
            continue
        other = load_policy(name)
        rungs = {rung.rung for rung in other.ladder}
        if {rung.rung for rung in policy.ladder} != rungs:
            continue
        moved = price_workload(work, other, book)
        yield Alternative("policy", policy.name, name, moved.month())
        longer = {
            key: int(getattr(work, key) * NEWER_TOKENIZER) for key in ("input_tokens", "output_tokens", "router_tokens")
        }
        if _is_newer(moved) and not _is_newer(priced):
            yield Alternative("policy", policy.name, f"{name}, 30 % more tokens", moved.with_values(**longer).month())


def _is_newer(priced: PricedWorkload) -> bool:
    known = [model for one in priced.ladder if (model := identify(one.model)) is not None]
    return bool(known) and all(model.version >= (5, 5) for model in known)


def _routers(priced: PricedWorkload) -> Iterator[Alternative]:
    work = priced.workload
    if not work.router_tokens:
        return
    per_call = f"{work.router_tokens:,} a {work.router_per}"
    other = "ticket" if work.router_per == "call" else "call"
    for value, values in (
        ("no router", {"router_tokens": 0, "router_output_tokens": 0}),
        (f"{work.router_tokens:,} a {other}", {"router_per": other}),
        (
            f"{work.router_tokens + work.input_tokens:,}: it reads the prompt, too",
            {"router_tokens": work.router_tokens + work.input_tokens},
        ),
    ):
        yield Alternative("router_tokens", per_call, value, priced.with_values(**values).month())
    first = priced.ladder[0].name
    for one in priced.ladder[1:2]:
        yield Alternative("router", work.router or first, one.name, priced.with_values(router=one.name).month())


def ways_to(priced: PricedWorkload, amount: int) -> Iterator[Way]:
    """What would make the routed bill `amount` (nano-USD): shares, each alone, and parts of the mix that cost nothing."""
    yield _unpaid(priced, amount)
    if (order := _cheapest_order(priced)) is not None:
        bill = order.month().routed
        yield Way("mix", Fraction(1) if bill == amount else None, bill, tuple(order.workload.mix))
    for key in ("cache_read_share", "batch_share", "response_cache_share"):
        low, high = (
            getattr(priced.workload, key),
            1 - priced.workload.cache_write_share if key == "cache_read_share" else 1,
        )
        # The bill is linear in each share.
        at_low, at_high = (priced.with_values(**{key: share}).month().routed for share in (low, Decimal(high)))
        reached = Fraction(at_low - amount, at_low - at_high) if at_low > at_high else Fraction(-1)
        share = Fraction(low) + reached * (Fraction(high) - Fraction(low))
        yield Way(key, share if 0 <= reached <= 1 else None, amount if 0 <= reached <= 1 else at_high)


def _unpaid(priced: PricedWorkload, amount: int) -> Way:
    """The parts of the mix that would have to cost nothing for the bill to come nearest; the fewest of those."""
    mix = tuple(priced.workload.mix)
    found = [
        (abs(bill - amount), len(some), some, bill)
        for count in range(len(mix))
        for some in combinations(mix, count)
        for bill in [priced.without(frozenset(some)).month().routed]
    ]
    _, _, some, bill = min(found, key=lambda one: one[:2])
    share = sum((priced.workload.shares[name] for name in some), Fraction(0))
    return Way("unpaid", share, bill, some)


def _cheapest_order(priced: PricedWorkload) -> PricedWorkload | None:
    """The shares given to the same names in the order whose routed bill is the lowest; None if that is the order given."""
    mix = priced.workload.mix
    if len(mix) > _MOST_NAMES:
        return None
    orders = [dict(zip(order, mix.values(), strict=True)) for order in permutations(mix)]
    found = min((priced.with_values(mix=order) for order in orders), key=lambda one: one.month().routed)
    return found if found.month().routed < priced.month().routed else None


def _mix_text(mix: dict[str, Decimal]) -> str:
    return " / ".join(f"{name} {share.normalize():f}" for name, share in mix.items())


def _percent(share: Decimal) -> str:
    return f"{float(share):.0%}" if share == round(share, 2) else f"{float(share):.1%}"
