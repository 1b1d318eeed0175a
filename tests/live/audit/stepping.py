"""What the tests of the ratchet share: take a step as the audit's worker does, and wait for the reads that are under way."""

from __future__ import annotations

import threading
from typing import Any

from cascade import Policy
from cascade.ledger.audit import AuditTables, Ratchet
from cascade.policy.certificates import certificate_digest
from tests.live.conftest import ladder

_WAIT_S = 60.0  # a loaded machine is no failure


def audited(**more: Any) -> Policy:
    """A policy whose first rung ships from 0.5 on, and whose audit may ratchet it; `more` are arguments of `ladder`."""
    return ladder(**{"thresholds": (0.5, 0.8), "audit": {"on_alarm": "ratchet"}, **more})


def take_step(policy: Policy, step: int, address: str | None = None) -> None:
    """Put this step on record; 0 undoes the ratchet."""
    tables = AuditTables(address)
    before = tables.ratchet(policy.name)
    after = Ratchet(policy.name, certificate_digest(policy), step, 0.0 if before is None else before.at + 1)
    assert tables.step_ratchet(before, after)


def settled() -> None:
    """Wait until nobody reads a ratchet."""
    for thread in threading.enumerate():
        if thread.name == "cascade-ratchet":
            thread.join(_WAIT_S)
            assert not thread.is_alive()
