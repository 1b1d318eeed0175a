"""Scene 2: the same tickets under thresholds that `calibrate` certified on other tickets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.cli.calibrate.output import certificate_text, refusal_text, thresholds_text
from cascade.cli.demo.stage import HEADS, Run, against, more, row_of, single_row
from cascade.cli.emulate import synthetic_corpus
from cascade.cli.output import stdout, table
from cascade.core.errors import RequirementNotMet
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Certificate
from cascade.replay.figures import Figures

__all__ = ["TARGET", "CertifiedPolicy", "calibrate_tickets", "fields_of", "print_scene"]

TARGET = Target("false_confident", 0.1)
"""The scenes' objective: at most one request in ten is answered wrongly below the top rung."""

_OTHERS = "history"  # tickets of other customers, disjoint from the demo's


@dataclass(frozen=True, slots=True)
class CertifiedPolicy:
    """A successful calibration, and the policy with its thresholds and certificate."""

    result: Calibration
    proof: Certified
    certificate: Certificate
    policy: Policy

    @property
    def items(self) -> int:
        """The number of items in both halves."""
        return len(self.result.tune) + len(self.result.held_out)


def calibrate_tickets(policy: Policy) -> CertifiedPolicy:
    """Calibrate `policy` on the shipped history. Raises RequirementNotMet if nothing can be certified."""
    result = calibrate([synthetic_corpus(_OTHERS)], CalibrationOptions(TARGET, policy))
    certificate = result.certificate()
    if certificate is None or not isinstance(result.choice.proof, Certified):
        raise RequirementNotMet(refusal_text(result, TARGET))
    return CertifiedPolicy(result, result.choice.proof, certificate, result.policy_with(certificate))


def print_scene(found: CertifiedPolicy, guess: Run, run: Run) -> None:
    """Print the certified run beside the guess and every single model, and the certificate."""
    stdout.print("\n2. the same tickets, under certified thresholds", style="bold")
    title = f"{thresholds_text(found.result.thresholds)}: found and proved on {found.items:,} other tickets, of other customers"
    rows = table("synthetic", *HEADS, title=title, right=HEADS)
    rows.add_row("certified", *row_of(run))
    rows.add_row("guessed 0.80", *row_of(guess))
    for rung, single in run.figures.singles.items():
        rows.add_row(f"{rung} alone", *single_row(run, rung, single))
    stdout.print(rows)
    stdout.print(certificate_text(found.proof))
    for status, count in Counter(answer.certificate for answer in run.answers).items():
        stdout.print(f"{count} of {len(run.answers)} answers carry: {status}")
    stdout.print(_against_guess(guess.figures, run.figures))
    rivals = dict.fromkeys(
        rung for rung in (run.policy.ladder[-1].rung, run.figures.cheapest_as_good) if rung is not None
    )
    stdout.print(" ".join(against(run.figures, rung) for rung in rivals))
    more("the same from files", f"cascade calibrate {_OTHERS} --policy support --max-risk {TARGET.alpha:g}")


def _against_guess(guess: Figures, now: Figures) -> str:
    """The certified run against the guess: cost, quality and confident mistakes."""
    ratio, fewer = now.cost / guess.cost - 1, guess.false_confident - now.false_confident
    better = now.quality - guess.quality
    price = f", {(now.cost - guess.cost) / 1e9 / fewer:.4f} USD for each one less" if fewer > 0 and ratio > 0 else ""
    return (
        f"Against the guess: {abs(ratio):.0%} {'dearer' if ratio > 0 else 'cheaper'}, {abs(better):.3f}"
        f" {'higher' if better > 0 else 'lower'} quality, {abs(fewer)} {'fewer' if fewer > 0 else 'more'} confidently"
        f" wrong{price}. The proof is of the mistakes, not of the money."
    )


def fields_of(found: CertifiedPolicy, run: Run) -> dict[str, Any]:
    """The fields of `certified` in the JSON."""
    singles = {
        f"single:{rung}": {
            "quality": one.quality, "quality_ci95": list(ci95) if (ci95 := run.intervals[rung]) else None,
            "cost_usd": one.cost / 1e9, "wrong": one.wrong,
        }
        for rung, one in run.figures.singles.items()
    }  # fmt: skip
    return {
        "calibrated_on": {"corpus": _OTHERS, "items": found.items},
        "thresholds": found.result.thresholds,
        "certificate": found.certificate.model_dump(mode="json"),
        "told": certificate_text(found.proof),
        "answers": dict(Counter(answer.certificate for answer in run.answers)),
        "policy_hash": run.policy.hash,
        **run.fields,
        "baselines": singles,
    }
