"""The views of a corpus that `--scorer` compares: the models' own confidences, and learned scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from cascade.calibration.candidates import Way
from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.scorer import FeatureTable, learn, rescored
from cascade.core.errors import ConfigurationError
from cascade.core.policy.scorer import ScoringTarget
from cascade.replay.columns import Columns, MappedColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = ["ScorerTarget", "scored_ways", "targets_of"]

ScorerTarget = Literal["right", "gain", "best"]
"""What a learned score predicts; `best` tries both, where the objective allows both."""


def targets_of(asked: ScorerTarget | None, objective: Objective | None) -> tuple[ScoringTarget, ...]:
    """What scores are to predict. Raises ConfigurationError where the objective does not allow it.

    `gain` cannot serve a bound on confident mistakes: where no rung above would do better it is sure, right or wrong. On the
    recorded corpora it is confidently wrong more often than `right` at the same quality.
    """
    confident = objective.loss if isinstance(objective, Target) and objective.counted == "false_confident" else None
    if asked == "gain" and confident is not None:
        raise ConfigurationError(
            "--scorer-target gain: it ships wrong answers that no rung above would mend, so it raises the rate of"
            f" {confident} (use --scorer-target right or best, or --loss regression, --min-quality or --budget)"
        )
    if asked == "best":
        if objective is None:
            raise ConfigurationError("--scorer-target best: without an objective nothing is best (use right or gain)")
        return ("right",) if confident is not None else ("right", "gain")
    return () if asked is None else (asked,)


def scored_ways(
    asked: ScorerTarget,
    objective: Objective | None,
    table: FeatureTable,
    read: tuple[Columns, MappedColumns],
    is_tune: Bools,
    seed: int,
) -> Iterator[Way]:
    """The view under each score learned from the tune half; before them, if there is an objective to choose by, the raw one.

    Raises ConfigurationError as `targets_of`, and if there is too little to learn any of the scores from.
    """
    columns, view = read
    failed: list[ConfigurationError] = []
    if objective is not None:
        yield Way("raw", rescored(view, {}, table))
    targets = targets_of(asked, objective)
    for target in targets:
        try:
            learned = learn(table, columns, view, is_tune, seed, target=target)
        except ConfigurationError as error:
            failed.append(error)
            continue
        yield Way(target, rescored(view, learned.scorer, table, learned.out_of_fold), learned)
    if len(failed) == len(targets):
        raise failed[0]
