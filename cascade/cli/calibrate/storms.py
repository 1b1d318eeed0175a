"""What `calibrate` tells beside its choice: how often the storm guard would trip under the policy as it would be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.calibration.objectives import Budget
from cascade.calibration.run import Calibration
from cascade.cli.output import stdout
from cascade.cli.replay import storms_told
from cascade.core.policy.certificate import Certificate
from cascade.replay.run import Wish, replay_corpus

__all__ = ["print_storms", "storms_of"]


def storms_of(paths: Sequence[Path], result: Calibration, certificate: Certificate | None) -> dict[str, Any] | None:
    """What the policy's storm guard would do on the whole corpus at the chosen thresholds, as `replay --json` has it.

    The certificate is in the policy, for the guard expects what it certifies. None where no policy with a guard was given,
    or nothing was chosen; of several corpora nothing is known, for a guard goes by one order of arrival.
    """
    policy = result.wish.policy
    if policy is None or policy.storm_guard is None or not result.feasible:
        return None
    if len(paths) > 1 or result.counted:
        return {"off": f"{'counts' if result.counted else 'several corpora'} have no common order of arrival"}
    return dict(replay_corpus(paths[0], Wish(result.policy_with(certificate), skip_bad=result.wish.skip_bad)).storms)


def print_storms(storms: dict[str, Any] | None, result: Calibration) -> None:
    """The line that `replay` prints; what it makes of the cost, which the table leaves out; and where that turns the advice."""
    if storms is None:
        return
    stdout.print(storms_told(storms))
    if not storms.get("cost_usd") or result.choice.certify is None:
        return
    extra = storms["cost_usd"] / (len(result.tune) + len(result.held))
    total = result.choice.certify.cost_per_request_usd + extra
    stdout.print(f"that is {1e3 * extra:.4f} USD per 1,000 requests on top: about {1e3 * total:.4f} with the guard")
    objective = result.wish.objective
    if isinstance(objective, Budget):
        if total > objective.usd:
            stdout.print(f"mind: with the guard that is more than the budget, {1e3 * objective.usd:.4f} per 1,000")
        return
    cheaper = [
        rung
        for rung, single in result.choice.singles.items()
        if single.meets and single.figures.cost_per_request_usd <= total
    ]
    if cheaper and result.choice.advice == "cascade":
        stdout.print(f"mind: with the guard {' and '.join(cheaper)} alone is no dearer, and meets the objective")
