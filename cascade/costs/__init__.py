"""What was spent, on what, and what it saved: computed from the ledger's sums, which callers read.

Read in this order: `rows` (the sums as read), `periods`, `tallies` (totals by dimension), `holdout` (the saving measured, with an interval),
`reckoning` (everything together), `reading` (from a ledger). `caching` and `plans` read entries, not sums: what prompt caches cost, and how runs of plans fared. Money is integer nano-USD; a saving that was not measured is an `estimate`.
"""

from __future__ import annotations

from cascade.costs.caching import LONGEST_REQUEST_S, CacheLine, Caches, caches
from cascade.costs.holdout import Interval, Measured, TooFew, measure
from cascade.costs.periods import Period, read_moment, read_since
from cascade.costs.reading import MOST_LARGE, Large, read_costs, read_large, read_sums
from cascade.costs.reckoning import Costs, ResponseCaching, Saving, TopWorkflows, costs
from cascade.costs.rows import ARMS, BYS, PLAN_BYS, By, PeriodSums, SpendRow, TrafficRow
from cascade.costs.tallies import Line, lines_of, totals

__all__ = [
    "ARMS",
    "BYS",
    "LONGEST_REQUEST_S",
    "MOST_LARGE",
    "PLAN_BYS",
    "By",
    "CacheLine",
    "Caches",
    "Costs",
    "Interval",
    "Large",
    "Line",
    "Measured",
    "Period",
    "PeriodSums",
    "ResponseCaching",
    "Saving",
    "SpendRow",
    "TooFew",
    "TopWorkflows",
    "TrafficRow",
    "caches",
    "costs",
    "lines_of",
    "measure",
    "read_costs",
    "read_large",
    "read_moment",
    "read_since",
    "read_sums",
    "totals",
]
