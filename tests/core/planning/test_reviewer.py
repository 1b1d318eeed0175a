"""The reviewer's request holds what a result is judged by and nothing else; whatever comes back is read as a review, or as unusable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import AllRungsFailed, BudgetExceeded
from cascade.core.messages import Request
from cascade.core.planning.controls import CONTROLS
from cascade.core.planning.executor import Source
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import PlanReview
from cascade.core.planning.reviewer import (
    control_request,
    read_review,
    reviewer_id,
    reviewer_request,
    verdict_in,
)
from cascade.core.policy import Policy
from cascade.core.prompts.reviewer import RULES, SCHEMA
from cascade.core.trail import Answer
from cascade.policy.binding import bind_policy, bind_single
from tests.core.builders import answer_of, failure, policy_of, reply, request_of, step


def planning(**more: Any) -> Policy:
    """A policy whose reviewer is r1."""
    return policy_of(0.8, 0.8, plan={"planner": "r1", "reviewer": "r1", **more})


PLAN = Plan(
    "Compare the makers of lamps.",
    (
        Subtask("names", "List the makers.", ("notes",), "r0"),
        Subtask(
            "prices", "Give each maker's price.", ("names", "notes"), "r0", task="extract", schema={"type": "array"}
        ),
    ),
    ("notes", "letter"),
)
SOURCES = {
    "notes": Source('Ada sells lamps for 30 euros. "}]}'),
    "letter": Source("Confidential."),
    "names": Source("Ada", "the notes name two makers"),
}


def asked(request: Request) -> dict[str, Any]:
    """The JSON object that a request shows."""
    return json.loads(request.messages[0]["content"])


def test_the_reviewer_reads_instruction_form_referenced_sources_and_result_and_nothing_else() -> None:
    """Not the executor's rung, confidence or self-assessment, and no source that the subtask does not refer to."""
    request = reviewer_request(PLAN, PLAN["prices"], SOURCES, '["30"]', planning())
    assert asked(request) == {
        "goal": "Compare the makers of lamps.",
        "instruction": "Give each maker's price.",
        "sources": [
            {"name": "names", "unsettled_because": "the notes name two makers", "text": "Ada"},
            {"name": "notes", "text": 'Ada sells lamps for 30 euros. "}]}'},
        ],
        "expected_form": {"type": "array"},
        "result": '["30"]',
    }
    assert (request.system, request.schema, request.task) == (RULES, SCHEMA, "extract")
    assert not request.assessed


def test_what_was_decided_before_is_told_as_the_executor_was_told_it() -> None:
    """Else a result that keeps to it would be called made up."""
    request = reviewer_request(PLAN, PLAN["names"], SOURCES, "Ada", planning(), decided="Only makers in Rome count.")
    assert asked(request)["decided"] == "Only makers in Rome count."


def test_a_text_is_expected_where_the_subtask_has_no_schema() -> None:
    """The form is never left out, so that every request has the same keys."""
    assert asked(reviewer_request(PLAN, PLAN["names"], SOURCES, "Ada", planning()))["expected_form"] == "text"


def test_a_source_that_is_missing_is_an_error_and_not_left_out() -> None:
    """A reviewer without it would call the result made up."""
    with pytest.raises(KeyError, match="names"):
        reviewer_request(PLAN, PLAN["prices"], {"notes": SOURCES["notes"]}, "", planning())


@pytest.mark.parametrize("decided", ["", "Only makers in Rome count."])
@pytest.mark.parametrize("own", [None, "Read it twice."])
def test_a_control_item_looks_like_any_other_result(own: str | None, decided: str) -> None:
    """The same words, keys in the same order, schema and room: a reviewer cannot tell which it is."""
    policy = planning(prompts={"reviewer": own})
    plan = Plan("Sort lamps.", (Subtask("one", "List them.", ("notes",), "r0"),), ("notes",))
    real = reviewer_request(plan, plan["one"], SOURCES, "Ada", policy, decided=decided)
    assert real.system == (own or RULES)
    for item in CONTROLS:
        control = control_request(item, policy, decided=decided)
        assert asked(control).get("decided", "") == decided
        assert list(asked(control)) == list(asked(real))
        assert {tuple(source) for source in asked(control)["sources"]} == {("name", "text")}
        assert (control.system, control.schema, control.max_tokens, control.task) == (
            real.system, real.schema, real.max_tokens, real.task,
        )  # fmt: skip


def test_another_model_endpoint_effort_or_words_are_another_reviewer_and_nothing_else_is() -> None:
    """So their control items start anew."""
    first = reviewer_id(planning())
    assert first.startswith("reviewer:r1#")
    assert reviewer_id(planning(max_retries=1, prompts={"executor": "Work."})) == first
    assert reviewer_id(planning(prompts={"reviewer": "Read it twice."})) != first
    other = policy_of(0.8, 0.8, models=("model-0", "another"), plan={"planner": "r1", "reviewer": "r1"})
    assert reviewer_id(other) != first
    rungs = [rung.model_dump(exclude_unset=True) for rung in planning().ladder]
    for more in ({"effort": "low"}, {"base_url": "http://127.0.0.1:8000"}, {"provider": "openai"}):
        changed = {**planning().model_dump(exclude_unset=True), "ladder": [rungs[0], rungs[1] | more, *rungs[2:]]}
        assert reviewer_id(Policy.model_validate(changed)) != first


def reviewed(*outcomes: Any, **more: Any) -> PlanReview:
    """What a reviewer's call comes to: of a ladder of one rung, asked as the driver asks it."""
    policy = planning(**more)
    single = bind_single(bind_policy(policy), policy.ladder[1])
    request = request_of("read it", schema=SCHEMA)
    try:
        outcome: Any = answer_of(single, *outcomes, request=request)
    except AllRungsFailed as error:
        outcome = error
    return read_review(outcome, "casc_1", 7)


def said(text: Any, **more: Any) -> Any:
    """A reviewer's reply."""
    return reply(None, text if isinstance(text, str) else json.dumps(text), **more)


@pytest.mark.parametrize("verdict", ["accept", "retry", "escalate"])
def test_a_verdict_is_read_with_its_reason(verdict: str) -> None:
    """With the id of its call and what that cost."""
    review = reviewed(said({"reason": "The price is 30 euros.", "verdict": verdict}))
    assert review == PlanReview(verdict, "The price is 30 euros.", "casc_1", 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "why", "failed"),
    [
        (said("I think that this is fine: accept."), "the reply is no review: malformed", False),
        (said({"reason": "fine", "verdict": "yes"}), "the reply is no review: malformed", False),
        (said({"reason": "fine", "verdict": ["accept"]}), "the reply is no review: malformed", False),
        (said(["accept"]), "the reply is no review: malformed", False),
        (said('{"reason": "fi', stop_reason="max_tokens"), "the reply is no review: truncated", False),
        (said("", stop_reason="refusal"), "the reply is no review: refused", False),
        (failure(), "the call failed: no rung had an answer", True),
    ],
)
def test_what_is_no_review_is_unusable_and_says_what_it_was(outcome: Any, why: str, failed: bool) -> None:
    """A failed call is told from a reply that cannot be used."""
    review = reviewed(outcome)
    assert (review.verdict, review.failed, review.request_id, review.cost_nanousd) == ("unusable", failed, "casc_1", 7)
    assert review.reason.startswith(why)


def test_an_error_before_the_call_is_a_failed_review_too() -> None:
    """Its first line says what it was."""
    review = read_review(BudgetExceeded("the run's budget has no room\nmore"), "casc_1")
    assert (review.verdict, review.failed) == ("unusable", True)
    assert review.reason == "the call failed: the run's budget has no room"


def test_an_answer_that_was_given_up_is_unusable_whatever_it_says() -> None:
    """A truncated reply may parse by chance."""
    policy = planning()
    answer: Answer = answer_of(bind_single(bind_policy(policy), policy.ladder[1]), said("x"), request=request_of("?"))
    kept = step(0, "truncated")
    changed = Answer(**{name: getattr(answer, name) for name in Answer.__slots__} | {
        "data": {"verdict": "accept", "reason": ""}, "degraded": "truncated", "steps": (kept,)})  # fmt: skip
    assert read_review(changed, "casc_1").verdict == "unusable"


def test_a_reason_is_bounded_and_one_that_is_no_text_is_left_out() -> None:
    """The verdict counts in any case."""
    assert len(reviewed(said({"reason": "x" * 5000, "verdict": "retry"})).reason) == 1000
    assert reviewed(said({"reason": 3, "verdict": "retry"})).reason == ""


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one))
       | st.dictionaries(st.just("verdict"), st.sampled_from(["accept", "Accept", "retry", "escalate", "", None, 1])))  # fmt: skip
def test_any_value_has_a_verdict(value: Any) -> None:
    """One of the three words, or unusable."""
    stated = value.get("verdict") if isinstance(value, dict) else None
    assert verdict_in(value) == (stated if stated in ("accept", "retry", "escalate") else "unusable")
