"""The escalation side: a stale routing table, too much on the top rung, a rung that is trusted too far; and what explains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cascade.audit.rates import Loss
from cascade.audit.routing import Routing, routing_of
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.costs import PeriodSums, SpendRow, TrafficRow
from cascade.ledger.audit import Sample
from tests.audit.samples import sample
from tests.audit.test_report import spend
from tests.costs.traffic import traffic
from tests.live.conftest import ladder

POLICY = ladder(tasks=[
    {"name": "refund"}, {"name": "code", "floor": "sonnet"}, {"name": "short", "ceiling": "haiku"},
])  # fmt: skip
CERTIFIED = Escalation({"haiku": 0.30, "sonnet": 0.20}, {"refund": {"haiku": 0.25}})


def routing(
    rows: Sequence[SpendRow | TrafficRow] = (),
    samples: Sequence[Sample] = (),
    certified: Escalation = CERTIFIED,
    policy: Policy = POLICY,
    alpha: float = 0.02,
) -> Routing:
    """The routing of these rows and samples."""
    steps = tuple(row for row in rows if isinstance(row, SpendRow))
    asked = tuple(row for row in rows if isinstance(row, TrafficRow))
    return routing_of(policy, PeriodSums(steps, asked), samples, certified, Loss(), alpha)


def named(causes: Sequence[Any]) -> list[tuple[str, str, float]]:
    """Causes as tuples, shares to two digits."""
    return [(one.kind, one.name, round(one.share, 2)) for one in causes]


@pytest.mark.parametrize(
    ("escalated", "stale"), [(250, None), (350, None), (370, None), (379, "above"), (600, "above"), (140, None), (120, "below"), (0, "below")],
)  # fmt: skip
def test_a_table_is_stale_when_the_whole_interval_is_more_than_ten_points_off(
    escalated: int, stale: str | None
) -> None:
    """Of 1,000 replies, certified 25 %: by the one-sided 95 % bounds, above 35 % or below 15 %."""
    found = routing([spend(steps=1_000, escalated=escalated)])
    line = next(one for one in found.escalation if one.task == "refund")
    assert (line.replies, line.escalated, line.certified, line.is_own, line.stale) == (
        1_000,
        escalated,
        0.25,
        True,
        stale,
    )
    assert (line.stale == "above") is (line.interval[0] > 0.35)
    assert (line.stale == "below") is (line.interval[1] < 0.15)


def test_failed_calls_other_arms_floors_and_ceilings_say_nothing_of_the_table() -> None:
    """An outage is no escalation; below a task's floor, and at its ceiling, the reply does not decide."""
    found = routing([
        spend(steps=140, escalated=65, errors=40),
        spend("shadow", steps=500, escalated=500),
        spend("audit", "opus", steps=500),
        spend(task="code", steps=100, escalated=100),
        spend(rung="sonnet", task="code", steps=100, escalated=20),
        spend(task="short", steps=100),
    ])  # fmt: skip
    assert [(one.rung, one.task, one.replies, one.escalated, one.stale) for one in found.escalation] == [
        ("haiku", None, 100, 25, None), ("haiku", "refund", 100, 25, None),
        ("sonnet", None, 100, 20, None), ("sonnet", "code", 100, 20, None),
    ]  # fmt: skip


def test_what_explains_a_stale_table_is_told_with_its_share() -> None:
    """The tasks, workflows and flags with the largest parts of the excess, three at most; a group of everything is no cause."""
    rows = [
        spend(task="other", workflow="mail", steps=400, escalated=360),
        spend(task="other", workflow="chat", steps=200, escalated=60),
        spend(task="refund", workflow="chat", steps=400, escalated=200),
    ]
    flagged = [sample(POLICY, n, task="other", rung="opus", index=2, is_top=True, flags=("long",)) for n in range(30)]
    plain = [sample(POLICY, 50 + n, task="other") for n in range(20)]
    whole = routing(rows, [*flagged, *plain]).escalation[0]
    assert (whole.task, whole.stale) == (None, "above")
    assert named(whole.causes) == [("flag", "long", 1.0), ("task", "other", 0.75), ("workflow", "mail", 0.75)]
    other = next(one for one in routing(rows).escalation if one.task == "other")
    assert (other.certified, other.is_own) == (0.30, False)
    assert named(other.causes) == [("workflow", "mail", 1.0)]


def test_without_a_certificate_nothing_is_stale() -> None:
    """Rates are told all the same."""
    found = routing([spend(steps=100, escalated=90)], certified=Escalation())
    assert [(one.rate, one.certified, one.stale) for one in found.escalation] == [(0.9, None, None)] * 2


def test_more_than_a_fifth_on_the_top_rung_is_told_with_the_tasks_that_explain_it() -> None:
    """Of the answered requests of the ladder, chance aside; the share of its cost beside it."""
    rows = [
        traffic("cascade", -1, 500, task="refund", rung="haiku"), traffic("cascade", -1, 40, task="refund", rung="opus"),
        traffic("cascade", -1, 200, task="code", rung="opus"), traffic("cascade", -1, 60, task="code", rung="sonnet"),
        traffic("cascade", -1, 99, task="code", rung=""), traffic("holdout", -1, 900, task="code", rung="opus"),
        spend(cost=100), spend(rung="opus", cost=300), spend("audit", "opus", cost=9_999),
    ]  # fmt: skip
    top = routing(rows).top
    assert top is not None
    assert (top.rung, top.answered, top.requests, top.is_high, top.cost_share, top.is_cost_high) == (
        "opus", 240, 800, True, 0.75, True,
    )  # fmt: skip
    assert named(top.causes) == [("task", "code", 1.0)]
    calm = routing(
        [traffic("cascade", -1, 90), traffic("cascade", -1, 10, rung="opus"), spend(cost=9), spend(rung="opus", cost=1)]
    ).top
    assert calm is not None
    assert (calm.share, calm.is_high, calm.is_cost_high, calm.causes) == (0.1, False, False, ())
    barely = routing([traffic("cascade", -1, 79), traffic("cascade", -1, 21, rung="opus")]).top
    assert barely is not None
    assert (barely.is_high, barely.cost_share) == (False, None)
    assert routing().top is None


def test_a_rung_whose_answers_are_wrong_above_alpha_is_over_trusted() -> None:
    """By the lower bound of its rate, with the tasks, flags and confidences that explain most of it; few samples accuse nobody."""
    wrong = [
        sample(POLICY, n, task="code", score=float(n % 2), confidence=0.81, flags=("long",) if n < 20 else ())
        for n in range(40)
    ]
    right = [sample(POLICY, 100 + n, confidence=0.95) for n in range(160)]
    few = [sample(POLICY, 500 + n, rung="sonnet", index=1, score=float(n > 0)) for n in range(5)]
    withheld = [sample(POLICY, 600 + n, score=0.0, state="open", grading=None) for n in range(50)]
    haiku, sonnet = routing(samples=[*wrong, *right, *few, *withheld]).trust
    assert (haiku.rung, haiku.graded, haiku.wrong, haiku.rate, haiku.is_over_trusted) == ("haiku", 200, 20, 0.1, True)
    assert haiku.confidence == pytest.approx((40 * 0.81 + 160 * 0.95) / 200)
    assert named(haiku.causes) == [("confidence", "0.81", 1.0), ("task", "code", 1.0), ("flag", "long", 0.6)]
    assert (sonnet.rung, sonnet.wrong, sonnet.rate, sonnet.is_over_trusted, sonnet.causes) == (
        "sonnet",
        1,
        0.2,
        False,
        (),
    )
    assert not routing(samples=[*wrong, *right], alpha=0.1).trust[0].is_over_trusted
