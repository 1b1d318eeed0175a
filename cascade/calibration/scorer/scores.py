"""A scorer applied to all items of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cascade.calibration.scorer.features import FeatureTable
from cascade.core.policy.scorer import Scoring, ScoringTarget
from cascade.core.scoring import confidence_of
from cascade.replay.arrays import np
from cascade.replay.columns import MappedColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats

__all__ = ["confidences_of", "rescored", "scores_under"]


def scores_under(scorer: dict[str, Scoring], table: FeatureTable) -> tuple[Floats | None, ...]:
    """By rung: the scores of all items, NaN without an answer to score; None for a rung without a scorer.

    Equal to the last bit to the scores of `core.scoring`: the same sums in the same order.
    """
    made: list[Floats | None] = []
    for index, rung in enumerate(table.rungs):
        if (scoring := scorer.get(rung)) is None:
            made.append(None)
            continue
        totals = np.full(len(table.answered[index]), scoring.bias)
        for feature in scoring.features:
            terms = feature.weight * ((table.column(index, feature.name) - feature.mean) / feature.scale)
            totals += np.where(np.isnan(terms), 0.0, terms)
        made.append(np.where(table.answered[index], confidences_of(scoring.target, totals), np.nan))
    return tuple(made)


def rescored(
    view: MappedColumns, scorer: dict[str, Scoring], table: FeatureTable, out_of_fold: Sequence[Floats] | None = None
) -> MappedColumns:
    """The view with this scorer in its policy, replacing any other, and with the scores as confidences.

    An empty scorer brings back the models' own confidences. `out_of_fold`: as in `LearnedScorer`; these scores replace the
    scorer's own on the rows it was trained on.
    """
    scores = scores_under(scorer, table)
    if out_of_fold is not None:
        pairs = zip(scores, out_of_fold, strict=True)
        scores = tuple(None if own is None else np.where(np.isnan(unseen), own, unseen) for own, unseen in pairs)
    policy = view.mapping.plan.policy.model_copy(update={"scorer": dict(scorer) or None})
    mapping = replace(view.mapping, plan=replace(view.mapping.plan, policy=policy))
    before = view.mapping.plan.policy.scorer or {}
    confidence: list[Floats] = []
    for index, (own, made) in enumerate(zip(view.confidence, (*scores, None), strict=True)):
        if made is not None:
            confidence.append(made)
        elif view.mapping.names[index] in before:  # no longer scored: back to the model's own confidence
            confidence.append(table.column(index, "level"))
        else:
            confidence.append(own)
    return replace(view, mapping=mapping, confidence=tuple(confidence))


def confidences_of(target: ScoringTarget, totals: Floats) -> Floats:
    """By `core.scoring.confidence_of`, as live: numpy's exp and round may differ in the last bit."""
    distinct, inverse = np.unique(totals, return_inverse=True)
    made: Any = np.array([confidence_of(target, total) for total in distinct.tolist()])
    return made[inverse]
