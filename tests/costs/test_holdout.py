"""The saving measured on the holdout: its interval holds what it promises, and says where it cannot."""

from __future__ import annotations

import pytest
from scipy import stats

from cascade.core.modes import NO_SLOT, SLOTS
from cascade.costs import Measured, TooFew, TrafficRow, costs, measure
from cascade.costs.holdout import student_t
from cascade.costs.rows import PeriodSums

from .traffic import roll, traffic

RUNS = 300


def even(arm: str, each: int, cost: int, **more: object) -> list[TrafficRow]:
    """The same in every slot."""
    return [traffic(arm, slot, each, each * cost, **more) for slot in range(SLOTS)]


def asked(rows: list[TrafficRow]) -> tuple[TrafficRow, ...]:
    """The same requests, as they are summed up by all but their slots."""
    return tuple(row._replace(slot=NO_SLOT) for row in rows)


def saved_of(rows: list[TrafficRow]) -> Measured:
    """What is measured; it must be."""
    found = measure(rows)
    assert isinstance(found, Measured)
    return found


@pytest.mark.parametrize(("customers", "percent"), [(300, 80), (120, 50)])
def test_the_interval_holds_the_true_saving_as_often_as_it_says(customers: int, percent: float) -> None:
    """95 % of 300 seeded periods, of what these requests saved and of what such traffic saves; a naive one far less often."""
    true = expected = naive = runs = 0
    for seed in range(RUNS):
        rolled = roll(seed, customers, percent)
        found = measure(rolled.rows)
        if isinstance(found, TooFew):
            continue  # it says so
        assert found is not None
        assert found.saved == pytest.approx(rolled.difference, rel=1e-6)
        runs += 1
        held = found.saved_interval.low <= rolled.true <= found.saved_interval.high
        share = rolled.true / (found.cost + rolled.true)
        assert held == (found.relative_interval.low <= share <= found.relative_interval.high)  # the very same question
        true += held
        expected += found.saved_interval.low <= rolled.expected <= found.saved_interval.high
        naive += abs(rolled.difference - rolled.true) <= rolled.naive
    assert runs >= 0.95 * RUNS
    assert 0.925 <= true / runs <= 0.985
    assert 0.925 <= expected / runs <= 0.999  # wider where the arms are even: what was not seen is reckoned as well
    assert naive / runs < 0.6


def test_the_saving_is_the_difference_of_the_means_times_the_ladders_requests() -> None:
    """Without chance in the costs the interval is a point, in any mix of sizes."""
    found = saved_of([*even("cascade", 9, 30), *even("holdout", 1, 100)])
    assert (found.requests, found.cost, found.holdout) == (576, 17_280, 64)
    assert found.saved == pytest.approx(576 * 70)
    assert (found.saved_interval.low, found.saved_interval.high) == pytest.approx((576 * 70, 576 * 70))
    assert found.relative == pytest.approx(0.7)
    dearer = saved_of([*even("cascade", 9, 130), *even("holdout", 1, 100)])
    assert dearer.saved == pytest.approx(-576 * 30)


def test_a_customer_who_is_all_of_an_arm_makes_it_unmeasurable() -> None:
    """A million requests of one customer are one slot: the interval would be a guess."""
    for rows in (
        [*even("cascade", 9, 30), traffic("holdout", 3, 1_000_000, 10**9)],
        [traffic("cascade", 3, 1_000_000, 10**9), *even("holdout", 1, 100)],
        [*even("cascade", 9, 30), traffic("holdout", 3, 10**6, 10**9), *even("holdout", 1, 100)],
    ):
        found = measure(rows)
        assert isinstance(found, TooFew)
        assert "of 64 slots" in found.reason
        (saving,) = costs(PeriodSums(traffic=asked(rows), slots=tuple(rows)), PeriodSums(), "task").savings
        assert (saving.basis, saving.interval) == ("estimate", None)
        assert any(note.startswith("not measured") for note in saving.notes)


def test_only_days_on_which_both_arms_had_requests_are_compared() -> None:
    """A day before the rollout tells nothing of the holdout; it is left out, and told."""
    both = [*even("cascade", 9, 30), *even("holdout", 1, 100)]
    alone = even("cascade", 50, 1000, day=19_999)
    found = saved_of([*both, *alone, *even("holdout", 5, 7, day=19_998)])
    assert found.left_out == 3200
    assert found.saved == pytest.approx(saved_of(both).saved)
    assert measure(alone) is None
    assert measure([*alone, *even("holdout", 5, 7, day=19_998)]) is None


def test_a_share_that_was_changed_within_the_period_is_told() -> None:
    """The arms would differ by their days, not by who answered."""
    steady = [*even("cascade", 9, 30), *even("holdout", 1, 100)]
    assert not saved_of(
        [*steady, *even("cascade", 9, 30, day=20_001), *even("holdout", 1, 99, day=20_001)]
    ).share_changed
    moved = saved_of([*steady, *even("cascade", 5, 30, day=20_001), *even("holdout", 5, 99, day=20_001)])
    assert moved.share_changed


def test_a_free_baseline_saves_nothing_that_could_be_measured() -> None:
    """No division by nothing."""
    assert measure([*even("cascade", 9, 30), *even("holdout", 1, 0)]) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 13, 30, 63, 126, 999])
def test_students_t_is_exact(freedom: int) -> None:
    """Against scipy."""
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)
