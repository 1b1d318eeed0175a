"""Ridge regressions: a logistic one for a yes or no, a linear one for a number.

Iteratively reweighted least squares: McCullagh, P. and Nelder, J. A. (1989), Generalized Linear Models, 2.5; the ridge:
Hoerl, A. E. and Kennard, R. W. (1970), Technometrics 12; le Cessie, S. and van Houwelingen, J. C. (1992), Applied
Statistics 41.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core.policy.scorer import Feature, Scoring, ScoringTarget
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats

__all__ = ["REGRESSIONS", "Regression", "Terms", "out_of_fold", "standardised"]

_DIGITS = 6  # significant digits of a weight: it is written for people, and used as written
_FREE = 1e-6  # the penalty of the bias: if a fold has one outcome only, it would be unbounded
_MOST_STEPS = 50
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Regression:
    """How weights are fitted, and how far their sums are from what was observed.

    fit     (matrix, observed, ridge, initial weights or None) → the weights; the last one, the bias, is not penalised
    losses  (sums, observed) → by row
    """

    fit: Callable[[Floats, Floats, float, Floats | None], Floats]
    losses: Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Standardised features: `matrix` (n, F + 1), its last column the bias; unknown values are 0."""

    names: tuple[str, ...]
    means: Floats
    scales: Floats
    matrix: Floats

    def scoring(self, weights: Floats, target: ScoringTarget) -> Scoring:
        """The weights as a policy has them."""
        *own, bias = weights.tolist()
        rows = zip(self.names, self.means.tolist(), self.scales.tolist(), own, strict=True)
        features = tuple(
            Feature(name=name, mean=mean, scale=scale, weight=_short(weight)) for name, mean, scale, weight in rows
        )
        return Scoring(target=target, bias=_short(bias), features=features)


def standardised(names: Sequence[str], values: Floats) -> Terms:
    """The features that vary, scaled to mean 0 and standard deviation 1 over the rows where they are known."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(0), 1)
    filled = np.where(known, values, 0.0)
    means = filled.sum(0) / counts
    scales = np.sqrt((np.where(known, values - means, 0.0) ** 2).sum(0) / counts)
    varies = np.flatnonzero(scales > 1e-9)
    means, scales = (np.array([_short(one) for one in some[varies].tolist()]) for some in (means, scales))
    matrix = np.where(known[:, varies], (values[:, varies] - means) / scales, 0.0)
    return Terms(
        tuple(names[place] for place in varies.tolist()), means, scales, np.column_stack([matrix, np.ones(len(values))])
    )


def out_of_fold(
    how: Regression, matrix: Floats, observed: Floats, folds: Codes, ridge: float, starts: list[Floats]
) -> Floats:
    """The sums of each row, by weights fitted without its fold. `starts`: each fold's initial weights, which are replaced."""
    totals = np.zeros(len(observed))
    for fold, start in enumerate(starts):
        inside = folds == fold
        starts[fold] = how.fit(matrix[~inside], observed[~inside], ridge, start)
        totals[inside] = matrix[inside] @ starts[fold]
    return totals


def _penalty(matrix: Floats, ridge: float) -> Floats:
    penalty = np.full(matrix.shape[1], ridge)
    penalty[-1] = _FREE
    return penalty


def _fit_linear(matrix: Floats, observed: Floats, ridge: float, start: Floats | None = None) -> Floats:  # noqa: ARG001
    """The weights that minimise half the sum of squares plus penalty; in closed form, so it needs no start."""
    weights: Any = np.linalg.solve(matrix.T @ matrix + np.diag(_penalty(matrix, ridge)), matrix.T @ observed)
    return weights


def _squares(totals: Floats, observed: Floats) -> Floats:
    return (observed - totals) ** 2


def _fit_logistic(matrix: Floats, right: Floats, ridge: float, start: Floats | None = None) -> Floats:
    """The weights that minimise log loss plus penalty."""
    penalty = _penalty(matrix, ridge)
    weights = np.zeros(matrix.shape[1]) if start is None else start
    reached = _objective(matrix, right, penalty, weights)
    for _ in range(_MOST_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(matrix @ weights, -30.0, 30.0)))
        slope = matrix.T @ (right - chance) - penalty * weights
        curve = (matrix * (chance * (1.0 - chance))[:, None]).T @ matrix + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        tried = _objective(matrix, right, penalty, weights + step)
        while tried > reached and float(np.abs(step).max()) > _CLOSE:  # convex, but a full step may overshoot
            step = step / 2.0
            tried = _objective(matrix, right, penalty, weights + step)
        weights = weights + step
        if reached - tried <= _CLOSE * (1.0 + abs(reached)):
            break
        reached = tried
    return weights


def _log_losses(totals: Floats, right: Floats) -> Floats:
    return np.logaddexp(0.0, totals) - right * totals


def _objective(matrix: Floats, right: Floats, penalty: Floats, weights: Floats) -> float:
    return float(_log_losses(matrix @ weights, right).sum() + 0.5 * (penalty * weights**2).sum())


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


REGRESSIONS: dict[ScoringTarget, Regression] = {
    "right": Regression(_fit_logistic, _log_losses),
    "gain": Regression(_fit_linear, _squares),
}
"""By what is predicted. Losses are in nats for `right`, squared differences of scores for `gain`."""
