"""A workload's bill for a month: one model for everything, routed, and as a climb.

*Routed* and *climb* as in `projection`: a router pays one model for each call, and itself; a climb pays every rung on the way
up, and the triage prompt on each but the top. Sums are exact; each amount is rounded once, half up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.core.models import identify
from cascade.core.policy import Policy
from cascade.core.prices import Rates
from cascade.core.text.suggestions import did_you_mean
from cascade.core.triage import triage_tokens
from cascade.savings.parts import Parts
from cascade.savings.rates import BothRates, PriceBook
from cascade.savings.workload import Workload

__all__ = ["Month", "PricedWorkload", "price_workload", "rounded"]

_RATE_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who answers a share of the calls."""

    name: str
    model: str
    rates: BothRates


@dataclass(frozen=True, slots=True)
class Month:
    """Nano-USD a month. `router`: a part of `routed`; `triage`: a part of `climb`."""

    alone: int
    routed: int
    climb: int
    router: int
    triage: int


@dataclass(frozen=True, slots=True)
class PricedWorkload:
    """A workload with its models' prices. `unpaid`: names in the mix that cost nothing, because no model answers them."""

    workload: Workload
    policy: Policy
    ladder: tuple[_Caller, ...]
    others: Mapping[str, _Caller]
    unpaid: frozenset[str] = frozenset()

    @property
    def alone(self) -> str:
        """The rung that answers everything in the bill compared with."""
        return self.workload.alone or self.ladder[-1].name

    @property
    def models(self) -> Mapping[str, str]:
        """The model of each name, rungs first."""
        return {one.name: one.model for one in (*self.ladder, *self.others.values())}

    def month(self) -> Month:
        """The month's bills."""
        alone, router, triage = self._alone(), self._router(), self._triage()
        routed = router + sum(
            (share * self._call(self._caller(name)) for name, share in self._paid().items()), Fraction(0)
        )
        climb = triage + self._climb()
        return Month(*map(rounded, (alone, routed, climb, router, triage)))

    def parts(self, *, routed: bool) -> Parts:
        """Where the saving comes from, against one model for everything, live and uncached."""
        off = {"cache_read_share": 0, "cache_write_share": 0, "batch_share": 0, "response_cache_share": 0}
        kept = {name: getattr(self.workload, name) for name in off}
        bills: list[int] = []
        for on in ((), ("cache_read_share", "cache_write_share"), ("batch_share",), ("response_cache_share",)):
            off |= {name: kept[name] for name in on}
            month = self.with_values(**off).month()
            bills.append(month.routed if routed else month.climb)
        reference = self.with_values(**dict.fromkeys(off, 0)).month().alone
        steps = [before - after for before, after in zip((reference, *bills), bills, strict=False)]
        return Parts(reference, *steps)

    def with_values(self, **values: object) -> PricedWorkload:
        """The same prices for a workload with other values."""
        return PricedWorkload(
            self.workload.model_copy(update=values), self.policy, self.ladder, self.others, self.unpaid
        )

    def without(self, unpaid: frozenset[str]) -> PricedWorkload:
        """The same, if these names of the mix cost nothing."""
        return PricedWorkload(self.workload, self.policy, self.ladder, self.others, unpaid)

    def _caller(self, name: str) -> _Caller:
        return self.others.get(name) or next(one for one in self.ladder if one.name == name)

    def _paid(self) -> dict[str, Fraction]:
        return {name: share for name, share in self.workload.shares.items() if name not in self.unpaid}

    def _alone(self) -> Fraction:
        return self._call(self._caller(self.alone))

    def _climb(self) -> Fraction:
        """Every rung that a call reaches, without triage; and the calls of models that are no rungs."""
        shares = self._paid()
        reached = self._reached()
        on_ladder = sum((reached[one.name] * self._call(one) for one in self.ladder), Fraction(0))
        return on_ladder + sum(
            (shares[name] * self._call(other) for name, other in self.others.items() if name in shares), Fraction(0)
        )

    def _reached(self) -> dict[str, Fraction]:
        """By rung: the share of the calls that reach it."""
        shares = self._paid()
        by_rung = [shares.get(one.name, Fraction(0)) for one in self.ladder]
        return {one.name: sum(by_rung[k:], Fraction(0)) for k, one in enumerate(self.ladder)}

    def _triage(self) -> Fraction:
        """The triage prompt on every rung below the top. Not cached."""
        rules, envelope = triage_tokens(self.policy)
        reached = self._reached()
        return sum(
            (
                reached[one.name] * self._priced(one, Fraction(rules), Fraction(envelope), Fraction(0), Fraction(0))
                for one in self.ladder[:-1]
            ),
            Fraction(0),
        )

    def _call(self, caller: _Caller) -> Fraction:
        """If this caller answered all calls."""
        work = self.workload
        read, write = Fraction(work.cache_read_share), Fraction(work.cache_write_share)
        return self._priced(caller, Fraction(work.input_tokens), Fraction(work.output_tokens), read, write)

    def _priced(self, caller: _Caller, tokens: Fraction, output: Fraction, read: Fraction, write: Fraction) -> Fraction:
        """All calls of the month that are not answered from the response cache, live or in batches."""
        batch = Fraction(self.workload.batch_share) if identify(caller.model) else Fraction(0)
        live, in_batch = (self._each(rates, tokens, output, read, write) for rates in caller.rates)
        return self._calls() * (live * (1 - batch) + in_batch * batch)

    def _each(self, rates: Rates, tokens: Fraction, output: Fraction, read: Fraction, write: Fraction) -> Fraction:
        # Triage is a part of the call's own prompt, whose length sets the price tier.
        tier = rates.tier_of(Usage(ceil(max(tokens, self.workload.input_tokens))))
        nano = (
            tokens * (1 - read - write) * tier.input
            + tokens * read * tier.cache_read
            + tokens * write * tier.cache_write_5m
            + output * tier.output
        )
        return nano / _RATE_TOKENS

    def _calls(self) -> Fraction:
        return self.workload.calls * (1 - Fraction(self.workload.response_cache_share))

    def _router(self) -> Fraction:
        """The router's own calls: live, since what follows waits for them, and not cached."""
        work = self.workload
        if not work.router_tokens and not work.router_output_tokens:
            return Fraction(0)
        tier = self._caller(work.router or self.ladder[0].name).rates.live.tier_of(Usage(work.router_tokens))
        times = self._calls() / (1 if work.router_per == "call" else Fraction(work.calls_per_ticket))
        return times * Fraction(work.router_tokens * tier.input + work.router_output_tokens * tier.output, _RATE_TOKENS)


def price_workload(workload: Workload, policy: Policy, book: PriceBook, where: str = "workload") -> PricedWorkload:
    """Look up who answers each share, and at which prices. Raises UsageExportError for an unknown name or a model without a price."""
    rungs = {rung.rung: rung.model for rung in policy.ladder}
    for name in workload.mix:
        if name in rungs and name in workload.models:
            raise UsageExportError(
                f"models: {name!r} is a rung of policy {policy.name!r}", where=where, hint="its model is the policy's"
            )
        if name not in rungs and name not in workload.models:
            known = (*rungs, *workload.models)
            hint = f"{did_you_mean(name, known)}name a rung ({', '.join(rungs)}), or add models: {{{name}: MODEL}}"
            raise UsageExportError(f"mix: {name!r} is no rung of policy {policy.name!r}", where=where, hint=hint)
    for key in ("alone", "router"):
        if (name := getattr(workload, key)) is not None and name not in rungs:
            raise UsageExportError(
                f"{key}: {name!r} is no rung of policy {policy.name!r}",
                where=where,
                hint=f"name one of {', '.join(rungs)}",
            )
    ladder = tuple(_Caller(name, model, book.both(model, where)) for name, model in rungs.items())
    others = {name: _Caller(name, models[0], book.both(models[0], where)) for name, models in workload.models.items()}
    return PricedWorkload(workload, policy, ladder, others)


def rounded(exact: Fraction) -> int:
    """To whole nano-USD, half up."""
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
