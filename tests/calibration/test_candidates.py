"""Which way to decide is chosen on the tune half alone, and not by how many thresholds there are to choose from."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from cascade.calibration.candidates import Candidate, describe_comparison, pick
from cascade.calibration.halves import CountedHalf, ItemHalf
from cascade.calibration.objectives import Budget, MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import CalibrationOptions, calibrate
from cascade.calibration.scored import ScorerTarget
from cascade.calibration.search.levels import CodedCorpus, code_levels
from cascade.corpora.splits import Split
from cascade.corpora.writing import write_corpus

from .test_scorer import drawn, mended

OBJECTIVES: tuple[Objective, ...] = (
    Target("false_confident", 0.1),
    Target("regression", 0.1),
    MinQuality(0.9),
    MinQuality(0.97, of_top=True),
    Budget(0.005),
)


def coded(confidence: Any, right: Any, usd: tuple[float, ...] = (0.001, 0.01), groups: int = 0) -> CodedCorpus:
    """A ladder of two: (n,) confidences of the lower, (n, 2) whether each is right; single items, or groups in turn."""
    n = len(right)
    levels, codes = code_levels(np.asarray(confidence, np.float64), np.ones(n, np.bool_))
    score = np.asfortranarray(right, np.float64)
    cost = np.asfortranarray(np.tile(np.rint(np.array(usd) * 1e9).astype(np.int64), (n, 1)))
    group = (np.arange(n) % groups if groups else np.arange(n)).astype(np.int32)
    task = (np.arange(n) % 2).astype(np.int32)
    made = np.asfortranarray(codes[:, None].astype(np.int32))
    return CodedCorpus(("low", "top"), (levels,), made, score, score, cost, None, group, task, ("a", "b"), 0.5)


def candidate(name: str, whole: CodedCorpus) -> Candidate:
    """Its first half tunes."""
    tunes = np.arange(len(whole)) < len(whole) // 2
    return Candidate(name, ItemHalf(whole.rows(tunes)), ItemHalf(whole.rows(~tunes)))


def told(n: int, seed: int, noise: float) -> tuple[Any, Any]:
    """Confidences to the hundredth, blurred by `noise` into as many levels as there are items; and who is right."""
    chance = np.random.default_rng(seed)
    said = np.round(chance.uniform(0.4, 0.99, n), 2)
    right = np.stack([chance.random(n) < said, chance.random(n) < 0.97], axis=1)
    return said + noise * chance.standard_normal(n), right


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_one_that_knows_more_is_chosen_wherever_it_stands(objective: Objective) -> None:
    """A clear signal against one blurred out of recognition, whichever comes first; and it is told by how much."""
    (clear, right), (blurred, same) = told(3_000, 1, 0.0), told(3_000, 1, 2.0)
    assert (right == same).all()
    ways = [candidate("clear", coded(clear, right)), candidate("blurred", coded(blurred, right))]
    for order in (ways, ways[::-1]):
        made = pick(order, objective)
        assert made.winner.name == "clear"
        assert made.winner.meets
        said = describe_comparison(made, objective)
        assert said.startswith("clear, chosen on the tuning half: ")
        assert "against blurred" in said or "blurred does not meet" in said


@pytest.mark.parametrize("objective", [Target("false_confident", 0.15), MinQuality(0.9)], ids=repr)
def test_many_thresholds_are_no_merit(objective: Objective) -> None:
    """A blurred copy has hundreds of levels to fit to chance, and the plain one sixty: it is seldom taken for better."""
    taken = 0
    for seed in range(20):
        (clear, right), (blurred, _) = told(600, seed, 0.0), told(600, seed, 0.25)
        ways = [candidate("clear", coded(clear, right)), candidate("blurred", coded(blurred, right))]
        taken += pick(ways, objective).winner.name == "blurred"
    assert taken <= 2


def test_of_equals_the_first_is_chosen() -> None:
    """So put the simplest first; also where nothing meets the objective."""
    clear, right = told(800, 3, 0.0)
    ways = [candidate(name, coded(clear, right)) for name in ("raw", "right", "gain")]
    for objective in (*OBJECTIVES, MinQuality(1.0), Budget(0.0001)):
        assert pick(ways, objective).chosen == 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_figures_are_those_of_rows_that_did_not_choose(objective: Objective) -> None:
    """What the tune half expects of many thresholds comes true on the other half, within chance."""
    blurred, right = told(6_000, 5, 0.2)
    one = candidate("blurred", coded(blurred, right))
    standing = pick([one], objective).winner
    held = pick([replace(one, tune=one.held_out, held_out=one.tune)], objective).winner
    assert standing.cost_per_request_usd == pytest.approx(held.cost_per_request_usd, rel=0.15)
    if isinstance(objective, MinQuality):
        assert standing.quality >= (0.9 if not objective.of_top else 0.94)
    if isinstance(objective, Target):
        assert standing.loss_rate <= objective.alpha


def test_counts_and_tasks_can_be_compared_too() -> None:
    """Counts have no folds: in-sample. Tasks with thresholds of their own are searched so in every fold."""
    (clear, right), (blurred, _) = told(2_000, 6, 0.0), told(2_000, 6, 2.0)
    ways = [candidate("blurred", coded(np.round(blurred, 1), right)), candidate("clear", coded(clear, right))]
    counted = [
        replace(one, tune=CountedHalf(one.tune.counts()), held_out=CountedHalf(one.held_out.counts())) for one in ways
    ]
    for objective in OBJECTIVES:
        assert pick(counted, objective).winner.name == "clear"
        assert pick(ways, objective, frozenset({"a"})).winner.name == "clear"
    alone = [candidate("one group", coded(clear, right, groups=1))]
    assert pick(alone, MinQuality(0.9)).winner.meets


@pytest.mark.parametrize(("asked", "objective"), [("best", MinQuality(0.9)), ("right", Target("false_confident", 0.2))])
def test_the_choice_does_not_know_the_certify_half(tmp_path: Path, asked: ScorerTarget, objective: Objective) -> None:
    """Its outcomes dealt out anew, twice: the same standings to the last digit, the same scorer, the same choice."""
    corpus, split = drawn(800), Split()
    held = [place for place, item in enumerate(corpus.items) if split.part_of(item) == "certify"]
    seen: list[Any] = []
    certify: set[float] = set()
    for seed in range(2):
        dealt, items = random.Random(seed).sample(held, len(held)), [*corpus.items]
        for place, other in zip(held, dealt, strict=True):
            replies = {
                rung: changed(one, score=corpus.items[other].replies[rung].score)
                for rung, one in items[place].replies.items()
            }
            items[place] = changed(items[place], replies=replies)
        path = tmp_path / f"{seed}.jsonl"
        write_corpus(path, corpus.manifest, items)
        result = calibrate([path], CalibrationOptions(objective, split=split, scorer=asked))
        scorer = None if result.learned is None else result.learned.scorer
        seen.append((result.compared, scorer))
        tested, figures = result.choice.proof, result.choice.certify
        certify.add(tested.tested.rate if tested is not None else figures.quality if figures is not None else 0.0)
    assert all(one == seen[0] for one in seen)
    assert len(certify) > 1


def test_a_quality_is_met_by_the_gain_where_escalating_is_often_in_vain(tmp_path: Path) -> None:
    """Half of the questions are beyond all rungs: raw and right send them up for nothing, and the gain does not."""
    corpus = mended(2_000)
    path = tmp_path / "mended.jsonl"
    write_corpus(path, corpus.manifest, corpus.items)
    made = calibrate([path], CalibrationOptions(MinQuality(0.96, of_top=True), scorer="best"))
    assert made.compared is not None
    assert [one.name for one in made.compared.standings] == ["raw", "right", "gain"]
    assert made.compared.winner.name == "gain"
    raw, *_, gain = made.compared.standings
    assert gain.cost_per_request_usd < 0.8 * raw.cost_per_request_usd
    confident = calibrate([path], CalibrationOptions(Target("false_confident", 0.3), scorer="best"))
    assert confident.compared is not None
    assert [one.name for one in confident.compared.standings] == ["raw", "right"]
