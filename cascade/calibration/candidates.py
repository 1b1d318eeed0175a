"""Choose between ways to decide (raw confidences, learned scores) before the certify half is read.

Each candidate is the same corpus, coded in another way. Only the tune halves are compared, so whatever is certified
afterwards is certified for one candidate that was fixed before any outcome of the certify half was read, and delta holds.

A candidate with more distinct confidences has more thresholds to choose from, so its best point looks better on the rows it
was chosen on. So thresholds are searched on four fifths of the groups and evaluated on the last fifth, each in turn: Stone,
M. (1974), Cross-validatory choice and assessment of statistical predictions, JRSS B 36. A fifth has fewer right answers
than was asked for, too; therefore the search aims higher until the evaluation meets the objective.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cascade.calibration.bounds import Sample, sample_of
from cascade.calibration.halves import ItemHalf, OperatingPoint, SplitHalf
from cascade.calibration.objectives import Budget, MinQuality, Objective, loss_of, wanted_quality
from cascade.calibration.proof.pareto_testing import Target, start_on
from cascade.calibration.proof.power import folds_of
from cascade.calibration.scorer import LearnedScorer
from cascade.calibration.search.by_task import path_by_task
from cascade.calibration.search.counts import Loss
from cascade.calibration.search.frontier import frontier, risk_path
from cascade.calibration.search.levels import CodedCorpus
from cascade.replay.arrays import np
from cascade.replay.columns import MappedColumns, PolicyMapping

if TYPE_CHECKING:
    from cascade.replay.arrays import Floats

__all__ = ["Candidate", "Comparison", "Standing", "Way", "describe_comparison", "pick"]

_ENOUGH = 100_000  # items: from here on the bias is about a thousandth, and cross-validation takes long
_CLOSELY = 400  # points of a fold's path: enough that one is near any risk
_LIMITS = 200  # limits on the risk that are tried


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to decide, on all items: the view, the scorer behind it, and the mapping where it has its own samples."""

    name: str
    view: MappedColumns
    learned: LearnedScorer | None = None
    mapping: PolicyMapping | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to decide: its halves, and the scorer behind it (None: the models' own confidences)."""

    name: str
    tune: SplitHalf
    held_out: SplitHalf
    learned: LearnedScorer | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate's cross-validated figures on the tune half, at the thresholds that suit the objective best.

    `loss_rate`: of the objective's loss, `false_confident` if it has none. `meets`: whether the figures meet the objective.
    """

    name: str
    cost_per_request_usd: float
    quality: float
    loss_rate: float
    meets: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidates' standings in the order given, and the place of the chosen one."""

    standings: tuple[Standing, ...]
    chosen: int

    @property
    def winner(self) -> Standing:
        """The chosen candidate's standing."""
        return self.standings[self.chosen]


def pick(candidates: Sequence[Candidate], objective: Objective, own: Collection[str] | None = None) -> Comparison:
    """The candidate that does best by the objective: the cheapest that meets it, or for a budget the one of best quality.

    The first of equals, and the first of all if none meets it: put the simplest first. Reads the tune halves, and of
    the certify halves only how many units they have. `own`: as in `choose`. Candidates of one corpus must share its split.
    """
    standings = tuple(_standing(one, objective, own) for one in candidates)
    places = [place for place, one in enumerate(standings) if one.meets] or [0]
    best_quality = isinstance(objective, Budget)

    def rank(place: int) -> float:
        return -standings[place].quality if best_quality else standings[place].cost_per_request_usd

    return Comparison(standings, min(places, key=rank))


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """Points in order of rising risk and falling cost, found on some items and evaluated on `part`.

    `in_sample`: whether those are the same items, so that the points' own figures are the evaluation.
    """

    points: Sequence[OperatingPoint]
    risks: Floats
    part: SplitHalf
    in_sample: bool

    def at(self, limit: float) -> OperatingPoint:
        """The cheapest point of at most this risk, else the one of least risk."""
        return self.points[max(0, int(np.searchsorted(self.risks, limit + 1e-12, "right")) - 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What is searched for on a tune half. The risk of a point is its loss rate for a `Target`, else 1 - quality."""

    objective: Objective
    own: Collection[str] | None

    def path(self, side: SplitHalf, part: SplitHalf) -> _Path:
        """The path of `side`, to be evaluated on `part`."""
        points = sorted(self._points(side), key=lambda point: self._risk(point, len(side)))
        return _Path(points, np.array([self._risk(point, len(side)) for point in points]), part, side is part)

    def _risk(self, point: OperatingPoint, n: int) -> float:
        return point.losses / max(1, n) if isinstance(self.objective, Target) else 1.0 - point.quality

    def _points(self, side: SplitHalf) -> Sequence[OperatingPoint]:
        target = isinstance(self.objective, Target)
        if self.own is None or not isinstance(side, ItemHalf):
            counts = side.counts()
            return risk_path(counts, loss_of(self.objective), _CLOSELY) if target else frontier(counts)
        if target:
            return path_by_task(side.coded, loss_of(self.objective), _CLOSELY, own=self.own)
        return path_by_task(side.coded, "wrong", len(side) + 1, own=self.own)

    def crossed(self, tune: SplitHalf) -> list[_Path]:
        """A path for each fold, found on the other folds. In-sample for counts, one group, and very many items."""
        if not isinstance(tune, ItemHalf) or len(tune) > _ENOUGH:
            return [self.path(tune, tune)]
        folds = folds_of(tune.coded.group)
        parts = [(tune.coded.rows(folds != fold), tune.coded.rows(folds == fold)) for fold in np.unique(folds).tolist()]
        found = [self.path(ItemHalf(rest), ItemHalf(part)) for rest, part in parts if len(rest)]
        return found or [self.path(tune, tune)]


def _standing(candidate: Candidate, objective: Objective, own: Collection[str] | None) -> Standing:
    tune, search = candidate.tune, _Search(objective, own)
    paths, limits = search.crossed(tune), _limits(search.path(tune, tune))
    loss = loss_of(objective)

    @cache
    def expected(place: int) -> Sample:
        return _losses(paths, limits[place], loss)

    if isinstance(objective, Target):
        place = start_on(len(limits), expected, candidate.held_out.units, objective)
        meets = expected(place).rate <= objective.alpha
    else:
        place, meets = _best(objective, [_cost_and_quality(paths, limit) for limit in limits], _top_quality(tune))
    cost, quality = _cost_and_quality(paths, limits[place])
    return Standing(candidate.name, cost / 1e9, quality, expected(place).rate, meets)


def _best(objective: MinQuality | Budget, found: Sequence[tuple[float, float]], of_top: float) -> tuple[int, bool]:
    """The place of the best (cost, quality) by the objective, and whether it meets it."""
    places = range(len(found))
    if isinstance(objective, Budget):
        good = [place for place in places if found[place][0] <= objective.usd * 1e9]
        best = max(good, key=lambda place: found[place][1], default=None)
        return (best, True) if best is not None else (min(places, key=lambda place: found[place][0]), False)
    wanted = wanted_quality(objective, of_top) - 1e-12
    good = [place for place in places if found[place][1] >= wanted]
    best = min(good, key=lambda place: found[place][0], default=None)
    return (best, True) if best is not None else (max(places, key=lambda place: found[place][1]), False)


def _top_quality(tune: SplitHalf) -> float:
    return float(tune.counts().alone[-1]) / max(1, len(tune))


def _limits(path: _Path) -> list[float]:
    """The risks of the path's points, rising; of at most _LIMITS of them, whose costs are spread most evenly."""
    if len(path.points) <= _LIMITS:
        return path.risks.tolist()
    spent: Floats = np.array([-float(point.cost) for point in path.points], np.float64)
    wanted: Floats = np.linspace(float(spent[0]), float(spent[-1]), _LIMITS)
    places = np.unique(np.minimum(np.searchsorted(np.maximum.accumulate(spent), wanted), len(spent) - 1))
    return path.risks[places].tolist()


def _cost_and_quality(paths: Sequence[_Path], limit: float) -> tuple[float, float]:
    """Mean cost in nano-USD and mean score, all parts together, at each path's thresholds for this limit on the risk."""
    if paths[0].in_sample:
        point = paths[0].at(limit)
        return point.cost / max(1, len(paths[0].part)), point.quality
    cost, quality, n = 0, 0.0, 0
    for coded, at in _thresholds(paths, limit):
        cost, quality, n = cost + int(coded.costs(at).sum()), quality + float(coded.scores(at).sum()), n + len(coded)
    return cost / n, quality / n


def _losses(paths: Sequence[_Path], limit: float, loss: Loss) -> Sample:
    """The losses by unit at the same thresholds."""
    if paths[0].in_sample:
        return paths[0].part.sample(paths[0].at(limit), loss)
    parts = [(coded.losses(at, loss), coded.group) for coded, at in _thresholds(paths, limit)]
    return sample_of(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _thresholds(paths: Sequence[_Path], limit: float) -> Iterator[tuple[CodedCorpus, Any]]:
    """The items of each path's part, and the threshold levels for them."""
    for path in paths:
        assert isinstance(path.part, ItemHalf)  # counts have no folds
        yield path.part.coded, path.part.at(path.at(limit))


def describe_comparison(compared: Comparison, objective: Objective) -> str:
    """The chosen candidate and by how much, e.g. `gain, chosen on the tuning half: cost -19.3% against raw`."""
    winner = compared.winner
    against = [_against(winner, one, objective) for one in compared.standings if one is not winner]
    return f"{winner.name}, chosen on the tuning half: {', '.join(against)}"


def _against(winner: Standing, other: Standing, objective: Objective) -> str:
    if winner.meets and not other.meets:
        return f"{other.name} does not meet the objective there"
    if isinstance(objective, Budget):
        return f"quality {winner.quality - other.quality:+.4f} against {other.name}"
    share = winner.cost_per_request_usd / other.cost_per_request_usd - 1 if other.cost_per_request_usd else 0.0
    return f"cost {share:+.1%} against {other.name}"
