"""The review before shipping: which answers are read first, what the reviewer is asked, and what its reply means for the climb."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from cascade.core.bound_policy import BoundPolicy
from cascade.core.budgets import Refusal
from cascade.core.climb import Observation, Reading, climb
from cascade.core.decision import Situation, Start
from cascade.core.errors import AllRungsFailed
from cascade.core.events import Ask, AskReview, AskSamples, Early, Finish
from cascade.core.messages import Reply, Usage
from cascade.core.policy import Policy
from cascade.core.prompts.review_gate import RULES
from cascade.core.prompts.triage import RULES as TRIAGE_RULES
from cascade.core.review import (
    build_review_prompt,
    may_review,
    needs_review,
    read_review,
)
from cascade.core.step_calls import bare_step, calls_of
from cascade.core.trail import Answer, CheckResult, Review, Step, Verdict
from cascade.core.trail_table import trail_rows, trail_text
from cascade.policy.binding import bind_baseline, bind_policy
from cascade.policy.certificates import epoch_of, hash_of, hashes_of
from cascade.policy.loading import load_policy
from cascade.policy.shipped import names
from tests.core.builders import COST, USAGE, failure, policy_of, reply, request_of

GATE: dict[str, Any] = {"kind": "review", "rung": "r1", "below": 0.95}


def gated(*thresholds: float | str, below: float = 0.95, rung: str = "r1", **more: Any) -> Policy:
    """A policy whose answers under `below` are reviewed by this rung."""
    return policy_of(*thresholds, checks=[{**GATE, "rung": rung, "below": below}], **more)


def said(verdict: Any = "accept", reason: Any = "it is so", **more: Any) -> Reply:
    """A reviewer's reply; it costs COST."""
    return reply(None, json.dumps({"verdict": verdict, "reason": reason}), **more)


@dataclass
class Run:
    """A climb that was driven by hand: the rungs asked, the reviews asked for, what was observed, and the answer."""

    asked: list[int] = field(default_factory=list[int])
    reviews: list[AskReview] = field(default_factory=list[AskReview])
    finished: list[str] = field(default_factory=list[str])
    observed: list[Observation] = field(default_factory=list[Observation])
    answer: Answer | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The answer's trail."""
        assert self.answer is not None
        return self.answer.steps


def run(plan: BoundPolicy | Policy, outcomes: Iterable[Any], reviews: Iterable[Any] = (), **more: Any) -> Run:
    """Drive a climb: the outcomes and the reviews in turn; no storm, no deadline. `early`: confidences before the replies."""
    done, replies, reviewers = Run(), iter(outcomes), iter(reviews)
    early = iter(more.pop("early", ()))
    request = more.pop("request", None) or request_of()
    flow = climb(bind_policy(plan) if isinstance(plan, Policy) else plan, request, **more)
    try:
        wanted = next(flow)
        while True:
            if isinstance(wanted, (Ask, AskSamples)):
                done.asked.append(wanted.index)
                first = next(early, None) if isinstance(wanted, Ask) and wanted.early else None
                wanted = flow.send(next(replies) if first is None else first)
            elif isinstance(wanted, Finish):
                done.finished.append(wanted.action)
                wanted = flow.send(next(replies))
            elif isinstance(wanted, AskReview):
                done.reviews.append(wanted)
                wanted = flow.send(next(reviewers))
            else:
                assert isinstance(wanted, Observation)
                done.observed.append(wanted)
                wanted = flow.send(Situation())
    except StopIteration as end:
        done.answer = end.value
        return done


def test_an_accepted_answer_ships_and_its_step_includes_the_review() -> None:
    """Usage, cost, attempts and time are the step's sums; the review and the result of the check are on the trail."""
    done = run(gated(), [reply(0.9, latency_s=0.25)], [said(attempts=2, latency_s=0.5, request_id="req_r")])
    answer = done.answer
    assert answer is not None
    assert (answer.text, answer.rung, answer.degraded, answer.cost_nanousd, answer.attempts) == (
        "yes",
        "r0",
        None,
        2 * COST,
        3,
    )
    (step,) = answer.steps
    assert step.review == Review("r1", "model-1", True, "", USAGE, COST, 2, 0.5, "req_r", "it is so")
    assert (step.usage, step.cost_nanousd, step.attempts, step.latency_s) == (USAGE + USAGE, 2 * COST, 3, 0.75)
    assert step.verdict.checks == (CheckResult("review:r1", True, True, 0.5),)
    assert [(one.index, one.reviewer, one.text, [s.rung for s in one.steps]) for one in done.reviews] == [
        (0, 1, "yes", ["r0"])
    ]
    assert bare_step(step) == replace(step, usage=USAGE, cost_nanousd=COST, attempts=1, latency_s=0.25, review=None)


def test_a_rejected_answer_failed_a_check_and_counts_for_the_storm_guard() -> None:
    """It climbs to the next rung, which is the reviewer here: its own answer is not reviewed."""
    done = run(gated(), [reply(0.9), reply(0.85, "better")], [said("reject", "the sum is wrong")])
    assert (done.asked, len(done.reviews)) == ([0, 1], 1)
    first = done.steps[0]
    assert (first.reason, first.verdict.failed_checks) == ("check_failed", ("review:r1",))
    assert first.review is not None
    assert (first.review.accepted, first.review.reason, first.review.said) == (False, "the sum is wrong", "reject")
    assert [(one.natural, one.failed) for one in done.observed] == [(True, False), (False, False)]
    assert done.answer is not None
    assert (done.answer.text, done.answer.cost_nanousd) == ("better", 3 * COST)


@pytest.mark.parametrize(
    ("outcome", "kind", "detail"),
    [
        (reply(None, "I would accept this."), "malformed", "not a review"),
        (reply(None, '{"verdict": "maybe", "reason": "x"}'), "malformed", "not a review"),
        (reply(None, '{"verdict": true, "reason": "x"}'), "malformed", "not a review"),
        (reply(None, "[]"), "malformed", "not a review"),
        (said(stop_reason="max_tokens"), "truncated", "not a review: truncated"),
        (said(stop_reason="refusal"), "refused", "not a review: refused"),
        (said(stop_reason="pause_turn"), "malformed", "not a review"),
        (failure(usage=USAGE), "failed", "server, HTTP 500"),
        (failure("deadline", status=None, attempts=0), "failed", "deadline"),
        (failure("overflow", status=400), "overflow", "overflow, HTTP 400"),
        (failure("rejected", status=404), "failed", "rejected, HTTP 404"),
    ],
)
def test_a_review_that_cannot_be_used_is_an_error_and_climbs(outcome: Any, kind: str, detail: str) -> None:
    """Prose, a truncated reply and a failed call say nothing of the answer: it neither ships nor is held. What it cost is paid."""
    done = run(gated(), [reply(0.9), reply(0.85, "better")], [outcome])
    first = done.steps[0]
    assert (first.reason, first.verdict.failed_checks, first.verdict.is_unchecked) == ("error", (), True)
    assert first.review is not None
    assert (first.review.accepted, first.review.kind, first.review.detail) == (None, kind, detail)
    assert first.usage == USAGE + outcome.usage
    assert [(one.natural, one.failed) for one in done.observed] == [(None, True), (False, False)]
    with pytest.raises(AllRungsFailed, match=r"review:r1 could not say: "):
        run(gated(), [reply(0.9), failure(), failure()], [outcome])


def test_json_in_a_code_fence_is_a_review() -> None:
    """Nothing is guessed: the object in the fence is whole."""
    fenced = reply(None, '```json\n{"verdict": "reject", "reason": "wrong"}\n```')
    assert read_review(bind_policy(gated()), 1, fenced).accepted is False


@pytest.mark.parametrize(
    "kept", [{"verdict": "accept"}, {"verdict": "accept", "reason": 7}, {"verdict": "accept", "reason": "\ud800"}]
)
def test_a_verdict_counts_whatever_stands_for_its_reason(kept: dict[str, Any]) -> None:
    """A reason that cannot be told is left out."""
    review = read_review(bind_policy(gated()), 1, reply(None, json.dumps(kept)))
    assert (review.accepted, review.reason) == (True, "")


@pytest.mark.parametrize(
    ("confidence", "reviewed"), [(0.8, True), (0.949, True), (0.95, False), (1.0, False), (0.79, False)]
)
def test_only_what_would_ship_under_the_confidence_is_reviewed(confidence: float, reviewed: bool) -> None:
    """At or above `below` it ships unread; under the threshold it climbs unread."""
    done = run(gated(), [reply(confidence), reply(0.95)], [said()])
    assert len(done.reviews) == reviewed


@pytest.mark.parametrize(("rung", "reviews"), [("r1", 1), ("r2", 2)])
def test_answers_of_the_reviewing_rung_and_above_are_not_reviewed(rung: str, reviews: int) -> None:
    """r1 ships at 0.85, under `below`: r2 reads that too, r1 does not read its own."""
    done = run(gated(rung=rung), [reply(0.9), reply(0.85)], [said("reject"), said()])
    assert len(done.reviews) == reviews
    assert done.steps[1].review == (None if rung == "r1" else done.steps[1].review)


def test_a_check_that_failed_leaves_nothing_to_review() -> None:
    """The review is the last check: it is paid only for an answer that passes all others."""
    policy = policy_of(checks=[{"max_chars": 2}, GATE])
    done = run(policy, [reply(0.9, "too long"), reply(0.9, "ok")], [])
    assert (done.reviews, done.steps[0].reason) == ([], "check_failed")


@pytest.mark.parametrize(
    "situation",
    [{"tasks": [{"name": "t", "floor": "r1"}], "task": "t"}, {"start": Start(0, 1)}],
)
def test_an_answer_below_the_floor_is_not_reviewed(situation: dict[str, Any]) -> None:
    """It does not ship in any case, by the task's floor or by the conversation's."""
    more = {"start": situation["start"]} if "start" in situation else {"request": request_of(task="t")}
    done = run(gated(tasks=situation.get("tasks", ())), [reply(0.9), reply(0.9)], [said()], **more)
    assert (done.reviews, done.steps[0].reason) == ([], "floor")


def test_a_task_has_its_own_review_in_place_of_the_policys() -> None:
    """Another rung, another confidence."""
    own = {"kind": "review", "rung": "r2", "below": 0.9}
    policy = gated(tasks=[{"name": "t", "checks": [own]}])
    plan = bind_policy(policy)
    gates = [plan.review_of(task) for task in ("t", "other", "unknown")]
    assert [gate and (gate.index, gate.rung, gate.below) for gate in gates] == [
        (2, "r2", 0.9),
        (1, "r1", 0.95),
        (1, "r1", 0.95),
    ]
    assert [may_review(plan, task, 1) for task in ("t", "other")] == [True, False]
    done = run(plan, [reply(0.85)], [said()], request=request_of(task="t"))
    assert [one.reviewer for one in done.reviews] == [2]
    assert run(plan, [reply(0.92)], [], request=request_of(task="t")).reviews == []


def test_no_budget_for_the_review_ships_the_answer_degraded_and_unreviewed() -> None:
    """It does not stand, since it was to be read; it is held, since nothing speaks against it. Neither guard counts it."""
    refusal = Refusal("daily_usd: 1 USD is spent")
    done = run(gated(), [reply(0.9)], [refusal])
    assert done.answer is not None
    assert (done.answer.text, done.answer.rung, done.answer.degraded) == ("yes", "r0", "budget")
    (step,) = done.steps
    assert step.review is not None
    assert (step.review.accepted, step.review.refused, step.review.attempts, step.cost_nanousd) == (None, True, 0, COST)
    assert (step.reason, calls_of(step)) == (None, (replace(step, review=None),))
    assert [(one.natural, one.failed) for one in done.observed] == [(None, False)]


def test_a_driver_may_send_a_review_that_was_made_before() -> None:
    """Replay does: accepted, usage and cost are taken as they are."""
    recorded = Review("r1", "model-1", False, usage=Usage(7, 3), cost_nanousd=5)
    done = run(gated(), [reply(0.9), reply(0.9)], [recorded])
    assert (done.steps[0].review, done.steps[0].cost_nanousd, done.steps[0].reason) == (
        recorded,
        COST + 5,
        "check_failed",
    )


def test_a_step_that_was_reviewed_is_not_reviewed_again() -> None:
    """A driver that sends a step taken before sends its review with it."""
    (step,) = run(gated(), [reply(0.9)], [said()]).steps
    assert needs_review(bind_policy(gated()), "other", bare_step(step), Situation()) is not None
    assert run(gated(), [step], []).steps[0].review == step.review


@pytest.mark.parametrize(("threshold", "reviewed"), [(0.8, True), (None, False)])
def test_a_vote_is_reviewed_where_its_self_reports_ship_it(threshold: float | None, reviewed: bool) -> None:
    """With a threshold the mean self-report decides and is held against `below`; agreement alone is no such number."""
    rung: dict[str, Any] = {"samples": {"max": 2, "agree": 2}} | ({} if threshold is None else {"threshold": threshold})
    policy = gated().model_dump(mode="json", by_alias=True, exclude_defaults=True)
    policy["ladder"][0].pop("threshold")
    policy["ladder"][0] |= rung
    done = run(Policy.model_validate(policy), [(reply(0.9),), (reply(0.88),)], [said()])
    (step,) = done.steps
    assert (len(done.reviews), step.review is not None) == (reviewed, reviewed)
    assert (len(step.samples), step.cost_nanousd) == (2, (2 + reviewed) * COST)
    assert [call.cost_nanousd for call in calls_of(step)] == [COST] * (2 + reviewed)


def test_a_rung_under_a_review_may_close_early_but_not_ship_early() -> None:
    """The reviewer reads the whole answer: a stream to the caller waits for it. The reviewing rung itself streams."""
    reading = Reading(early=True, streamed=True)
    done = run(gated(), [reply(0.9)], [said()], early=[Early(0.9)], reading=reading)
    assert (done.finished, len(done.reviews), done.answer and done.answer.text) == (["read"], 1, "yes")
    done = run(gated(), [reply(0.5), reply(0.9)], [], early=[Early(0.5), Early(0.9)], reading=reading)
    assert done.finished == ["close", "ship"]


def test_the_baseline_has_no_review() -> None:
    """The policy's checks make a ladder climb: they do not apply where there is none."""
    plan = bind_baseline(bind_policy(gated()))
    assert plan.review_of("other") is None


def test_the_reviewer_is_shown_request_and_answer_as_one_json_object() -> None:
    """System prompt, turns and the answer's schema; its own rules alone are instructions, and there is no triage."""
    turns = [
        {"role": "user", "content": "Is it 4?"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "No."}],
        },
        {"role": "user", "content": [{"type": "text", "text": 'Really? "}', "cache_control": {"type": "ephemeral"}}]},
    ]
    request = request_of(turns, system="Be brief.", schema={"type": "object"}, metadata={"user_id": "u"})
    policy = gated()
    prompt = build_review_prompt(policy, 1, request, '{"sum": 4}')
    assert (prompt.rung, prompt.system, prompt.user_id) == (policy.ladder[1], ({"type": "text", "text": RULES},), "u")
    (message,) = prompt.messages
    assert json.loads(message["content"]) == {
        "request": {
            "system": "Be brief.",
            "turns": [
                {"role": "user", "content": "Is it 4?"},
                {"role": "assistant", "content": ["No."]},
                {"role": "user", "content": ['Really? "}']},
            ],
            "schema_of_the_answer": {"type": "object"},
        },
        "answer": '{"sum": 4}',
    }


def test_images_and_documents_go_beside_the_object_that_names_them() -> None:
    """In tool results too; a tool call is shown as it is."""
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    document = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
        "citations": {"enabled": False},
    }
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {"content": [1]}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [document, {"type": "text", "text": "seen"}]}
    turns = [
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    (message,) = build_review_prompt(gated(), 1, request_of(turns), "yes").messages
    *seen, text = message["content"]
    assert seen == [image, {key: value for key, value in document.items() if key != "citations"}]
    shown = [turn["content"] for turn in json.loads(text["text"])["request"]["turns"]]
    assert shown == [
        ["[image: number 1 of the blocks before this one]"],
        [call],
        [{**result, "content": ["[document: number 2 of the blocks before this one]", "seen"]}],
    ]


def test_blocks_of_the_sdks_classes_are_shown_as_what_is_sent() -> None:
    """A conversation is often continued with a reply's own blocks: their texts are shown, thinking is not."""
    blocks = [
        ThinkingBlock(type="thinking", thinking="hm", signature="s"),
        TextBlock(type="text", text="No."),
        ToolUseBlock(type="tool_use", id="t", name="look", input={"at": 1}),
    ]
    turns = [{"role": "assistant", "content": blocks}, {"role": "user", "content": "Really?"}]
    (message,) = build_review_prompt(gated(), 1, request_of(turns), "yes").messages
    shown = json.loads(message["content"])["request"]["turns"][0]["content"]
    assert shown == ["No.", {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]


def test_a_reviewer_that_thinks_has_room_for_its_reply() -> None:
    """max_tokens counts thinking: without the allowance its verdict would be cut off."""
    thinking = {"rung": "r1", "model": "claude-sonnet-5-5", "threshold": 0.8, "max_tokens": 100, "effort": "high"}
    dumped = gated(models=["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"], price=None).model_dump(
        mode="json", exclude_defaults=True
    )
    dumped["ladder"][1] = thinking
    prompt = build_review_prompt(Policy.model_validate(dumped), 1, request_of(), "yes")
    assert prompt.max_tokens == 512 + 8_192


def test_the_trail_shows_the_review() -> None:
    """As a row of its own, as JSON, and on a narrow screen; the reviewer's reason only there where the answer is too."""
    steps = run(gated(), [reply(0.9), reply(0.85)], [said("reject", "the sum is wrong", latency_s=0.125)]).steps
    rows = trail_rows(steps, "r1")
    assert [row[0] for row in rows] == ["step", "1", "1.review", "2"]
    assert rows[1][5:] == ("0.000300", "model-0", "1", "0")  # what the review cost is in its row alone
    assert sum(float(row[5]) for row in rows[1:]) == pytest.approx(sum(step.cost_usd for step in steps))
    assert rows[2][1:] == ("· r1", "reject: the sum is wrong", "", "", "0.000300", "model-1", "1", "125")
    assert "1.review r1: reject: the sum is wrong; 0.000300 USD, 125 ms, model-1" in trail_text(steps, "r1", 90)
    told = steps[0].to_dict()["review"]
    assert (told["rung"], told["accepted"], told["reason"], told["cost_nanousd"]) == (
        "r1",
        False,
        "the sum is wrong",
        COST,
    )
    assert "review" not in steps[1].to_dict()


def test_a_review_as_a_call_has_a_verdict_of_its_own() -> None:
    """For spans, metrics and the ledger: what kind it was, never the reviewer's words but as its text."""
    (step,) = run(gated(), [reply(0.9)], [said(reason="fine")]).steps
    own, review = calls_of(step)
    assert (own.cost_nanousd, review.cost_nanousd, review.model) == (COST, COST, "model-1")
    assert review.verdict == Verdict("answered", detail="accept", text="fine")


def test_policies_without_a_review_have_the_hashes_that_they_had() -> None:
    """The keys of a review are in no other check's values, so that no policy's hash changes and no certificate is voided."""
    keys = {"not_empty", "pattern", "max_chars", "json_schema", "function"}
    for name in names("policies"):
        policy = load_policy(name)
        checks = [*policy.checks, *(check for task in policy.tasks for check in task.checks)]
        assert all(check.model_dump().keys() == keys for check in checks)
        asked = [policy.triage.prompt or TRIAGE_RULES[policy.triage.order], policy.triage.order]
        if policy.handoff is None:  # its words are prompts too
            assert hashes_of(policy)["prompts"] == hash_of(json.dumps(asked).encode())


def test_a_review_changes_the_prompts_and_the_thresholds_and_begins_an_epoch() -> None:
    """Its rules, its rung and `below` decide what ships."""
    plain, first, other = policy_of(), gated(), gated(below=0.9)
    before, after = hashes_of(plain), hashes_of(first)
    assert {part for part in before if before[part] != after[part]} == {"prompts", "thresholds"}
    moved = hashes_of(other)
    assert {part for part in after if after[part] != moved[part]} == {"thresholds"}
    assert len({epoch_of(one, 0) for one in (plain, first, other)}) == 3
