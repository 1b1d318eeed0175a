"""Savings: today's bill from a usage export, the bill under a policy, and advice on whether routing pays.

Read in this order: `columns`, `files` and `usage` (the export); `rates`, `bill` and `periods` (today); `mixes` and
`projection` (under the policy); `advice`. Every figure that was not observed is an `estimate`.
"""

from __future__ import annotations

from cascade.savings.advice import Advice, Case, Finding, advise
from cascade.savings.bill import Basis, Bill, BillLine, Caching, make_bill
from cascade.savings.columns import FIELDS, Field, read_map
from cascade.savings.mixes import Mix, ReplayedCorpus, mix_of_corpus, read_mix
from cascade.savings.periods import DAYS_A_MONTH, Period
from cascade.savings.projection import Projection, Variant, project
from cascade.savings.rates import PriceBook, read_prices
from cascade.savings.usage import Slice, UsageExport, read_usage, with_requests

__all__ = [
    "DAYS_A_MONTH",
    "FIELDS",
    "Advice",
    "Basis",
    "Bill",
    "BillLine",
    "Caching",
    "Case",
    "Field",
    "Finding",
    "Mix",
    "Period",
    "PriceBook",
    "Projection",
    "ReplayedCorpus",
    "Slice",
    "UsageExport",
    "Variant",
    "advise",
    "make_bill",
    "mix_of_corpus",
    "project",
    "read_map",
    "read_mix",
    "read_prices",
    "read_usage",
    "with_requests",
]
