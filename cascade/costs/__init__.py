"""What was spent, on what, and what it saved: arithmetic on the ledger's sums, which it never reads itself.

Read in this order: `rows` (the sums as they come), `periods`, `tallies` (adding up), `holdout` (the saving, measured, with an interval),
`reckoning` (the whole). Money is integer nano-USD; what was not measured is an `estimate`.
"""

from __future__ import annotations

from cascade.costs.holdout import Interval, Measured, TooFew, measure
from cascade.costs.periods import Period, read_moment, read_since
from cascade.costs.reckoning import Costs, Saving, TopWorkflows, costs
from cascade.costs.rows import ARMS, BYS, By, PeriodSums, SpendRow, TrafficRow
from cascade.costs.tallies import Line

__all__ = [
    "ARMS",
    "BYS",
    "By",
    "Costs",
    "Interval",
    "Line",
    "Measured",
    "Period",
    "PeriodSums",
    "Saving",
    "SpendRow",
    "TooFew",
    "TopWorkflows",
    "TrafficRow",
    "costs",
    "measure",
    "read_moment",
    "read_since",
]
