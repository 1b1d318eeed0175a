"""The candidates of `calibrate --scorer`: the models' own confidences and learned scores, compared on the tuning half."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cascade.calibration.candidates import describe_comparison
from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import Calibration
from cascade.cli.output import stdout, table

__all__ = ["candidate_fields", "print_candidates", "scorer_fields"]


def scorer_fields(result: Calibration) -> dict[str, Any] | None:
    """The learned scorer as a policy has it; None if there is none, or if the models' own confidences did better."""
    if result.learned is None:
        return None
    return {rung: scoring.model_dump(mode="json") for rung, scoring in result.learned.scorer.items()}


def candidate_fields(result: Calibration) -> list[dict[str, Any]] | None:
    """Each candidate's cross-validated figures on the tuning half, and whether it was chosen; None if there was only one."""
    if (compared := result.compared) is None:
        return None
    return [asdict(one) | {"chosen": one is compared.winner} for one in compared.standings]


def print_candidates(result: Calibration, objective: Objective) -> None:
    """Print which candidate was chosen, by how much, and what the tuning half says of each."""
    if (compared := result.compared) is None:
        return
    lost = f"{objective.loss} rate" if isinstance(objective, Target) else "confidently wrong"
    heads = ("quality", "USD per 1,000", lost, "meets it")
    rows = table("candidate", *heads, title="candidates, cross-validated on the tuning half", right=heads[:-1])
    for one in compared.standings:
        cost, meets = f"{1e3 * one.cost_per_request_usd:.4f}", "yes" if one.meets else "no"
        rows.add_row(one.name, f"{one.quality:.4f}", cost, f"{one.loss_rate:.1%}", meets)
    stdout.print()
    stdout.print(rows)
    stdout.print(f"confidence: {describe_comparison(compared, objective)}")
