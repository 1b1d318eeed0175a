"""What a path's points will lose elsewhere, foreseen without looking there: the luck of the choice is taken off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.calibration.choice import prove
from cascade.calibration.halves import CountedHalf, ItemHalf
from cascade.calibration.proof.pareto_testing import Certified, Target, certify
from cascade.calibration.proof.power import expected_losses, folds_of
from cascade.calibration.search.frontier import risk_path
from cascade.calibration.search.levels import CodedCorpus


def continuous(n: int, seed: int, group: int = 1) -> CodedCorpus:
    """Two rungs whose confidence is the chance of being right, each item's a level of its own; the top is right."""
    chance = np.random.default_rng(seed)
    sure = chance.uniform(0.4, 1.0, (n, 2))
    score = np.asfortranarray(np.column_stack([chance.random((n, 2)) < sure, np.ones(n)]).astype(np.float64))
    levels = tuple(np.sort(sure[:, rung]) for rung in range(2))
    codes = np.asfortranarray(np.argsort(np.argsort(sure, axis=0), axis=0).astype(np.int32) + 1)
    cost = np.asfortranarray(np.tile(np.array([1, 5, 25], np.int64), (n, 1)))
    groups = (np.arange(n) // group).astype(np.int32)
    return CodedCorpus(
        ("a", "b", "c"), levels, codes, score, score, cost, None, groups, np.zeros(n, np.int32), ("other",), 0.5
    )


def halves(n: int, seed: int) -> tuple[CodedCorpus, CodedCorpus]:
    """Two sides of one drawing."""
    whole = continuous(2 * n, seed)
    first = np.arange(2 * n) < n
    return whole.rows(first), whole.rows(~first)


def test_a_group_is_never_split_between_folds() -> None:
    """Five folds of about one size, whole groups each, the same for the same seed."""
    group = np.repeat(np.arange(50, dtype=np.int32), 7)
    folds = folds_of(group)
    assert all(len(np.unique(folds[group == one])) == 1 for one in range(50))
    assert np.bincount(folds).tolist() == [70] * 5
    assert folds.tolist() == folds_of(group).tolist()


def test_the_luck_of_the_choice_is_seen_through() -> None:
    """Over 30 drawings: what was counted where it was chosen is too few; what is foreseen is what comes, within a tenth."""
    counted, foreseen, came = 0.0, 0.0, 0.0
    for seed in range(30):
        tune, held = halves(300, seed)
        path = risk_path(tune.counts(), "false_confident")
        at = next(index for index, point in enumerate(path) if point.losses >= 0.06 * len(tune))
        foresight = expected_losses(
            path, ItemHalf(tune), "false_confident", lambda part: risk_path(part.counts(), "false_confident", 400)
        )
        counted += path[at].losses / len(tune)
        foreseen += foresight(at).rate
        came += ItemHalf(held).sample(path[at], "false_confident").rate
    assert counted < 0.85 * came
    assert foreseen == pytest.approx(came, rel=0.1)


def test_of_counts_only_what_was_seen_is_known() -> None:
    """They have no items to leave out."""
    tune, _ = halves(300, 1)
    counts = tune.counts()
    path = risk_path(counts, "false_confident")
    foresight = expected_losses(
        path, CountedHalf(counts), "false_confident", lambda part: risk_path(part.counts(), "false_confident")
    )
    assert [foresight(index).errors for index in range(len(path))] == [point.losses for point in path]


def test_most_walks_over_a_continuous_score_begin_where_they_pass() -> None:
    """Of 24 drawings at least 8 in 10 certify something, and more than from what was seen alone."""
    target, plain, foreseen = Target("false_confident", 0.1, 0.05), 0, 0
    for seed in range(24):
        tune, held = halves(300, seed)
        path = risk_path(tune.counts(), "false_confident")
        plain += isinstance(certify(path, ItemHalf(tune), ItemHalf(held), target), Certified)
        foreseen += isinstance(prove(ItemHalf(tune), ItemHalf(held), target), Certified)
    assert foreseen >= 19
    assert foreseen > plain


def test_clumped_levels_are_foreseen_at_the_point_itself() -> None:
    """Where there is next to nothing to choose from, what is foreseen of a point is what was seen of it."""
    tune, _ = halves(2_000, 3)
    two = tuple(np.array([0.5, 0.9]) for _ in tune.levels)
    codes = np.asfortranarray(np.where(tune.codes > 3_200, 2, 1).astype(np.int32))
    clumped = replace(tune, levels=two, codes=codes)
    path = risk_path(clumped.counts(), "false_confident")
    foresight = expected_losses(
        path, ItemHalf(clumped), "false_confident", lambda part: risk_path(part.counts(), "false_confident")
    )
    assert len(path) > 2
    assert [foresight(index).errors for index in range(len(path))] == [point.losses for point in path]
