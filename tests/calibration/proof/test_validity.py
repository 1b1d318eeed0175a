"""The quick form of `benchmarks/validity.py`: a certificate keeps its word on populations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.validity import SCENES, TARGET, Result, Scene, Truth, draw, simulate

RUNS = {"clustered groups": 40}


@pytest.fixture(scope="module", params=SCENES, ids=[scene.name for scene in SCENES])
def result(request: pytest.FixtureRequest) -> Result:
    """100 runs of a scene; 40 of the clustered one, which take longer."""
    return simulate(request.param, RUNS.get(request.param.name, 100), seed=1)


def test_a_certified_bound_is_broken_in_no_more_runs_than_delta(result: Result) -> None:
    """Within three binomial standard errors; and something is certified, for a bound never given cannot be broken."""
    assert result.certified.keeps_its_word, result.certified.broken_rate
    assert result.certified.power >= 0.8


def test_choosing_by_what_is_counted_breaks_its_word(result: Result) -> None:
    """What the certificate is there for: the naive choice is above alpha in far more runs than delta."""
    if result.scene.name == "useless signal":
        pytest.skip("there is next to nothing to choose from: the naive choice seldom goes wrong")
    assert result.counted.broken_rate > 0.25
    assert result.counted.broken_rate > 5 * result.certified.broken_rate


def test_counting_the_rows_of_groups_breaks_its_word(result: Result) -> None:
    """Items of one group are no strangers."""
    if result.scene.size == 1:
        pytest.skip("no groups in this scene")
    assert result.by_rows.broken_rate > 0.1


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_the_truth_is_what_large_corpora_come_to(scene: Scene) -> None:
    """Risk and cost of several thresholds, against 400,000 drawn items: the yardstick itself is right."""
    n = 400_000
    corpus = draw(Scene(scene.name, n, scene.kinds, scene.size), np.random.default_rng(4))
    truth = Truth(scene)
    for at in ((1, 1), (8, 5), (10, 10), (11, 9), (11, 11)):
        lost = float(corpus.losses(at, TARGET.counted).mean())
        tolerance = 5 * (0.25 * max(lost, 1e-4) * scene.size / n) ** 0.5 + 1e-6
        assert abs(lost - truth.risk[at[0] - 1, at[1] - 1]) < 2 * tolerance
        assert corpus.costs(at).mean() == pytest.approx(truth.cost_of(at), rel=0.02)
