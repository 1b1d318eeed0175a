"""Deciding at a reply's first tokens: which steps may be decided early, and what a reply costs whose stream is closed there.

With the order `confidence_first` the confidence is known before the answer begins. A reply that escalates for it is closed at
once: neither its tokens nor its time are spent. One that ships goes on, and a stream to the caller begins.
"""

from __future__ import annotations

import json
from dataclasses import replace

from cascade.core.bound_policy import Checks
from cascade.core.messages import Request, Usage
from cascade.core.policy import Policy

__all__ = ["can_close", "can_refuse", "can_ship", "closed_usage", "position_of"]

_MOST_TOKENS = 12  # `{"confidence": 0.95, "answer": "` and the answer's first character
_CHARACTERS_PER_TOKEN = 4


def can_close(policy: Policy, task: str, index: int, request: Request) -> bool:
    """Whether the confidence alone may end a step below the top rung.

    Not where it is not the first key, where it takes several samples or a scorer to know it, or where the reply may be
    calls of tools.
    """
    return (
        index != policy.top
        and policy.triage.order == "confidence_first"
        and policy.scorer is None
        and policy.route(task).samples[index] is None
        and not request.tools
    )


def can_refuse(policy: Policy) -> bool:
    """Whether a budget could refuse the next rung. Then no reply is closed: its text may be needed as the best held."""
    return any(limits.on_exhausted != "alert" for limits in policy.budget)


def can_ship(checks: Checks, request: Request, *, is_top: bool = False) -> bool:
    """Whether an answer may ship before its end: nothing has to see the whole of it.

    The top rung answers plainly, so nothing has to be read or cut out of its text.
    """
    needs_whole = checks.verifiers or checks.accept is not None or not all(check.by_first for check in checks.functions)
    rewritten = request.schema is not None or request.prompt_schema is not None or request.stop_sequences
    return not (needs_whole or (rewritten and not is_top))


def closed_usage(usage: Usage, position: int) -> Usage:
    """An estimate of what a reply is billed whose stream was closed after `position` characters of its text.

    `usage`: its prompt's, and the thinking before its text.
    """
    written = min(_MOST_TOKENS, -(-position // _CHARACTERS_PER_TOKEN))
    return replace(usage, output_tokens=usage.thinking_tokens + written, is_estimate=True)


def position_of(confidence: float) -> int:
    """The position at which a recorded reply would have been decided: that of its answer's first character, inclusive."""
    return len(f'{{"confidence": {json.dumps(confidence)}, "answer": ') + 1
