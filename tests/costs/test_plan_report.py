"""Which kinds are named: bounds that hold, the words in force, a reviewer that is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from cascade.core.planning.hints import HintRow, Hints
from cascade.costs.plans.bounds import interval, lower_bound
from cascade.costs.plans.hints import hints_of
from cascade.costs.plans.report import ALPHA, PlanReport, plan_report
from cascade.costs.plans.subtasks import runs_of
from cascade.ledger.requests import RequestRecord
from tests.costs.runs import AT, LADDER, WORDS, climb, planning, review


@given(runs=st.integers(1, 3_000), share=st.floats(0, 1))
def test_with_one_result_a_run_the_interval_is_clopper_and_pearsons(runs: int, share: float) -> None:
    """As scipy has it."""
    failed = round(share * runs)
    low, high = interval(failed, runs, single=True)
    assert low == pytest.approx(beta.ppf(0.025, failed, runs - failed + 1) if failed else 0.0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.975, failed + 1, runs - failed) if failed < runs else 1.0, abs=1e-9)


@given(runs=st.integers(1, 60), rate=st.floats(0.02, 0.98), delta=st.sampled_from([0.01, 0.05]))
def test_results_of_a_run_that_all_fail_together_do_not_break_the_bound(runs: int, rate: float, delta: float) -> None:
    """The worst case: every run fails as a whole or not at all. The bound is above the rate with a probability of at most delta."""
    wrong = sum(
        binom.pmf(failed, runs, rate)
        for failed in range(runs + 1)
        if lower_bound(failed, runs, delta, single=False) > rate
    )
    assert wrong <= delta


def fleet(runs: int, failing: int, **more: Any) -> list[RequestRecord]:
    """So many runs of one classification each, of which `failing` climb, the first ones."""
    return [
        record
        for number in range(runs)
        for record in (
            planning(f"run{number}", at=AT + number),
            climb(
                f"run{number}",
                "one",
                "haiku:low_confidence sonnet" if number < failing else "haiku",
                at=AT + number,
                **more,
            ),
        )
    ]


def report_of(records: list[RequestRecord], **more: Any) -> PlanReport:
    """Their report."""
    return plan_report(runs_of(records), "fleet", LADDER, **more)


def test_a_kind_is_named_once_its_lower_bound_passes_the_limit() -> None:
    """By the exact one-sided test. That it is within the limit is shown likewise."""
    enough = next(failed for failed in range(101) if binom.sf(failed - 1, 100, 0.25) < ALPHA)
    for failed, finding in ((enough - 1, "open"), (enough, "under_routed"), (10, "within_limit")):
        (line,) = report_of(fleet(100, failed)).lines
        assert (line.kind, line.assigned, line.failed, line.finding) == ("classify", "haiku", failed, finding)
    assert report_of(fleet(100, enough), limit=0.4).under_routed == ()


def test_bounds_hold_for_all_kinds_at_once() -> None:
    """With nine more kinds, what was enough is not: each is held to a tenth of the probability."""
    records = fleet(100, 33)
    assert len(report_of(records).under_routed) == 1
    others = [climb(f"run{n}", f"other{kind}", "haiku", kind=f"kind{kind}") for kind in range(9) for n in range(100)]
    report = report_of(records + others)
    assert (report.tested, report.under_routed) == (10, ())


def test_the_top_rung_is_never_named_nor_counted_as_tested() -> None:
    """There is nothing above it."""
    records = [
        climb(f"run{n}", "one", "haiku:floor sonnet:floor opus", assigned="opus", degraded="check_failed")
        for n in range(50)
    ]
    (line,) = (report := report_of(records)).lines
    assert (line.failed, line.finding, line.advice, report.tested) == (50, "top", None, 0)


def test_results_sent_back_count_and_those_that_no_model_can_settle_do_not() -> None:
    """A retry is a failure of the assigned rung; an escalation to a person is none."""
    records = fleet(40, 0)
    records += [review(f"run{n}", "one", "retry") for n in range(20)] + [
        review(f"run{n}", "one", "escalate") for n in range(20, 40)
    ]
    (line,) = report_of(records).lines
    assert (line.failed, line.cell.sent_back, line.cell.unsettled, line.cell.reviewed) == (20, 20, 20, 40)
    assert line.finding == "under_routed"


def test_the_verdicts_of_a_reviewer_that_is_not_believed_are_left_out() -> None:
    """It rejected what is known to be right: only what climbed by the rule counts, and the report says why."""
    records = fleet(40, 2) + [review(f"run{n}", "one", "retry") for n in range(40)]
    believed = report_of(records)
    assert believed.lines[0].failed == 40
    records += [review("run0", "", "retry", control="right", at=AT + n) for n in range(8)]
    report = report_of(records)
    assert not report.reviewer.believed
    assert "8 of 8" in report.reviewer.why
    assert (report.lines[0].failed, report.lines[0].rate.failed, report.under_routed) == (2, 2.0, ())


def test_calls_of_control_items_that_failed_say_nothing_of_the_reviewer() -> None:
    """An endpoint that is down is no reviewer that cannot review."""
    records = fleet(5, 0) + [review("run0", "", "unusable", control="right", error="AllRungsFailed") for _ in range(20)]
    assert report_of(records).reviewer.controls == 0


@pytest.mark.parametrize("role", ["planner", "executor"])
def test_with_other_words_a_roles_figures_start_anew(role: str) -> None:
    """The older ones are left out and counted, whether the words in force are told or are those of the last run."""
    records: list[RequestRecord] = []
    for number in range(50):
        words = WORDS | ({role: "older"} if number < 30 else {})
        trail = "haiku:low_confidence sonnet" if number < 30 else "haiku"
        records += [
            planning(f"run{number}", at=AT + number, prompts={"planner": words["planner"]}),
            climb(f"run{number}", "one", trail, at=AT + number, prompts={"executor": words["executor"]}),
        ]
    for in_force in (None, {role: WORDS[role]}):
        report = report_of(records, in_force=in_force)
        assert (report.other_versions, report.lines[0].cell.subtasks, report.lines[0].failed) == (30, 20, 0)


def test_what_has_no_version_on_record_is_counted_and_told() -> None:
    """A plan that a person wrote has no planner."""
    records = [one for one in fleet(10, 1) if one.request.arm == "executor"]
    report = report_of(records, in_force=WORDS)
    assert (report.lines[0].cell.subtasks, report.without_version, report.other_versions) == (10, {"planner": 10}, 0)


def test_other_policies_and_earlier_beginnings_are_told() -> None:
    """They are not in the figures."""
    records = [*fleet(3, 0), climb("late", "one", "sonnet", attempt=1)]
    report = plan_report(runs_of(records), "another", LADDER)
    assert (report.lines, report.others) == ((), {"fleet": 4})
    assert report_of(records).began_before == 1


def test_money_says_from_what_rate_on_the_rung_above_is_cheaper() -> None:
    """A failure costs Sonnet's 20 and two reviews of 5 more than a result that stands; Sonnet at once costs 20: from two thirds on."""
    records: list[RequestRecord] = []
    for n in range(60):
        records.append(climb(f"run{n}", "one", "haiku"))
        if n < 30:
            records += [
                review(f"run{n}", "one", "retry"),
                climb(f"run{n}", "one", "sonnet", attempt=1),
                review(f"run{n}", "one", "accept", attempt=1),
            ]
    (line,) = report_of(records).lines
    assert (line.a_failure, line.a_rung_higher) == (30.0, 20.0)
    assert line.pays_from == pytest.approx(2 / 3)
    assert line.change == pytest.approx(20 - 0.5 * 30)
    assert line.per_subtask == pytest.approx((60 * 1 + 30 * 30) / 60)


def test_hints_say_what_is_shown_and_keep_what_nothing_newer_contradicts() -> None:
    """A planner that follows a hint makes no new figures for it: its row stays, with its day, until the words change."""
    first = hints_of(report_of(fleet(60, 30)), "2026-11-01")
    assert [(row.task, row.rung, row.failed, row.subtasks, row.advice) for row in first.rows] == [
        ("classify", "haiku", 30, 60, "sonnet")
    ]
    followed = [*fleet(0, 0), *(climb(f"run{n}", "one", "haiku:floor sonnet", assigned="sonnet") for n in range(60))]
    second = hints_of(report_of(followed, in_force=WORDS), "2026-12-01", first)
    assert [(row.rung, row.advice, row.since) for row in second.rows] == [
        ("haiku", "sonnet", "2026-11-01"),
        ("sonnet", "sonnet", None),
    ]
    third = hints_of(report_of(followed, in_force=WORDS), "2027-01-01", second)
    assert third.rows[0].since == "2026-11-01"
    other_words = hints_of(report_of(followed, in_force=WORDS | {"planner": "p2"}), "2027-01-01", second)
    assert [row.rung for row in other_words.rows] == ["sonnet"]
    assert [
        row.rung for row in hints_of(report_of(followed, in_force=WORDS, limit=0.3), "2027-01-01", second).rows
    ] == ["sonnet"]
    newer = hints_of(report_of(fleet(200, 5)), "2027-01-01", first)
    assert [row.advice for row in newer.rows] == ["haiku"]


def test_hints_of_another_policy_are_not_taken_over() -> None:
    """They are about other rungs."""
    row = HintRow(task="classify", rung="haiku", subtasks=9, failed=9, interval=(0.6, 1.0), advice="sonnet")
    other = Hints(version=1, policy="other", made="2026-11-01", limit=0.25, rows=(row,))
    assert hints_of(report_of([]), "2026-12-01", other).rows == ()
