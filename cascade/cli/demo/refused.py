"""Scene 3: a workload where `calibrate` advises against a cascade: it would cost more than the top model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import Calibration, CalibrationOptions, HalfFigures, calibrate
from cascade.cli.calibrate.output import fields_of as fields_of_calibration
from cascade.cli.calibrate.output import meets_text, refusal_text, thresholds_text, verdict_text
from cascade.cli.demo.certified import TARGET
from cascade.cli.demo.stage import more
from cascade.cli.emulate import synthetic_corpus
from cascade.cli.output import stdout, table
from cascade.policy.loading import load_policy

__all__ = ["TARGETS", "fields_of", "print_scene", "refusals"]

TARGETS = (TARGET, Target(TARGET.loss, TARGET.alpha / 2, TARGET.delta))
"""The objectives: that of the tickets, and half its risk."""

_WORKLOAD = "coding"


def refusals() -> tuple[Calibration, ...]:
    """The coding requests calibrated once for each of TARGETS."""
    policy = load_policy(_WORKLOAD, environment={})
    return tuple(calibrate([synthetic_corpus(_WORKLOAD)], CalibrationOptions(target, policy)) for target in TARGETS)


def print_scene(results: Sequence[Calibration]) -> None:
    """Print the verdicts, their figures, and the quality of each confidence."""
    first = results[0]
    stdout.print("\n3. where the tool refuses", style="bold")
    title = f"{_items(first):,} synthetic requests to a coding assistant, policy {_WORKLOAD}; {len(first.held_out):,} held out"
    heads = ("quality", "95 %", "USD/1,000", "confidently wrong", f"at most {TARGET.alpha:.0%}")
    rows = table("synthetic", *heads, title=title, right=heads[:-1])
    if first.choice.certify is not None:
        rows.add_row("certified", *_row(first.choice.certify), "yes")
    for rung, single in first.choice.singles.items():
        rows.add_row(f"{rung} alone", *_row(single.figures), meets_text(single.meets))
    stdout.print(rows)
    if first.feasible:
        stdout.print(f"certified: {thresholds_text(first.thresholds)}")
    for result, target in zip(results, TARGETS, strict=True):
        text = verdict_text(result) if result.feasible else refusal_text(result, target)
        stdout.print(f"at most {target.alpha:.0%}: {text}{'' if result.feasible else '; exit 3'}")
    worth = (f"{rung} {one.auroc:.0%}" for rung, one in first.signal.items() if one.auroc is not None)
    stdout.print(f"their confidence ranks a right answer above a wrong one in: {', '.join(worth)} (a coin: 50%)")
    more("the same from files", f"cascade calibrate {_WORKLOAD} --policy {_WORKLOAD} --max-risk {TARGET.alpha:g}")


def _items(result: Calibration) -> int:
    return len(result.tune) + len(result.held_out)


def _row(half: HalfFigures) -> tuple[str, ...]:
    ci95 = f"{half.ci95[0]:.3f}–{half.ci95[1]:.3f}" if half.ci95 else "not known"
    return f"{half.quality:.3f}", ci95, f"{1e3 * half.cost_per_request_usd:.4f}", f"{half.false_confident:.1%}"


def fields_of(results: Sequence[Calibration]) -> dict[str, Any]:
    """The fields of `refused` in the JSON: each attempt as in `calibrate --json`, without its frontier."""
    attempts: list[dict[str, Any]] = []
    for result, target in zip(results, TARGETS, strict=True):
        fields = fields_of_calibration(result, result.certificate(), 0.0)
        kept = {key: value for key, value in fields.items() if key not in ("frontier", "shorter", "seconds", "tune")}
        attempts.append({
            **kept,
            "told": verdict_text(result) if result.feasible else refusal_text(result, target),
            "exit_code": 0 if result.feasible else 3,
        })  # fmt: skip
    return {"corpus": _WORKLOAD, "synthetic": True, "items": _items(results[0]), "attempts": attempts}
