"""What early stop saves at the chosen thresholds, as lines and as JSON."""

from __future__ import annotations

from typing import Any

from cascade.calibration.run import Calibration
from cascade.cli.output import stdout
from cascade.cli.replay import early_stop_text
from cascade.replay.early import NO_EFFECT

__all__ = ["early_fields", "print_early"]


def early_fields(result: Calibration) -> dict[str, Any]:
    """The field `early_stop` of `calibrate --json`, of the held-out items; empty without early stop."""
    if not _is_on(result):
        return {}
    found = result.early_stop
    fields: dict[str, Any] = {"saved_usd": 0.0, "closed": {}} if found is None else found.fields()
    return {"early_stop": fields | ({"note": result.unsaid} if result.unsaid else {})}


def print_early(result: Calibration) -> None:
    """Print what the held-out items cost with early stop and without it."""
    if not _is_on(result) or result.choice.certify is None:
        return
    found = result.early_stop
    stdout.print(f"note: {NO_EFFECT}" if found is None else early_stop_text(found, result.choice.certify.cost))
    if result.unsaid:
        stdout.print(f"note: {result.unsaid}")


def _is_on(result: Calibration) -> bool:
    return result.mapping.plan.policy.early_stop
