"""What one run may spend: never passed, whatever its requests do and in whatever order, and what is said of it adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.budgets.allowance import Allowance, RunAllowance


def test_a_call_without_room_is_refused_and_one_with_room_is_not() -> None:
    """What others have reserved counts as spent until they settle; a refusal because of them says so."""
    run = RunAllowance(100)
    first, second = run.of("executor", "a"), run.of("executor", "b")
    assert first.admit(60) is None
    refusal = second.admit(60)
    assert refusal is not None
    assert refusal.message == (
        "the run's limit of 0.0000001 USD has no room for a call that may cost 0.00000006 USD: 0.00000004 USD are left"
    )
    assert (second.refused, second.is_crowded, first.refused) == (True, True, False)
    first.settle(60, 10)
    assert second.admit(60) is None
    assert first.admit(60) is not None
    assert (run.spent, run.known) == (10, {"executor": 10})


def test_a_refusal_that_others_have_no_part_in_is_final() -> None:
    """Neither what was spent nor what the request itself has reserved comes back."""
    run = RunAllowance(100, {"planner": 30}, 20)
    one = run.of("executor", "a")
    assert one.admit(40) is None
    assert one.admit(40) is not None
    assert (one.refused, one.is_crowded) == (True, False)


def test_without_a_limit_everything_is_admitted_and_counted() -> None:
    """The costs are the run's all the same."""
    run = RunAllowance()
    one = run.of("reviewer", "a")
    assert one.admit(10**15) is None
    one.settle(10**15, 7)
    one.end(7)
    assert (one.is_limited, run.known, run.maybe) == (False, {"reviewer": 7}, 0)


@pytest.mark.parametrize(
    ("settled", "cost", "known", "maybe"),
    [
        pytest.param([(50, 8)], 8, 8, 0, id="as it was settled"),
        pytest.param([(50, 50)], 0, 0, 50, id="a reply that was lost, settled with its bound"),
        pytest.param([(50, 8), (70, 70)], 8, 8, 70, id="the second one was lost"),
        pytest.param([(50, 8)], None, 8, 0, id="a request of a process that was killed between two calls"),
        pytest.param([(50, None)], None, 0, 50, id="and one that was killed during a call"),
        pytest.param([(50, 0)], 0, 0, 0, id="a call that was not made"),
    ],
)
def test_what_may_have_been_billed_counts_and_is_not_called_known(
    settled: list[tuple[int, int | None]], cost: int | None, known: int, maybe: int
) -> None:
    """The known part is what the ledger has; the rest counts toward the limit."""
    run = RunAllowance(1_000)
    one = run.of("executor", "a")
    for bound, counted in settled:
        assert one.admit(bound) is None
        if counted is not None:
            one.settle(bound, counted)
    one.end(cost)
    assert (sum(run.known.values()), run.maybe, run.spent) == (known, maybe, known + maybe)


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100), st.floats(0, 1), st.booleans())))
def test_a_limit_is_never_passed(limit: int, calls: list[tuple[int, int, float, bool]]) -> None:
    """Calls of four requests, settled late or at once, for any part of their bounds; and at the end nothing is reserved."""
    run = RunAllowance(limit)
    requests = [run.of(("planner", "executor")[number % 2], f"r{number}") for number in range(4)]
    under_way: list[tuple[Allowance, int, int]] = []
    costs = dict.fromkeys(map(id, requests), 0)
    for number, bound, share, at_once in calls:
        one = requests[number]
        if one.admit(bound) is None:
            under_way.append((one, bound, int(bound * share)))
        assert run.spent + sum(bound for _, bound, _ in under_way) <= limit
        if at_once and under_way:
            settled, reserved, cost = under_way.pop(0)
            settled.settle(reserved, cost)
            costs[id(settled)] += cost
    for settled, bound, cost in under_way:
        settled.settle(bound, cost)
        costs[id(settled)] += cost
    for one in requests:
        one.end(costs[id(one)])
    assert run.spent == sum(costs.values()) == sum(run.known.values()) <= limit
    assert run.of("executor", "last").admit(limit - run.spent) is None
