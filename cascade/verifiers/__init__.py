"""Programs that check answers: run without a shell, bounded in time and output, and nothing of them is left running.

`checking` runs a check of the policy through `runner`; `supervisor` is the small process between the caller and the program, `code_blocks` finds an answer's
code.
"""

from __future__ import annotations

from cascade.core.verification import Verification, Verifier
from cascade.verifiers.runner import request_values, run_verifier

__all__ = ["Verification", "Verifier", "request_values", "run_verifier"]
