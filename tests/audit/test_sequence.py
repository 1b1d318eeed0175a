"""The confidence sequence: it holds at all times at once."""

from __future__ import annotations

import random

import pytest

from cascade.audit.sequence import interval_at_all_times


def _always_covers(rate: float, seed: int, most: int) -> bool:
    """Whether the interval holds the rate at every n up to `most`. It can only lose it at a loss, or just before one."""
    draws, losses = random.Random(seed), 0
    for n in range(1, most + 1):
        is_loss = draws.random() < rate
        if is_loss or n == most:
            _, high = interval_at_all_times(losses, n - 1)
            losses += is_loss
            low, _ = interval_at_all_times(losses, n)
            if not low <= rate <= high:
                return False
    return interval_at_all_times(losses, most)[1] >= rate


def test_covers_the_rate_at_all_times_at_once() -> None:
    """In at least 95 % of 400 streams no interval misses the rate, at any n up to 2,000."""
    covered = sum(_always_covers(0.02, seed, 2_000) for seed in range(400))
    assert covered >= 380


def test_covers_a_rate_far_from_its_prior() -> None:
    """The prior makes it wide or narrow, not wrong."""
    covered = sum(_always_covers(0.5, seed, 60) for seed in range(150))
    assert covered >= 0.95 * 150


def test_holds_the_observed_rate_and_narrows() -> None:
    """At the same observed rate more results give a narrower interval around it."""
    widths: list[float] = []
    for n in (50, 500, 5_000, 50_000):
        low, high = interval_at_all_times(n // 50, n)
        assert low < 0.02 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert interval_at_all_times(10, 500) == pytest.approx((0.0060, 0.0469), abs=5e-5)  # as its docstring says


def test_no_results_say_nothing_and_extremes_stay_within_bounds() -> None:
    """(0, 1) without results; with none or only losses one end is 0 or 1, and a million results are no trouble."""
    assert interval_at_all_times(0, 0) == (0.0, 1.0)
    low, high = interval_at_all_times(0, 1_000_000)
    assert (low, high < 1e-4) == (0.0, True)
    low, high = interval_at_all_times(1_000_000, 1_000_000)
    assert (low > 1 - 1e-4, high) == (True, 1.0)
