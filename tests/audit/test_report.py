"""The report's figures: rates, profit and loss, other thresholds, and what it says where there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cascade.audit.drift import Seen, watch
from cascade.audit.rates import Loss, RateLine, rate_of, rates_of
from cascade.audit.report.build import AuditReport, Evidence, report_of
from cascade.audit.report.thresholds import alternatives_of
from cascade.audit.sequence import interval_at_all_times
from cascade.cli.audit.report_sections import sections_of
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.costs import Interval, Period, PeriodSums, Saving, SpendRow, costs
from cascade.ledger.audit import Grading, Mark, Ratchet, Sample
from cascade.policy.certificates import certificate_digest
from tests.audit.samples import graded, sample
from tests.calibration.certified import certified
from tests.costs.traffic import traffic
from tests.live.conftest import ladder

POLICY = ladder(audit={"sample": 1.0}, ledger={"content": True})
PERIOD = Period(0, 900_000)
CENT = 10_000_000
TOP: dict[str, Any] = {"rung": "opus", "index": 2, "is_top": True, "grader": "top", "confidence": None, "source": None}


def spend(arm: str = "cascade", rung: str = "haiku", steps: int = 1, **more: Any) -> SpendRow:
    """A row with some of its columns."""
    columns = {
        "day": 20_000, "policy": "live", "task": "refund", "workflow": "", "key": "", "arm": arm, "rung": rung,
        "model": f"claude-{rung}", "steps": steps, "escalated": 0, "cost": 0, "input": 0, "output": 0, "errors": 0,
    }  # fmt: skip
    return SpendRow(**{**columns, **more})


def report(
    samples: Sequence[Sample] = (), policy: Policy = POLICY, sums: PeriodSums | None = None, **more: Any
) -> AuditReport:
    """The report of these samples."""
    drift = watch(policy, Seen(None, samples, ()), more.get("withheld"))
    return report_of(policy, Evidence(PERIOD, samples, sums or PeriodSums(), drift, **more))


def line(lines: Sequence[RateLine], task: str | None, rung: str | None) -> RateLine:
    """The line of a task and rung."""
    return next(one for one in lines if (one.task, one.rung) == (task, rung))


def test_a_tasks_rate_is_over_its_requests_and_a_rungs_over_its_answers() -> None:
    """Answers of the top rung and requests without an answer count as requests, and never as wrong."""
    samples = [
        *graded(POLICY, [1.0] * 6 + [0.0] * 2),
        *(sample(POLICY, 20 + n, score=float(n > 0), rung="sonnet", index=1) for n in range(4)),
        *(sample(POLICY, 30 + n, score=0.0, **TOP) for n in range(6)),
        *(sample(POLICY, 40 + n, score=None, rung="", index=0, grader="top") for n in range(2)),
        sample(POLICY, 50, task="code"),
    ]
    lines = rates_of(samples, Loss())
    whole, refund = lines[0], line(lines, "refund", None)
    assert (whole.audited, whole.below, whole.known, whole.wrong, whole.rate) == (21, 13, 13, 3, 3 / 21)
    assert (refund.audited, refund.rate, refund.interval) == (20, 3 / 20, interval_at_all_times(3, 20))
    assert line(lines, "refund", "haiku").rate == 2 / 8
    assert line(lines, "refund", "sonnet").rate == 1 / 4
    assert (line(lines, "refund", "opus").rate, line(lines, "refund", "").rate) == (None, None)
    assert [(one.task, one.rung) for one in lines[1:]] == [
        ("code", None), ("code", "haiku"), ("refund", None), ("refund", "haiku"), ("refund", "sonnet"), ("refund", "opus"),
        ("refund", ""),
    ]  # fmt: skip


def test_what_was_not_graded_does_not_make_the_rate_look_better() -> None:
    """Half of haiku's answers cannot be graded: the top rung's, which never are wrong, count by half too."""
    tools = {"state": "skipped", "grading": Grading("", skipped="tool_use")}
    samples = [
        *graded(POLICY, [0.0] * 5 + [1.0] * 15),
        *(sample(POLICY, 100 + n, **tools) for n in range(10)),
        *(sample(POLICY, 200 + n, state="open", grading=None) for n in range(9)),
        sample(POLICY, 300, score=None, grading=Grading("judge:opus", None, "cannot_tell")),
        *(sample(POLICY, 400 + n, **TOP) for n in range(40)),
    ]
    found = rate_of(samples, Loss())
    assert (found.audited, found.below, found.known, found.wrong) == (80, 40, 20, 5)
    assert (dict(found.skipped), found.open, found.cannot_tell) == ({"tool_use": 10}, 9, 1)
    assert (found.rate, found.interval) == (5 / 40, interval_at_all_times(5, 40))


def test_rates_of_a_judge_that_is_not_believed_are_withheld_with_the_reason() -> None:
    """In every line that it graded, and by grader; real outcomes keep theirs, and other tasks their rate."""
    samples = [
        *graded(POLICY, [0.0, 1.0, 1.0], grader="judge:opus"),
        sample(POLICY, 10, score=1.0, grader="judge:opus", outcome=0.0),
        sample(POLICY, 11, task="code", score=0.0),
    ]
    found = report(samples, withheld={"judge:opus": "it always agrees"})
    assert (found.total.rate, found.total.interval, found.total.why) == (None, None, "it always agrees")
    assert (line(found.lines, "refund", "haiku").rate, line(found.lines, "code", "haiku").rate) == (None, 1.0)
    rates = {one.grader: (one.graded, one.rate, one.why) for one in found.total.graders}
    assert rates == {
        "judge:opus": (3, None, "it always agrees"), "outcome": (1, 1.0, None), "exact": (1, 1.0, None),
    }  # fmt: skip
    assert [one.sample.request for one in found.disagreements] == ["r11", "r10"]
    assert any("judge:opus are withheld: it is not believed, since it always agrees" in text for text in found.todo)
    assert found.profit is None


def test_what_waits_for_a_judge_that_is_believed_is_told_with_what_helps() -> None:
    """Another run of the audit would not grade it; before the judge is tested a run is what helps."""
    samples = [sample(POLICY, nth, state="open", grading=None) for nth in range(3)]
    samples.append(sample(POLICY, 3, grader="judge:opus"))
    (waits, withheld) = report(samples, withheld={"judge:opus": "it errs"}, tested=frozenset({"judge:opus"})).todo
    assert waits.startswith(
        "3 sampled answers are waiting for a judge that is believed, since judge:opus is not: it errs (name another"
    )
    assert "name another rung in audit.judge" in withheld
    (waits, withheld) = report(samples, withheld={"judge:opus": "it is new"}).todo
    assert waits == "3 sampled answers are not graded yet (cascade audit run)"
    assert withheld.endswith("it is new (cascade audit run tests it)")


def test_real_outcomes_outrank_the_judge() -> None:
    """Either way, and they count under their own name, also where nothing was graded."""
    samples = [
        sample(POLICY, 1, score=1.0, outcome=0.2),
        sample(POLICY, 2, score=0.0, outcome=1.0),
        sample(POLICY, 3, state="open", grading=None, outcome=0.0),
        sample(POLICY, 4, state="skipped", grading=Grading("", skipped="no_content"), outcome=1.0),
    ]
    found = rate_of(samples, Loss())
    assert (found.known, found.wrong, [one.grader for one in found.graders]) == (4, 2, ["outcome"])


def test_the_lowest_confidences_are_faults_found_and_in_no_rate() -> None:
    """They are counted apart, and their disagreements are shown; one that is in both samples counts in the rates."""
    samples = [
        *graded(POLICY, [1.0] * 9),
        sample(POLICY, 20, score=0.0, why="both"),
        *(sample(POLICY, 30 + n, score=0.0, why="lowest") for n in range(5)),
    ]
    found = report(samples)
    assert (found.total.audited, found.total.rate) == (10, 1 / 10)
    assert (found.faults.audited, found.faults.wrong, found.faults.rate, found.faults.graders) == (5, 5, None, ())
    assert len(found.disagreements) == 6


def test_disagreements_are_the_newest_first_and_not_too_many() -> None:
    """Of 250 wrong answers the newest 200; what the judge finds other, and is right, is one too."""
    other = replace(sample(POLICY, 900), grading=Grading("judge:opus", 1.0, "disagree"), outcome=1.0)
    found = report([*graded(POLICY, [0.0] * 250), other])
    assert [one.sample.request for one in found.disagreements[:3]] == ["r900", "r250", "r249"]
    assert (len(found.disagreements), found.left_out) == (200, 51)


def test_what_counts_as_wrong_is_the_certificates() -> None:
    """A score below its right_at; its alpha is what the rate is compared with."""
    strict = certified(POLICY, right_at=0.9, grader="exact", alpha=0.03)
    found = report(graded(strict, [0.8, 0.95]), strict)
    assert (found.right_at, found.total.wrong, found.drift.alpha, found.drift.is_certified) == (0.9, 1, 0.03, True)


def sums(*, audit: int = 0) -> PeriodSums:
    """1,000 answered requests of the ladder that cost 1 cent each instead of 5 at the baseline, and the audit's spend."""
    rows = [
        traffic("cascade", -1, 1_000, 1_000 * CENT, policy="live", estimate=5_000 * CENT, estimated=1_000),
        traffic("audit", -1, 10, audit, policy="live", rung="opus"),
    ]
    return PeriodSums((spend("audit", "opus", 10, cost=audit),), tuple(rows))


def test_profit_and_loss_is_the_saving_less_the_audit_less_what_wrong_answers_cost() -> None:
    """The saving is that of `cascade costs`; the wrong answers are the rate of the answered ones times those it counts."""
    priced = ladder(audit={"cost_of_error_usd": 0.5}, ledger={"content": True})
    samples = [*graded(priced, [0.0] * 2 + [1.0] * 98), *(sample(priced, 200 + n, **TOP) for n in range(100)),
               *(sample(priced, 400 + n, rung="", score=None, grader="top") for n in range(50))]  # fmt: skip
    found = report(samples, priced, sums(audit=CENT * 200)).profit
    assert found is not None
    assert found.saving == costs(sums(audit=CENT * 200), PeriodSums(), "policy").saving
    assert (found.saving.basis, found.saving.saved, found.audit, found.price) == (
        "estimate",
        4_000 * CENT,
        200 * CENT,
        50 * CENT,
    )
    assert (found.wrong, found.wrong_interval) == (10.0, tuple(1_000 * end for end in interval_at_all_times(2, 200)))
    assert found.net == 4_000 * CENT - 200 * CENT - 10 * 50 * CENT
    assert found.net_interval is not None
    fewest, most = found.wrong_interval or (0.0, 0.0)
    assert found.net_interval == pytest.approx((3_800 * CENT - most * 50 * CENT, 3_800 * CENT - fewest * 50 * CENT))
    measured = replace(found, saving=replace(found.saving, basis="holdout", interval=Interval(1e9, 9e9)))
    assert measured.net_interval == pytest.approx((1e9 - 2e9 - most * 5e8, 9e9 - 2e9 - fewest * 5e8))


def test_without_a_price_the_report_tells_what_a_wrong_answer_may_cost() -> None:
    """The break-even price: at the estimated, the most and the fewest wrong answers; none where nothing is saved."""
    found = report(graded(POLICY, [0.0] * 4 + [1.0] * 196), sums=sums()).profit
    assert found is not None
    assert (found.net, found.net_interval) == (None, None)
    fewest, most = found.wrong_interval or (0.0, 0.0)
    assert found.break_even == 4_000 * CENT / 20
    assert found.break_even_interval == pytest.approx((4_000 * CENT / most, 4_000 * CENT / fewest))
    none_wrong = report(graded(POLICY, [1.0] * 50), sums=sums()).profit
    assert none_wrong is not None
    assert (none_wrong.break_even, (none_wrong.break_even_interval or (0, 0))[1]) == (None, None)
    dear = replace(found, saving=Saving("live", "estimate", 1_000, 9 * CENT, 1.0 * CENT))
    assert (dear.break_even, dear.break_even_interval) == (None, None)


def test_other_thresholds_are_counted_level_by_level() -> None:
    """At each observed confidence: what still ships, the rate, the avoided mistakes and their price; and at `never`."""
    own = [
        *(sample(POLICY, n, confidence=0.80, score=float(n > 2), shadow_cost=1_000) for n in range(1, 5)),
        *(sample(POLICY, 10 + n, confidence=0.90, score=float(n > 0), shadow_cost=2_000) for n in range(4)),
        *(sample(POLICY, 20 + n, confidence=0.95, shadow_cost=2_000) for n in range(8)),
        *(sample(POLICY, 40 + n, rung="sonnet", index=1, confidence=0.99, shadow_cost=1_000) for n in range(2)),
        *(sample(POLICY, 50 + n, **TOP) for n in range(2)),
    ]
    rows = alternatives_of(own, Loss())
    haiku = [one for one in rows if one.rung == "haiku"]
    assert [one.threshold for one in haiku] == [0.80, 0.90, 0.95, None]
    assert [one.is_present for one in haiku] == [True, False, False, False]
    assert [one.shipped for one in haiku] == [16 / 20, 12 / 20, 8 / 20, 0.0]
    assert [one.rate for one in haiku] == [3 / 20, 1 / 20, 0.0, 0.0]
    assert [one.avoided for one in haiku] == [0, 2, 3, 3]
    assert [one.extra_cost for one in haiku] == [0.0, 4_000 / 20, 12_000 / 20, 28_000 / 20]
    assert [one.cost_of_avoiding for one in haiku] == [None, 4_000 / 2, 12_000 / 3, 28_000 / 3]
    assert [(one.threshold, one.shipped, one.rate) for one in rows if one.rung == "sonnet"] == [
        (0.99, 2 / 20, 3 / 20), (None, 0.0, 3 / 20),
    ]  # fmt: skip


def test_a_higher_threshold_moves_only_what_it_is_held_against() -> None:
    """Agreement, tool calls and degraded answers ship at any threshold; unknown shadow costs count at their mean."""
    moved = [sample(POLICY, n, confidence=0.8, shadow_cost=(0, 600)[n % 2]) for n in range(4)]
    fixed = [
        sample(POLICY, 10, source="agreement", confidence=0.5, score=0.0, shadow_cost=600),
        sample(POLICY, 11, source="tool_use", confidence=None),
        sample(POLICY, 12, degraded="budget", confidence=0.1),
    ]
    rows = alternatives_of([*moved, *fixed], Loss())
    assert [(one.threshold, one.shipped, one.rate) for one in rows] == [(0.8, 1.0, 1 / 7), (None, 3 / 7, 1 / 7)]
    assert rows[-1].extra_cost == 4 * 600 / 7
    assert alternatives_of([sample(POLICY, 1, state="open", grading=None)], Loss()) == ()
    many = [sample(POLICY, n, confidence=n / 1_000) for n in range(500)]
    thinned = alternatives_of(many, Loss())
    assert (len(thinned), thinned[0].is_present, thinned[-1].threshold) == (12, True, None)


def test_other_thresholds_are_those_of_what_decides_now() -> None:
    """Samples from before the thresholds changed are in the rates of the period, and in no comparison of thresholds."""
    samples = [sample(POLICY, n, confidence=0.5, epoch="before") for n in range(5)]
    found = report([*samples, *(sample(POLICY, 10 + n) for n in range(3))])
    assert (found.epochs, found.total.audited) == (2, 8)
    assert {one.n for one in found.alternatives} == {3}


@pytest.mark.parametrize(
    ("policy", "samples", "requests", "said"),
    [
        (ladder(), (), 9, "no `audit` block"),
        (ladder(audit={}), (), 9, "keeps no texts"),
        (POLICY, (), 0, "asked nothing in this period"),
        (ladder(audit={"sample": 0.01}, ledger={"content": True}), (), 9, "none of 9 requests was sampled: the share is 0.01"),
        (POLICY, (sample(POLICY, 1, state="open", grading=None),), 9, "1 sampled answer is not graded yet (cascade audit run)"),
        (
            POLICY, (sample(POLICY, 1, state="skipped", grading=Grading("", skipped="no_content")),), 9,
            "1 answer is not graded, since the ledger does not hold its texts",
        ),
        (
            POLICY, tuple(sample(POLICY, n, state="skipped", grading=Grading("exact", skipped="too_costly")) for n in (1, 2)), 9,
            "2 answers are not graded, since a call for one may cost more than audit.daily_usd (raise it)",
        ),
    ],
)  # fmt: skip
def test_a_report_with_nothing_to_say_says_what_to_do(
    policy: Policy, samples: tuple[Sample, ...], requests: int, said: str
) -> None:
    """No audit, no traffic, no sample, nothing graded, no texts: each is told with its remedy, and nothing is a rate."""
    rows = (traffic("cascade", -1, requests, CENT, policy="live"),) if requests else ()
    found = report(samples, policy, PeriodSums((), rows))
    assert any(said in line for line in found.todo), found.todo
    assert (found.total.rate, found.alternatives) == (None, ())


@pytest.mark.parametrize("skipped", ["no_content", "too_costly"])
def test_a_judge_that_graded_nothing_is_not_said_to_be_withheld(skipped: str) -> None:
    """Nobody asked it, so it was not tested either: that is no reason of anything."""
    why = "it was tested on 0 right and 0 wrong control items, 6 of each are needed"
    asked = sample(POLICY, 1, state="skipped", grading=Grading("judge:opus", skipped=skipped))
    assert not any("withheld" in line for line in report([asked], withheld={"judge:opus": why}).todo)
    judged = replace(asked, state="graded", grading=Grading("judge:opus", 0.0, "disagree"))
    assert any(why in line for line in report([judged], withheld={"judge:opus": why}).todo)


def facts(found: AuditReport) -> dict[str, list[tuple[str, bool]]]:
    """What the report says, by label, and whether it warns."""
    said: dict[str, list[tuple[str, bool]]] = {}
    for section in sections_of(found):
        for fact in section.facts:
            said.setdefault(fact.label, []).append((fact.text, fact.warns))
    return said


def test_what_somebody_should_look_at_is_said_as_a_warning_with_what_explains_it() -> None:
    """An alarm, its mark and the ratchet's step; a stale table; a crowded top rung; a rung that is trusted too far."""
    proved = certified(
        POLICY, grader="exact", escalation={"haiku": 0.2}, path=[{"thresholds": {"haiku": None, "sonnet": None}}]
    )
    ratchet = Ratchet("live", certificate_digest(proved), 1, 500_000.0)
    samples = [sample(proved, n, step=1, task="code", score=float(n % 4 > 0)) for n in range(1, 201)]
    mark = Mark("live", 400_000.0, "alarm", {"task": "", "epoch": "e", "results": 200, "losses": 50})
    marks = [mark, replace(mark, at=400_001.0), Mark("live", 500_000.0, "step", {"step": 1, "thresholds": "never"})]
    rows = [
        *(
            traffic("cascade", -1, 100, policy="live", task=task, rung=rung)
            for task in ("code", "refund")
            for rung in ("haiku",)
        ),
        traffic("cascade", -1, 100, policy="live", task="code", rung="opus"),
    ]
    steps = [
        spend(task="code", steps=200, escalated=150, cost=1),
        spend(task="refund", steps=100, escalated=20, cost=1),
    ]
    drift = watch(proved, Seen(ratchet, samples, [mark]))
    found = report_of(
        proved,
        Evidence(PERIOD, samples, PeriodSums(tuple(steps), tuple(rows)), drift, {}, Escalation({"haiku": 0.2}), marks),
    )
    said = facts(found)
    assert [(text.split(";")[1], warns) for text, warns in said["all"]] == [(" ALARM: the rate is above 2.00 %", True)]
    assert said["alarm"] == [("1970-01-05T15:06:40+00:00 all requests: 50 of 200 wrong", True)]
    assert said["step"] == [("1970-01-06T18:53:20+00:00 never", False)]
    assert said["ratchet"][0][0].startswith("step 1 is in force, since 1970-01-06T18:53:20+00:00")
    stale = [text for text, warns in said["stale"] if warns]
    assert len(stale) == 2
    assert stale[0].startswith(
        "the routing table is stale: haiku escalates at least 51.9 % of all tasks, certified are 20.0 %"
    )
    assert "; of the excess: task code 100.0 %" in stale[0]
    assert said["top rung"] == [(
        "opus answers 33.3 % of the requests, 0.0 % of the cost: above 20.0 %, something is miscategorised; of the excess: task code 100.0 %",
        True,
    )]  # fmt: skip
    ((trust, warns),) = said["trust"]
    assert (trust.partition(":")[0], "systematically over-trusted (above 2.00 %)" in trust, warns) == (
        "haiku",
        True,
        True,
    )
    assert said["break-even"][0][0].startswith("none: nothing is left of the saving")
    calm = facts(report(graded(POLICY, [1.0] * 9), sums=sums()))
    assert not any(warns for said_of in calm.values() for _, warns in said_of)
