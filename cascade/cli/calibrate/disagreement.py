"""`calibrate --loss disagreement`: the grader, the baseline, the judge's error rate and the noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.calibration.bounds import Sample, lower_bound, upper_bound
from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.cli.output import stdout
from cascade.core.errors import ConfigurationError
from cascade.corpora.items import Manifest
from cascade.corpora.reading import open_corpus
from cascade.recording.noise_floor import NoiseFloor, read_noise_floor
from cascade.replay.arrays import np

__all__ = ["Agreement", "agreement_of", "print_agreement"]

_TAIL = 0.025  # of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the corpora were scored. `judge_error`: the error rate, and the number of control items.

    `noise` is summed over the corpora that measured it; None if none did.
    """

    graders: tuple[str, ...]
    against: tuple[str, ...]
    judge_error: tuple[float, int] | None
    noise: NoiseFloor | None

    @property
    def noise_ci95(self) -> tuple[float, float] | None:
        """The noise floor's exact binomial interval (Clopper and Pearson 1934): its items are in different groups."""
        if self.noise is None:
            return None
        lost = np.zeros(self.noise.items)
        lost[: self.noise.disagreed] = 1.0
        sample = Sample("items", lost, self.noise.disagreed)
        return lower_bound(sample, _TAIL), upper_bound(sample, _TAIL)

    def fields(self, alpha: float) -> dict[str, Any]:
        """The fields of `calibrate --json` under `disagreement`."""
        noise, error = self.noise, self.judge_error
        return {
            "judged_by": list(self.graders),
            "against": list(self.against),
            "judge_error": error and {"error": error[0], "controls": error[1]},
            "noise_floor": noise
            and {**noise.fields(), "rate": noise.rate, "ci95": list(self.noise_ci95 or ()),
                 "alpha_is_below": alpha < noise.rate},
        }  # fmt: skip


def agreement_of(paths: Sequence[Path], objective: Objective | None, *, skip_bad: bool = False) -> Agreement | None:
    """How the corpora were scored, if the loss is `disagreement`; None for other objectives. Reads the corpora.

    Raises ConfigurationError if items have an expected answer: their scores compare with that, not with the baseline.
    """
    if not isinstance(objective, Target) or objective.loss != "disagreement":
        return None
    manifests: list[Manifest] = []
    for path in paths:
        with open_corpus(path, skip_bad=skip_bad) as reader:
            manifests.append(reader.manifest)
            labelled = sum(item.expected is not None for item in reader)
        if labelled:
            raise ConfigurationError(
                f"--loss disagreement: {labelled:,} items of {path} have an expected answer, so their scores do not measure"
                " agreement with the baseline (use --loss false_confident)"
            )
    for path, manifest in zip(paths, manifests, strict=True):
        if manifest.right_by_definition is None:
            raise ConfigurationError(
                f"--loss disagreement: {path} does not name the baseline that its scores compare with (record it with"
                " `cascade record`, without expected answers)"
            )
    measured = [noise for noise in map(read_noise_floor, manifests) if noise is not None]
    noise = NoiseFloor(sum(one.items for one in measured), sum(one.disagreed for one in measured)) if measured else None
    errors = [known for known in (one.judge_error for one in manifests) if known is not None]
    controls = sum(count for _, count in errors)
    return Agreement(
        tuple(dict.fromkeys(one.grader or "an unnamed grader" for one in manifests)),
        tuple(dict.fromkeys(name for one in manifests if (name := one.baseline_name) is not None)),
        (sum(share * count for share, count in errors) / controls, controls) if controls else None,
        noise,
    )


def print_agreement(agreement: Agreement | None, objective: Objective | None) -> None:
    """Print the grader, the baseline, the judge's error rate, and the noise floor beside alpha."""
    if agreement is None or not isinstance(objective, Target):
        return
    text = f"scores: by {' and '.join(agreement.graders)}"
    if agreement.against:
        text += f", compared with the plain answers of {' and '.join(agreement.against)}"
    if agreement.judge_error is not None:
        share, controls = agreement.judge_error
        text += f"; judge's error rate: {share:.1%} of {controls:,} control items"
    stdout.print(text)
    noise, interval, alpha = agreement.noise, agreement.noise_ci95, objective.alpha
    if noise is None or interval is None:
        stdout.print(
            "noise floor: not measured (repeat `cascade record` with --baseline-twice 100; it asks only the second answers)"
        )
        return
    stdout.print(
        f"noise floor: asked twice, the baseline disagrees with itself on {noise.disagreed:,} of {noise.items:,} items"
        f" ({noise.rate:.1%}, 95 % confidence interval {interval[0]:.1%}–{interval[1]:.1%})"
    )
    if alpha < noise.rate:
        stdout.print(
            f"warning: {alpha:g} is below the noise floor: even answers as good as the baseline's disagree that often, so at"
            f" most about {alpha / noise.rate:.0%} of the requests can ship below the top",
            style="bold",
        )
