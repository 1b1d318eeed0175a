"""External checks of an answer: a command is run on it, bounded by its own time-out and the deadline."""

from __future__ import annotations

from threading import Event

from cascade.core.messages import Request
from cascade.core.plans import BoundVerifier
from cascade.core.trail import CheckResult

__all__ = ["run_check"]


def run_check(verifier: BoundVerifier, text: str, request: Request, left_s: float, cancel: Event) -> CheckResult:
    """What the verifier says of an answer. `left_s`: seconds until the deadline. `cancel`, once set, ends it early."""
    raise NotImplementedError
