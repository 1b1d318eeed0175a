"""The two kinds of side: what counts tell is what the items tell, to the last bit; and what they cannot tell they do not."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from cascade.calibration.halves import CountedHalf, HalfFigures, ItemHalf
from cascade.calibration.proof.pareto_testing import Target, certify
from cascade.calibration.search.counts import Loss
from cascade.calibration.search.frontier import point_at, risk_path
from cascade.calibration.search.levels import CodedCorpus

from .chance import coded_of


def ungrouped(coded: CodedCorpus) -> CodedCorpus:
    """Each item a group of its own."""
    return replace(coded, group=np.arange(len(coded), dtype=np.int32))


def bare(half: HalfFigures) -> HalfFigures:
    """Without the interval: that of counts is another method's."""
    return replace(half, ci95=None)


@pytest.mark.parametrize("loss", ["false_confident", "regression"])
@pytest.mark.parametrize("rungs", [2, 3, 4])
def test_counts_tell_what_the_items_tell(rungs: int, loss: Loss) -> None:
    """Every figure and every sample, under every vector of thresholds and of every model alone."""
    for seed in range(10):
        coded = ungrouped(coded_of(seed, rungs, calm=True, items=30, levels=2))
        items, tallied = ItemHalf(coded), CountedHalf(coded.counts())
        assert (items.units, items.rungs, items.right_at) == (tallied.units, tallied.rungs, tallied.right_at)
        for at in product(*(range(1, len(own) + 2) for own in coded.levels)):
            point = point_at(tallied.counts(), at, loss)
            assert bare(items.figures(point, loss)) == bare(tallied.figures(point, loss))
            one, other = items.sample(point, loss), tallied.sample(point, loss)
            assert (one.units, one.n, one.errors, one.rate) == (other.units, other.n, other.errors, other.rate)
        for rung in range(rungs):
            assert bare(items.figures_alone(rung, loss)) == bare(tallied.figures_alone(rung, loss))
            assert items.sample_alone(rung, loss).errors == tallied.sample_alone(rung, loss).errors


def test_counts_prove_what_the_items_prove() -> None:
    """The same walk, the same bound, the same number of errors."""
    coded = ungrouped(coded_of(8, 3, calm=True, items=2_000, levels=6))
    tunes = np.arange(len(coded)) % 2 == 0
    tune, held = coded.rows(tunes), coded.rows(~tunes)
    for alpha in (0.05, 0.2, 0.5):
        target = Target("false_confident", alpha, 0.05)
        path = risk_path(tune.counts(), "false_confident")
        by_items = certify(path, ItemHalf(tune), ItemHalf(held), target)
        by_counts = certify(path, CountedHalf(tune.counts()), CountedHalf(held.counts()), target)
        assert by_items == by_counts


def test_an_interval_of_counts_is_near_that_of_the_items_and_none_where_scores_are_graded() -> None:
    """Wilson's beside the bootstrap's: within a twentieth of its width; of graded scores sums tell no spread."""
    coded = ungrouped(coded_of(3, 3, calm=True, items=4_000))
    coded = replace(coded, score=np.rint(coded.score), alone=np.rint(coded.alone))
    point = point_at(coded.counts(), tuple(2 for _ in coded.levels))
    exact, counted = (
        side.figures(point, "false_confident").ci95 for side in (ItemHalf(coded), CountedHalf(coded.counts()))
    )
    assert exact
    assert counted
    assert counted == pytest.approx(exact, abs=(exact[1] - exact[0]) / 10)
    graded = replace(coded, score=coded.score * 0.75, alone=coded.alone * 0.75)
    assert CountedHalf(graded.counts()).figures(point, "false_confident").ci95 is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_interval_of_counts_is_wilsons(share: float) -> None:
    """Against scipy, from none right to all right."""
    coded = ungrouped(coded_of(3, 3, calm=True, items=40))
    right = np.repeat((np.arange(40) < 40 * share).astype(np.float64)[:, None], 3, axis=1)
    coded = replace(coded, score=right, alone=right)
    point = point_at(coded.counts(), tuple(2 for _ in coded.levels))
    found = CountedHalf(coded.counts()).figures(point, "false_confident").ci95
    expected = stats.binomtest(round(40 * share), 40).proportion_ci(0.95, "wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
