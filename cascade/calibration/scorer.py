"""A better confidence without extra calls: for each rung a ridge logistic regression on what is known once it answered.

    read_columns(…, each=collector.add) → table → learn (on the training rows) → the policy's `scorer`
                                                   → rescored view → code levels, frontier, certificate, as usual

Iteratively reweighted least squares: McCullagh, P. and Nelder, J. A. (1989), Generalized Linear Models, 2.5; the ridge:
le Cessie, S. and van Houwelingen, J. C. (1992), Applied Statistics 41. Its strength, and whether the
lengths are features, is chosen by cross-validation over whole groups, because rows of one group are dependent (a length may
identify the group). The simplest candidate within one standard error of the best is taken: Breiman, L. et al.
(1984), Classification and Regression Trees, 3.4.3.

In-sample scores are overfitted, and thresholds tuned on them are too low. So training rows are scored out of fold, each by
a model that has not seen its group. Thresholds are tuned on those scores and certified, with the scorer as it is written,
on rows that had no part in either: cross-fitting, Chernozhukov, V. et
al. (2018), The Econometrics Journal 21.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.calibration.proof.power import folds_of
from cascade.core.errors import ConfigurationError
from cascade.core.policy.scorer import Feature, Scoring
from cascade.core.scoring import Facts, logistic, value_of
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.arrays import ColumnBuilder, np
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.driver import recorded_verdict, request_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats

__all__ = [
    "RIDGES",
    "FeatureCollector",
    "FeatureTable",
    "LearnedScorer",
    "features_of",
    "learn",
    "rescored",
    "scores_under",
]

RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""The penalties to try, on half the sum of the squared weights of standardised features."""

_LENGTHS = ("log_input", "log_answer")
_NO_REPLY = RecordedReply(answer=None)
_FEWEST = 40  # right and wrong rows needed, each: with fewer not even a coarse score can be learned
_RAREST = 20  # rows that a task needs for its own weight
_MOST_TASKS = 64
_DIGITS = 6  # significant digits of a weight: it is written for people, and used as written
_MOST_STEPS = 50
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The features that a scorer is learned from, for each rung below the top.

    names     by rung: the features' names
    values    by rung: (N, F) their values, NaN if not known
    answered  by rung: (N,) whether there is an answer with a confidence, which can be scored
    """

    rungs: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    values: tuple[Floats, ...]
    answered: tuple[Bools, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LearnedScorer:
    """A scorer by rung, with the ridge chosen and the out-of-fold log loss (nats per row).

    `out_of_fold`, by rung: (N,) the training rows' scores by models that had not seen their groups; NaN for other rows.
    `left_out`: by rung without a scorer, the reason.
    """

    scorer: dict[str, Scoring]
    ridge: dict[str, float]
    log_loss: dict[str, float]
    out_of_fold: tuple[Floats, ...]
    left_out: dict[str, str]


def features_of(rungs: Sequence[str], index: int) -> tuple[str, ...]:
    """The features known once the rung at `index` has answered, except the task."""
    lower = [f"{kind}:{rung}" for rung in rungs[:index] for kind in ("agrees", "logit", "level")]
    return ("logit", "level", "log_input", "log_answer", *lower)


class FeatureCollector:
    """Takes the features of the items while a corpus is read: give `add` to `read_columns` as `each`."""

    def __init__(self, mapping: PolicyMapping) -> None:
        self._mapping, self._rungs = mapping, mapping.names[:-1]
        self._names = [features_of(self._rungs, index) for index in range(len(self._rungs))]
        self._values = [[ColumnBuilder(np.float64) for _ in names] for names in self._names]
        self._answered = [ColumnBuilder(np.bool_) for _ in self._rungs]

    def add(self, items: Sequence[Item]) -> None:
        """Add the next items, in the order of the columns."""
        for item in items:
            characters = request_of(item).turn_characters()
            verdicts = tuple(
                recorded_verdict(item.replies.get(rung, _NO_REPLY), triage=True) for rung in self._mapping.rungs[:-1]
            )
            for index in range(len(self._rungs)):
                self._add(index, Facts(characters, "", verdicts[: index + 1]), self._rungs[: index + 1])
                self._answered[index].add(
                    [verdicts[index].kind == "answered" and self._mapping.rungs[index] in item.replies]
                )

    def _add(self, index: int, facts: Facts, rungs: tuple[str, ...]) -> None:
        for name, growing in zip(self._names[index], self._values[index], strict=True):
            growing.add([value_of(name, facts, rungs)])

    def table(self, view: View) -> FeatureTable:
        """All features collected. Each task of `view` that is not too rare is a feature, too."""
        tasks = _tasks_of(view)
        names = tuple((*own, *(f"task:{task}" for task, _ in tasks)) for own in self._names)
        values: list[Floats] = []
        for growing in self._values:
            matrix = np.empty((len(view.task), len(growing) + len(tasks)), np.float64, order="F")
            for place, one in enumerate(growing):
                matrix[:, place] = one.array()
            for place, (_, code) in enumerate(tasks, len(growing)):
                matrix[:, place] = view.task == code
            values.append(matrix)
        return FeatureTable(self._rungs, names, tuple(values), tuple(one.whole() for one in self._answered))


def learn(
    table: FeatureTable,
    columns: Columns,
    view: View,
    trains: Truths,
    seed: int = 0,
    ridges: Sequence[float] = RIDGES,
) -> LearnedScorer:
    """Learn a score for every rung below the top from the rows in `trains`.

    A rung with too few right or wrong answers keeps its self-report. Raises ConfigurationError if all rungs have too few.
    """
    learned = LearnedScorer({}, {}, {}, tuple(np.full(len(columns), np.nan) for _ in table.rungs), {})
    for index, rung in enumerate(table.rungs):
        score = columns.rungs[view.lens.rungs[index]].score
        rows = np.flatnonzero(trains & table.answered[index] & ~np.isnan(score))
        right = (score[rows] >= columns.manifest.right_at).astype(np.float64)
        if reason := _why_not(right, columns.group[rows]):
            learned.left_out[rung] = reason
            continue
        best = _choose(table.names[index], table.values[index][rows], right, columns.group[rows], seed, ridges)
        learned.out_of_fold[index][rows] = _logistic(best.totals)
        learned.scorer[rung] = best.terms.scoring(_fit(best.terms.matrix, right, best.ridge))
        learned.ridge[rung], learned.log_loss[rung] = best.ridge, float(best.losses.mean())
    if not learned.scorer:
        problem = "; ".join(f"{rung}: {reason}" for rung, reason in learned.left_out.items())
        raise ConfigurationError(
            f"--scorer: too few items to learn from ({problem}; record more, or leave --scorer out)"
        )
    return learned


def scores_under(scorer: dict[str, Scoring], table: FeatureTable) -> tuple[Floats | None, ...]:
    """By rung: the scores of all items, NaN without an answer to score; None for a rung without a scorer.

    Equal to the last bit to the scores of `core.scoring`: the same sums in the same order.
    """
    made: list[Floats | None] = []
    for index, rung in enumerate(table.rungs):
        if (scoring := scorer.get(rung)) is None:
            made.append(None)
            continue
        places = {name: place for place, name in enumerate(table.names[index])}
        totals = np.full(len(table.answered[index]), scoring.bias)
        for feature in scoring.features:
            values = table.values[index][:, places[feature.name]]
            terms = feature.weight * ((values - feature.mean) / feature.scale)
            totals += np.where(np.isnan(terms), 0.0, terms)
        made.append(np.where(table.answered[index], _logistic(totals), np.nan))
    return tuple(made)


def rescored(
    view: View, scorer: dict[str, Scoring], table: FeatureTable, out_of_fold: Sequence[Floats] | None = None
) -> View:
    """The view with this scorer in its policy, replacing any other, and with the scores as confidences.

    `out_of_fold`: as in `LearnedScorer`; these scores replace the scorer's own on the rows it was trained on.
    """
    scores = scores_under(scorer, table)
    if out_of_fold is not None:
        pairs = zip(scores, out_of_fold, strict=True)
        scores = tuple(None if own is None else np.where(np.isnan(unseen), own, unseen) for own, unseen in pairs)
    policy = view.lens.plan.policy.model_copy(update={"scorer": dict(scorer)})
    mapping = replace(view.lens, plan=replace(view.lens.plan, policy=policy))
    before = view.lens.plan.policy.scorer or {}
    confidence: list[Floats] = []
    for index, (own, made) in enumerate(zip(view.confidence, (*scores, None), strict=True)):
        if made is not None:
            confidence.append(made)
        elif view.lens.names[index] in before:  # no longer scored: back to the model's own confidence
            confidence.append(table.values[index][:, table.names[index].index("level")])
        else:
            confidence.append(own)
    return replace(view, lens=mapping, confidence=tuple(confidence))


def _tasks_of(view: View) -> list[tuple[str, int]]:
    """The tasks that get a weight, each with its code; none if there is only one task."""
    if len(view.tasks) < 2:
        return []
    counts = np.bincount(view.task, minlength=len(view.tasks))
    often = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code] >= _RAREST]
    return [(view.tasks[code], code) for code in sorted(often[:_MOST_TASKS])]


def _why_not(right: Floats, group: Codes) -> str:
    rights = int(right.sum())
    if min(rights, len(right) - rights) < _FEWEST:
        return f"{rights} right and {len(right) - rights} wrong answers to train on, {_FEWEST} of each are needed"
    return "" if len(np.unique(group)) >= 2 else "all of its answers are of one group"


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """Standardised features: `matrix` (n, F + 1), its last column the bias; unknown values are 0."""

    names: tuple[str, ...]
    means: Floats
    scales: Floats
    matrix: Floats

    def scoring(self, weights: Floats) -> Scoring:
        *own, bias = weights.tolist()
        rows = zip(self.names, self.means.tolist(), self.scales.tolist(), own, strict=True)
        features = tuple(
            Feature(name=name, mean=mean, scale=scale, weight=_short(weight)) for name, mean, scale, weight in rows
        )
        return Scoring(bias=_short(bias), features=features)


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One choice of features and ridge with its out-of-fold results by row: `totals` before the logistic, `losses` in nats."""

    terms: _Terms
    ridge: float
    totals: Floats
    losses: Floats


def _choose(
    names: Sequence[str], values: Floats, right: Floats, group: Codes, seed: int, ridges: Sequence[float]
) -> _Candidate:
    """The simplest candidate whose out-of-fold loss is within one standard error (by groups) of the best."""
    folds = folds_of(group, seed)
    simpler = [place for place, name in enumerate(names) if name not in _LENGTHS]
    made: list[_Candidate] = []
    for places in (simpler, range(len(names))):
        terms = _standardised([names[place] for place in places], values[:, list(places)])
        starts = [np.zeros(terms.matrix.shape[1]) for _ in range(int(folds.max()) + 1)]
        for ridge in sorted(ridges, reverse=True):
            totals = _out_of_fold(terms.matrix, right, folds, ridge, starts)
            made.append(_Candidate(terms, ridge, totals, np.logaddexp(0.0, totals) - right * totals))
    best = min(made, key=lambda one: float(one.losses.mean()))
    return next(one for one in made if _is_as_good(one.losses - best.losses, group))


def _is_as_good(worse_by: Floats, group: Codes) -> bool:
    _, which = np.unique(group, return_inverse=True)
    by_group = np.bincount(which, worse_by - worse_by.mean())
    return float(worse_by.sum()) <= float(np.sqrt((by_group**2).sum()))


def _standardised(names: Sequence[str], values: Floats) -> _Terms:
    """The features that vary, scaled to mean 0 and standard deviation 1 over the rows where they are known."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(0), 1)
    filled = np.where(known, values, 0.0)
    means = filled.sum(0) / counts
    scales = np.sqrt((np.where(known, values - means, 0.0) ** 2).sum(0) / counts)
    varies = np.flatnonzero(scales > 1e-9)
    means, scales = (np.array([_short(one) for one in some[varies].tolist()]) for some in (means, scales))
    matrix = np.where(known[:, varies], (values[:, varies] - means) / scales, 0.0)
    return _Terms(
        tuple(names[place] for place in varies.tolist()), means, scales, np.column_stack([matrix, np.ones(len(values))])
    )


def _out_of_fold(matrix: Floats, right: Floats, folds: Codes, ridge: float, starts: list[Floats]) -> Floats:
    """The sums before the logistic. `starts`: each fold's initial weights; replaced by its fitted ones (warm start)."""
    totals = np.zeros(len(right))
    for fold, start in enumerate(starts):
        inside = folds == fold
        starts[fold] = _fit(matrix[~inside], right[~inside], ridge, start)
        totals[inside] = matrix[inside] @ starts[fold]
    return totals


def _fit(matrix: Floats, right: Floats, ridge: float, start: Floats | None = None) -> Floats:
    """The weights that minimise log loss plus penalty; the last one, the bias, is not penalised."""
    penalty = np.full(matrix.shape[1], ridge)
    penalty[-1] = 1e-6  # if a fold is all right or all wrong, the bias would be unbounded
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


def _objective(matrix: Floats, right: Floats, penalty: Floats, weights: Floats) -> float:
    totals = matrix @ weights
    return float((np.logaddexp(0.0, totals) - right * totals).sum() + 0.5 * (penalty * weights**2).sum())


def _logistic(totals: Floats) -> Floats:
    """By `core.scoring.logistic`, as live: numpy's exp and round may differ in the last bit."""
    distinct, inverse = np.unique(totals, return_inverse=True)
    made: Any = np.array([logistic(total) for total in distinct.tolist()])
    return made[inverse]


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
