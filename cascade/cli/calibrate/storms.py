"""What the storm guard would do at the chosen thresholds, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.calibration.objectives import Budget
from cascade.calibration.run import Calibration
from cascade.cli.output import stdout
from cascade.cli.replay import describe_storms
from cascade.core.policy.certificate import Certificate
from cascade.replay.run import ReplayOptions, replay_corpus

__all__ = ["print_storms", "storms_of"]


def storms_of(paths: Sequence[Path], result: Calibration, certificate: Certificate | None) -> dict[str, Any] | None:
    """What the policy's storm guard would do on the whole corpus at the chosen thresholds, as `replay --json` has it.

    The policy carries the certificate, whose escalation rates are part of the guard's limit. None without a policy that
    has a guard, or without chosen thresholds. Off for several corpora and for counts: the guard needs one order of arrival.
    """
    policy = result.options.policy
    if policy is None or policy.storm_guard is None or not result.feasible:
        return None
    if len(paths) > 1 or result.counted:
        return {"off": f"{'tables of counts' if result.counted else 'several corpora'} have no common order of arrival"}
    return dict(
        replay_corpus(
            paths[0],
            ReplayOptions(
                result.policy_with(certificate), reprice=result.options.reprice, skip_bad=result.options.skip_bad
            ),
        ).storms
    )


def print_storms(storms: dict[str, Any] | None, result: Calibration) -> None:
    """Print what the guard does, its cost (not in the table), and whether that changes the advice."""
    if storms is None:
        return
    stdout.print(describe_storms(storms))
    if not storms.get("cost_usd") or result.choice.certify is None:
        return
    extra = storms["cost_usd"] / (len(result.tune) + len(result.held_out))
    total = result.choice.certify.cost_per_request_usd + extra
    stdout.print(f"the storm guard adds {1e3 * extra:.4f} USD per 1,000 requests: about {1e3 * total:.4f} in all")
    objective = result.options.objective
    if isinstance(objective, Budget):
        if total > objective.usd:
            stdout.print(
                f"warning: with the storm guard the cost exceeds the budget of {1e3 * objective.usd:.4f} per 1,000"
            )
        return
    cheaper = [
        rung
        for rung, single in result.choice.singles.items()
        if single.meets and single.figures.cost_per_request_usd <= total
    ]
    if cheaper and result.choice.advice == "cascade":
        stdout.print(
            f"warning: with the storm guard's cost {' and '.join(cheaper)} alone is no dearer, and meets the objective"
        )
