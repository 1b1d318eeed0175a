"""What a cascade must beat: single models, a random mix, and the shorter ladders that obey the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade import Policy
from cascade.calibration.halves import ItemHalf, lost_alone
from cascade.calibration.search.baselines import random_mix, shorter_counts, shorter_frontiers, shorter_ladders
from cascade.calibration.search.frontier import frontier, point_at
from cascade.calibration.search.levels import CodedCorpus, Loss, code_columns
from cascade.corpora import read_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping
from tests.calibration.chance import coded_of

MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
PRICE = {"input": "1", "output": "1"}


def policy_of(*rungs: tuple[str, str], tasks: Any = ()) -> Policy:
    """A ladder of these (rung, model)."""
    ladder: list[dict[str, Any]] = [
        {"rung": rung, "model": model, "max_tokens": 1, "threshold": 0.8, "price": PRICE} for rung, model in rungs
    ]
    del ladder[-1]["threshold"]
    return Policy.model_validate({"version": 1, "name": "drawn", "ladder": ladder, "tasks": tasks})


CLAUDE = policy_of(*MODELS.items())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", ["false_confident", "regression"])
def test_a_single_model_is_the_ladder_that_always_ends_there(seed: int, loss: Loss) -> None:
    """Quality, wrong and lost answers are those of shipping everything there; its cost is its own alone."""
    coded = coded_of(seed, 3, calm=True)
    for index, rung in enumerate(coded.rungs):
        single = ItemHalf(coded).figures_alone(index, loss)
        at = [1 if index == other else len(levels) + 1 for other, levels in enumerate(coded.levels)]
        always = replace(coded, codes=np.maximum(coded.codes, 1))
        assert single.quality == pytest.approx(always.scores(at).mean())
        assert single.lost == pytest.approx(always.losses(at, loss).mean())
        assert single.cost == coded.cost[:, index].sum()
        assert single.shipped[rung] == len(coded)
        assert not lost_alone(coded, coded.top, loss).any()


def test_the_random_mix_draws_who_climbs() -> None:
    """As the mean over many draws of the same shares: what confidence is worth is what it does better."""
    coded = coded_of(3, 3, items=40, calm=True)
    shipped = (20, 15, 5)
    alone = [(float(coded.alone[:, rung].mean()), float(coded.cost[:, rung].sum())) for rung in range(3)]
    quality, cost = random_mix(shipped, alone)
    chance = np.random.default_rng(1)
    ends = np.repeat([0, 1, 2], shipped)
    found: list[tuple[float, int]] = []
    for _ in range(3_000):
        drawn = chance.permutation(ends)
        spent = sum(int(coded.cost[drawn >= rung, rung].sum()) for rung in range(3))
        found.append((float(coded.alone[np.arange(40), drawn].mean()), spent))
    assert quality == pytest.approx(np.mean([one[0] for one in found]), abs=0.01)
    assert cost == pytest.approx(np.mean([one[1] for one in found]), rel=0.01)


@pytest.mark.parametrize(
    ("policy", "ladders"),
    [
        (CLAUDE, [("haiku", "sonnet")]),
        (
            policy_of(("h4", "claude-haiku-4-5"), *MODELS.items()),
            [("h4", "haiku", "sonnet"), ("h4", "sonnet", "opus"), ("h4", "haiku"), ("h4", "sonnet")],
        ),
        (policy_of(("small", "x"), ("mid", "y"), ("top", "z")), [("small", "mid"), ("small", "top")]),
        (policy_of(("small", "x"), *MODELS.items()), [("small", "haiku", "sonnet"), ("small", "sonnet", "opus"),
            ("small", "haiku"), ("small", "sonnet")]),
        (policy_of(("haiku", MODELS["haiku"]), ("sonnet", MODELS["sonnet"])), []),
        (policy_of(*MODELS.items(), tasks=[{"name": "t", "floor": "opus"}]), []),
        (policy_of(*MODELS.items(), tasks=[{"name": "t", "ceiling": "sonnet"}]), [("haiku", "sonnet")]),
    ],
    ids=["claude", "two haikus", "unknown models", "an unknown first", "two rungs", "a floor at the top", "a ceiling"],
)  # fmt: skip
def test_shorter_ladders_obey_the_rules(policy: Policy, ladders: list[tuple[str, ...]]) -> None:
    """The first rung stays; none jumps to Opus past Sonnet; what a task names as floor or ceiling stays."""
    names = [rung.rung for rung in policy.ladder]
    assert [tuple(names[index] for index in kept) for kept in shorter_ladders(policy)] == ladders


def brute(coded: CodedCorpus, kept: tuple[int, ...], loss: Loss) -> dict[tuple[int, ...], tuple[float, int, int]]:
    """Quality, cost and losses of every vector of thresholds of a shorter ladder, item by item."""
    found: dict[tuple[int, ...], tuple[float, int, int]] = {}
    lost = np.stack([lost_alone(coded, index, loss) for index in range(len(coded.rungs))], axis=1)
    for at in product(*(range(1, len(coded.levels[index]) + 2) for index in kept[:-1])):
        quality, cost, losses = 0.0, 0, 0
        for row in range(len(coded)):
            for place, index in enumerate(kept):
                cost += int(coded.cost[row, index])
                if index == kept[-1] or coded.codes[row, index] >= at[place]:
                    quality += float(coded.alone[row, index])
                    losses += int(lost[row, index])
                    break
        found[at] = (quality / len(coded), cost, losses)
    return found


@pytest.mark.parametrize("kept", [(0, 1), (0, 2), (0, 1, 3), (0, 2, 3), (0, 3)])
@pytest.mark.parametrize("loss", ["false_confident", "regression"])
def test_a_shorter_ladder_is_counted_as_if_it_stood_alone(kept: tuple[int, ...], loss: Loss) -> None:
    """Against item by item. A ladder that ends below the top loses what its last rung gets wrong: else it looked safe."""
    coded = coded_of(7, 4, items=40, calm=True)
    wanted = brute(coded, kept, loss)
    less = shorter_counts(coded.counts(), kept)
    for at, (quality, cost, losses) in wanted.items():
        point = point_at(less, at, loss)
        assert (point.quality, point.cost, point.losses) == (pytest.approx(quality), cost, losses)
    best = max(quality for quality, _, _ in wanted.values())
    assert frontier(less, loss)[-1].quality == pytest.approx(best)


def test_every_shorter_ladder_comes_with_its_frontier() -> None:
    """Under its own rungs' names, with a threshold for each but the last."""
    coded = coded_of(2, 3)
    policy = policy_of(*((rung, f"model-{rung}") for rung in coded.rungs))
    found = [*shorter_frontiers(coded.counts(), policy)]
    assert [one.rungs for one in found] == [("r0", "r1"), ("r0", "r2")]
    assert all(len(point.thresholds) == 1 for one in found for point in one.frontier)


def test_on_raw_claude_confidences_a_single_model_is_better(real_corpus: Callable[[str], Path]) -> None:
    """MMLU-Pro: at nine tenths of the gap the top alone is cheaper than every cascade, short or long."""
    corpus = read_corpus(real_corpus("mmlupro-claude"))
    mapping = own_mapping(corpus.manifest)
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [mapping])
    coded = code_columns(columns, view)
    counts = coded.counts()
    alone = {rung: ItemHalf(coded).figures_alone(index, "false_confident") for index, rung in enumerate(coded.rungs)}
    low, high = (alone[rung].quality for rung in ("claude-3-haiku", "claude-3-7-sonnet"))
    target = low + 0.9 * (high - low)
    good = [rung for rung in alone if alone[rung].quality >= target]
    single = alone[min(good, key=lambda rung: alone[rung].cost)]
    assert good == ["claude-3-7-sonnet"]
    every = [frontier(counts), *(one.frontier for one in shorter_frontiers(counts, mapping.plan.policy))]
    assert len(every) == 3
    assert all(point.cost > single.cost for points in every for point in points if point.quality >= target)
