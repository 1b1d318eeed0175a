"""The choice: found on the tune side, shown (and for a target proved) on the other, held against every single model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import floor

from cascade.calibration.bounds import passes
from cascade.calibration.halves import Found, Half, Items, Side
from cascade.calibration.objectives import Budget, MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Certified, NotCertified, Target, certify
from cascade.calibration.proof.power import foresee
from cascade.calibration.search.baselines import Shorter, random_mix, shorter_frontiers
from cascade.calibration.search.by_task import best_by_task, path_by_task
from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import Point, frontier, risk_path, thinned_levels
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.replay.intervals import Interval, interval_of

_CLOSELY = 400  # points of a fold's path: one of them is near any rate that is asked for

__all__ = ["Choice", "Rival", "Versus", "choose", "only_frontier", "prove"]


@dataclass(frozen=True, slots=True)
class Rival:
    """One model alone, on the certify side. `meets`: what is wanted; for a target that is proved in the same way."""

    figures: Half
    meets: bool


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
    """What was found.

    `frontier`: of the tune side, of all items where nothing was to be chosen; one set of thresholds for all tasks.
    `chosen`: None where nothing meets the objective, or none was wanted. `proof`: of a target. `tune` and `certify`: its
    figures on the two sides. `singles` are on the certify side, `shorter` (the ladders with rungs left out) on the tune
    side. `random_mix`: quality, and USD a request.
    `thinned`: by rung below the top how many quantile levels were looked at, None for all of them.
    `advice`: "cascade", "single:<rung>", or None where neither meets the objective.
    `holds`: whether the chosen one meets it on the certify side, too. `versus`: the cheapest single model that does.
    """

    frontier: tuple[Point, ...]
    thinned: tuple[int | None, ...]
    singles: dict[str, Rival]
    chosen: Found | None = None
    proof: Certified | NotCertified | None = None
    tune: Half | None = None
    certify: Half | None = None
    random_mix: tuple[float, float] | None = None
    shorter: tuple[Shorter, ...] = ()
    advice: str | None = None
    holds: bool = False
    versus: Versus | None = None


def only_frontier(side: Side) -> Choice:
    """Of all items: no split, no choice."""
    counts = side.counts()
    singles = {
        rung: Rival(side.half_alone(index, "false_confident"), meets=False) for index, rung in enumerate(side.rungs)
    }
    return Choice(frontier(counts), thinned_levels(counts), singles)


def choose(tune: Side, held: Side, objective: Objective, policy: Policy, own: Collection[str] | None = None) -> Choice:
    """Choose on one side and look on the other. `own`: the tasks that get thresholds of their own; None: one for all.

    Raises ConfigurationError where a side is empty, or where a quality by task is wanted of graded scores.
    """
    for side, name in ((tune, "tune"), (held, "certify")):
        if not len(side):
            mend = "give another --tune or --split-seed, or more groups"
            raise ConfigurationError(f"the {name} half has no items ({mend})")
    counts, loss = tune.counts(), _loss(objective)
    points = frontier(counts)
    proof: Certified | NotCertified | None = None
    if isinstance(objective, Target):
        proof = prove(tune, held, objective, counts, own)
        chosen = proof.point if isinstance(proof, Certified) else None
    elif own is None:
        chosen = _best(points, counts, objective)
    else:
        chosen = _best_by_task(_items(tune), objective, own)
    alone = [held.half_alone(index, loss) for index in range(len(held.rungs))]
    singles = {
        rung: Rival(half, _meets(held, index, half, alone[-1], objective))
        for index, (rung, half) in enumerate(zip(held.rungs, alone, strict=True))
    }
    shown = None if chosen is None else held.half(chosen, loss)
    holds = shown is not None and (isinstance(objective, Target) or _reached(shown, alone[-1], objective))
    return Choice(
        points,
        thinned_levels(counts),
        singles,
        chosen,
        proof,
        None if chosen is None else tune.half(chosen, loss),
        shown,
        None if shown is None else _random_mix(shown, singles),
        tuple(shorter_frontiers(counts, policy, loss)),
        _advice(shown if holds else None, singles, objective),
        holds,
        None if chosen is None else _versus(held, chosen, singles),
    )


def prove(
    tune: Side, held: Side, target: Target, counts: Counts | None = None, own: Collection[str] | None = None
) -> Certified | NotCertified:
    """Search on one side, prove on the other. `counts`: the tune side's, where they are there already."""
    loss = target.counted
    if own is None:
        path: Sequence[Found] = risk_path(counts or tune.counts(), loss)
        foresight = foresee(path, tune, loss, lambda part: risk_path(part.counts(), loss, _CLOSELY))
    else:
        path = path_by_task(_items(tune).coded, loss, own=own)
        foresight = foresee(path, tune, loss, lambda part: path_by_task(part, loss, _CLOSELY, own=own))
    return certify(path, tune, held, target, foresight)


def _items(side: Side) -> Items:
    if not isinstance(side, Items):
        raise ConfigurationError("--per-task: counts know no tasks (give the corpora themselves)")
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


def _best_by_task(tune: Items, objective: MinQuality | Budget, own: Collection[str]) -> Found | None:
    """The same by task, where quality is the share of right answers."""
    coded, n = tune.coded, len(tune)
    if bool(((coded.score != 0) & (coded.score != 1)).any()):
        raise ConfigurationError(
            "--per-task: a quality by task needs scores of 0 or 1 (use --max-risk for graded ones)"
        )
    if isinstance(objective, Budget):
        path = path_by_task(coded, "wrong", len(coded) + 1, own=own)
        return next((one for one in path if one.cost <= objective.usd * 1e9 * n), None)
    wanted = _wanted(objective, float(coded.alone[:, coded.top].mean()))
    return best_by_task(coded, floor((1 - wanted) * n + 1e-9), "wrong", own=own)


def _wanted(objective: MinQuality, of_top: float) -> float:
    return objective.value * (of_top if objective.of_top else 1.0)


def _meets(held: Side, rung: int, alone: Half, top: Half, objective: Objective) -> bool:
    if isinstance(objective, Target):
        sample = held.sample_alone(rung, objective.counted)
        return alone is top or passes(sample, objective.alpha, objective.delta)
    return _reached(alone, top, objective)


def _reached(shown: Half, top: Half, objective: MinQuality | Budget) -> bool:
    """Whether figures of the certify side are as wanted; what is not proved there is only looked at."""
    if isinstance(objective, MinQuality):
        return shown.quality >= _wanted(objective, top.quality)
    return shown.cost_per_request_usd <= objective.usd


def _versus(held: Side, chosen: Found, singles: dict[str, Rival]) -> Versus | None:
    """Against the cheapest single model that meets it; None where there is none, or where only counts are known."""
    good = [rung for rung, single in singles.items() if single.meets]
    if not good or not isinstance(held, Items):
        return None
    rung = min(good, key=lambda name: singles[name].figures.cost)
    coded, at, place = held.coded, held.at(chosen), held.rungs.index(rung)
    quality = coded.scores(at) - coded.alone[:, place]
    cost = (coded.costs(at) - coded.cost[:, place]) / max(1.0, float(coded.cost[:, place].mean()))
    ci95 = interval_of(cost, coded.group), interval_of(quality, coded.group)
    return Versus(rung, float(cost.mean()), ci95[0], float(quality.mean()), ci95[1])


def _random_mix(shown: Half, singles: dict[str, Rival]) -> tuple[float, float]:
    alone = [(one.figures.quality, one.figures.cost_per_request_usd) for one in singles.values()]
    return random_mix(tuple(shown.shipped.values()), alone)


def _advice(shown: Half | None, singles: dict[str, Rival], objective: Objective) -> str | None:
    """The cheapest single model that meets the objective, unless the cascade does and is cheaper (for a budget: better)."""
    good = {rung: single.figures for rung, single in singles.items() if single.meets}
    if isinstance(objective, Budget):
        best = max(good, key=lambda rung: good[rung].quality, default=None)
        wins = shown is not None and (best is None or shown.quality > good[best].quality)
    else:
        best = min(good, key=lambda rung: good[rung].cost, default=None)
        wins = shown is not None and (best is None or shown.cost < good[best].cost)
    if wins:
        return "cascade"
    return None if best is None else f"single:{best}"
