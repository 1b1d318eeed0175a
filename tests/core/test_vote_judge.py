"""A vote on free text: when its judge is asked, and what its groups mean."""

from __future__ import annotations

import json

from cascade.core.decision import Call
from cascade.core.events import AskJudge, AskSamples, Recorded, Taking
from cascade.core.messages import Request
from cascade.core.policy import OTHER, Policy
from cascade.core.sampling import take_step
from cascade.core.trail import Step, Verdict
from cascade.policy.binding import bind_policy


def voted(answers: list[str | None], groups: list[list[list[int]] | None], *, agree: int = 2) -> tuple[Step, int]:
    """The step of a vote on these answers (None: declined), and how often its judge was asked. `groups`: what it says each time."""
    policy = Policy.model_validate(
        {
            "version": 1,
            "name": "vote",
            "ladder": [
                {"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 64,
                 "samples": {"max": len(answers), "agree": agree, "same": "judge"}},
                {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 64},
            ],
        }
    )  # fmt: skip
    plan = bind_policy(policy)
    request = Request(({"role": "user", "content": "why?"},))
    stepping = take_step(Taking(plan, request, OTHER, plan.checks_for(OTHER)), Call(0))
    judged = 0
    wanted = next(stepping)
    while True:
        if isinstance(wanted, AskSamples):
            texts = [answers[number] for number in wanted.numbers]
            sent: object = tuple(
                Recorded(Verdict("declined", 0.1) if text is None else Verdict("answered", 0.9, text=text))
                for text in texts
            )
        else:
            assert isinstance(wanted, AskJudge)
            said = groups[judged]
            judged += 1
            verdict = (
                Verdict("malformed", detail="no grouping")
                if said is None
                else Verdict("answered", text=json.dumps(said))
            )
            sent = Recorded(verdict)
        try:
            wanted = stepping.send(sent)
        except StopIteration as done:
            step = done.value.step
            assert step is not None
            return step, judged


def test_a_judge_that_contradicts_itself_ends_the_vote_with_its_samples() -> None:
    """It is asked once about each prefix, and then the texts decide: there is nothing left to ask for."""
    step, judged = voted(["a", "b", "c"], [None, None])
    assert judged == 2
    assert step.verdict.vote is not None
    assert step.verdict.vote.reason == "disagreement"


def test_a_judge_is_not_asked_again_about_the_same_answers() -> None:
    """A sample without an answer changes nothing that it could group."""
    step, judged = voted(["a", "b", None, None, "c"], [[[1], [2]], [[1], [2, 3]]])
    assert [sample.is_judge for sample in step.samples] == [False, False, True, False, False, False, True]
    assert judged == 2
    assert step.verdict.text == "b"


def test_answers_with_the_same_text_are_the_same_whatever_a_judge_says() -> None:
    """A vote that the texts have reached needs none; one that splits equal texts does not part them."""
    step, judged = voted(["a", "a", "b"], [])
    assert judged == 0
    assert step.verdict.vote is not None
    assert step.verdict.vote.reached
    step, judged = voted(["a", "b", "a", "a"], [[[1], [2], [3]]], agree=3)
    assert judged == 1
    assert step.verdict.vote is not None
    assert step.verdict.vote.members == (0, 2, 3)
