"""The policy as frozen pydantic models that check their invariants: no YAML, no I/O.

`model` (the whole policy), `ladder` (rungs, thresholds), `samples` (a rung asked more than once), `checks`, `operations`
(mode, ledger, budgets), `certificate`, `scorer`; `base` is what all of them are made of.
"""

from __future__ import annotations

from cascade.core.policy.model import (
    OTHER,
    Budget,
    Certificate,
    Check,
    Fault,
    Policy,
    Price,
    Retry,
    Route,
    Rung,
    StormGuard,
    Task,
    Triage,
    When,
)
from cascade.core.policy.samples import Samples, Variant

__all__ = [
    "OTHER",
    "Budget",
    "Certificate",
    "Check",
    "Fault",
    "Policy",
    "Price",
    "Retry",
    "Route",
    "Rung",
    "Samples",
    "StormGuard",
    "Task",
    "Triage",
    "Variant",
    "When",
]
