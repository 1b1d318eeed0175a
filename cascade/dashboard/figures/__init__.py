"""The dashboard's figures, from a ledger: `values` filled in. Read `overview` first.

`costs` is computed by the functions of `cascade costs`, so the two show the same. Nothing reads the ledger's entries one by one but for the
requests that are shown: everything else is from its sums (`ledger.whole_sums`), its marks (`ledger.marks`) and the audit's tables.
"""

from __future__ import annotations

from cascade.dashboard.figures.overview import read_overview
from cascade.dashboard.figures.pages import read_model, read_policy, read_request, read_stamp
from cascade.dashboard.figures.source import LedgerSource

__all__ = ["LedgerSource", "read_model", "read_overview", "read_policy", "read_request", "read_stamp"]
