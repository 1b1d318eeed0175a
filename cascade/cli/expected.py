"""What `calibrate` tells beside its choice: how often the storm guard would trip under the policy as it would be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.calibration.calibrating import Calibration
from cascade.cli.output import stdout
from cascade.cli.replaying import storms_told
from cascade.core.certificate import Certificate
from cascade.corpora.replays import Wish, replay_corpus

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


def print_storms(storms: dict[str, Any] | None) -> None:
    """One line, as `replay` prints it."""
    if storms is not None:
        stdout.print(storms_told(storms))
