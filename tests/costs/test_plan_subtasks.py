"""Requests of a run → its subtasks: what became of each at its assigned rung, and what it cost, by role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cascade.costs.plans.roles import plan_costs
from cascade.costs.plans.subtasks import Spent, runs_of
from cascade.ledger.requests import RequestRecord
from tests.costs.runs import AT, climb, planning, review, single

FATES: list[tuple[str, dict[str, Any], str, str]] = [
    ("haiku", {}, "haiku", "stood"),
    ("haiku:floor sonnet", {}, "sonnet", "stood"),
    ("haiku:low_confidence sonnet", {}, "sonnet", "stood"),
    ("haiku:low_confidence sonnet", {}, "haiku", "climbed"),
    ("haiku:check_failed sonnet:low_confidence opus", {}, "haiku", "climbed"),
    ("haiku:floor sonnet:refused opus", {}, "sonnet", "climbed"),
    ("haiku", {"degraded": "ceiling"}, "haiku", "climbed"),
    ("haiku", {"rung": None, "abstained": "malformed"}, "haiku", "climbed"),
    ("haiku:error sonnet", {}, "haiku", "unknown"),
    ("haiku:storm sonnet", {}, "haiku", "unknown"),
    ("haiku", {"degraded": "budget"}, "haiku", "unknown"),
    ("haiku", {"degraded": "deadline"}, "haiku", "unknown"),
    ("haiku:floor", {"rung": "haiku", "degraded": "error"}, "sonnet", "unknown"),
    ("", {"rung": None, "error": "BudgetExceeded"}, "haiku", "unknown"),
]


@pytest.mark.parametrize(("trail", "outcome", "assigned", "fate"), FATES)
def test_the_fate_of_the_assigned_rungs_answer(trail: str, outcome: dict[str, Any], assigned: str, fate: str) -> None:
    """It stood, it climbed for a reason of its own, or something else came first, which says nothing of the assignment."""
    subtask = single(climb("run", "one", trail, assigned=assigned, **outcome)).subtasks["one"]
    assert subtask.fate == fate
    assert subtask.escalated == (trail.count(" ") > ("haiku", "sonnet").index(assigned))


def test_costs_by_role_are_the_whole_bill() -> None:
    """Planning 30, executors 1 + 20 (of which 1 below the assigned rung) + 40, reviews 5 each, one of them of a control item."""
    run = single(
        planning("run"),
        climb("run", "one", "haiku:floor sonnet", assigned="sonnet"),
        review("run", "one", "retry"),
        climb("run", "one", "opus", assigned="sonnet", attempt=1),
        review("run", "one", "accept", attempt=1),
        review("run", "", "retry", control="wrong"),
    )
    assert run.spent == Spent(planner=30, below=1, above=60, reviewer=10, control=5)
    one = run.subtasks["one"]
    assert (one.status, one.final, one.review) == ("accepted", "opus", "retry")
    assert one.after == 40 + 10
    assert (one.higher, one.below_stood) == (40, True)
    costs = plan_costs([run], "role")
    assert costs.cost == run.spent.whole == 106
    assert [(line.role, line.requests, line.cost) for line in costs.roles] == [
        ("planner", 1, 30), ("executor", 2, 60), ("executor, below the assigned rung", None, 1), ("reviewer", 2, 10),
        ("reviewer, control items", 1, 5),
    ]  # fmt: skip
    assert [(line.assigned, line.final, line.subtasks, line.requests, line.cost) for line in costs.assigned] == [
        ("sonnet", "opus", 1, 2, 71)
    ]


STATUSES = [
    ([climb("run", "one", "haiku")], "accepted"),
    ([climb("run", "one", "haiku"), review("run", "one", "accept")], "accepted"),
    ([climb("run", "one", "haiku"), review("run", "one", "escalate")], "unsettled"),
    ([climb("run", "one", "haiku"), review("run", "one", "unusable")], "unsettled"),
    ([climb("run", "one", "haiku", degraded="budget")], "unsettled"),
    ([climb("run", "one", "haiku", rung=None, error="AllRungsFailed")], "failed"),
    ([climb("run", "one", "haiku", ended=False)], "pending"),
]


@pytest.mark.parametrize(("records", "status"), STATUSES)
def test_the_status_is_derived_from_the_last_attempt(records: list[RequestRecord], status: str) -> None:
    """As far as the ledger tells."""
    assert single(*records).subtasks["one"].status == status


def test_an_attempt_that_was_cut_off_and_made_again_counts_once_and_its_money_twice() -> None:
    """A run that was killed and taken up again: `gather` gives what never ended last."""
    cut_off = climb("run", "one", "haiku:low_confidence sonnet", ended=False)
    run = single(climb("run", "one", "haiku"), review("run", "one", "accept"), cut_off)
    one = run.subtasks["one"]
    assert (one.fate, one.status, len(one.attempts)) == ("stood", "accepted", 1)
    assert run.spent.above == 1 + 21


def test_runs_are_complete_after_a_day_of_silence_and_no_more_are_held_than_allowed() -> None:
    """Runs that do not overlap come out one by one, before the ledger is read to its end; the parts of one run stay together for a day."""
    read: list[int] = []

    def records(apart_s: float) -> Iterator[RequestRecord]:
        for number in range(50):
            read.append(number)
            yield climb(f"run{number // 2}", f"part{number % 2}", "haiku", at=AT + number * apart_s)

    runs = runs_of(records(80_000))
    first = next(runs)
    assert (first.id, len(first.subtasks), read[-1]) == ("run0", 2, 3)
    assert len(list(runs)) == 24
    read.clear()
    assert next(runs_of(records(1), most=6)).id == "run0"
    assert read[-1] == 6


def test_what_began_before_the_period_has_no_fate() -> None:
    """Its second attempt alone says nothing of the assigned rung; what it cost is known."""
    run = single(climb("run", "one", "sonnet", attempt=1))
    assert not run.subtasks["one"].began
    assert run.spent.above == 20
