"""What the samples of a policy say: which of them count, what they are compared with, and which alarm stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cascade.audit.drift import Drift, Seen, watch
from cascade.core.policy import Policy
from cascade.ledger.audit import Grading, Mark, Ratchet, Sample
from cascade.policy.certificates import certificate_digest
from tests.audit.samples import graded, sample, stream
from tests.calibration.certified import certified, with_keys
from tests.live.conftest import ladder

PLAIN = ladder(audit={"arl": 10_000})
PROVED = certified(PLAIN, grader="exact", loss="disagreement")


def _watch(policy: Policy, samples: Sequence[Sample], marks: Sequence[Mark] = (), **more: Any) -> Drift:
    return watch(policy, Seen(more.pop("ratchet", None), samples, marks), **more)


def _alarms(drift: Drift) -> list[str]:
    return [rate.task or "policy" for rate in drift.alarms]


def test_at_the_certified_rate_there_is_no_alarm_and_at_three_times_it_there_is() -> None:
    """The policy's own detector, with the guarantee for it alone."""
    calm, bad = _watch(PROVED, stream(PROVED, 0.02, 1_000)), _watch(PROVED, stream(PROVED, 0.06, 1_000))
    assert (_alarms(calm), _alarms(bad)) == ([], ["policy"])
    rate = bad.rates[0]
    assert (rate.alpha, rate.threshold, rate.compared) == (0.02, 10_000, 1_000)
    assert 50 < (rate.crossed_at or 0) < 500
    low, high = rate.interval or (0.0, 0.0)
    assert 0.03 < low < (rate.rate or 0.0) < high < 0.10
    assert (bad.is_certified, bad.notes) == (True, ())


def test_only_the_uniform_sample_of_this_epoch_since_the_last_reset_counts() -> None:
    """Not the lowest confidences, not what other thresholds shipped, not what a reset has put aside."""
    one = sample(PROVED, 100)
    others = [
        sample(PROVED, 1, score=0.0),  # before the reset
        sample(PROVED, 101, score=0.0, why="lowest"),
        sample(PROVED, 102, score=0.0, step=1),
        sample(PROVED, 103, score=0.0, epoch="another"),
        sample(PROVED, 104, state="open", grading=None),
    ]
    drift = _watch(PROVED, [one, *others], [Mark(PROVED.name, 50.0, "reset")])
    assert (drift.rates[0].counted, drift.rates[0].losses, drift.open) == (1, 0, 1)
    both = _watch(PROVED, [one, sample(PROVED, 105, why="both", score=0.0)])
    assert (both.rates[0].counted, both.rates[0].losses) == (2, 1)


def test_newer_samples_that_another_version_of_the_policy_shipped_are_told() -> None:
    """A worker that was not started again after `calibrate --write` would find nothing wrong, for ever."""
    others = [sample(PROVED, nth, score=0.0, epoch="another") for nth in range(2, 22)]
    drift = _watch(PROVED, [sample(PROVED, 1), *others])
    assert (drift.rates[0].counted, drift.alarms) == (1, ())
    assert any("the newest 20 samples count nowhere" in note for note in drift.notes)
    for samples in ([*others, sample(PROVED, 30)], [sample(PROVED, 1), *others[:5]]):
        assert _watch(PROVED, samples).notes == ()


def test_the_top_rungs_answers_and_no_answer_are_no_loss() -> None:
    """Whatever their score: the loss is an answer shipped below the top."""
    samples = [
        sample(PROVED, 1, rung="opus", index=2, is_top=True, grader="top", score=1.0),
        sample(PROVED, 2, rung="opus", index=2, is_top=True, outcome=0.0),
        sample(PROVED, 3, rung="", grader="top", score=None),
        sample(PROVED, 4, score=0.0),
    ]
    rate = _watch(PROVED, samples).rates[0]
    assert (rate.counted, rate.losses, rate.compared, rate.unknown) == (4, 1, 4, 0)


def test_a_real_outcome_outranks_the_grader_and_counts_before_it_and_without_it() -> None:
    """Also where nothing was graded yet, or could be; that only outcomes know is told."""
    samples = [
        sample(PROVED, 1, score=1.0, outcome=0.0),
        sample(PROVED, 2, score=0.0, outcome=1.0),
        sample(PROVED, 3, state="open", number=0, graded_at=0.0, grading=None, outcome=0.0),
        sample(PROVED, 4, state="skipped", number=0, grading=Grading("exact", skipped="no_content"), outcome=1.0),
    ]
    drift = _watch(PROVED, samples)
    assert (drift.rates[0].counted, drift.rates[0].losses, drift.open) == (4, 2, 0)
    assert any("1 results are known only from a reported outcome" in note for note in drift.notes)


def test_results_count_in_the_order_in_which_they_became_known() -> None:
    """Not in the order of the requests: what is counted once stays where it is."""
    late = [sample(PROVED, n, score=0.0, graded_at=9_000.0 + n, number=2_000 + n) for n in range(1, 21)]
    early = graded(PROVED, [1.0] * 1_000)
    shuffled = _watch(PROVED, [*late, *early]).rates[0]
    assert (shuffled.crossed_at or 0) > 1_000
    assert shuffled.recent == (20, 250)


def test_another_grader_is_not_compared_with_the_certified_rate() -> None:
    """Its rate is shown, no detector counts it, and that is told; real outcomes are compared with any."""
    drift = _watch(PROVED, stream(PROVED, 0.5, 300, grader="judge:opus"))
    rate = drift.rates[0]
    assert (drift.alarms, rate.value, rate.compared, drift.incomparable) == ((), None, 0, {"judge:opus": 300})
    assert rate.rate == pytest.approx(0.5, abs=0.1)
    assert any("no detector counts the grades of judge:opus" in note and "by exact" in note for note in drift.notes)
    reported = _watch(PROVED, stream(PROVED, 0.0, 300, grader="judge:opus", outcome=0.0))
    assert _alarms(reported) == ["policy"]


def test_a_judge_without_a_name_is_the_top_rung() -> None:
    """`judge` and `judge:opus` are the same grader; `judge:sonnet` is another."""
    judged = certified(PLAIN, grader="judge", loss="disagreement")
    assert _alarms(_watch(judged, stream(judged, 0.3, 200, grader="judge:opus"))) == ["policy"]
    assert _alarms(_watch(judged, stream(judged, 0.3, 200, grader="judge:sonnet"))) == []


def test_a_certificate_that_names_no_grader_is_compared_with_outcomes_alone() -> None:
    """Nobody knows what its rate means by wrong."""
    unnamed = certified(PLAIN, loss="disagreement")
    drift = _watch(unnamed, stream(unnamed, 0.3, 200))
    assert drift.alarms == ()
    assert any("a grader that it does not name" in note for note in drift.notes)


def test_without_a_certificate_that_holds_the_rate_is_the_policys_own_and_said_to_be_uncertified() -> None:
    """`max_rate`, else 0.02; any grader is compared, and no task has a rate of its own."""
    for policy, alpha in ((PLAIN, 0.02), (ladder(audit={"max_rate": 0.25}), 0.25)):
        drift = _watch(policy, stream(policy, 0.9, 200, grader="judge:opus"))
        assert (drift.alpha, drift.is_certified, _alarms(drift)) == (alpha, False, ["policy"])
        assert "uncertified (no certificate)" in drift.notes[0]
    edited = with_keys(PROVED, triage={"order": "answer_first"})
    assert "uncertified (the certificate no longer holds)" in _watch(edited, graded(edited, [1.0])).notes[0]


def test_new_prices_do_not_make_the_rate_uncertified() -> None:
    """They change what an answer costs, not whether it is right."""
    first, *others = PROVED.model_dump(by_alias=True, exclude_unset=True)["ladder"]
    dearer = with_keys(PROVED, ladder=[{**first, "discount": 0.5}, *others])
    assert _watch(dearer, graded(dearer, [1.0])).is_certified


def test_a_certified_task_has_a_detector_of_its_own_and_the_run_length_is_split() -> None:
    """Its limit is its own certified rate, at least the policy's; tasks without one have a rate and no detector."""
    policy = certified(PLAIN, grader="exact", loss="disagreement", loss_by_task={"refund": 0.05, "billing": 0.01})
    bad = stream(policy, 0.2, 150, task="billing")
    fine = [sample(policy, 1_000 + n, task="chat") for n in range(2_000)]
    drift = _watch(policy, [*fine, *[one for one in bad if one.number < 150]])
    by_task = {rate.task: rate for rate in drift.rates}
    assert list(by_task) == ["", "billing", "chat", "refund"]
    assert {task: (rate.alpha, rate.threshold) for task, rate in by_task.items()} == {
        "": (0.02, 20_000), "billing": (0.02, 20_000), "chat": (None, None), "refund": (0.05, 20_000),
    }  # fmt: skip
    assert "billing" in _alarms(drift)
    assert (by_task["chat"].counted, by_task["refund"].counted) == (2_000, 0)


def test_the_grades_of_a_judge_that_is_not_believed_count_nowhere() -> None:
    """The rate is withheld with the reason, and no alarm comes of it; outcomes still count, and may alarm."""
    policy = certified(PLAIN, grader="judge:opus", loss="disagreement")
    why = {"judge:opus": "it agreed with 12 of 12 wrong answers"}
    tops = [sample(policy, 900 + n, is_top=True, grader="top") for n in range(50)]
    drift = _watch(policy, [*stream(policy, 0.5, 300, grader="judge:opus"), *tops], withheld=why)
    rate = drift.rates[0]
    assert (drift.alarms, rate.rate, rate.interval, rate.value) == ((), None, None, None)
    assert rate.withheld == "judge:opus is not believed: it agreed with 12 of 12 wrong answers"
    assert [rate.fields[name] for name in ("rate", "interval95", "losses", "recent")] == [None] * 4
    assert drift.uncounted == {"judge:opus is not believed": 300}
    outcomes = stream(policy, 0.0, 300, grader="judge:opus", outcome=0.0)
    assert _alarms(_watch(policy, outcomes, withheld=why)) == ["policy"]


def test_where_nothing_below_the_top_could_be_graded_there_is_no_rate() -> None:
    """The top rung's answers alone would look like a perfect one."""
    tops = [sample(PROVED, n, is_top=True, grader="top") for n in range(1, 51)]
    skipped = [
        sample(PROVED, 100 + n, state="skipped", number=0, grading=Grading("exact", skipped="no_content"))
        for n in range(50)
    ]
    rate = _watch(PROVED, [*tops, *skipped]).rates[0]
    assert (rate.rate, rate.value) == (None, None)
    assert rate.withheld == "no answer that was shipped below the top rung could be graded (no_content)"
    some = _watch(PROVED, [*tops, *skipped, *[sample(PROVED, 200 + n) for n in range(10)]])
    assert (some.rates[0].rate, some.rates[0].unknown) == (0.0, 50)
    assert any(
        "50 of 60 answers shipped below the top rung are not known to be right or wrong" in note for note in some.notes
    )


def test_answers_of_the_top_rung_count_in_the_proportion_in_which_the_others_are_known() -> None:
    """Half of what was shipped below the top cannot be graded: the rate is still that of all requests, and so is the alarm's."""
    samples: list[Sample] = []
    for n in range(1, 2_001):
        if n % 2:
            samples.append(sample(PROVED, n, is_top=True, grader="top"))
        elif n % 4:
            samples.append(sample(PROVED, n, state="skipped", grading=Grading("", skipped="tool_use")))
        else:
            samples.append(sample(PROVED, n, score=float(n % 20 != 0)))  # one of five is wrong, of half the requests
    rate = _watch(PROVED, samples).rates[0]
    assert (rate.losses, rate.unknown) == (100, 500)
    assert rate.rate == pytest.approx(0.10, abs=0.005)
    assert rate.compared == rate.counted == pytest.approx(1_000, abs=50)


def test_each_ratchet_step_starts_the_detector_anew_and_a_new_certificate_ends_it() -> None:
    """What earlier thresholds shipped does not count; a ratchet of another certificate is not in force."""
    bad = stream(PROVED, 0.5, 200)
    stepped = Ratchet(PROVED.name, certificate_digest(PROVED), 1, 500.0)
    drift = _watch(PROVED, [*bad, sample(PROVED, 600, step=1)], ratchet=stepped)
    assert (drift.step, drift.rates[0].counted, drift.alarms) == (1, 1, ())
    other = Ratchet(PROVED.name, "another", 3, 500.0)
    assert _watch(PROVED, bad, ratchet=other).step == 0


def test_a_told_alarm_stands_until_a_reset_or_a_new_epoch() -> None:
    """Also if the figures that caused it have been corrected since."""
    calm = graded(PROVED, [1.0] * 10)
    first = _watch(PROVED, calm)
    told = Mark(PROVED.name, 5.0, "alarm", {"epoch": first.epoch, "task": ""})
    assert _alarms(_watch(PROVED, calm, [told])) == ["policy"]
    assert _watch(PROVED, calm, [told]).rates[0].crossed_at is None
    assert _watch(PROVED, calm, [told, Mark(PROVED.name, 6.0, "reset")]).alarms == ()
    assert _watch(PROVED, calm, [Mark(PROVED.name, 5.0, "alarm", {"epoch": "another", "task": ""})]).alarms == ()


def test_says_what_a_certificate_of_groups_and_of_another_loss_means_for_the_comparison() -> None:
    """Two things that the figures do not say of themselves."""
    policy = certified(PLAIN, grader="exact", units="groups", errors=None)
    notes = " ".join(_watch(policy, graded(policy, [1.0])).notes)
    assert "weighs groups equally" in notes
    assert "the certified loss is false_confident" in notes
