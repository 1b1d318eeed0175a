"""What of a run may be done, and what becomes of its subtasks: the rules one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.core.modes import share_of
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Attempt
from cascade.core.planning.schedule import Execute, Review, Schedule, to_go_on_from
from tests.core.planning.scheduling import drive, failed, made, policy, said

DIAMOND = Plan(
    "g",
    (
        Subtask("top", "1", rung="haiku"),
        Subtask("left", "2", ("top",), "sonnet"),
        Subtask("right", "3", ("top",), "haiku"),
        Subtask("end", "4", ("left", "right"), "haiku"),
    ),
)
ONE = Plan("g", (Subtask("a", "1", rung="haiku"),))


def schedule(plan: Plan = ONE, share: float = 1.0, **more: Any) -> Schedule:
    """A schedule that reviews no result which its executor is sure of, if no other share is given."""
    return Schedule(plan, policy(**more.pop("rules", {})), review_share=lambda _: share, **more)


def ids(works: tuple[Execute | Review, ...]) -> list[str]:
    """Whose they are."""
    return [work.subtask.id for work in works]


def test_what_rests_on_nothing_open_may_run_at_the_same_time() -> None:
    """And nothing else; the floor is the assigned rung, the start the first."""
    run = schedule(DIAMOND)
    (top,) = run.ready()
    assert isinstance(top, Execute)
    assert run.ready() == ()
    run.settle(top, made(top))
    left, right = run.ready()
    assert [(work.subtask.id, work.start, work.floor) for work in (left, right) if isinstance(work, Execute)] == [
        ("left", 0, 1), ("right", 0, 0),
    ]  # fmt: skip
    run.settle(right, made(right))  # pyright: ignore[reportArgumentType]
    assert run.ready() == ()
    run.settle(left, made(left))  # pyright: ignore[reportArgumentType]
    assert ids(run.ready()) == ["end"]


def test_no_more_is_handed_out_than_there_is_room_for() -> None:
    """The rest is, later."""
    run = schedule(Plan("g", tuple(Subtask(f"s{n}", "x") for n in range(3))))
    assert ids(run.ready(2)) == ["s0", "s1"]
    assert run.ready(0) == ()
    assert ids(run.ready(5)) == ["s2"]


def test_a_failed_subtask_fails_what_rests_on_it_and_nothing_else() -> None:
    """The others are run to their end."""
    run = schedule(DIAMOND)
    assert drive(run, left=["failed"]) == ["top@0/0", "left@0/1", "right@0/0"]
    results = run.results()
    assert {name: one.status for name, one in results.items()} == {
        "top": "accepted", "left": "failed", "right": "accepted", "end": "skipped",
    }  # fmt: skip
    assert results["left"].why == "AllRungsFailed: no"
    assert results["end"].why == "it rests on left, which failed"
    assert run.is_finished


@pytest.mark.parametrize(
    ("level", "share", "degraded", "is_reviewed"),
    [
        ("high", 0.5, None, False),
        ("high", 0.05, None, True),
        ("high", 0.5, "error", True),
        ("medium", 0.5, None, True),
        ("low", 0.5, None, True),
        (None, 0.5, None, True),
    ],
)
def test_what_is_reviewed(level: str | None, share: float, degraded: str | None, is_reviewed: bool) -> None:
    """All that its executor is not sure of, all that is degraded, and a share of the rest."""
    run = schedule(share=share)
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work, level, degraded=degraded))
    assert [type(one) for one in run.ready()] == ([Review] if is_reviewed else [])
    assert run.results()["a"].status == ("pending" if is_reviewed else "accepted")


def test_the_share_is_drawn_from_the_request_s_id() -> None:
    """The same for the same id, in every process."""
    assert 0.07 < sum(share_of("plan review", f"r{n}") < 0.1 for n in range(2_000)) / 2_000 < 0.13
    run = Schedule(ONE, policy(review_high=share_of("plan review", "r-a-0") + 1e-9))
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work))
    assert [type(one) for one in run.ready()] == [Review]


def test_a_result_that_is_sent_back_is_made_one_rung_above_the_final_one() -> None:
    """Not above the assigned one; the reason goes with it; the new result is reviewed again, however sure its executor is."""
    run = schedule()
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work, "low", "sonnet"))
    (review,) = run.ready()
    run.settle(review, said("retry", "a name is missing"))
    assert run.ready() == (Execute(ONE["a"], 1, 2, 2, "a name is missing"),)
    again = Execute(ONE["a"], 1, 2, 2, "a name is missing")
    run.settle(again, made(again, "high"))
    (review,) = run.ready()
    assert review == Review(ONE["a"], 1)
    run.settle(review, said("accept"))
    result = run.results()["a"]
    assert (result.status, result.text, result.rung, len(result.attempts)) == ("accepted", "a.1", "opus", 2)


def test_retries_end_at_the_top_at_the_task_s_ceiling_and_at_max_retries() -> None:
    """What is left then is unsettled, with the reason, and the last result."""
    run = schedule()
    assert drive(run, a=["low", "retry", "low", "retry", "low", "retry"]) == [
        "a@0/0", "review a", "a@1/1", "review a", "a@2/2", "review a",
    ]  # fmt: skip
    one = run.results()["a"]
    assert (one.status, one.text) == ("unsettled", "a.2")
    assert one.why == "sent back by the reviewer, and plan.max_retries is 2: because"

    run = schedule(rules={"max_retries": 0})
    assert drive(run, a=["low", "retry"]) == ["a@0/0", "review a"]
    assert run.results()["a"].status == "unsettled"

    tasks = [{"name": "easy", "ceiling": "sonnet"}]
    plan = Plan("g", (Subtask("a", "1", rung="sonnet", task="easy"),))
    run = Schedule(plan, policy(tasks, review_high=1.0))
    assert drive(run, a=["high", "retry"]) == ["a@0/1", "review a"]
    assert run.results()["a"].why == "sent back by the reviewer, and sonnet is the highest rung: because"


@pytest.mark.parametrize(
    ("verdict", "why"),
    [("escalate", "no model can settle it, says the reviewer: because"), ("unusable", "not reviewed: because")],
)
def test_what_the_reviewer_does_not_settle_is_passed_on_with_a_mark(verdict: str, why: str) -> None:
    """What rests on it, directly or not, says so."""
    run = schedule(DIAMOND)
    drive(run, right=["low", verdict])
    results = run.results()
    assert (results["right"].status, results["right"].why, results["right"].text) == ("unsettled", why, "right.0")
    assert {name: one.rests_on for name, one in results.items()} == {
        "top": (), "left": (), "right": (), "end": ("right",),
    }  # fmt: skip


def test_marks_are_passed_on_through_accepted_results() -> None:
    """A result rests on what its sources rest on."""
    chain = Plan("g", (Subtask("a", "1"), Subtask("b", "2", ("a",)), Subtask("c", "3", ("b",))))
    run = schedule(chain)
    drive(run, a=["low", "escalate"])
    assert run.results()["c"].rests_on == ("a",)
    assert run.results()["c"].status == "accepted"


def test_a_retry_that_fails_leaves_the_result_that_was_sent_back_with_the_mark() -> None:
    """It is not lost, and not accepted either."""
    run = schedule(DIAMOND)
    drive(run, top=["low", "retry", "failed"])
    one = run.results()["top"]
    assert (one.status, one.text, one.rung) == ("unsettled", "top.0", "haiku")
    assert one.why == "sent back by the reviewer (because), and one rung up it failed: AllRungsFailed: no"
    assert run.results()["end"].rests_on == ("top",)


def test_a_degraded_result_that_is_accepted_says_so() -> None:
    """It stands, with a mark."""
    run = schedule()
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work, degraded="storm"))
    drive(run)
    assert (run.results()["a"].status, run.results()["a"].why) == (
        "accepted",
        "accepted by the reviewer, degraded: storm",
    )


def ask_controls(run: Schedule, verdict: str, count: int) -> None:
    """The reviewer says this of so many control items."""
    for number in range(count):
        control = run.beside(f"c{number}")
        if control is not None:
            run.settle(control, said(verdict))


@pytest.mark.parametrize("verdict", ["accept", "retry", "unusable"])
def test_the_word_of_a_reviewer_that_is_not_believed_does_not_count(verdict: str) -> None:
    """Neither what it accepted before nor what it sent back: what needed it is unsettled, and nothing is made again."""
    run = schedule(DIAMOND)
    drive_to = run.ready()[0]
    assert isinstance(drive_to, Execute)
    run.settle(drive_to, made(drive_to, "low"))
    (review,) = run.ready()
    run.settle(review, said("accept"))
    ask_controls(run, verdict, 20)
    assert not run.standing.believed
    drive(run, left=["low"])
    results = run.results()
    for name in ("top", "left"):
        assert results[name].status == "unsettled"
        assert results[name].why == f"the reviewer is not believed: {run.standing.why}"
    assert results["right"].status == "accepted"
    assert results["end"].rests_on == ("top", "left")
    assert run.is_finished
    assert run.beside("another") is None


def test_a_reviewer_that_was_not_believed_stays_so_for_the_run() -> None:
    """Also where the run is taken up again and other runs thought better of it."""
    run = schedule(unbelieved="it accepts all")
    assert drive(run, a=["low"]) == ["a@0/0"]
    assert run.results()["a"].why == "the reviewer is not believed: it accepts all"
    assert run.standing.why == "it accepts all"


def test_what_a_retry_changes_is_not_built_upon_while_it_is_under_way() -> None:
    """Not even if the reviewer loses its word meanwhile, by which the result that was sent back would stand."""
    run = schedule(DIAMOND)
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work, "low"))
    (review,) = run.ready()
    run.settle(review, said("retry"))
    (again,) = run.ready()
    assert isinstance(again, Execute)
    ask_controls(run, "accept", 20)
    assert run.ready() == ()
    run.settle(again, made(again))
    assert ids(run.ready()) == ["left", "right"]
    assert run.results()["top"].text == "top.1"


def test_after_a_stop_nothing_is_handed_out_and_what_is_under_way_is_kept() -> None:
    """The rest is pending; the first reason holds."""
    run = schedule(DIAMOND)
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.stop("budget")
    run.stop("deadline")
    assert not run.is_finished
    run.settle(work, made(work))
    assert run.ready() == ()
    assert run.is_finished
    assert (run.stopped, [one.status for one in run.results().values()]) == ("budget", ["accepted", *["pending"] * 3])


def test_a_work_that_was_given_back_is_handed_out_again() -> None:
    """As if it had never been."""
    run = schedule()
    (work,) = run.ready()
    run.give_back(work)
    assert run.ready() == (work,)


def test_a_run_that_is_taken_up_tries_again_what_failed_without_cost() -> None:
    """Not what was paid for, and not a retry: its result was passed on with a mark by then."""
    work = Execute(ONE["a"])
    free, paid = replace(failed(work), cost_nanousd=0), failed(work)
    assert to_go_on_from([free]) == ()
    assert to_go_on_from([paid]) == (paid,)
    back = replace(made(work), review=said("retry"))
    again = replace(free, number=1)
    assert to_go_on_from([back, again]) == (back, again)
    assert to_go_on_from([back]) == (back,)
    assert to_go_on_from([]) == ()


def test_outcomes_of_what_is_not_under_way_are_refused() -> None:
    """A work twice, one that was never handed out, and an outcome of another kind."""
    run = schedule()
    (work,) = run.ready()
    assert isinstance(work, Execute)
    with pytest.raises(ValueError, match="not handed out"):
        run.settle(Review(ONE["a"], 0), said("accept"))
    with pytest.raises(TypeError, match="no outcome of Execute"):
        run.settle(work, said("accept"))
    run = schedule()
    (work,) = run.ready()
    run.settle(work, made(work))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not handed out"):
        run.settle(work, made(work))  # pyright: ignore[reportArgumentType]


def test_what_a_budget_cut_short_is_made_again_with_the_assigned_rung_as_floor() -> None:
    """The retry begins exactly one rung up; no answer below the assigned rung stands there either."""
    run = schedule(Plan("g", (Subtask("a", "1", rung="opus"),)))
    (work,) = run.ready()
    assert isinstance(work, Execute)
    run.settle(work, made(work, rung="haiku", degraded="budget"))
    (review,) = run.ready()
    run.settle(review, said("retry"))
    (again,) = run.ready()
    assert isinstance(again, Execute)
    assert (again.start, again.floor) == (1, 2)


def test_a_value_as_deep_as_json_may_be_is_written_down() -> None:
    """What it cost is paid by then."""
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    values = Attempt(0, "r", 10, "haiku", "[…]", deep).to_dict()
    assert Attempt.from_dict(values).to_dict() == {**values, "data": deep}
    assert values["data"] is deep
