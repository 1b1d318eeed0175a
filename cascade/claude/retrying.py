"""Retrying a rung of Claude: the attempts of `transport.attempts`, and what an error of the SDK is to them."""

from __future__ import annotations

from dataclasses import replace

from cascade.claude.failures import failure_of
from cascade.core.messages import Failure, Usage
from cascade.transport.attempts import Attempts

__all__ = ["Attempts", "failure_from"]


def failure_from(error: Exception, billed: Usage) -> Failure:
    """The Failure for an attempt that raised `error` after `billed`. Raises it again if it is not about the call."""
    failure = failure_of(error)
    if failure is None:
        raise error
    return replace(failure, usage=billed)
