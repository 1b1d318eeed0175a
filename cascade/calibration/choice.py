"""Choose thresholds on the tune half, evaluate them on the certify half, and compare them with every single model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import floor

from cascade.calibration.bounds import keeps, units_needed
from cascade.calibration.halves import HalfFigures, ItemHalf, JointHalf, OperatingPoint, SplitHalf
from cascade.calibration.objectives import Budget, MinQuality, Objective, loss_of, wanted_quality
from cascade.calibration.proof.pareto_testing import Certified, NotCertified, Target, certify
from cascade.calibration.proof.power import expected_losses
from cascade.calibration.search.baselines import ShorterLadder, random_mix, shorter_frontiers
from cascade.calibration.search.by_task import best_by_task, path_by_task
from cascade.calibration.search.counts import Counts
from cascade.calibration.search.frontier import Point, thinned_levels
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.replay.intervals import Interval, interval_of

_CLOSELY = 400  # points of a fold's path: enough that one is near any loss rate

__all__ = ["Choice", "SingleModel", "Versus", "choose", "only_frontier", "prove"]


@dataclass(frozen=True, slots=True)
class SingleModel:
    """One model alone, on the certify half.

    meets                 whether it meets the objective; a target is tested as for the cascade. None: undecided
    further_units_needed  if undecided: how many more units would show that it does, at the observed rate; None: no number
    """

    figures: HalfFigures
    meets: bool | None
    further_units_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Versus:
    """The chosen thresholds minus one model alone: paired differences on the certify half, with 95 % intervals by groups.

    `cost` is a share of that model's mean cost, `quality` a difference of mean scores.
    """

    rung: str
    cost: float
    cost_ci95: Interval | None
    quality: float
    quality_ci95: Interval | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen thresholds, and what they are compared with.

    frontier       on the tune half (on all items without an objective), one set of thresholds for all tasks
    thinned        by rung below the top: how many quantile levels were searched, None if all levels were
    singles        each model alone, on the certify half
    chosen         None if nothing meets the objective, or there is none
    proof          the result of the test, for a target
    tune, certify  the chosen point's figures on the two halves
    random_mix     quality, and USD per request, if as many requests climbed at random
    shorter        the ladders with rungs left out, on the tune half
    advice         "cascade", "single:<rung>", or None if neither meets the objective or there are too few items
    holds          whether the chosen thresholds meet the objective on the certify half
    versus         the difference from the cheapest single model that meets it
    too_few        whether there are too few items to say; `further_units_needed` more certify units would be enough at the
                   observed rate
    """

    frontier: tuple[Point, ...]
    thinned: tuple[int | None, ...]
    singles: dict[str, SingleModel]
    chosen: OperatingPoint | None = None
    proof: Certified | NotCertified | None = None
    tune: HalfFigures | None = None
    certify: HalfFigures | None = None
    random_mix: tuple[float, float] | None = None
    shorter: tuple[ShorterLadder, ...] = ()
    advice: str | None = None
    holds: bool = False
    versus: Versus | None = None
    too_few: bool = False
    further_units_needed: int | None = None


def only_frontier(side: SplitHalf) -> Choice:
    """The frontier and the single models on all items, without a choice."""
    counts = side.counts()
    singles = {
        rung: SingleModel(side.figures_alone(index, "false_confident"), meets=None)
        for index, rung in enumerate(side.rungs)
    }
    return Choice(side.frontier(), thinned_levels(counts), singles)


def choose(
    tune: SplitHalf, held_out: SplitHalf, objective: Objective, policy: Policy, own: Collection[str] | None = None
) -> Choice:
    """Choose on one half, evaluate on the other. `own`: tasks with their own thresholds; None: one set for all tasks.

    Raises ConfigurationError if a half is empty, or for thresholds by task with `min_quality` if scores are not all 0 or 1.
    """
    for side, name in ((tune, "tune"), (held_out, "certify")):
        if not len(side):
            hint = "give another --tune or --split-seed, or more groups"
            raise ConfigurationError(f"the {name} half of the split has no items ({hint})")
    counts, loss = tune.counts(), loss_of(objective)
    points = tune.frontier()
    proof: Certified | NotCertified | None = None
    if isinstance(objective, Target):
        proof = prove(tune, held_out, objective, own)
        chosen = proof.point if isinstance(proof, Certified) else None
    elif own is None:
        chosen = _best(points, counts, objective)
    else:
        chosen = _best_by_task(_items(tune), objective, own)
    alone = [held_out.figures_alone(index, loss) for index in range(len(held_out.rungs))]
    singles = {
        rung: _single_model(held_out, index, half, alone[-1], objective)
        for index, (rung, half) in enumerate(zip(held_out.rungs, alone, strict=True))
    }
    figures = None if chosen is None else held_out.figures(chosen, loss)
    holds = figures is not None and (isinstance(objective, Target) or _is_met(figures, alone[-1], objective))
    advice = _advice(figures if holds else None, singles, objective)
    too_few, further = (False, None) if advice == "cascade" else _too_few(proof, singles, advice)
    return Choice(
        points,
        thinned_levels(counts),
        singles,
        chosen,
        proof,
        None if chosen is None else tune.figures(chosen, loss),
        figures,
        None if figures is None else _random_mix(figures, singles),
        tuple(shorter_frontiers(counts, policy, loss)),
        None if too_few else advice,
        holds,
        None if chosen is None else _versus(held_out, chosen, singles),
        too_few,
        further,
    )


def prove(
    tune: SplitHalf, held_out: SplitHalf, target: Target, own: Collection[str] | None = None
) -> Certified | NotCertified:
    """Search on one half, certify on the other."""
    loss = target.counted
    if own is None:
        path: Sequence[OperatingPoint] = tune.risk_path(loss)
        expected = expected_losses(path, tune, loss, lambda part: part.risk_path(loss, _CLOSELY))
    else:
        path = path_by_task(_items(tune).coded, loss, own=own)
        expected = expected_losses(
            path, tune, loss, lambda part: path_by_task(_items(part).coded, loss, _CLOSELY, own=own)
        )
    return certify(path, tune, held_out, target, expected)


def _items(side: SplitHalf) -> ItemHalf:
    if not isinstance(side, ItemHalf):
        raise ConfigurationError("--per-task: tables of counts have no tasks (give the corpora themselves)")
    return side


def _best(points: Sequence[Point], counts: Counts, objective: MinQuality | Budget) -> Point | None:
    """The cheapest point of sufficient quality, or the best one within the budget; None if there is none."""
    if isinstance(objective, Budget):
        affordable = [point for point in points if point.cost <= objective.usd * 1e9 * counts.n]
        return affordable[-1] if affordable else None
    wanted = wanted_quality(objective, float(counts.alone[-1]) / counts.n)
    return next((point for point in points if point.quality >= wanted), None)


def _best_by_task(tune: ItemHalf, objective: MinQuality | Budget, own: Collection[str]) -> OperatingPoint | None:
    """The same with thresholds by task; quality is the share of right answers."""
    coded, n = tune.coded, len(tune)
    if bool(((coded.score != 0) & (coded.score != 1)).any()):
        raise ConfigurationError(
            "--per-task: a quality by task needs scores of 0 or 1 (use --max-risk for scores in between)"
        )
    if isinstance(objective, Budget):
        path = path_by_task(coded, "wrong", len(coded) + 1, own=own)
        return next((one for one in path if one.cost <= objective.usd * 1e9 * n), None)
    wanted = wanted_quality(objective, float(coded.alone[:, coded.top].mean()))
    return best_by_task(coded, floor((1 - wanted) * n + 1e-9), "wrong", own=own)


def _single_model(
    held_out: SplitHalf, rung: int, alone: HalfFigures, top: HalfFigures, objective: Objective
) -> SingleModel:
    if not isinstance(objective, Target):
        return SingleModel(alone, _is_met(alone, top, objective))
    if alone is top:
        return SingleModel(alone, meets=True)  # by definition: the top rung's answers never count as a loss
    sample = held_out.sample_alone(rung, objective.counted)
    meets = keeps(sample, objective.alpha, objective.delta)
    needed = units_needed(sample, objective.alpha, objective.delta) if meets is None else None
    return SingleModel(alone, meets, None if needed is None else max(1, needed - sample.n))


def _is_met(figures: HalfFigures, top: HalfFigures, objective: MinQuality | Budget) -> bool:
    """Whether figures of the certify half meet the objective as observed, without a test."""
    if isinstance(objective, MinQuality):
        return figures.quality >= wanted_quality(objective, top.quality)
    return figures.cost_per_request_usd <= objective.usd


def _versus(held_out: SplitHalf, chosen: OperatingPoint, singles: dict[str, SingleModel]) -> Versus | None:
    """Against the cheapest single model that meets the objective; None if there is none, or for counts."""
    good = [rung for rung, single in singles.items() if single.meets]
    if isinstance(held_out, JointHalf):
        held_out = held_out.way_of(chosen)
    if not good or not isinstance(held_out, ItemHalf):
        return None
    rung = min(good, key=lambda name: singles[name].figures.cost)
    coded, at, place = held_out.coded, held_out.at(chosen), held_out.rungs.index(rung)
    model_cost = coded.model_cost[:, place]
    quality = coded.scores(at) - coded.model_score[:, place]
    cost = (coded.costs(at) - model_cost) / max(1.0, float(model_cost.mean()))
    ci95 = interval_of(cost, coded.group), interval_of(quality, coded.group)
    return Versus(rung, float(cost.mean()), ci95[0], float(quality.mean()), ci95[1])


def _random_mix(figures: HalfFigures, singles: dict[str, SingleModel]) -> tuple[float, float]:
    alone = [(one.figures.quality, one.figures.cost_per_request_usd) for one in singles.values()]
    return random_mix(tuple(figures.shipped.values()), alone)


def _advice(figures: HalfFigures | None, singles: dict[str, SingleModel], objective: Objective) -> str | None:
    """The cascade if it meets the objective and is cheaper than any single model that does (for a budget: better)."""
    good = {rung: single.figures for rung, single in singles.items() if single.meets}
    if isinstance(objective, Budget):
        best = max(good, key=lambda rung: good[rung].quality, default=None)
        wins = figures is not None and (best is None or figures.quality > good[best].quality)
    else:
        best = min(good, key=lambda rung: good[rung].cost, default=None)
        wins = figures is not None and (best is None or figures.cost < good[best].cost)
    if wins:
        return "cascade"
    return None if best is None else f"single:{best}"


def _too_few(
    proof: Certified | NotCertified | None, singles: dict[str, SingleModel], advice: str | None
) -> tuple[bool, int | None]:
    """Whether more items could change the advice, and how many more would, at the observed rate.

    They could if the thresholds were shown neither to meet the target nor to miss it, unless a model below the top was
    shown to meet it; and if a model cheaper than the advised one meets it as observed, but on too few items to show it.
    """
    top, advised = list(singles)[-1], (advice or "").removeprefix("single:")
    if isinstance(proof, NotCertified) and proof.undecided and advised in ("", top):
        return True, proof.further_units_needed
    limit = singles[advised].figures.cost if advised else None
    needed = [
        one.further_units_needed
        for one in singles.values()
        if one.further_units_needed is not None and (limit is None or one.figures.cost < limit)
    ]
    return bool(needed), min(needed, default=None)
