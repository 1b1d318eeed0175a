"""The quick form of `benchmarks/validity_samples.py`: `--samples auto` keeps its word where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.validity_samples import Result, Sought, Truth, draw, simulate
from cascade.calibration.halves import ItemHalf
from cascade.calibration.sampling import sampled_ways
from cascade.calibration.search.levels import code_columns
from cascade.core.policy import Variant
from cascade.core.policy.samples import Same
from cascade.corpora import LadderEntry, Manifest
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping


@pytest.fixture(scope="module")
def result() -> Result:
    """40 runs."""
    return simulate(40, seed=1)


def test_a_certified_vote_breaks_its_bound_in_no_more_runs_than_delta(result: Result) -> None:
    """Within three binomial standard errors; and in four runs of five it ships something at the rung that votes."""
    assert result.certified.keeps_its_word, result.certified.broken_rate
    assert result.certified.power >= 0.8


def test_choosing_a_vote_by_what_is_counted_breaks_its_word(result: Result) -> None:
    """The best of many votes looks better than it is: what the certificate is there for."""
    assert result.counted.broken_rate > 0.2


def test_the_truth_is_what_a_large_corpus_comes_to() -> None:
    """Risk and cost of every vote at every threshold, against 20,000 drawn items: the yardstick itself is right."""
    n, truth = 20_000, Truth()
    manifest = Manifest("drawn", (LadderEntry("cheap"), LadderEntry("top")), synthetic=True)
    items = draw(np.random.default_rng(4), n)
    columns, (view,) = read_columns(items, manifest, [replace(own_mapping(manifest), same=Same())])
    sought = Sought({"cheap": (Variant(),)}, Same())
    ways, _ = sampled_ways(columns, view, sought, np.ones(n, np.bool_))
    seen = set[object]()
    for way in ways:
        assert way.mapping is not None
        samples = way.mapping.plan.policy.ladder[0].samples
        vote = (1, 1) if samples is None else (samples.max, samples.agree)
        half = ItemHalf(code_columns(columns, way.view))
        for at in range(1, len(half.coded.levels[0]) + 2):
            key = vote, half.coded.thresholds((at,))[0]
            seen.add(key)
            lost = float(half.coded.losses((at,), "false_confident").mean())
            assert abs(lost - truth.risk[key]) < 5 * (0.25 * max(lost, 1e-4) / n) ** 0.5 * 2
            assert half.coded.costs((at,)).mean() == pytest.approx(truth.cost[key], rel=0.02)
    assert seen == set(truth.risk)
