"""The e-detector: seldom a false alarm, soon a right one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean, median

import pytest

from cascade.audit.detector import Detectors, EDetector

TASKS = {"refund": 0.02, "billing": 0.02, "returns": 0.02, "other": 0.03}


def _until_alarm(detectors: Detectors, rate: Callable[[int, str], float], draws: random.Random, most: int) -> int:
    """The number of results until an alarm; `most` if there is none before."""
    tasks = tuple(TASKS)
    for n in range(1, most + 1):
        task = draws.choice(tasks)
        if detectors.update(task, float(draws.random() < rate(n, task))):
            return n
    return most


def test_the_run_length_at_the_certified_rate_is_at_least_the_guarantee() -> None:
    """While every rate is what was certified, the mean number of results until a false alarm of any detector is above A."""
    lengths = [
        _until_alarm(Detectors(0.10, dict.fromkeys(TASKS, 0.10), 100), lambda _n, _task: 0.10, random.Random(seed), 5_000)
        for seed in range(150)
    ]  # fmt: skip
    assert fmean(lengths) >= 100
    assert min(lengths) < 5_000  # it does alarm falsely, now and then


def test_three_times_the_certified_rate_is_seen_within_250_results() -> None:
    """Alpha 0.02, A 10,000 over a policy's and four tasks' detectors, the rate tripled after 200: the median of 50 seeds."""
    delays = [
        _until_alarm(Detectors(0.02, TASKS, 10_000), lambda n, _: 0.02 if n <= 200 else 0.06, random.Random(seed), 9_000)
        - 200
        for seed in range(50)
    ]  # fmt: skip
    assert 100 < median(delays) <= 250


def test_one_bad_task_is_seen_by_its_own_detector() -> None:
    """A quarter of the traffic gets ten times as bad: the task's detector alarms before the policy's rate is far off."""
    detectors = Detectors(0.02, TASKS, 10_000)
    _until_alarm(detectors, lambda _, task: 0.20 if task == "refund" else 0.0, random.Random(5), 9_000)
    assert [task for task, own in detectors.tasks.items() if own.crossed_at] == ["refund"]
    assert detectors.policy.crossed_at is None


def test_a_hard_task_at_its_own_certified_rate_is_no_alarm() -> None:
    """A task certified at 0.06 is measured by that, not by the policy's 0.02; without a limit of its own it has no detector."""
    detectors = Detectors(0.02, {"hard": 0.06, "easy": 0.001}, 10_000)
    assert {task: own.alpha for task, own in detectors.tasks.items()} == {"hard": 0.06, "easy": 0.02}
    assert {own.threshold for own in (detectors.policy, *detectors.tasks.values())} == {20_000}
    detectors.update("never heard of", 1.0)
    assert [own.count for own in (detectors.policy, *detectors.tasks.values())] == [1, 0, 0]


def test_alone_the_policys_detector_needs_only_the_run_length() -> None:
    """Nothing to split: the threshold is A."""
    assert Detectors(0.02, {}, 10_000).policy.threshold == 10_000


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.3, 0.5, 0.67, 0.95])
def test_a_result_is_worth_one_on_average_at_the_certified_rate(alpha: float) -> None:
    """The likelihood ratios' mean at alpha is exactly 1 for every factor, those that would pass 1 included or left out."""
    right, wrong = EDetector(alpha, 10), EDetector(alpha, 10)
    right.update(0.0)
    wrong.update(1.0)
    assert (1 - alpha) * right.value + alpha * wrong.value == pytest.approx(1.0)
    assert wrong.value > 1 > right.value


def test_graded_losses_count_in_part() -> None:
    """Half a loss is half way between right and wrong."""
    values: list[float] = []
    for loss in (0.0, 0.5, 1.0):
        detector = EDetector(0.02, 10)
        detector.update(loss)
        values.append(detector.value)
    assert values[1] == pytest.approx((values[0] + values[2]) / 2)


def test_endless_losses_and_endless_calm_are_no_trouble() -> None:
    """Neither overflow nor underflow; an alarm is told once, and stays."""
    detector = EDetector(0.2, 10_000)
    told = [detector.update(1.0) for _ in range(2_000)]
    assert sum(told) == 1
    assert math.isfinite(detector.value)
    for _ in range(20_000):
        detector.update(0.0)
    assert 0 < detector.value < 10_000
    assert detector.crossed_at == told.index(True) + 1


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_refuses_rates_that_are_none(alpha: float) -> None:
    """Alpha is a rate between 0 and 1."""
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        EDetector(alpha, 10)


@pytest.mark.parametrize("loss", [-0.1, 1.1, math.nan])
def test_refuses_losses_that_are_none(loss: float) -> None:
    """A result is between right and wrong."""
    with pytest.raises(ValueError, match="a loss is between 0 and 1"):
        EDetector(0.02, 10).update(loss)
