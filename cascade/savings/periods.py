"""The days that an export covers, and whether a day's or a month's cost is measured or estimated."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cascade.savings.bill import Basis

__all__ = ["DAYS_A_MONTH", "Period"]

DAYS_A_MONTH: Final = 30


@dataclass(frozen=True, slots=True)
class Period:
    """`days`: above 0. `source`: in words, how they are known. `assumed`: they were neither given nor in the export."""

    days: Fraction
    source: str
    assumed: bool = False

    @property
    def months(self) -> Fraction:
        """The factor from the whole period's amount to a month's."""
        return DAYS_A_MONTH / self.days

    @property
    def day_basis(self) -> Basis:
        """The basis of a day's mean."""
        return "estimate" if self.assumed else "measured"

    @property
    def month_basis(self) -> Basis:
        """The basis of a month's amount: measured only if the export covers exactly a month, else scaled."""
        return "measured" if self.months == 1 and not self.assumed else "estimate"
