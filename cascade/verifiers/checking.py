"""External checks of an answer: a program is run on it, bounded by its own time-out and the deadline."""

from __future__ import annotations

from threading import Event

from cascade.core.messages import Request
from cascade.core.trail import CheckResult
from cascade.core.verification import Verifier
from cascade.verifiers.runner import request_values, run_verifier

__all__ = ["run_check"]

_PASSED = {"passed": True, "failed": False, "unknown": None}


def run_check(
    verifier: Verifier, text: str, request: Request, task: str, left_s: float, cancel: Event | None = None
) -> CheckResult:
    """What the verifier says of an answer. `left_s`: seconds until the deadline. `cancel`, once set, ends it early."""
    time_out_s = min(verifier.time_out_s, left_s)
    said = run_verifier(verifier, text, request_values(request, task), time_out_s=time_out_s, cancel=cancel)
    return CheckResult(verifier.name, _PASSED[said.result], verifier.blocks, round(said.seconds, 6), said.detail)
