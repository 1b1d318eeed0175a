"""The frontier is exact: it is what trying every vector of thresholds finds, one replay each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from cascade.calibration.search.frontier import Point, frontier, point_at, risk_path, surface
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.core.errors import CorpusError
from cascade.corpora import Item, read_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping
from cascade.replay.outcomes import scores_of
from tests.calibration.chance import Tried, coded_of, drawn, drawn_items, lost, mapping_at, replayed, tried

SEEDS = [pytest.param(range(start, start + 25), rungs, id=f"{rungs} rungs, from {start}")
         for rungs in (2, 3, 4, 5) for start in (0, 25)]  # fmt: skip


def best(
    points: list[Tried], first: Callable[..., float], second: Callable[..., float], third: Callable[..., float]
) -> list[Tried]:
    """Those that no other one beats in `first` and `second`: by brute force, each against each."""
    kept: list[Tried] = []
    for one in points:
        mine = (first(*one), second(*one), third(*one), tuple(-level for level in one[0]))
        rivals = ((first(*two), second(*two), third(*two), tuple(-level for level in two[0])) for two in points)
        if not any(two[0] <= mine[0] and two[1] <= mine[1] and two < mine for two in rivals):
            kept.append(one)
    return sorted(kept, key=lambda one: first(*one))


def by_quality(_at: object, quality: float, _cost: int, _losses: int) -> float:
    """The better comes first."""
    return -round(quality, 9)


def by_cost(_at: object, _quality: float, cost: int, _losses: int) -> float:
    """The cheaper comes first."""
    return cost


def by_losses(_at: object, _quality: float, _cost: int, losses: int) -> float:
    """The safer comes first."""
    return losses


def same(points: tuple[Point, ...], wanted: list[Tried]) -> bool:
    """Whether these are the points wanted; the quality but for the rounding of sums."""
    assert [(one.at, one.cost, one.losses) for one in points] == [(at, cost, lost) for at, _, cost, lost in wanted]
    assert [one.quality for one in points] == pytest.approx([quality for _, quality, _, _ in wanted], abs=1e-9)
    return True


@pytest.mark.parametrize(("seeds", "rungs"), SEEDS)
def test_the_frontier_is_what_trying_everything_finds(seeds: range, rungs: int) -> None:
    """200 corpora with ties, missing confidences, refusals, floors, ceilings and `never`; both losses."""
    for seed in seeds:
        columns, view = drawn(seed, rungs, calm=seed % 5 == 0)
        coded = code_columns(columns, view)
        counts = coded.counts()
        for loss, everything in tried(columns, view, coded).items():
            assert same(frontier(counts, loss), best(everything, by_cost, by_quality, by_losses))
            assert same(risk_path(counts, loss, 1000), best(everything, by_losses, by_cost, by_quality))


@pytest.mark.parametrize("rungs", [2, 3, 4, 5])
def test_a_point_is_the_replay_at_its_thresholds(rungs: int) -> None:
    """Quality, cost, losses, and each item's own score, cost and loss: for every vector of thresholds."""
    for seed in range(100, 110):
        columns, view = drawn(seed, rungs)
        coded = code_columns(columns, view)
        counts = coded.counts()
        for at in product(*(range(1, len(own) + 2) for own in coded.levels)):
            outcomes = replayed(columns, view, coded.thresholds(at))
            for loss in ("false_confident", "regression"):
                point = point_at(counts, at, loss)
                assert point.thresholds == coded.thresholds(at)
                assert point.quality == pytest.approx(float(scores_of(columns, view, outcomes).mean()), abs=1e-9)
                assert (point.cost, point.losses) == (int(outcomes.cost.sum()), lost(columns, view, outcomes, loss))
                assert int(coded.losses(at, loss).sum()) == point.losses
            assert coded.costs(at).tolist() == outcomes.cost.tolist()
            assert coded.scores(at).tolist() == pytest.approx(scores_of(columns, view, outcomes).tolist(), abs=1e-9)
            assert point.shipped == tuple(np.bincount(outcomes.last, minlength=rungs).tolist())
            assert coded.shipped(at).tolist() == outcomes.last.tolist()


def test_the_surface_is_every_point() -> None:
    """Prefix sums and the walk over the table of counts agree in every cell."""
    coded = coded_of(7, 4, items=60)
    counts = coded.counts()
    whole = surface(counts, "false_confident")
    assert whole.thinned == (None, None, None)
    for place in np.ndindex(whole.cost.shape):
        at = tuple(int(own[where]) for own, where in zip(whole.steps, place, strict=True))
        point = point_at(counts, at)
        assert whole.quality[place] / counts.n == pytest.approx(point.quality)
        assert (whole.cost[place], whole.losses[place]) == (point.cost, point.losses)


@pytest.mark.parametrize("name", ["mmlupro-gpt41", "mmlupro-claude", "coding-claims", "translation-claude"])
def test_a_recorded_corpus_has_its_replays_figures(real_corpus: Callable[[str], Path], name: str) -> None:
    """Every point of a real corpus's frontier is what the replay says at its thresholds."""
    corpus = read_corpus(real_corpus(name))
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [own_mapping(corpus.manifest)])
    counts = code_columns(columns, view).counts()
    points = frontier(counts)
    assert len(points) > 1
    for point in points:
        outcomes = replayed(columns, view, point.thresholds)
        assert point.cost == int(outcomes.cost.sum())
        assert point.quality == pytest.approx(float(scores_of(columns, view, outcomes).mean()), abs=1e-8)
        assert point.losses == lost(columns, view, outcomes, "false_confident")
    assert all(a.cost < b.cost and a.quality < b.quality for a, b in pairwise(points))


def continuous(items: int) -> CodedCorpus:
    """A ladder of three whose confidences are all different, and say something."""
    chance = np.random.default_rng(3)
    levels, codes, scores = [], np.empty((items, 2), np.int32), np.empty((items, 3))
    for rung in range(3):
        skill = chance.random(items)
        scores[:, rung] = chance.random(items) < 0.3 + 0.5 * skill + 0.1 * rung
        if rung < 2:
            own, inverse = np.unique(skill, return_inverse=True)
            levels.append(own)
            codes[:, rung] = inverse + 1
    cost = np.array([1000, 3000, 5000]) + chance.integers(0, 500, (items, 3))
    nothing = np.zeros(items, np.int32)
    return CodedCorpus(
        ("a", "b", "c"), tuple(levels), codes, scores, scores, cost, None, nothing, nothing, ("other",), 0.5
    )


def test_too_many_vectors_are_thinned_and_told() -> None:
    """Continuous confidences keep 512 quantile levels, among the observed ones; the points stay exact, the loss small."""
    counts = continuous(2100).counts()
    whole = surface(counts, "false_confident")
    assert whole.thinned == (512, 512)
    exact = surface(counts, "false_confident", cells=10_000_000)
    assert exact.thinned == (None, None)
    for place in ((0, 0), (100, 300), (512, 512)):
        at = tuple(int(own[where]) for own, where in zip(whole.steps, place, strict=True))
        assert whole.cost[place] == exact.cost[at[0] - 1, at[1] - 1] == point_at(counts, at).cost
    assert [own[-1] for own in whole.steps] == [2101, 2101]  # never
    wanted = 0.75 * counts.n
    dearer = whole.cost[whole.quality >= wanted].min() / exact.cost[exact.quality >= wanted].min()
    assert 1 <= dearer < 1.005


def test_a_crowded_frontier_loses_no_point() -> None:
    """Thousands of points close together: what a plain sort and running maximum keep, none more and none less."""
    counts = continuous(2500).counts()
    whole = surface(counts, "false_confident")
    quality, cost = whole.quality.ravel(), whole.cost.ravel()
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    kept = order[np.append(True, best[1:] > best[:-1])]
    points = frontier(counts)
    assert len(points) > 300
    assert [point.cost for point in points] == cost[kept].astype(int).tolist()
    assert [point.quality for point in points] == pytest.approx((quality[kept] / counts.n).tolist())
    assert all(point == point_at(counts, point.at) for point in points[::50])


@pytest.mark.parametrize(("sizes", "cells"), [((6, 6), 30), ((50, 2), 60)])
def test_thinning_spares_the_rungs_that_have_few_levels(sizes: tuple[int, int], cells: int) -> None:
    """As many levels are kept as fit, and only the longest lists are cut."""
    chance = np.random.default_rng(1)
    confidence = [chance.integers(1, size + 1, 500) for size in sizes]
    coded = continuous(500)
    codes = np.stack(confidence, axis=1).astype(np.int32)
    levels = tuple(np.linspace(0.1, 0.9, size) for size in sizes)
    counts = CodedCorpus(coded.rungs, levels, codes, coded.score, coded.score, coded.cost, None, coded.group, coded.task,
                   coded.tasks, 0.5).counts()  # fmt: skip
    whole = surface(counts, "regression", cells=cells)
    assert whole.cost.size <= cells
    assert whole.thinned == {(6, 6): (4, 4), (50, 2): (19, None)}[sizes]


def test_a_risk_path_is_thinned_to_its_ends() -> None:
    """`most` points at most, the safest and the cheapest among them, losses rising and cost falling."""
    counts = continuous(400).counts()
    whole, path = risk_path(counts, "false_confident", 10**6), risk_path(counts, "false_confident", 20)
    assert len(whole) > 60
    assert 10 < len(path) <= 20
    assert (path[0], path[-1]) == (whole[0], whole[-1])
    assert set(path) <= set(whole)
    assert all(a.losses < b.losses and a.cost > b.cost for a, b in pairwise(path))


def test_codes_are_the_levels_numbers() -> None:
    """Codes index the ascending levels from 1; what may not ship has 0, what must end there one more than the last."""
    columns, view = drawn(11, 3, items=40)
    coded = code_columns(columns, view)
    for index, own in enumerate(coded.levels):
        assert (np.diff(own) > 0).all()
        confidence, codes = view.confidence[index], coded.codes[:, index]
        inner = (codes > 0) & (codes <= len(own))
        assert (own[codes[inner] - 1] == confidence[inner]).all()
        assert set(codes[inner].tolist()) == set(range(1, len(own) + 1))


def test_a_part_shares_the_codes_of_the_whole() -> None:
    """Rows by mask and by number are the same items with the same levels."""
    coded = coded_of(5, 3, items=50)
    mask = np.arange(50) % 3 == 0
    for part in (coded.rows(mask), coded.rows(np.flatnonzero(mask))):
        assert part.levels is coded.levels
        assert part.codes.tolist() == coded.codes[mask].tolist()
        assert part.costs((1, 1)).tolist() == coded.costs((1, 1))[mask].tolist()
        assert len(part) == 17


@pytest.mark.parametrize(
    ("lacking", "problem"),
    [("reply", "no reply of rung 'r1' was recorded"), ("score", "the reply of 'r1' has no score"),
     ("cost_usd", "the reply of 'r1' has no cost_usd")],
)  # fmt: skip
def test_what_was_not_recorded_is_refused_by_name(lacking: str, problem: str) -> None:
    """Every rung of every item must be there, graded and priced: the error names item and rung."""
    manifest, items = drawn_items(1, 3, calm=True)
    victim: Item = items[4]
    replies = {name: reply for name, reply in victim.replies.items() if name != "r1"}
    if lacking != "reply":
        replies["r1"] = replace(victim.replies["r1"], **{lacking: None})
    items[4] = replace(victim, replies=replies)
    columns, (view,) = read_columns(items, manifest, [mapping_at(manifest.rungs, (), (0.5, 0.5))])
    with pytest.raises(CorpusError, match=problem) as caught:
        code_columns(columns, view)
    assert caught.value.item == "i4"
