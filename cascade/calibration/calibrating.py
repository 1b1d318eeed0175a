"""Calibrate: thresholds chosen on one half of the data, proved on the other, and held against every single model.

    read → code levels → split by group → frontier of the tune half → an objective's point → figures of the certify half

Only a `Target` is proved; a quality or a budget is only chosen, on the tune half, and shown on the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.calibration import baselines
from cascade.calibration.against import Against, hold_against
from cascade.calibration.baselines import Shorter, lost_alone, shorter_frontiers
from cascade.calibration.bounds import passes, sample_of
from cascade.calibration.certificate import (
    Certificate,
    Certified,
    NotCertified,
    Target,
    certify,
    escalation_of,
    hash_of_corpus,
)
from cascade.calibration.coded import Coded, code_columns
from cascade.calibration.frontier import Point, frontier, risk_path, thinned_levels
from cascade.calibration.objectives import Budget, MinQuality, Objective
from cascade.calibration.scorer import Gatherer, Learned, learn, rescored
from cascade.calibration.signal import Signal, signals
from cascade.certificates import hash_of, hashes_of
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.corpora.arrays import np
from cascade.corpora.columns import Lens, read_columns
from cascade.corpora.intervals import Interval, interval_of
from cascade.corpora.items import Item, Manifest
from cascade.corpora.lenses import Override, lens_of, own_lens
from cascade.corpora.reading import CorpusReader, open_corpus
from cascade.corpora.splits import Split
from cascade.pricing import NoPrice

if TYPE_CHECKING:
    from cascade.corpora.arrays import Truths

__all__ = ["Calibration", "Half", "Rival", "Wish", "calibrate", "hold"]


@dataclass(frozen=True, slots=True)
class Wish:
    """How to calibrate. `policy` None: the corpus's own ladder. `objective` None: the frontier of all, and no choice.

    `scorer`: learn a better confidence first, on half of the tune half's groups, which then tune no threshold.
    """

    objective: Objective | None
    policy: Policy | None = None
    split: Split = field(default_factory=Split)
    scorer: bool = False
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class Half:
    """What one vector of thresholds, or one model, comes to on some items. `cost`: nano-USD, of all of them.

    `lost`: the share of the items with the loss that is looked at; `false_confident`: shipped below the top and wrong.
    """

    items: int
    quality: float
    ci95: Interval | None
    cost: int
    false_confident: float
    lost: float
    shipped: dict[str, int]

    @property
    def cost_per_request_usd(self) -> float:
        """The mean cost, in USD."""
        return self.cost / 1e9 / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class Rival:
    """One model alone, on the certify half. `meets`: what is wanted; for a target that is proved in the same way."""

    figures: Half
    meets: bool


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What a calibration came to.

    `chosen`: the tune half's point (None: nothing meets the objective, or none was wanted). `proof`: of a target.
    `signal` is what each rung's confidence is worth, on all items that no scorer was trained on; `shorter` are the
    ladders with rungs left out, on the tune half.
    `thinned`: by rung below the top how many quantile levels were looked at, None for all of them.
    `advice`: "cascade", "single:<rung>", or None where neither meets the objective.
    """

    sources: tuple[str, ...]
    manifest: Manifest
    lens: Lens
    wish: Wish
    coded: Coded
    tunes: Truths
    frontier: tuple[Point, ...]
    thinned: tuple[int | None, ...]
    chosen: Point | None
    proof: Certified | NotCertified | None
    tune: Half | None
    certify: Half | None
    singles: dict[str, Rival]
    random_mix: tuple[float, float] | None
    signal: dict[str, Signal]
    shorter: tuple[Shorter, ...]
    learned: Learned | None
    advice: str | None
    skipped: int
    problems: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether thresholds were found that meet the objective."""
        return self.chosen is not None

    @property
    def thresholds(self) -> dict[str, float | None]:
        """By the ladder's rungs below the top; empty where nothing was chosen."""
        return {} if self.chosen is None else dict(zip(self.coded.rungs, self.chosen.thresholds, strict=False))

    @property
    def task_thresholds(self) -> dict[str, dict[str, float | None]]:
        """Those that a policy's tasks have of their own: they give way to the chosen ones."""
        chosen = self.thresholds
        tasks = self.lens.plan.policy.tasks if chosen else ()
        return {task.name: {rung: chosen[rung] for rung in task.thresholds} for task in tasks if task.thresholds}

    @property
    def policy(self) -> Policy:
        """The policy with the chosen thresholds in it, not yet with a certificate."""
        overrides = [Override(rung, value) for rung, value in self.thresholds.items()]
        for task, own in self.task_thresholds.items():
            overrides += [Override(f"{task}:{rung}", value) for rung, value in own.items()]
        if self.wish.policy is None:
            return own_lens(self.manifest, overrides).plan.policy
        changes: dict[str, Any] = {"certificate": None}
        if self.learned is not None:
            changes["scorer"] = dict(self.learned.scorer)
        return lens_of(self.wish.policy.model_copy(update=changes), self.manifest, overrides).plan.policy

    def certificate(self) -> Certificate | None:
        """What was proved, with the hashes of what it holds for; None where nothing was. Reads the corpora again."""
        if not isinstance(self.proof, Certified):
            return None
        held = self.coded.rows(~self.tunes)
        return self.proof.certificate(
            {"corpus": hash_of_corpus(self.sources), **self._hashes()},
            right_at=self.coded.right_at,
            escalation=escalation_of(held, self.proof.point.at),
            grader=self.manifest.grader,
            grader_error=self.manifest.judge_error and self.manifest.judge_error[0],
        )

    def _hashes(self) -> dict[str, str]:
        try:
            return hashes_of(self.policy)
        except NoPrice:  # the corpus's own ladder, of models that have no list price: what was recorded was counted
            ladder = {"ladder": self.coded.rungs, "models": [entry.name for entry in self.manifest.ladder]}
            rest = {"prompts": "as recorded", "prices": "as recorded", "thresholds": list(self.thresholds.values())}
            return {part: hash_of(json.dumps(value).encode()) for part, value in {**ladder, **rest}.items()}


def calibrate(paths: Sequence[Path], wish: Wish) -> Calibration:
    """Read the corpora as one, and calibrate.

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError where a half of the split is empty.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=wish.skip_bad)) for path in paths]
        manifest, lens = _seen_by(readers, wish.policy)
        tunes: list[bool] = []
        trains: list[bool] = []
        gatherer = Gatherer(lens) if wish.scorer else None

        def each(items: Sequence[Item]) -> None:
            tunes.extend(wish.split.part_of(item) == "tune" for item in items)
            if gatherer is not None:
                trains.extend(map(wish.split.trains, items))
                gatherer.take(items)

        source = ", ".join(reader.source for reader in readers)
        columns, (view,) = read_columns(
            _chained(readers), manifest, [lens], source=source, refuse=readers[0].skip, whole=wish.skip_bad, each=each
        )
        if not len(columns):
            raise CorpusError("has no items", where=source, mend="record some")
        halves, learned = np.array(tunes, np.bool_), None
        if gatherer is not None:
            material, trained = gatherer.material(view), np.array(trains, np.bool_)
            learned = learn(material, columns, view, trained, wish.split.seed)
            view = rescored(view, learned.scorer, material)
            coded = code_columns(columns, view)
            coded, halves = coded.rows(~trained), halves[~trained]
        else:
            coded = code_columns(columns, view)
        told: dict[str, Any] = {
            "sources": tuple(reader.source for reader in readers),
            "manifest": manifest,
            "lens": lens,
            "wish": wish,
            "coded": coded,
            "tunes": halves,
            "signal": signals(coded),
            "learned": learned,
            "skipped": sum(reader.skipped for reader in readers),
            "problems": tuple(problem for reader in readers for problem in reader.problems),
        }
    return _only_frontier(coded, told) if wish.objective is None else _choose(coded, halves, wish.objective, told)


def hold(paths: Sequence[Path], policy: Policy, *, skip_bad: bool = False) -> tuple[Manifest, Against]:
    """Hold a policy's certificate against fresh corpora, read as one. Raises as `calibrate` and `hold_against` do."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=skip_bad)) for path in paths]
        manifest, lens = _seen_by(readers, policy)
        columns, (view,) = read_columns(
            _chained(readers), manifest, [lens], source=readers[0].source, refuse=readers[0].skip, whole=skip_bad
        )
        return manifest, hold_against(code_columns(columns, view), policy)


def _seen_by(readers: Sequence[CorpusReader], policy: Policy | None) -> tuple[Manifest, Lens]:
    manifest = _one_ladder(readers)
    try:
        return manifest, own_lens(manifest) if policy is None else lens_of(policy, manifest)
    except CorpusError as problem:  # the lens does not know where the corpus is from
        raise CorpusError(problem.problem, where=readers[0].source, mend=problem.mend) from None


def _one_ladder(readers: Sequence[CorpusReader]) -> Manifest:
    first = readers[0].manifest
    for reader in readers[1:]:
        if reader.manifest.rungs != first.rungs or reader.manifest.right_at != first.right_at:
            problem = f"its ladder is {' → '.join(reader.manifest.rungs)} right at {reader.manifest.right_at:g}"
            mend = f"the first corpus has {' → '.join(first.rungs)} right at {first.right_at:g}: calibrate them apart"
            raise CorpusError(problem, where=reader.source, mend=mend)
    return first


def _chained(readers: Sequence[CorpusReader]) -> Iterator[Item]:
    for reader in readers:
        yield from reader


def _only_frontier(coded: Coded, told: dict[str, Any]) -> Calibration:
    counts = coded.counts()
    points = frontier(counts)
    singles = {
        rung: Rival(_alone(coded, index, "false_confident"), meets=False) for index, rung in enumerate(coded.rungs)
    }
    return Calibration(
        **told, frontier=points, thinned=thinned_levels(counts), chosen=None, proof=None, tune=None, certify=None, singles=singles,
        random_mix=None, shorter=(), advice=None,
    )  # fmt: skip


def _choose(coded: Coded, tunes: Truths, objective: Objective, told: dict[str, Any]) -> Calibration:
    tune, held = coded.rows(tunes), coded.rows(~tunes)
    if not len(tune) or not len(held):
        empty = "tune" if not len(tune) else "certify"
        raise ConfigurationError(f"the {empty} half has no items (give another --tune or --split-seed, or more groups)")
    counts = tune.counts()
    points = frontier(counts)
    proof: Certified | NotCertified | None = None
    if isinstance(objective, Target):
        proof = certify(risk_path(counts, objective.counted), tune, held, objective)
        chosen = proof.point if isinstance(proof, Certified) else None
    else:
        chosen = _best(points, tune, objective)
    singles = {
        rung: Rival(_alone(held, index, _loss(objective)), meets=_meets(held, index, objective))
        for index, rung in enumerate(coded.rungs)
    }
    certified = None if chosen is None else _half(held, chosen.at, objective)
    return Calibration(
        **told, frontier=points, thinned=thinned_levels(counts), chosen=chosen, proof=proof,
        tune=None if chosen is None else _half(tune, chosen.at, objective), certify=certified, singles=singles,
        random_mix=None if certified is None else _random_mix(certified, held),
        shorter=tuple(shorter_frontiers(counts, told["lens"].plan.policy, _loss(objective))),
        advice=_advice(certified, singles, objective),
    )  # fmt: skip


def _best(points: Sequence[Point], tune: Coded, objective: MinQuality | Budget) -> Point | None:
    """The cheapest that is good enough, or the best that is cheap enough; None where none is."""
    if isinstance(objective, Budget):
        affordable = [point for point in points if point.cost <= objective.usd * 1e9 * len(tune)]
        return affordable[-1] if affordable else None
    wanted = _wanted(tune, objective)
    return next((point for point in points if point.quality >= wanted), None)


def _wanted(coded: Coded, objective: MinQuality) -> float:
    return objective.value * (float(coded.alone[:, coded.top].mean()) if objective.of_top else 1.0)


def _loss(objective: Objective) -> Any:
    return objective.counted if isinstance(objective, Target) else "false_confident"


def _half(coded: Coded, at: Sequence[int], objective: Objective) -> Half:
    scores, ends = coded.scores(at), coded.shipped(at)
    counted = np.bincount(ends, minlength=len(coded.rungs)).tolist()
    return Half(
        len(coded),
        float(scores.mean()),
        interval_of(scores, coded.group),
        int(coded.costs(at).sum()),
        float(coded.losses(at, "false_confident").mean()),
        float(coded.losses(at, _loss(objective)).mean()),
        dict(zip(coded.rungs, counted, strict=True)),
    )


def _alone(coded: Coded, index: int, loss: Any) -> Half:
    scores = coded.alone[:, index]
    shipped = {rung: len(coded) if number == index else 0 for number, rung in enumerate(coded.rungs)}
    false_confident = float(lost_alone(coded, index, "false_confident").mean())
    lost = float(lost_alone(coded, index, loss).mean())
    cost = int(coded.cost[:, index].sum())
    return Half(
        len(coded), float(scores.mean()), interval_of(scores, coded.group), cost, false_confident, lost, shipped
    )


def _meets(held: Coded, index: int, objective: Objective) -> bool:
    if isinstance(objective, Target):
        sample = sample_of(lost_alone(held, index, objective.counted), held.group)
        return index == held.top or passes(sample, objective.alpha, objective.delta)
    if isinstance(objective, MinQuality):
        return float(held.alone[:, index].mean()) >= _wanted(held, objective)
    return float(held.cost[:, index].mean()) <= objective.usd * 1e9


def _random_mix(certified: Half, held: Coded) -> tuple[float, float]:
    """Quality, and USD a request."""
    quality, cost = baselines.random_mix(tuple(certified.shipped.values()), baselines.singles(held))
    return quality, cost / 1e9 / certified.items


def _advice(certified: Half | None, singles: dict[str, Rival], objective: Objective) -> str | None:
    """The cheapest single model that meets the objective, unless the cascade does and is cheaper (for a budget: better)."""
    good = {rung: single.figures for rung, single in singles.items() if single.meets}
    if isinstance(objective, Budget):
        best = max(good, key=lambda rung: good[rung].quality, default=None)
        wins = certified is not None and (best is None or certified.quality > good[best].quality)
    else:
        best = min(good, key=lambda rung: good[rung].cost, default=None)
        wins = certified is not None and (best is None or certified.cost < good[best].cost)
    if wins:
        return "cascade"
    return None if best is None else f"single:{best}"
