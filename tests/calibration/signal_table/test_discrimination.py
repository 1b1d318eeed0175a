"""AUROC by pairs, and intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.signal_table.discrimination import auroc_with_interval


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.booleans()), max_size=30))
def test_it_is_the_share_of_pairs_in_order(pairs: list[tuple[float, bool]]) -> None:
    """Ties count half; none without a pair."""
    values, right = np.array([one for one, _ in pairs]), np.array([one for _, one in pairs], np.bool_)
    area, ci95 = auroc_with_interval(values, right, np.arange(len(pairs), dtype=np.int32))
    goods, bads = values[right], values[~right]
    if not len(goods) or not len(bads):
        assert (area, ci95) == (None, None)
        return
    expected = np.mean([(good > bad) + (good == bad) / 2 for good in goods for bad in bads])
    assert area == pytest.approx(expected)
    assert area is not None
    assert ci95 is not None
    assert ci95[0] <= area <= ci95[1]


@pytest.mark.parametrize("groups", [2_000, 80])
def test_the_formula_for_many_items_agrees_with_the_draws(groups: int) -> None:
    """Single items, and groups whose items are all alike, where the interval must be five times as wide."""
    chance = np.random.default_rng(groups)
    group = np.arange(2_000, dtype=np.int32) % groups
    right = (chance.random(groups) < 0.6)[group]
    values = np.round(chance.normal(size=groups)[group] + right, 1)
    drawn = auroc_with_interval(values, right, group)
    formula = auroc_with_interval(values, right, group, most_for_bootstrap=0)
    assert drawn[0] == formula[0]
    assert drawn[1] is not None
    assert formula[1] is not None
    assert formula[1][1] - formula[1][0] == pytest.approx(drawn[1][1] - drawn[1][0], rel=0.15)


def test_one_group_has_no_interval() -> None:
    """Nothing varies between groups then."""
    area, ci95 = auroc_with_interval(np.array([0.1, 0.9]), np.array([False, True]), np.zeros(2, np.int32))
    assert (area, ci95) == (1.0, None)
