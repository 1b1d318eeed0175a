"""The choice of thresholds: made on the tune half, evaluated held out, compared with every single model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import floor

from cascade.calibration.bounds import keeps, units_needed
from cascade.calibration.halves import HalfFigures, ItemHalf, OperatingPoint, SplitHalf
from cascade.calibration.objectives import Budget, MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Certified, NotCertified, Target, certify
from cascade.calibration.proof.power import expected_losses
from cascade.calibration.search.baselines import Shorter, random_mix, shorter_frontiers
from cascade.calibration.search.by_task import best_by_task, path_by_task
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, frontier, risk_path, thinned_levels
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.replay.intervals import Interval, interval_of

_CLOSELY = 400  # points of a fold's path: one of them is near any rate that is asked for

__all__ = ["Choice", "SingleModel", "Versus", "choose", "only_frontier", "prove"]


@dataclass(frozen=True, slots=True)
class SingleModel:
    """One model alone, on the certify side. `meets`: whether it meets the objective; for a target tested in the same way.

    `meets` None: the items show neither; `further_units_needed` would show that it does, at the rate observed (None: no
    number would).
    """

    figures: HalfFigures
    meets: bool | None
    further_units_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Versus:
    """The chosen thresholds less one model alone, item by item on the certify side, with 95 % intervals by groups.

    `cost`: as a share of that model's; `quality`: mean score.
    """

    rung: str
    cost: float
    cost_ci95: Interval | None
    quality: float
    quality_ci95: Interval | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The thresholds chosen, and what they are compared with.

    `frontier`: of the tune side, of all items where nothing was to be chosen; one set of thresholds for all tasks.
    `chosen`: None where nothing meets the objective, or none was wanted. `proof`: of a target. `tune` and `certify`: its
    figures on the two sides. `singles` are on the certify side, `shorter` (the ladders with rungs left out) on the tune
    side. `random_mix`: quality, and USD a request.
    `thinned`: by rung below the top how many quantile levels were looked at, None for all of them.
    `advice`: "cascade", "single:<rung>", or None where neither meets the objective, or where the items are too few to say.
    `too_few`: they are; `further_units_needed` more of the certify side would be enough at the rate observed.
    `holds`: whether the chosen one meets it on the certify side, too. `versus`: the cheapest single model that does.
    """

    frontier: tuple[Point, ...]
    thinned: tuple[int | None, ...]
    singles: dict[str, SingleModel]
    chosen: OperatingPoint | None = None
    proof: Certified | NotCertified | None = None
    tune: HalfFigures | None = None
    certify: HalfFigures | None = None
    random_mix: tuple[float, float] | None = None
    shorter: tuple[Shorter, ...] = ()
    advice: str | None = None
    holds: bool = False
    versus: Versus | None = None
    too_few: bool = False
    further_units_needed: int | None = None


def only_frontier(side: SplitHalf) -> Choice:
    """Of all items: no split, no choice."""
    counts = side.counts()
    singles = {
        rung: SingleModel(side.figures_alone(index, "false_confident"), meets=None)
        for index, rung in enumerate(side.rungs)
    }
    return Choice(frontier(counts), thinned_levels(counts), singles)


def choose(
    tune: SplitHalf, held_out: SplitHalf, objective: Objective, policy: Policy, own: Collection[str] | None = None
) -> Choice:
    """Choose on one half, evaluate on the other. `own`: tasks with thresholds of their own; None: the same for all.

    Raises ConfigurationError where a side is empty, or where a quality by task is wanted of graded scores.
    """
    for side, name in ((tune, "tune"), (held_out, "certify")):
        if not len(side):
            hint = "give another --tune or --split-seed, or more groups"
            raise ConfigurationError(f"the {name} half of the split has no items ({hint})")
    counts, loss = tune.counts(), _loss(objective)
    points = frontier(counts)
    proof: Certified | NotCertified | None = None
    if isinstance(objective, Target):
        proof = prove(tune, held_out, objective, counts, own)
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
    tune: SplitHalf,
    held_out: SplitHalf,
    target: Target,
    counts: Counts | None = None,
    own: Collection[str] | None = None,
) -> Certified | NotCertified:
    """Search on one half, certify on the other. `counts`: the tune half's, where they are known already."""
    loss = target.counted
    if own is None:
        path: Sequence[OperatingPoint] = risk_path(counts or tune.counts(), loss)
        expected = expected_losses(path, tune, loss, lambda part: risk_path(part.counts(), loss, _CLOSELY))
    else:
        path = path_by_task(_items(tune).coded, loss, own=own)
        expected = expected_losses(path, tune, loss, lambda part: path_by_task(part, loss, _CLOSELY, own=own))
    return certify(path, tune, held_out, target, expected)


def _items(side: SplitHalf) -> ItemHalf:
    if not isinstance(side, ItemHalf):
        raise ConfigurationError("--per-task: tables of counts have no tasks (give the corpora themselves)")
    return side


def _loss(objective: Objective) -> Loss:
    return objective.counted if isinstance(objective, Target) else "false_confident"


def _best(points: Sequence[Point], counts: Counts, objective: MinQuality | Budget) -> Point | None:
    """The cheapest that is good enough, or the best that is cheap enough; None where none is."""
    if isinstance(objective, Budget):
        affordable = [point for point in points if point.cost <= objective.usd * 1e9 * counts.n]
        return affordable[-1] if affordable else None
    wanted = _wanted(objective, float(counts.alone[-1]) / counts.n)
    return next((point for point in points if point.quality >= wanted), None)


def _best_by_task(tune: ItemHalf, objective: MinQuality | Budget, own: Collection[str]) -> OperatingPoint | None:
    """The same by task, where quality is the share of right answers."""
    coded, n = tune.coded, len(tune)
    if bool(((coded.score != 0) & (coded.score != 1)).any()):
        raise ConfigurationError(
            "--per-task: a quality by task needs scores of 0 or 1 (use --max-risk for scores in between)"
        )
    if isinstance(objective, Budget):
        path = path_by_task(coded, "wrong", len(coded) + 1, own=own)
        return next((one for one in path if one.cost <= objective.usd * 1e9 * n), None)
    wanted = _wanted(objective, float(coded.alone[:, coded.top].mean()))
    return best_by_task(coded, floor((1 - wanted) * n + 1e-9), "wrong", own=own)


def _wanted(objective: MinQuality, of_top: float) -> float:
    return objective.value * (of_top if objective.of_top else 1.0)


def _single_model(
    held_out: SplitHalf, rung: int, alone: HalfFigures, top: HalfFigures, objective: Objective
) -> SingleModel:
    if not isinstance(objective, Target):
        return SingleModel(alone, _is_met(alone, top, objective))
    if alone is top:
        return SingleModel(alone, meets=True)  # by definition: its answers never count as the loss
    sample = held_out.sample_alone(rung, objective.counted)
    meets = keeps(sample, objective.alpha, objective.delta)
    needed = units_needed(sample, objective.alpha, objective.delta) if meets is None else None
    return SingleModel(alone, meets, None if needed is None else max(1, needed - sample.n))


def _is_met(figures: HalfFigures, top: HalfFigures, objective: MinQuality | Budget) -> bool:
    """Whether figures of the certify side are as wanted; what is not proved there is only looked at."""
    if isinstance(objective, MinQuality):
        return figures.quality >= _wanted(objective, top.quality)
    return figures.cost_per_request_usd <= objective.usd


def _versus(held_out: SplitHalf, chosen: OperatingPoint, singles: dict[str, SingleModel]) -> Versus | None:
    """Against the cheapest single model that meets it; None where there is none, or where only counts are known."""
    good = [rung for rung, single in singles.items() if single.meets]
    if not good or not isinstance(held_out, ItemHalf):
        return None
    rung = min(good, key=lambda name: singles[name].figures.cost)
    coded, at, place = held_out.coded, held_out.at(chosen), held_out.rungs.index(rung)
    quality = coded.scores(at) - coded.alone[:, place]
    cost = (coded.costs(at) - coded.cost[:, place]) / max(1.0, float(coded.cost[:, place].mean()))
    ci95 = interval_of(cost, coded.group), interval_of(quality, coded.group)
    return Versus(rung, float(cost.mean()), ci95[0], float(quality.mean()), ci95[1])


def _random_mix(figures: HalfFigures, singles: dict[str, SingleModel]) -> tuple[float, float]:
    alone = [(one.figures.quality, one.figures.cost_per_request_usd) for one in singles.values()]
    return random_mix(tuple(figures.shipped.values()), alone)


def _advice(figures: HalfFigures | None, singles: dict[str, SingleModel], objective: Objective) -> str | None:
    """The cheapest single model that meets the objective, unless the cascade does and is cheaper (for a budget: better)."""
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
    """Whether more items like these may well turn the advice, and how many more of them at the rate observed.

    They may where no thresholds were shown to meet the target nor to miss it, and where a cheaper model than the advised
    one meets it as observed, but on too few items to be shown. A model below the top that was shown to meet it stands.
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
