"""Savings: today's bill from a usage export, the bill under a policy, and advice on whether routing pays.

Read in this order: `columns`, `files` and `usage` (the export); `rates`, `bill` and `periods` (today); `mixes` and
`projection` (under the policy); `advice`. `workload`, `month` and `assumptions` are for traffic that is described instead of
exported, `observed` for what the ledger holds; `parts` is where a saving comes from. Every figure that was not observed is an
`estimate`.
"""

from __future__ import annotations

from cascade.savings.advice import Advice, Case, Finding, advise
from cascade.savings.assumptions import Alternative, Way, alternatives, ways_to
from cascade.savings.bill import Basis, Bill, BillLine, Caching, make_bill
from cascade.savings.columns import FIELDS, Field, read_map
from cascade.savings.mixes import Mix, ReplayedCorpus, mix_of_corpus, read_mix
from cascade.savings.month import Month, PricedWorkload, price_workload
from cascade.savings.observed import Observed, observe
from cascade.savings.parts import Parts
from cascade.savings.periods import DAYS_A_MONTH, Period
from cascade.savings.projection import Projection, Variant, project
from cascade.savings.rates import PriceBook, read_prices
from cascade.savings.sums import Slice, UsageExport
from cascade.savings.usage import read_usage, with_requests
from cascade.savings.workload import Workload, load_workload

__all__ = [
    "DAYS_A_MONTH",
    "FIELDS",
    "Advice",
    "Alternative",
    "Basis",
    "Bill",
    "BillLine",
    "Caching",
    "Case",
    "Field",
    "Finding",
    "Mix",
    "Month",
    "Observed",
    "Parts",
    "Period",
    "PriceBook",
    "PricedWorkload",
    "Projection",
    "ReplayedCorpus",
    "Slice",
    "UsageExport",
    "Variant",
    "Way",
    "Workload",
    "advise",
    "alternatives",
    "load_workload",
    "make_bill",
    "mix_of_corpus",
    "observe",
    "price_workload",
    "project",
    "read_map",
    "read_mix",
    "read_prices",
    "read_usage",
    "ways_to",
    "with_requests",
]
