"""Whether a review gate pays for itself, as a line and as JSON."""

from __future__ import annotations

from typing import Any

from cascade.calibration.run import Calibration
from cascade.cli.output import stdout

__all__ = ["print_review", "review_fields"]


def review_fields(result: Calibration) -> dict[str, Any]:
    """The field `review` of `calibrate --json`; empty without a gate."""
    return {} if result.gate is None else {"review": result.gate.fields()}


def print_review(result: Calibration) -> None:
    """Print what the search finds with the gate and without it."""
    if result.gate is not None:
        stdout.print(result.gate.text(result.held_out.rungs))
