"""Learn a rung's score: whether its answer is right, or what the best rung above would gain.

`right` is a logistic regression. `gain` is a linear one of (score of the best rung above - score here). The levels of the
self-report can be features of it, each its own, for the gain need not rise or fall with them. The best rung above is the
one with the highest mean score on the training rows: nobody knows beforehand which rung will be right, so the maximum by
item is not to be had. (On recorded corpora of thousands of groups both cost the same to 0.003 of the top's cost, at 90 %
of the gap.) Gain instead of right: Jitkrittum, W. et al. (2023), When does confidence-based cascade deferral suffice?,
NeurIPS.

The strength of the ridge, and whether lengths, levels and the interaction of agreement and self-report are features, is
chosen by cross-validation over whole groups, because rows of one group are dependent (a length may identify the group).
The simplest candidate within one standard error of the best is taken: Breiman, L. et al. (1984), Classification and
Regression Trees, 3.4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.calibration.proof.power import folds_of
from cascade.calibration.scorer.features import LENGTHS, FeatureTable, interactions_of, levels_of
from cascade.calibration.scorer.fitting import REGRESSIONS, Terms, out_of_fold, standardised
from cascade.calibration.scorer.scores import confidences_of
from cascade.core.errors import ConfigurationError
from cascade.core.policy.scorer import Scoring, ScoringTarget
from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Ints

__all__ = ["RIDGES", "LearnedScorer", "learn"]

RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""The penalties to try, on half the sum of the squared weights of standardised features."""

_FEWEST = 40  # rows needed with and without what is predicted: with fewer not even a coarse score can be learned
_PREDICTED: dict[ScoringTarget, str] = {
    "right": "{} right and {} wrong answers",
    "gain": "{} answers that the best rung above betters and {} that it does not",
}


@dataclass(frozen=True, slots=True, eq=False)
class LearnedScorer:
    """A scorer by rung, with the ridge chosen and the mean out-of-fold loss (log loss in nats for `right`, squared for `gain`).

    `out_of_fold`, by rung: (N,) the training rows' scores by models that had not seen their groups; NaN for other rows.
    `left_out`: by rung without a scorer, the reason.
    """

    target: ScoringTarget
    scorer: dict[str, Scoring]
    ridge: dict[str, float]
    loss: dict[str, float]
    out_of_fold: tuple[Floats, ...]
    left_out: dict[str, str]


def learn(
    table: FeatureTable,
    columns: Columns,
    view: MappedColumns,
    trains: Bools,
    seed: int = 0,
    ridges: Sequence[float] = RIDGES,
    target: ScoringTarget = "right",
) -> LearnedScorer:
    """Learn a score for every rung below the top from the rows in `trains`.

    A rung with too few outcomes of either kind keeps its self-report. Raises ConfigurationError if all rungs have too few.
    """
    nothing = tuple(np.full(len(columns), np.nan) for _ in table.rungs)
    learned = LearnedScorer(target, {}, {}, {}, nothing, {})
    for index, rung in enumerate(table.rungs):
        outcome = _outcomes(columns, view, index, trains, target)
        rows = np.flatnonzero(trains & table.answered[index] & ~np.isnan(outcome))
        training = _Training(table, index, rows, outcome[rows], columns.group[rows], target)
        if reason := training.why_not():
            learned.left_out[rung] = reason
            continue
        best = training.choose(seed, ridges)
        learned.out_of_fold[index][rows] = confidences_of(target, best.totals)
        weights = REGRESSIONS[target].fit(best.terms.matrix, training.outcome, best.ridge, None)
        learned.scorer[rung] = best.terms.scoring(weights, target)
        learned.ridge[rung], learned.loss[rung] = best.ridge, float(best.losses.mean())
    if not learned.scorer:
        problem = "; ".join(f"{rung}: {reason}" for rung, reason in learned.left_out.items())
        raise ConfigurationError(
            f"--scorer: too few items to learn from ({problem}; record more, or leave --scorer out)"
        )
    return learned


def _outcomes(columns: Columns, view: MappedColumns, index: int, trains: Bools, target: ScoringTarget) -> Floats:
    """(N,): what the score of the rung at `index` is to predict, NaN if not known."""
    here, *above = (view.score(columns, place) for place in range(index, len(view.mapping.rungs)))
    if target == "right":
        return np.where(np.isnan(here), np.nan, here >= columns.manifest.right_at)
    means = [float(score[trains & ~np.isnan(score)].mean()) if trains.any() else 0.0 for score in above]
    return above[means.index(max(means))] - here


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One choice of features and ridge with its out-of-fold results by row: `totals` (sums of terms), and `losses`."""

    terms: Terms
    ridge: float
    totals: Floats
    losses: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """The rows that one rung's score is learned from, with what was observed of each."""

    table: FeatureTable
    index: int
    rows: Ints
    outcome: Floats
    group: Codes
    target: ScoringTarget

    def why_not(self) -> str:
        """Why there is too little to learn from; empty if there is enough."""
        ones = int((self.outcome > 0).sum())
        if min(ones, len(self.rows) - ones) < _FEWEST:
            found = _PREDICTED[self.target].format(ones, len(self.rows) - ones)
            return f"{found} to train on, {_FEWEST} of each are needed"
        return "" if len(np.unique(self.group)) >= 2 else "all of its answers are of one group"

    def choose(self, seed: int, ridges: Sequence[float]) -> _Candidate:
        """The simplest candidate whose out-of-fold loss is within one standard error (by groups) of the best."""
        folds, how = folds_of(self.group, seed), REGRESSIONS[self.target]
        made: list[_Candidate] = []
        for names in self._features():
            columns = [self.table.column(self.index, name)[self.rows] for name in names]
            terms = standardised(names, np.column_stack(columns))
            starts = [np.zeros(terms.matrix.shape[1]) for _ in range(int(folds.max()) + 1)]
            for ridge in sorted(ridges, reverse=True):
                totals = out_of_fold(how, terms.matrix, self.outcome, folds, ridge, starts)
                made.append(_Candidate(terms, ridge, totals, how.losses(totals, self.outcome)))
        best = min(made, key=lambda one: float(one.losses.mean()))
        return next(one for one in made if self._is_as_good(one.losses - best.losses))

    def _features(self) -> Iterator[list[str]]:
        """The choices of features, the simplest first."""
        interactions = interactions_of(self.table.rungs, self.index)
        levels = levels_of(self.table, self.index, self.rows) if self.target == "gain" else ()
        for lengths in (False, True):
            own = [name for name in self.table.names[self.index] if lengths or name not in LENGTHS]
            for more in dict.fromkeys(((), interactions, levels, (*interactions, *levels))):
                yield [*own, *more]

    def _is_as_good(self, worse_by: Floats) -> bool:
        _, which = np.unique(self.group, return_inverse=True)
        by_group = np.bincount(which, worse_by - worse_by.mean())
        return float(worse_by.sum()) <= float(np.sqrt((by_group**2).sum()))
