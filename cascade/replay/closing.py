"""What early stop knows of a recorded reply, and what it costs closed at its confidence.

A recorded reply has its confidence, and with it all that the live rule knows when it decides early. What is not in it is
the bill of a closed stream. It is estimated as live (`core.early`), for a reply of the form `{"confidence": 0.9, "answer": "…`.
"""

from __future__ import annotations

from typing import Literal

from cascade.core import prices
from cascade.core.early import closed_usage, head_position
from cascade.core.messages import Usage
from cascade.corpora.items import RecordedReply

__all__ = ["CostOf", "closed_cost", "has_head", "tokens_of_closed"]

CostOf = Literal["recorded", "policy"]
"""Where a reply's cost comes from: its `cost_usd`, or its usage at the policy's prices."""

_NO_REPLY = ("failed", "overflow")  # verdicts on calls that brought no reply, so no confidence either


def has_head(reply: RecordedReply) -> bool:
    """Whether a reply was recorded with its confidence, whatever became of the rest of it."""
    return reply.confidence is not None and reply.failed not in _NO_REPLY


def tokens_of_closed(reply: RecordedReply) -> Usage:
    """What is billed for a reply that is closed at its confidence, which it must have."""
    assert reply.confidence is not None, "without a confidence nothing is decided at it"
    return closed_usage(reply.tokens, head_position(float(reply.confidence)))


def closed_cost(rates: prices.Rates, reply: RecordedReply, cost_of: CostOf) -> int:
    """Nano-USD of a reply that is closed at its confidence.

    At the policy's prices, or of the recorded cost the share that the closed call is of the whole one at those prices: so a
    discount that the recording had, or any other factor on both kinds of tokens, is kept.
    """
    closed = prices.cost(rates, tokens_of_closed(reply))
    if cost_of == "policy" or reply.cost_usd is None:
        return closed
    recorded, whole = round(reply.cost_usd * 1e9), prices.cost(rates, reply.tokens)
    return (2 * recorded * closed + whole) // (2 * whole) if whole else recorded
