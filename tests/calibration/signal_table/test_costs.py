"""Costs at a share of the gap are what trying every vector of thresholds gives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cascade.calibration.search.levels import CodedCorpus
from cascade.calibration.signal_table.costs import Yardstick

SHARES = (0.5, 0.9, 0.99)


def ladder(n: int, seed: int, *, groups: int = 0) -> CodedCorpus:
    """Three rungs with four levels each, right on about 5, 7 and 9 of ten; some replies never ship."""
    chance = np.random.default_rng(seed)
    codes = np.asfortranarray(chance.integers(0, 5, (n, 2)), np.int32)
    skill = np.stack([0.3 + 0.1 * codes[:, 0], 0.5 + 0.1 * codes[:, 1], np.full(n, 0.9)], axis=1)
    score = np.asfortranarray(chance.random((n, 3)) < skill, np.float64)
    cost = np.asfortranarray(chance.integers(1, 4, (n, 3)) * np.array([100, 1_000, 3_000]), np.int64)
    group = np.arange(n, dtype=np.int32) % (groups or n)
    levels = tuple(np.array([0.2, 0.4, 0.6, 0.8]) for _ in range(2))
    task = np.zeros(n, np.int32)
    return CodedCorpus(("a", "b", "c"), levels, codes, score, score, cost, None, group, task, ("",), 0.5)


def every_point(whole: CodedCorpus) -> list[tuple[int, float]]:
    """(cost, sum of scores) of every vector of thresholds."""
    ats = product(range(1, 6), range(1, 6))
    return [(int(whole.costs(at).sum()), float(whole.scores(at).sum())) for at in ats]


def least(points: list[tuple[int, float]], wanted: float) -> float:
    """The least cost of a point that reaches a sum of scores."""
    return min(cost for cost, score in points if score >= wanted - 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_without_a_second_group_costs_are_the_cheapest_vectors(seed: int) -> None:
    """In one group nothing can be crossed: the figures are in-sample, and told so; and there is no interval."""
    whole, other = ladder(300, seed, groups=1), ladder(300, seed + 100, groups=1)
    yard = Yardstick(whole)
    assert not yard.out_of_fold
    best = int(np.argmax(whole.alone.sum(0)))
    assert yard.best == best
    first, spent = float(whole.alone[:, 0].sum()), float(whole.cost[:, best].sum())
    gap = float(whole.alone[:, best].sum()) - first
    assert yard.gap == pytest.approx(gap / 300)
    for one in yard.costs(yard.sweep([whole])):
        assert one.cost == pytest.approx(least(every_point(whole), first + one.share * gap) / spent)
        assert sum(one.shipped) == pytest.approx(1.0)
    together = yard.sweep([whole, other])
    for one in yard.costs(together):
        found = least(every_point(whole) + every_point(other), first + one.share * gap)
        assert one.cost == pytest.approx(found / spent)
    found = yard.difference(together, yard.sweep([whole]), 0.9)
    assert found.ci95 is None
    assert not found.is_less


def test_thresholds_are_chosen_on_other_groups() -> None:
    """Where confidences are chance, thresholds fitted to them look cheaper in-sample than they are on other groups."""
    n, costs = 200, np.zeros((6, 2))
    for seed in range(len(costs)):
        chance = np.random.default_rng(seed)
        codes = np.asfortranarray(np.stack([chance.permutation(n) + 1 for _ in range(2)], axis=1), np.int32)
        score = np.asfortranarray(chance.random((n, 3)) < np.array([0.4, 0.6, 1.0]), np.float64)
        cost = np.asfortranarray(np.tile([1, 100, 1_000], (n, 1)), np.int64)
        levels, task = (np.arange(1, n + 1) / n,) * 2, np.zeros(n, np.int32)
        for place, group in enumerate((np.zeros(n, np.int32), np.arange(n, dtype=np.int32))):
            one = CodedCorpus(("a", "b", "c"), levels, codes, score, score, cost, None, group, task, ("",), 0.5)
            yard = Yardstick(one)
            assert yard.out_of_fold == bool(place)
            costs[seed, place] = yard.cost(yard.sweep([one]), 0.5).cost or np.nan
    inside, crossed = costs.mean(0)
    assert inside < 0.97 * crossed


@pytest.mark.parametrize("groups", [0, 40])
def test_the_interval_of_a_ladder_against_itself_is_0(groups: int) -> None:
    """The draws are paired; a ladder that costs a tenth more everywhere costs more in all of them."""
    whole = ladder(400, 5, groups=groups)
    yard = Yardstick(whole)
    plain = yard.sweep([whole])
    same = yard.difference(plain, yard.sweep([whole]), 0.9)
    assert same.ci95 == (0.0, 0.0)
    assert not same.is_less
    assert not same.is_more
    dear = CodedCorpus(
        whole.rungs, whole.levels, whole.codes, whole.score, whole.alone, whole.cost * 11 // 10, None, whole.group,
        whole.task, whole.tasks, 0.5,
    )  # fmt: skip
    more = yard.difference(yard.sweep([dear]), plain, 0.9)
    assert more.is_more
    assert more.ci95 is not None
    assert more.ci95[0] <= more.value <= more.ci95[1]


def test_with_nothing_to_close_there_are_no_costs() -> None:
    """The first rung is the best single model."""
    whole = ladder(200, 2)
    whole.score[:, 0] = 1.0
    yard = Yardstick(whole)
    assert (yard.best, yard.gap) == (0, 0.0)
    assert yard.costs(yard.sweep([whole])) == ()


@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_ends_at_the_first_rung_that_no_other_betters(seed: int) -> None:
    """Item by item: the first right rung, and the first of all where none is right."""
    whole = ladder(200, seed)
    spent, quality, ends = 0, 0.0, [0, 0, 0]
    for score, cost in zip(whole.alone.tolist(), whole.cost.tolist(), strict=True):
        end = score.index(1.0) if 1.0 in score else 0
        spent, quality, ends[end] = spent + sum(cost[: end + 1]), quality + score[end], ends[end] + 1
    yard = Yardstick(whole)
    found = yard.oracle()
    assert found.cost == pytest.approx(spent / yard.prices[yard.best])
    assert found.quality == pytest.approx(quality / 200)
    assert found.shipped == pytest.approx([one / 200 for one in ends])
    assert found.quality >= yard.qualities[-1]
    graded = Yardstick(_graded(whole, seed)).oracle()
    assert graded.quality >= max(_graded(whole, seed).alone.mean(0))


def _graded(whole: CodedCorpus, seed: int) -> CodedCorpus:
    score = np.asfortranarray(np.random.default_rng(seed).random(whole.score.shape))
    return CodedCorpus(
        whole.rungs,
        whole.levels,
        whole.codes,
        score,
        score,
        whole.cost,
        None,
        whole.group,
        whole.task,
        whole.tasks,
        0.5,
    )
