"""The days that an export covers, how that is known, and what of a day's or a month's money was observed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cascade.savings.bill import Basis

__all__ = ["DAYS_A_MONTH", "Period"]

DAYS_A_MONTH: Final = 30


@dataclass(frozen=True, slots=True)
class Period:
    """`days`, above 0; `source` says in words how they are known; `assumed`: they were not given."""

    days: Fraction
    source: str
    assumed: bool = False

    @property
    def months(self) -> Fraction:
        """What makes a month's amount of the whole period's."""
        return DAYS_A_MONTH / self.days

    @property
    def day_basis(self) -> Basis:
        """Of the mean of a day."""
        return "estimate" if self.assumed else "measured"

    @property
    def month_basis(self) -> Basis:
        """Of a month: observed only where the export covers just that, an estimate where it was scaled."""
        return "measured" if self.months == 1 and not self.assumed else "estimate"
