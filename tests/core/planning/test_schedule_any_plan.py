"""Any acyclic plan with any outcomes in any order keeps the schedule's rules, and goes on as if it had not stopped."""

from __future__ import annotations

from collections import Counter
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from cascade.core.modes import share_of
from cascade.core.planning.graph import Plan
from cascade.core.planning.result import Attempt, PlanReview, Result, ReviewerStanding
from cascade.core.planning.schedule import Execute, Review, Schedule
from tests.core.planning.scheduling import RUNGS, failed, made, plans, policy, said


def _descendants(plan: Plan, of: set[str]) -> set[str]:
    found: set[str] = set()
    for level in plan.levels():
        found |= {one.id for one in level if set(plan.needs(one)) & (of | found)}
    return found


@given(plans(), st.data())
def test_any_plan_with_any_outcomes_ends_and_keeps_the_rules(plan: Plan, data: st.DataObject) -> None:
    """Each work once and never before what it rests on; each subtask once and its retries; failures reach their descendants alone."""
    shares: dict[str, float] = {}
    run = Schedule(
        plan, policy(), review_share=lambda key: shares.setdefault(key, data.draw(st.sampled_from([0.0, 1.0])))
    )
    under_way: list[Execute | Review] = []
    handed: Counter[Execute | Review] = Counter()
    sent_back: Counter[str] = Counter()
    while True:
        fresh = run.ready(data.draw(st.integers(1, 3)))
        handed.update(fresh)
        for work in fresh:
            statuses = {name: run.results()[name].status for name in plan.needs(work.subtask)}
            assert set(statuses.values()) <= {"accepted", "unsettled"}, (
                "it was begun before what it rests on was settled"
            )
            if isinstance(work, Execute) and work.attempt:
                before = run.results()[work.subtask.id].attempts[-1]
                assert work.start == work.floor == RUNGS.index(before.rung or "") + 1
        under_way += fresh
        if not under_way:
            break
        work = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        if isinstance(work, Execute):
            rung = RUNGS[data.draw(st.integers(work.floor, 2))]
            level = data.draw(st.sampled_from(["high", "medium", "low", None]))
            lost = data.draw(st.integers(0, 4)) == 0
            run.settle(work, failed(work) if lost else made(work, level, rung))
        else:
            verdict = data.draw(st.sampled_from(["accept", "retry", "escalate", "unusable"]))
            sent_back[work.subtask.id] += verdict == "retry"
            run.settle(work, said(verdict))
    assert run.is_finished
    results = run.results()
    assert set(handed.values()) == {1}
    lost = {name for name, one in results.items() if one.status == "failed"}
    assert {name for name, one in results.items() if one.status == "skipped"} == _descendants(plan, lost)
    for name, one in results.items():
        assert one.status != "pending"
        executed = [work.attempt for work in handed if isinstance(work, Execute) and work.subtask.id == name]
        assert sorted(executed) == list(range(len(one.attempts)))
        assert len(one.attempts) <= 1 + sent_back[name]
        assert one.rests_on == (
            tuple(
                other.id
                for other in plan.subtasks
                if results[other.id].status == "unsettled" and name in _descendants(plan, {other.id})
            )
            if one.text is not None
            else ()
        )


@given(plans(4), st.data())
def test_a_run_that_is_taken_up_from_its_attempts_goes_on_as_if_it_had_not_stopped(
    plan: Plan, data: st.DataObject
) -> None:
    """Wherever it stopped: the state is the attempts, and a Result keeps them through JSON."""
    levels = data.draw(st.lists(st.sampled_from(["high", "low", "failed"]), min_size=30, max_size=30))
    verdicts = data.draw(st.lists(st.sampled_from(["accept", "retry", "escalate"]), min_size=30, max_size=30))
    rules, share = policy(), partial(share_of, "x")

    def step(run: Schedule) -> bool:
        works = run.ready(1)
        for work in works:
            number = 3 * [one.id for one in plan.subtasks].index(work.subtask.id) + work.attempt
            level = levels[number]
            outcome: Attempt | PlanReview = said(verdicts[number])
            if isinstance(work, Execute):
                outcome = failed(work) if level == "failed" else made(work, level)
            run.settle(work, outcome)  # pyright: ignore[reportArgumentType]
        return bool(works)

    whole = Schedule(plan, rules, review_share=share)
    while step(whole):
        pass
    stopped = Schedule(plan, rules, review_share=share)
    for _ in range(data.draw(st.integers(0, 8))):
        step(stopped)
    before = Result(
        plan, stopped.results(), "run_1", {"executor": 3}, "budget", ReviewerStanding(), ("n",), {"a": "b"}, 7, "h"
    )
    kept = Result.from_dict(before.to_dict())
    assert kept == before
    resumed = Schedule(
        plan, rules, attempts={name: one.attempts for name, one in kept.subtasks.items()}, review_share=share
    )
    while step(resumed):
        pass
    assert resumed.results() == whole.results()
