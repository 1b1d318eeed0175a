"""What both states do with claims: name their counters, ask what is spent already, know when an alert is due."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cascade.core.budgets import Claim
from cascade.state import Seed

__all__ = ["ask_seed", "counters", "reached"]


def counters(claims: Sequence[Claim]) -> tuple[tuple[str, Claim], ...]:
    """Each claim with the name of its counter; two budgets over the same books count each for itself."""
    seen: dict[str, int] = {}
    named: list[tuple[str, Claim]] = []
    for claim in claims:
        name = claim.counter
        number = seen[name] = seen.get(name, 0) + 1
        named.append((name if number == 1 else f"{name}#{number}", claim))
    return tuple(named)


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
