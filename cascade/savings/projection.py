"""The bill under the policy: every model alone, routed, and as the climb that a cascade is.

*Routed* lets each request pay one model only, as if somebody knew beforehand which: savings are usually published so. A
cascade does not know it beforehand; it asks the first rung, and each further one only if it must, and pays them all. The
two are never the same figure, so both are shown.

All of it is an estimate, whatever the basis of the mix: the same tokens are priced at another model's rates, though
another model counts and writes differently (the 5.5 tokenizer counts some 30 % more than Haiku 4.5's and Sonnet 4.6's),
upper rungs think, a share of the requests is taken to be the same share of the tokens, and each model has a prompt
cache of its own, which fewer requests keep warm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cascade.core import prices
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.prices import Rates
from cascade.core.triage import triage_tokens
from cascade.savings.bill import Caching, with_caching
from cascade.savings.mixes import Mix
from cascade.savings.rates import PriceBook, cost_of, halved
from cascade.savings.usage import Slice

__all__ = ["RATES", "Projection", "Variant", "project"]

RATES: Final = tuple(Fraction(step, 100) for step in range(0, 61, 10))
"""The escalation rates that the table shows: 0 to 60 %."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The traffic billed in one way. All in nano-USD. `alone`: every model by itself, by rung.

    `routed`: each request pays the rung that answers. `climb`: the rungs below are paid too. `climb_with_triage`: and
    the triage prompt, on every rung below the top; None where the number of requests is not known. Without a mix
    `routed` and both climbs are None.
    """

    caching: Caching
    all_batch: bool
    alone: tuple[int, ...]
    routed: int | None
    climb: int | None
    climb_with_triage: int | None

    @property
    def full_climb(self) -> int | None:
        """The climb with all of it that is known."""
        return self.climb if self.climb_with_triage is None else self.climb_with_triage


@dataclass(frozen=True, slots=True)
class Projection:
    """`as_today`: caching and batch as in the export; `variants`: all ways. `at_rate`: the climb's cost by rate.

    `triage_each`: what the triage prompt adds for one request under the mix, in nano-USD; None without a mix.
    `break_even`: for each model alone (the first rung aside) and for today's bill, the highest escalation rate of the
    first rung at which the climb costs no more, in steps of 0.01 %; None: at none.
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
    ladder = tuple(book.rates(rung.model) for rung in policy.ladder)
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
    slices: Sequence[Slice], ladder: Sequence[Rates], triage: tuple[int, int], mix: Mix | None
) -> Callable[[Fraction], int]:
    """The climb's cost if the first rung escalates at a rate: the rungs above it as in the mix, else at the same rate."""
    extra = _triage_costs(slices, ladder, triage, all_batch=False) or (0,) * len(ladder)
    costs = [_cost(rates, slices, all_batch=False) + more for rates, more in zip(ladder, extra, strict=True)]

    def climb(rate: Fraction) -> int:
        reached = [Fraction(1)]
        for above in range(1, len(costs)):
            reached.append(reached[-1] * (mix.escalation[above - 1] if mix and above > 1 else rate))
        return _weighted(reached, costs)

    return climb


def _break_even(climb_at: Callable[[Fraction], int], cost: int) -> Fraction | None:
    low, high = -1, 10_000  # the climb's cost rises with the rate: halve until the step is found
    while low < high:
        middle = (low + high + 1) // 2
        if climb_at(Fraction(middle, 10_000)) <= cost:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else Fraction(low, 10_000)


def _triage_costs(
    slices: Sequence[Slice], ladder: Sequence[Rates], triage: tuple[int, int], *, all_batch: bool
) -> tuple[int, ...] | None:
    """What triage adds at each rung if all requests reach it, in nano-USD; None: their number is not known."""
    added: list[Slice] = []
    for part in slices:
        if part.requests is None:
            return None
        tokens = Usage(input_tokens=triage[0] * part.requests, output_tokens=triage[1] * part.requests)
        added.append(Slice(part.model, part.batch, part.size, part.single, part.requests, tokens))
    below_top = [_cost(rates, added, all_batch=all_batch) for rates in ladder[:-1]]
    return (*below_top, 0)


def _triage_each(slices: Sequence[Slice], ladder: Sequence[Rates], triage: tuple[int, int], mix: Mix) -> Fraction:
    """Of one request; in batch as often as the export's tokens are."""
    usage, weights = Usage(*triage), {False: 0, True: 0}
    for part in slices:
        weights[part.batch] += part.usage.prompt_tokens + part.usage.output_tokens
    batch = Fraction(weights[True], sum(weights.values()) or 1)
    each = Fraction(0)
    for reached, rates in zip(mix.reached, ladder[:-1], strict=False):
        online, halved_ = (prices.cost(one, usage) for one in (rates, halved(rates)))
        each += reached * (online * (1 - batch) + halved_ * batch)
    return each


def _cost(rates: Rates, slices: Sequence[Slice], *, all_batch: bool) -> int:
    batch = [part for part in slices if part.batch or all_batch]
    online = [part for part in slices if not (part.batch or all_batch)]
    return cost_of(halved(rates), batch) + cost_of(rates, online)


def _weighted(weights: Sequence[Fraction], costs: Sequence[int]) -> int:
    exact = sum((weight * cost for weight, cost in zip(weights, costs, strict=True)), Fraction(0))
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)  # half up, once
