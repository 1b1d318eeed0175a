"""The policy as frozen pydantic models that check their invariants: no YAML, no I/O.

`model` (the whole policy), `ladder` (rungs, thresholds), `checks`, `operations` (mode, ledger, budgets), `certificate`, `scorer`.
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
    "StormGuard",
    "Task",
    "Triage",
    "When",
]
