"""The bill under the policy: every model alone, routed, and as the climb that a cascade is.

*Routed*: each request pays for one model only, as if the right one were known beforehand. Published savings are usually of this
kind. A cascade does not know it beforehand: it calls the first rung, then the next ones only if needed, and pays for all of
them. The two figures differ, so both are shown.

All of it is an estimate, whatever the basis of the mix: the same tokens are priced at another model's rates, although
another model counts and writes differently (the 5.5 tokenizer counts some 30 % more than Haiku 4.5's and Sonnet 4.6's),
upper rungs think, a share of the requests is assumed to be the same share of the tokens, and each model has its own
prompt cache, which fewer requests keep warm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cascade.core import prices
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.triage import triage_tokens
from cascade.savings.bill import Caching, with_caching
from cascade.savings.mixes import Mix
from cascade.savings.rates import BothRates, PriceBook, cost_of
from cascade.savings.sums import Slice

__all__ = ["RATES", "Projection", "Variant", "project"]

RATES: Final = tuple(Fraction(step, 100) for step in range(0, 61, 10))
"""The escalation rates in the table: 0 to 60 %."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The cost of the traffic under one kind of caching and batching, in nano-USD.

    alone              by rung: if this model alone answers everything
    routed             each request pays for the rung that answers; None without a mix
    climb              the rungs below are paid for, too; None without a mix
    climb_with_triage  and the triage prompt on every rung below the top; also None if the number of requests is not known
    """

    caching: Caching
    all_batch: bool
    alone: tuple[int, ...]
    routed: int | None
    climb: int | None
    climb_with_triage: int | None

    @property
    def full_climb(self) -> int | None:
        """The climb, with triage if that is known."""
        return self.climb if self.climb_with_triage is None else self.climb_with_triage


@dataclass(frozen=True, slots=True)
class Projection:
    """The bill under the policy, in nano-USD.

    triage       tokens that triage adds to a request: input, output
    as_today     caching and batch as in the export; `variants`: all combinations
    at_rate      the climb's cost by escalation rate of the first rung
    break_even   for each model alone above the first rung: the highest escalation rate at which the climb costs no more, in
                 steps of 0.01 %; None if there is none. `break_even_today`: the same against today's bill
    triage_each  the cost of triage per request under the mix; None without a mix
    """

    rungs: tuple[str, ...]
    triage: tuple[int, int]
    as_today: Variant
    variants: tuple[Variant, ...]
    at_rate: tuple[tuple[Fraction, int], ...]
    break_even: tuple[Fraction | None, ...]
    break_even_today: Fraction | None
    triage_each: Fraction | None = None


def project(
    slices: Sequence[Slice],
    policy: Policy,
    book: PriceBook,
    mix: Mix | None,
    today: int,
    cached_share: Fraction | None = None,
) -> Projection:
    """The export's traffic under the policy. `today`: its bill in nano-USD. Raises UsageExportError without a price."""
    ladder = tuple(book.both(rung.model) for rung in policy.ladder)
    triage = triage_tokens(policy)
    variants: list[Variant] = []
    for caching, traffic in with_caching(slices, cached_share).items():
        for all_batch in (False, True):
            alone = tuple(_cost(rates, traffic, all_batch=all_batch) for rates in ladder)
            extra = _triage_costs(traffic, ladder, triage, all_batch=all_batch)
            variants.append(_variant(caching, all_batch, alone, extra, mix))
    climb_at = _climb_at(slices, ladder, triage, mix)
    return Projection(
        tuple(rung.rung for rung in policy.ladder),
        triage,
        variants[0],
        tuple(variants),
        tuple((rate, climb_at(rate)) for rate in RATES),
        tuple(_break_even(climb_at, alone) for alone in variants[0].alone[1:]),
        _break_even(climb_at, today),
        None if mix is None else _triage_each(slices, ladder, triage, mix),
    )


def _variant(
    caching: Caching, all_batch: bool, alone: tuple[int, ...], extra: tuple[int, ...] | None, mix: Mix | None
) -> Variant:
    if mix is None:
        return Variant(caching, all_batch, alone, None, None, None)
    with_triage = None if extra is None else _weighted(mix.reached, [a + b for a, b in zip(alone, extra, strict=True)])
    return Variant(caching, all_batch, alone, _weighted(mix.shares, alone), _weighted(mix.reached, alone), with_triage)


def _climb_at(
    slices: Sequence[Slice], ladder: Sequence[BothRates], triage: tuple[int, int], mix: Mix | None
) -> Callable[[Fraction], int]:
    """The climb's cost by the first rung's escalation rate; rungs above as in the mix, without one at the same rate."""
    extra = _triage_costs(slices, ladder, triage, all_batch=False) or (0,) * len(ladder)
    costs = [_cost(rates, slices, all_batch=False) + more for rates, more in zip(ladder, extra, strict=True)]

    def climb(rate: Fraction) -> int:
        reached = [Fraction(1)]
        for above in range(1, len(costs)):
            reached.append(reached[-1] * (mix.escalation[above - 1] if mix and above > 1 else rate))
        return _weighted(reached, costs)

    return climb


def _break_even(climb_at: Callable[[Fraction], int], cost: int) -> Fraction | None:
    low, high = -1, 10_000  # the climb's cost rises with the rate: bisect
    while low < high:
        middle = (low + high + 1) // 2
        if climb_at(Fraction(middle, 10_000)) <= cost:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else Fraction(low, 10_000)


def _triage_costs(
    slices: Sequence[Slice], ladder: Sequence[BothRates], triage: tuple[int, int], *, all_batch: bool
) -> tuple[int, ...] | None:
    """The cost of triage at each rung if all requests reach it, in nano-USD; None if their number is not known."""
    added: list[Slice] = []
    for part in slices:
        if part.requests is None:
            return None
        tokens = Usage(input_tokens=triage[0] * part.requests, output_tokens=triage[1] * part.requests)
        added.append(Slice(part.model, part.batch, part.size, part.single, part.requests, tokens))
    below_top = [_cost(rates, added, all_batch=all_batch) for rates in ladder[:-1]]
    return (*below_top, 0)


def _triage_each(slices: Sequence[Slice], ladder: Sequence[BothRates], triage: tuple[int, int], mix: Mix) -> Fraction:
    """The cost of triage per request; the batch share is that of the export's tokens."""
    usage, weights = Usage(*triage), {False: 0, True: 0}
    for part in slices:
        weights[part.batch] += part.usage.prompt_tokens + part.usage.output_tokens
    batch = Fraction(weights[True], sum(weights.values()) or 1)
    each = Fraction(0)
    for reached, rates in zip(mix.reached, ladder[:-1], strict=False):
        online, in_batch = (prices.cost(one, usage) for one in rates)
        each += reached * (online * (1 - batch) + in_batch * batch)
    return each


def _cost(rates: BothRates, slices: Sequence[Slice], *, all_batch: bool) -> int:
    batch = [part for part in slices if part.batch or all_batch]
    online = [part for part in slices if not (part.batch or all_batch)]
    return cost_of(rates.batch, batch) + cost_of(rates.live, online)


def _weighted(weights: Sequence[Fraction], costs: Sequence[int]) -> int:
    exact = sum((weight * cost for weight, cost in zip(weights, costs, strict=True)), Fraction(0))
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)  # half up, once
