"""The climb, driven by hand: its trail, its money, its failures and what it tells the guard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.climb import Observation, climb
from cascade.core.decision import Situation
from cascade.core.errors import AllRungsFailed, ClimbError, DeadlineExceeded, RequestError, UpstreamRejected
from cascade.core.events import Recorded
from cascade.core.messages import Usage
from cascade.core.policy import Policy, Task
from cascade.core.trail import Verdict
from cascade.policy.binding import bind_policy

from .builders import COST, USAGE, Climbed, answer_of, failure, policy_of, reply, request_of, run

POLICY = policy_of(tasks=(Task(name="never", thresholds={"r0": None}), Task(name="floored", floor="r1")))
PLAN = bind_policy(POLICY)
PLAIN = reply(None, "the top's answer")


def test_a_confident_first_rung_is_asked_alone() -> None:
    """One call, one step, its text, its confidence and where that came from."""
    done = run(PLAN, [reply(0.9, "yes")], request=request_of(id="q-1", metadata={"tenant": "a"}))
    answer = done.answer
    assert answer is not None
    assert (done.asked, answer.text, answer.rung, answer.model) == ([0], "yes", "r0", "model-0")
    assert (answer.confidence, answer.confidence_source, str(answer)) == (0.9, "self_reported", "yes")
    assert (answer.request_id, answer.metadata, answer.task) == ("q-1", {"tenant": "a"}, "other")
    assert (answer.policy, answer.policy_hash, answer.certificate) == ("test", POLICY.hash, "uncertified")


def test_the_trail_says_why_each_step_did_not_ship() -> None:
    """Every step but the shipped one carries its reason; the top's has none, and no confidence either."""
    answer = answer_of(PLAN, reply(0.3), reply(0.5, None), PLAIN)
    assert [(one.rung, one.verdict.kind, one.reason) for one in answer.steps] == [
        ("r0", "answered", "low_confidence"),
        ("r1", "declined", "declined"),
        ("r2", "answered", None),
    ]
    assert (answer.text, answer.confidence, answer.degraded) == ("the top's answer", None, None)


def test_everything_that_was_billed_is_counted() -> None:
    """A failed call's usage, a malformed reply's and what broken-off attempts had spent, each at its rung's price."""
    spent = Usage(input_tokens=1_000, output_tokens=1)
    answer = answer_of(
        PLAN,
        failure(usage=USAGE, attempts=4, latency_s=2.0),
        reply(None, "no JSON at all", spent=(spent,), attempts=2, latency_s=1.0),
        PLAIN,
    )
    assert [one.cost_nanousd for one in answer.steps] == [COST, COST + 1_010_000, COST]
    assert (answer.cost_nanousd, answer.cost_usd) == (3 * COST + 1_010_000, pytest.approx(0.00191))
    assert answer.usage == USAGE + USAGE + spent + USAGE
    assert (answer.attempts, answer.latency_s) == (7, 3.0)


def test_each_rung_is_priced_at_its_own_price() -> None:
    """Usage is priced where it fell; nothing is priced at the shipped rung's rate."""
    policy = policy_of()
    ladder = [rung.model_copy(update={"discount": 0.5}) if rung.rung == "r1" else rung for rung in policy.ladder]
    plan = bind_policy(policy.model_copy(update={"ladder": tuple(ladder)}))
    answer = answer_of(plan, reply(0.1), reply(0.9))
    assert [one.cost_nanousd for one in answer.steps] == [COST, COST // 2]


def test_a_recorded_reply_costs_what_was_recorded() -> None:
    """A replay brings its own verdict, usage and cost; the rule makes the same of it."""
    recorded = Recorded(Verdict("answered", 0.2, "self_reported", "a"), USAGE, 7)
    answer = answer_of(PLAN, recorded, Recorded(Verdict("answered", 0.9, "self_reported"), USAGE, 11))
    assert (answer.cost_nanousd, answer.rung, answer.text, answer.steps[0].reason) == (18, "r1", None, "low_confidence")


def test_a_hold_stands_for_the_whole_climb() -> None:
    """Once any rung said hold, the climb ends below the top, though the next rung is calm."""
    done = run(PLAN, [reply(0.1, "low"), reply(0.2, "middle")], situations=[Situation("hold"), Situation()])
    assert done.answer is not None
    assert (done.asked, done.answer.text, done.answer.degraded) == ([0, 1], "middle", "storm")


def test_an_escalating_storm_is_over_at_the_next_rung() -> None:
    """It moves the request one rung; there the request is judged as ever."""
    done = run(PLAN, [reply(0.9), reply(0.9)], situations=[Situation("escalate"), Situation()])
    assert (done.asked, done.answer and done.answer.rung) == ([0, 1], "r1")
    assert [one.storm_cost for one in done.observed] == [0, COST]


@pytest.mark.parametrize(
    "failed", [failure("server"), failure("overflow", status=400), failure("deadline", status=None)]
)
def test_a_failed_rung_goes_one_up(failed: Any) -> None:
    """A rung that fails for good is a step like any other: the next rung is asked."""
    done = run(PLAN, [failed, reply(0.9)])
    assert done.asked == [0, 1]
    assert done.answer is not None
    assert done.answer.steps[0].reason == ("overflow" if failed.kind == "overflow" else "error")


def test_a_failing_top_ships_the_best_held_marked() -> None:
    """The highest answer that passed its checks, with what became of the top."""
    answer = answer_of(PLAN, reply(0.5, "low"), reply(0.6, "middle"), failure())
    assert (answer.text, answer.rung, answer.degraded, answer.abstained) == ("middle", "r1", "error", None)
    assert (answer.confidence, len(answer.steps)) == (0.6, 3)


def test_all_rungs_failed_carries_the_trail_and_the_cost() -> None:
    """Never an empty text: an error that says what every rung did and what it cost."""
    with pytest.raises(AllRungsFailed) as caught:
        run(PLAN, [failure(usage=USAGE), reply(0.9, ""), reply(None, "half", stop_reason="max_tokens")])
    error = caught.value
    assert [one.verdict.kind for one in error.steps] == ["failed", "answered", "truncated"]
    assert error.cost_usd == pytest.approx(3 * COST / 1e9)
    assert str(error).count("\n") == 0
    for part in ("r0: failed", "HTTP 500", "r1: answered [not_empty]", "r2: truncated", "0.000900 USD"):
        assert part in str(error)


def test_the_deadline_without_an_answer_is_an_error_of_its_own() -> None:
    """It names the rungs tried, and carries them."""
    with pytest.raises(DeadlineExceeded, match="deadline_s") as caught:
        run(PLAN, [failure("timeout", usage=USAGE)], situations=[Situation(out_of="deadline")])
    assert (len(caught.value.steps), caught.value.cost_usd) == (1, pytest.approx(COST / 1e9))


def test_a_rejected_request_is_raised_at_once_with_what_was_paid_before() -> None:
    """The caller's fault is never climbed, wherever it is met; status, request id and trail are on the error."""
    done = Climbed()
    with pytest.raises(UpstreamRejected) as caught:
        run(
            PLAN,
            [reply(0.1), failure("rejected", status=404, message="no such model", request_id="req_1")],
            record=done,
        )
    error = caught.value
    assert (done.asked, error.status, error.request_id) == ([0, 1], 404, "req_1")
    assert ("no such model" in str(error), "r1 (model-1)" in str(error)) == (True, True)
    assert (len(error.steps), error.cost_usd) == (2, pytest.approx(COST / 1e9))


def test_abstaining_is_a_value_with_the_trail() -> None:
    """`exhausted: abstain` returns an answer without text that says why; its cost and trail are whole."""
    plan = bind_policy(policy_of(exhausted="abstain"))
    answer = answer_of(plan, failure(), failure(usage=USAGE), failure())
    assert (answer.text, answer.rung, answer.abstained, answer.degraded) == (None, None, "error", None)
    assert (answer.cost_nanousd, len(answer.steps), str(answer)) == (COST, 3, "")
    late = answer_of(plan, failure(), situations=[Situation(out_of="deadline")])
    assert late.abstained == "deadline"


def test_a_request_that_no_rung_takes_is_refused_before_anything_is_asked() -> None:
    """A prefill is an error at the first step of the generator: no rung was wanted yet."""
    prefill = request_of([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}])
    done = Climbed()
    with pytest.raises(RequestError, match="prefill"):
        run(PLAN, [], request=prefill, record=done)
    assert done.asked == []


OBSERVED: list[Any] = [
    ("stands", "other", reply(0.9), False, False),
    ("low confidence", "other", reply(0.1), True, False),
    ("declined", "other", reply(0.9, None), True, False),
    ("malformed", "other", reply(None, "?"), True, False),
    ("truncated", "other", reply(0.9, stop_reason="max_tokens"), True, False),
    ("refused", "other", reply(0.9, stop_reason="refusal"), True, False),
    ("failed check", "other", reply(0.9, " "), True, False),
    ("floor alone", "floored", reply(0.9), False, False),
    ("floor and low", "floored", reply(0.1), True, False),
    ("error", "other", failure(), None, True),
    ("overflow", "other", failure("overflow"), None, False),
    ("overflow reply", "other", reply(0.9, stop_reason="model_context_window_exceeded"), None, False),
    ("never", "never", reply(1.0), None, False),
    ("never, error", "never", failure(), None, True),
]


@pytest.mark.parametrize(
    ("task", "outcome", "natural", "failed"), [row[1:] for row in OBSERVED], ids=[r[0] for r in OBSERVED]
)
def test_the_guard_is_told_what_confidence_alone_would_have_done(
    task: str, outcome: Any, natural: bool | None, failed: bool
) -> None:
    """Floors are no escalation of its own; errors, overflow and rungs that never ship are not for it to count."""
    flow = climb(PLAN, request_of(task=task))
    next(flow)
    assert flow.send(outcome) == Observation(task, 0, "r0", natural, failed)


def test_the_top_is_not_counted() -> None:
    """It has no confidence and nowhere to go; its errors are counted all the same."""
    assert run(PLAN, [reply(0.1), reply(0.1), PLAIN]).observed[2].natural is None
    last = run(PLAN, [reply(0.1), reply(0.1), failure()]).observed[2]
    assert (last.natural, last.failed) == (None, True)


OUTCOMES = st.one_of(
    st.builds(
        reply, st.sampled_from([None, 0, 0.5, 0.9, 2, "x"]), st.sampled_from(["yes", "", "no", None]).filter(bool)
    ),
    st.builds(failure, st.sampled_from(["server", "overflow", "timeout", "rejected"]), usage=st.just(USAGE)),
    st.builds(reply, stop_reason=st.sampled_from(["max_tokens", "refusal", "pause_turn", "tool_use", ""])),
)


@given(
    outcomes=st.lists(OUTCOMES, min_size=3, max_size=3),
    told=st.lists(st.builds(Situation, st.sampled_from([None, "escalate", "hold"])), max_size=3),
)
def test_a_climb_ends_with_an_answer_or_a_typed_error_and_every_step_is_paid(
    outcomes: list[Any], told: list[Situation]
) -> None:
    """Whatever comes: rungs 0, 1, 2 in order, a text that is not empty or a ClimbError, and the sum of all steps."""
    done = Climbed()
    try:
        run(PLAN, outcomes, situations=told, record=done)
    except ClimbError as error:
        steps, cost_usd = error.steps, error.cost_usd
    else:
        assert done.answer is not None
        steps, cost_usd = done.answer.steps, done.answer.cost_usd
        assert done.answer.text
        assert done.answer.text.strip()
    assert done.asked == list(range(len(steps)))
    assert all(one.cost_nanousd == COST for one in steps)
    assert cost_usd == pytest.approx(len(steps) * COST / 1e9)


def test_each_attempt_is_priced_by_itself() -> None:
    """Two broken attempts of 60,000 tokens each are not one prompt above 100,000."""
    half = Usage(input_tokens=60_000)
    policy = Policy.model_validate(
        {
            "version": 1,
            "name": "tiers",
            "ladder": [
                {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.8, "max_tokens": 100},
                {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 100},
            ],
        }
    )
    answer = answer_of(policy, reply(0.9, "yes", usage=Usage(), spent=(half, half)))
    assert answer.cost_nanousd == 2 * 60_000 * 100
    assert answer.usage.input_tokens == 120_000


def test_a_storm_is_charged_with_every_step_it_caused() -> None:
    """Sent up by a storm, then unsure, then answered at the top: two steps on its bill."""
    storm = (Situation(storm="escalate"), Situation(), Situation())
    done = run(policy_of(0.8, 0.8), [reply(0.9), reply(0.1), reply(None, "top")], situations=storm)
    assert [observation.storm_cost for observation in done.observed] == [0, COST, COST]
