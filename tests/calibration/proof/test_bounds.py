"""The bounds: exact for items, by betting for groups; each is broken no more often than it says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.bounds import (
    Sample,
    binomial_cdf,
    chance_of_passing,
    lower_bound,
    most_errors,
    passes,
    sample_of,
    units_needed,
    upper_bound,
)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def items(errors: int, n: int) -> Sample:
    """So many lost of n items."""
    return sample_of(np.arange(n) < errors, np.arange(n, dtype=np.int32))


def groups(values: np.ndarray) -> Sample:
    """Groups with these mean losses."""
    return Sample("groups", values, None)


@pytest.mark.parametrize(("errors", "n"), [(0, 149), (1, 236), (3, 386), (10, 845)])
def test_so_many_items_prove_two_percent_and_one_less_does_not(errors: int, n: int) -> None:
    """The published sizes of an exact test at alpha 2 %, delta 5 %; the bound says the same as the test."""
    assert passes(items(errors, n), 0.02, 0.05)
    assert upper_bound(items(errors, n), 0.05) <= 0.02
    assert not passes(items(errors, n - 1), 0.02, 0.05)
    assert upper_bound(items(errors, n - 1), 0.05) > 0.02
    assert most_errors(n, 0.02, 0.05) == errors
    assert most_errors(n - 1, 0.02, 0.05) == errors - 1


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.001, 0.999))
def test_the_binomial_probability_is_the_sum_of_its_terms(n: int, errors: int, rate: float) -> None:
    """Against Python's own binomials, all and more than all errors included."""
    terms = (math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(min(errors, n) + 1))
    assert float(binomial_cdf(errors, n, rate)) == pytest.approx(math.fsum(terms), abs=1e-12)


@given(st.integers(1, 400), st.data())
def test_the_exact_interval_holds_the_rate_and_its_ends_are_where_the_tests_turn(n: int, data: st.DataObject) -> None:
    """Lower <= rate <= upper; just above the upper end the test passes, just below it does not."""
    sample = items(data.draw(st.integers(0, n)), n)
    low, high = lower_bound(sample, 0.05), upper_bound(sample, 0.05)
    assert 0 <= low <= sample.rate <= high <= 1
    if high < 0.999:
        assert passes(sample, high + 1e-6, 0.05)
        assert not passes(sample, high - 1e-6, 0.05)


def _alike(chance: np.random.Generator, n: int) -> np.ndarray:
    return (chance.random(n) < 0.05).astype(float)


def _clumped(chance: np.random.Generator, n: int) -> np.ndarray:
    return np.where(chance.random(n) < 0.1, chance.binomial(50, 0.5, n) / 50, 0.0)


def _spread(chance: np.random.Generator, n: int) -> np.ndarray:
    return chance.beta(1.0, 19.0, n)


@pytest.mark.parametrize("draw", [_alike, _clumped, _spread])
@pytest.mark.parametrize("n", [60, 300])
def test_a_bet_wins_against_a_true_mean_in_no_more_runs_than_delta(draw: Draw, n: int) -> None:
    """600 samples whose true mean is alpha, 5 %, in a file sorted in the worst order: within three binomial standard errors."""
    runs, chance, single = 600, np.random.default_rng(7), np.arange(n, dtype=np.int32)
    won = 0
    for _ in range(runs):
        best_first = np.sort(draw(chance, n))  # what a bet in the file's order would be rich by before it loses
        won += passes(Sample("groups", sample_of(best_first, single).values, None), 0.05, 0.05)
    assert won / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(("draw", "at_least"), [(_alike, 0.9), (_clumped, 0.95), (_spread, 0.99)])
def test_a_bet_wins_where_the_mean_is_truly_low(draw: Draw, at_least: float) -> None:
    """The same means of 5 %, 600 groups, against an alpha of 10 %: a bound that never holds would be no better."""
    chance = np.random.default_rng(3)
    won = [passes(groups(draw(chance, 600)), 0.10, 0.05) for _ in range(200)]
    assert np.mean(won) >= at_least


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_betting_bound_is_where_its_test_turns(values: list[float]) -> None:
    """Monotone in alpha, so that the bound and the test can never disagree."""
    sample = groups(np.array(values))
    high = upper_bound(sample, 0.05)
    assert sample.rate <= high <= 1
    if high < 0.99:
        assert passes(sample, high + 1e-6, 0.05)
    if high > sample.rate + 1e-3:
        assert not passes(sample, high - 1e-6, 0.05)


def test_spotless_groups_need_little_more_than_spotless_items() -> None:
    """167 groups against 149 items: what a bet keeps back costs."""
    assert passes(groups(np.zeros(167)), 0.02, 0.05)
    assert not passes(groups(np.zeros(166)), 0.02, 0.05)


def test_single_items_are_counted_and_groups_are_averaged() -> None:
    """Units, errors and rate: a group counts once, whatever its size; a graded loss has no errors to count."""
    lost = np.array([True, False, False, False])
    single = sample_of(lost, np.array([0, 1, 2, 3], np.int32))
    assert (single.units, single.n, single.errors, single.rate) == ("items", 4, 1, 0.25)
    grouped = sample_of(lost, np.array([5, 9, 9, 9], np.int32))
    assert (grouped.units, grouped.n, grouped.errors, grouped.rate) == ("groups", 2, None, 0.5)
    graded = sample_of(np.array([0.5, 0.0]), np.array([0, 1], np.int32))
    assert (graded.units, graded.n, graded.errors, graded.rate) == ("items", 2, None, 0.25)


def test_rows_of_one_group_prove_nothing_that_the_group_does_not() -> None:
    """10,000 spotless rows of 20 groups are 20 units, and too few."""
    sample = sample_of(np.zeros(10_000, np.bool_), np.repeat(np.arange(20, dtype=np.int32), 500))
    assert sample.n == 20
    assert not passes(sample, 0.02, 0.05)


def test_nothing_is_known_of_nothing() -> None:
    """No units: no pass, and a bound of 1."""
    empty = items(0, 0)
    assert not passes(empty, 0.5, 0.05)
    assert upper_bound(empty, 0.05) == 1.0
    assert (units_needed(empty, 0.02, 0.05), chance_of_passing(empty, 100, 0.02, 0.05)) == (None, 0.0)


@pytest.mark.parametrize(("errors", "n"), [(0, 40), (1, 100), (3, 300), (5, 260)])
def test_the_units_needed_would_pass_at_the_same_rate(errors: int, n: int) -> None:
    """And somewhat fewer would not; a rate at alpha or above never passes."""
    needed = units_needed(items(errors, n), 0.02, 0.05)
    assert needed is not None
    assert needed > n
    assert passes(items(-(-errors * needed // n), needed), 0.02, 0.05)
    fewer = int(needed * 0.9)
    assert not passes(items(-(-errors * fewer // n), fewer), 0.02, 0.05)
    assert units_needed(items(6, 300), 0.02, 0.05) is None


def test_the_groups_needed_mostly_pass() -> None:
    """So many more groups like the ones seen do it in most of the runs, half as many in few."""
    chance = np.random.default_rng(5)
    seen = _clumped(chance, 60) * 0.4  # a mean of 2 %
    needed = units_needed(groups(seen), 0.05, 0.05)
    assert needed is not None

    def share(n: int) -> float:
        return float(np.mean([passes(groups(chance.choice(seen, n)), 0.05, 0.05) for _ in range(200)]))

    assert share(needed * 3 // 2) >= 0.8
    assert share(needed // 2) <= 0.2


@pytest.mark.parametrize("errors", [2, 8, 14])
def test_the_predicted_chance_of_passing_is_how_often_it_happens(errors: int) -> None:
    """1,000 items of each half drawn from every rate that explains the first: within three points."""
    n, chance = 1_000, np.random.default_rng(11)
    rates = chance.beta(errors + 0.5, n - errors + 0.5, 20_000)
    often = float(np.mean(chance.binomial(n, rates) <= most_errors(n, 0.02, 0.05)))
    assert chance_of_passing(items(errors, n), n, 0.02, 0.05) == pytest.approx(often, abs=0.03)


def test_the_predicted_chance_falls_with_the_losses() -> None:
    """What the walk's start is looked for by."""
    chance = np.random.default_rng(2)
    seen = np.where(chance.random(300) < 0.1, 1.0, 0.0)
    predicted = [chance_of_passing(groups(seen * part), 300, 0.05, 0.05) for part in (0.05, 0.2, 0.35, 0.5)]
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[0] > 0.99
    assert predicted[-1] < 0.05
