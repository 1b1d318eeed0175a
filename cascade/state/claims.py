"""What both states do with claims: ask what is spent already, know when an alert is due."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cascade.core.budgets import Claim
from cascade.state import Seed

__all__ = ["ask_seed", "reached"]


def reached(claim: Claim) -> Iterator[tuple[float, int]]:
    """The shares that are told, each with the least spend (nano-USD) that reaches it."""
    for share in sorted({claim.alert_at, 1.0}):
        yield share, math.ceil(share * claim.limit)


def ask_seed(seed: Seed | None, claim: Claim) -> int:
    """What the ledger knows to be spent; nothing, and it is told, where the ledger cannot say."""
    if seed is None:
        return 0
    try:
        return max(0, seed(claim))
    except Exception as problem:  # noqa: BLE001 - a ledger that cannot be read must not cost the answer
        import structlog  # noqa: PLC0415 - rarely needed, and not free to import

        structlog.get_logger("cascade").error(
            "budget_seed_failed",
            policy=claim.policy,
            counter=claim.counter,
            problem=type(problem).__name__,
            hint="what was spent before this process started is not counted: is the ledger readable? (`cascade doctor`)",
        )
        return 0
