"""What early stop knows of a recorded reply, and what it costs closed at its confidence.

A recorded reply has its confidence, and with it all that the live rule knows when it decides early. What is not in it is
the bill of a closed stream. It is estimated as live (`core.early`), for a reply of the form `{"confidence": 0.9, "answer": "…`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from cascade.core import prices
from cascade.core.climb import Reading
from cascade.core.early import can_refuse, closed_usage, position_of
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.corpora.items import RecordedReply

__all__ = ["CostOf", "closed_cost", "has_head", "is_declined", "reading_of", "tokens_of_closed"]

CostOf = Literal["recorded", "policy"]
"""Where a reply's cost comes from: its `cost_usd`, or its usage at the policy's prices."""

_WHOLE = Reading(recorded=True)


def reading_of(policy: Policy) -> Reading:
    """How a policy's replies are read. None is closed where a budget could refuse the next call, as live."""
    if not policy.early_stop:
        return _WHOLE
    return Reading(early=True, may_close=not can_refuse(policy), recorded=True)


def has_head(reply: RecordedReply) -> bool:
    """Whether a reply began with its confidence and an answer that is not blank, whatever became of the rest of it.

    A reply that ended badly is recorded with its confidence if it began so. A call that failed brought no reply.
    """
    if reply.confidence is None or reply.failed == "failed":
        return False
    return not isinstance(reply.answer, str) or (bool(reply.answer) and not reply.answer.isspace())


def is_declined(reply: RecordedReply) -> bool:
    """Whether its answer is null."""
    return reply.answer is None and reply.failed is None


def tokens_of_closed(reply: RecordedReply, whole: Usage | None = None) -> Usage:
    """What is billed for a reply that is closed at its confidence, which it must have. `whole`: its tokens, if they are known."""
    assert reply.confidence is not None, "without a confidence nothing is decided at it"
    whole = whole or reply.tokens
    written = whole.thinking_tokens + _head_tokens(float(reply.confidence))
    return Usage(
        whole.input_tokens, written, whole.cache_write_5m, whole.cache_write_1h, whole.cache_read, whole.thinking_tokens,
        is_estimate=True,
    )  # fmt: skip


@lru_cache(maxsize=4096)  # a corpus has few confidences and many replies
def _head_tokens(confidence: float) -> int:
    return closed_usage(Usage(), position_of(confidence)).output_tokens


def closed_cost(rates: prices.Rates, reply: RecordedReply, cost_of: CostOf, whole: Usage | None = None) -> int:
    """Nano-USD of a reply that is closed at its confidence. `whole`: what the whole reply is billed, if not its recorded tokens.

    At the policy's prices; or of the recorded cost the share that the closed call is of the whole one at those prices, so
    that a discount of the recording is kept.
    """
    tokens = whole or reply.tokens
    closed = prices.cost(rates, tokens_of_closed(reply, tokens))
    if cost_of == "policy" or reply.cost_usd is None:
        return closed
    recorded, cost = round(reply.cost_usd * 1e9), prices.cost(rates, tokens)
    return (2 * recorded * closed + cost) // (2 * cost) if cost else recorded
