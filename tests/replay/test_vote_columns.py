"""The votes of a whole corpus, against a plain count of each item's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascade.core.policy import Samples
from cascade.core.policy.samples import Same
from cascade.core.voting import count, decided, mean_report
from cascade.replay.votes import AGREES_WITH_NONE, CAN_AGREE, CANNOT_SAY, OVERFLOWS, SampleColumns, vote


def drawn_columns(chance: np.random.Generator, items: int, most: int, *, largest_key: int) -> SampleColumns:
    """Random samples: few different answers, every state, some without a report."""

    def columns(make: Callable[[], Any]) -> tuple[Any, ...]:
        return tuple(make() for _ in range(most))

    keys = columns(
        lambda: chance.choice([-1, 0, 1, 2, largest_key], items, p=[0.1, 0.4, 0.2, 0.2, 0.1]).astype(np.int32)
    )
    states = columns(
        lambda: chance.choice(
            [CAN_AGREE, AGREES_WITH_NONE, CANNOT_SAY, OVERFLOWS], items, p=[0.8, 0.1, 0.07, 0.03]
        ).astype(np.int8)
    )
    reports = columns(
        lambda: np.where(chance.random(items) < 0.2, np.nan, chance.choice([0.1, 0.35, 0.9, 0.9999995, 1 / 3], items))
    )
    prompts, scores = columns(lambda: np.zeros(items, np.int32)), columns(lambda: chance.random(items))
    costs = columns(lambda: chance.integers(0, 10**12, items))
    return SampleColumns(("p",), prompts, states, {"normalized": keys}, reports, scores, costs)  # fmt: skip


@pytest.mark.parametrize("largest_key", [5, 127, 128, 70_000])
@pytest.mark.parametrize(
    ("most", "agree", "at_once"), [(2, 2, 1), (5, 3, 1), (5, 4, 2), (9, 5, 4), (32, 20, 3), (32, 32, 32)]
)
def test_a_column_of_votes_is_each_items_own_count(most: int, agree: int, at_once: int, largest_key: int) -> None:
    """Asked, reached, the answer, who agrees, failures, overflow, mean report, score and cost; any number of samples."""
    drawn = drawn_columns(np.random.default_rng(most), 400, most, largest_key=largest_key)
    voted = vote(Samples(max=most, agree=agree, at_once=at_once), drawn)
    for row in range(400):
        groups: list[Any] = []
        for k in range(most):
            key, able = int(drawn.key["normalized"][k][row]), drawn.state[k][row] == CAN_AGREE
            groups.append(None if not able else ("own", k) if key < 0 else key)
        states = [int(column[row]) for column in drawn.state]
        asked = 0
        while True:
            asked = min(most, asked + at_once)
            failed, overflow = states[:asked].count(CANNOT_SAY), OVERFLOWS in states[:asked]
            expected = count(agree, most, groups[:asked], failed=failed, overflow=overflow)
            if decided(expected):
                break
        members = expected.members
        reports = [float(drawn.confidence[k][row]) for k in members]
        mean = mean_report([None if np.isnan(report) else report for report in reports])
        first = members[0] if members else -1
        assert (voted.asked[row], voted.reached[row], voted.first[row]) == (asked, expected.reached, first)
        assert (voted.agreed[row], voted.failed[row], voted.overflow[row]) == (len(members), failed, expected.overflow)
        assert voted.score[row] == (drawn.score[first][row] if members else 0)
        assert voted.cost[row] == sum(int(column[row]) for column in drawn.cost[:asked])
        assert voted.confidence[row] == mean if mean is not None else np.isnan(voted.confidence[row])


def test_means_are_rounded_as_python_rounds_them() -> None:
    """Also near the half of a unit, where numpy does otherwise."""
    chance = random.Random(1)
    halves = [(chance.randrange(10**6) + 0.5) / 10**6 for _ in range(2_000)]
    values = [*halves, *(np.nextafter(one, 1) for one in halves), *(chance.random() for _ in range(2_000)), 0.0, 1.0]
    n = len(values)
    for number in (2, 3):
        columns = SampleColumns(
            ("p",), (np.zeros(n, np.int32),) * number, (np.zeros(n, np.int8),) * number,
            {"exact": (np.zeros(n, np.int32),) * number}, (np.array(values),) * number, (np.ones(n),) * number,
            (np.ones(n, np.int64),) * number,
        )  # fmt: skip
        voted = vote(Samples(max=number, agree=number, same=Same(kind="exact")), columns)
        assert voted.confidence.tolist() == [mean_report([float(one)] * number) for one in values]
