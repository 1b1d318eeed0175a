"""Budgets in memory: exact between threads and drivers, each period for itself."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cascade.core.budgets import ApplicableBudget
from cascade.core.policy.certificate import Escalation
from cascade.state.memory import BudgetCounters, MemoryState, process_counters
from tests.state.builders import make_budget, make_policy


def test_a_hard_limit_holds_between_threads() -> None:
    """Sixteen threads spend what they can: settled and reserved never pass the limit, and all of it can be spent."""
    counters, budget = BudgetCounters(), make_budget("p", 100_000)

    def spend(_: int) -> int:
        spent = 0
        while counters.reserve([(budget, True)], 7, None) is None:
            assert sum(counters.spent(budget.counter)) <= budget.limit
            counters.settle([budget], 7, 5)
            spent += 5
        return spent

    with ThreadPoolExecutor(16) as pool:
        spent = sum(pool.map(spend, range(16)))
    assert counters.spent(budget.counter) == (spent, 0)
    assert budget.limit - 7 < spent <= budget.limit


def test_every_budget_must_have_room_and_the_first_without_is_named() -> None:
    """Nothing is reserved where one refuses; a soft one is counted and never refuses."""
    counters, wide, narrow = BudgetCounters(), make_budget("p", 100), make_budget("p", 10, value="w")
    assert counters.reserve([(wide, True), (narrow, True)], 11, None) == narrow
    assert counters.spent(wide.counter) == (0, 0)
    assert counters.reserve([(wide, True), (narrow, False)], 11, None) is None
    assert counters.spent(narrow.counter) == (0, 11)


def test_alerts_are_told_once_a_period() -> None:
    """At the share that the budget names and when all is spent; both at once where one call passes both."""
    counters, budget = BudgetCounters(), make_budget("p", 100)
    told = [
        [alert.share for alert in counters.settle([budget], 0, cost)]
        for cost in (79,)
        if not counters.reserve([(budget, False)], 0, None)
    ]
    told += [[alert.share for alert in counters.settle([budget], 0, cost)] for cost in (1, 19, 1, 50)]
    assert told == [[], [0.8], [], [1.0], []]
    tomorrow = make_budget("p", 100, day=1)
    counters.reserve([(tomorrow, False)], 0, None)
    assert [(alert.share, alert.spent) for alert in counters.settle([tomorrow], 0, 150)] == [(0.8, 150), (1.0, 150)]


def test_what_the_ledger_knows_is_counted_once() -> None:
    """Two threads find a counter missing at the same time: both may ask, one of them counts."""
    counters, budget, both = BudgetCounters(), make_budget("p", 100), threading.Barrier(2)

    def seed(_: ApplicableBudget) -> int:
        both.wait(30)
        return 40

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: counters.reserve([(budget, True)], 30, seed), range(2))) == [None, None]
    assert counters.spent(budget.counter) == (40, 60)


def test_a_ledger_that_cannot_be_read_is_told_and_costs_no_answer() -> None:
    """The counter begins at zero."""

    def seed(_: ApplicableBudget) -> int:
        raise OSError("a path that nobody must see")

    counters, budget = BudgetCounters(), make_budget("p", 100)
    with capture_logs() as events:
        assert counters.reserve([(budget, True)], 100, seed) is None
    assert [(event["event"], event["problem"]) for event in events] == [("budget_seed_failed", "OSError")]
    assert "nobody must see" not in str(events)


def test_a_finished_period_is_forgotten_when_nothing_of_it_is_reserved() -> None:
    """A call's cost falls into the period it was let in."""
    counters, old, open_call, new = (
        BudgetCounters(),
        *(make_budget("p", 100, value=v, day=d) for v, d in (("a", 0), ("b", 0), ("a", 1))),
    )
    counters.reserve([(old, True)], 10, None)
    counters.settle([old], 10, 10)
    counters.reserve([(open_call, True)], 10, None)
    counters.reserve([(new, True)], 10, None)
    assert [counters.spent(budget.counter) for budget in (old, open_call, new)] == [(0, 0), (0, 10), (0, 10)]
    counters.settle([open_call], 10, 9)
    assert counters.spent(open_call.counter) == (9, 0)


def test_more_counters_than_are_kept_share_one_and_it_is_told() -> None:
    """A workflow per customer does not fill the memory, and even so no limit is passed."""
    counters = BudgetCounters(most=2)
    budgets = [make_budget("p", 100, value=value) for value in "abcd"]
    with capture_logs() as events:
        let_in = [counters.reserve([(budget, True)], 60, None) is None for budget in budgets]
    assert let_in == [True, True, True, False]
    assert [event["event"] for event in events] == ["budget_counters_full"]
    counters.settle([budgets[2]], 60, 10)
    assert counters.reserve([(budgets[3], True)], 90, None) is None


def test_drivers_of_one_home_and_policy_name_share_their_books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them cannot spend a budget twice; another home, or another policy, has counters of its own."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "one"))
    first, second = (MemoryState(make_policy("p"), Escalation(), lambda: 0.0) for _ in range(2))
    budget = make_budget("p", 100)
    assert first.reserve([(budget, True)], 60) is None
    first.close()
    assert second.reserve([(budget, True)], 60) == budget
    assert not second.is_remote
    assert (
        MemoryState(make_policy("q"), Escalation(), lambda: 0.0).reserve([(replace(budget, policy="q"), True)], 60)
        is None
    )
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "two"))
    assert MemoryState(make_policy("p"), Escalation(), lambda: 0.0).reserve([(budget, True)], 60) is None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_keeps_what_was_settled_but_not_the_parents_calls() -> None:
    """Those are the parent's to settle."""
    counters, budget = process_counters("forked"), make_budget("forked", 100)
    counters.reserve([(budget, True)], 30, None)
    counters.settle([budget], 30, 30)
    counters.reserve([(budget, True)], 50, None)
    child = os.fork()
    if not child:
        os._exit(0 if counters.spent(budget.counter) == (30, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counters.spent(budget.counter) == (30, 50)


def test_only_a_counter_that_the_ledger_must_be_asked_of_may_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop lets a thread do that; and nothing of what is known, or where there is no ledger."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    policy, known, new = make_policy("p"), make_budget("p", 100), make_budget("p", 100, value="new")
    state = MemoryState(policy, Escalation(), lambda: 0.0, seed=lambda _: 40)
    assert state.may_wait([known])
    state.reserve([(known, True)], 1)
    assert not state.may_wait([known])
    assert state.may_wait([known, new])
    assert not state.may_wait([])
    assert not MemoryState(policy, Escalation(), lambda: 0.0).may_wait([new])


def test_a_ledger_that_could_not_be_read_is_asked_again_and_then_counted_once() -> None:
    """What was spent here meanwhile stands in it, too: it is not counted twice, and what is let in is held against all of it."""
    counters, budget, known = BudgetCounters(), make_budget("p", 100), list[int]()

    def seed(_: ApplicableBudget) -> int:
        if not known:
            raise OSError
        return known[0]

    with capture_logs() as events:
        for _ in range(3):
            assert counters.reserve([(budget, True)], 10, seed) is None
            assert not counters.knows([budget])
            counters.settle([budget], 10, 10)
        known.append(75)  # 30 of them were spent here
        assert counters.reserve([(budget, True)], 26, seed) == budget
        assert counters.reserve([(budget, True)], 25, seed) is None
    assert counters.spent(budget.counter) == (75, 25)
    assert counters.knows([budget])
    assert [event["event"] for event in events] == ["budget_seed_failed"]
    known[0] = 1_000
    assert counters.reserve([(budget, True)], 0, seed) is None


def test_what_the_ledger_has_seen_already_is_not_told_again() -> None:
    """Each process of a day has counters of its own: the first that reaches a share tells it, not the next three."""
    counters, budget = BudgetCounters(), make_budget("p", 100)
    counters.reserve([(budget, False)], 0, lambda _: 85)
    assert [alert.share for alert in counters.settle([budget], 0, 10)] == []
    assert [alert.share for alert in counters.settle([budget], 0, 10)] == [1.0]
    late = BudgetCounters()
    late.reserve([(budget, False)], 0, lambda _: 100)
    assert late.settle([budget], 0, 10) == ()
