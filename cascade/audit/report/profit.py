"""The router's profit and loss: what it saved against the baseline, less the audit's spend, less the price of wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.audit.rates import Interval, Loss, rate_of
from cascade.costs import PeriodSums, Saving, costs
from cascade.ledger.audit import Sample

__all__ = ["Profit", "profit_of"]


@dataclass(frozen=True, slots=True)
class Profit:
    """A period's profit and loss, in nano-USD. `saving`: as `cascade costs` has it, measured or an estimate.

    `audit`: what the audit's own calls cost. `price`: of a wrong answer, None if the policy has none. `wrong`, with its interval: the
    estimated wrong answers among the requests that the saving counts; None if the rate is not known. Wrong is what was
    shipped below the top and is wrong: the baseline's own mistakes are not counted against it.
    """

    saving: Saving
    audit: int
    price: int | None
    wrong: float | None
    wrong_interval: Interval | None

    @property
    def net(self) -> float | None:
        """Saved, less the audit's spend and the price of the wrong answers; None without a price or a rate."""
        if self.price is None or self.wrong is None:
            return None
        return self.left - self.price * self.wrong

    @property
    def net_interval(self) -> Interval | None:
        """The worst and the best of both intervals; an estimated saving has none of its own."""
        if self.price is None or self.wrong_interval is None:
            return None
        saved = self.saving.interval
        low, high = (saved.low, saved.high) if saved is not None else (self.saving.saved, self.saving.saved)
        fewest, most = self.wrong_interval
        return low - self.audit - self.price * most, high - self.audit - self.price * fewest

    @property
    def left(self) -> float:
        """What was saved, less the audit's spend."""
        return self.saving.saved - self.audit

    @property
    def break_even(self) -> float | None:
        """The price of a wrong answer at which nothing is left of the saving; None if nothing is left, or none is known to be wrong."""
        return self.left / self.wrong if self.wrong and self.left > 0 else None

    @property
    def break_even_interval(self) -> tuple[float, float | None] | None:
        """The same at the most and at the fewest wrong answers (None: there may be none)."""
        if self.left <= 0 or self.wrong_interval is None or not self.wrong_interval[1]:
            return None
        fewest, most = self.wrong_interval
        return self.left / most, self.left / fewest if fewest else None


def profit_of(sums: PeriodSums, samples: Sequence[Sample], loss: Loss, price: int | None) -> Profit | None:
    """From the sums of one policy and its uniform samples; None if its ladder answered nothing. `price` in nano-USD."""
    saving = costs(sums, PeriodSums(), "policy").saving
    if saving is None:
        return None
    # The saving counts answered requests alone, so the rate is of those.
    line = rate_of([one for one in samples if one.rung], loss)
    n = saving.requests
    interval = (line.interval[0] * n, line.interval[1] * n) if line.interval is not None else None
    return Profit(
        saving,
        sum(row.cost for row in sums.spend if row.arm == "audit"),
        price,
        None if line.rate is None else line.rate * n,
        interval,
    )
