"""A vote on free text whose judge contradicts itself."""

from __future__ import annotations

from cascade.core.decision import Call
from cascade.core.messages import Request
from cascade.core.policy import OTHER, Policy
from cascade.core.sampling import AskJudge, AskSamples, Recorded, Taking, take_step
from cascade.core.trail import Verdict
from cascade.policy.plans import make_plan


def test_a_judge_that_contradicts_itself_ends_the_vote_with_its_samples() -> None:
    """It is asked once about the last sample, and then the texts decide: there is nothing left to ask for."""
    policy = Policy.model_validate(
        {
            "version": 1,
            "name": "vote",
            "ladder": [
                {"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 64,
                 "samples": {"max": 3, "agree": 2, "same": "judge"}},
                {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 64},
            ],
        }
    )  # fmt: skip
    plan = make_plan(policy)
    request = Request(({"role": "user", "content": "why?"},))
    stepping = take_step(Taking(plan, request, OTHER, plan.checks_for(OTHER)), Call(0))
    asked, judged = 0, 0
    wanted = next(stepping)
    while True:
        if isinstance(wanted, AskSamples):
            texts = [Recorded(Verdict("answered", 0.9, text=f"answer {number}")) for number in wanted.numbers]
            asked += len(texts)
            sent: object = tuple(texts)
        else:
            assert isinstance(wanted, AskJudge)
            judged += 1
            sent = Recorded(Verdict("malformed", detail="not a grouping of the answers"))
        try:
            wanted = stepping.send(sent)
        except StopIteration as done:
            step = done.value.step
            break
        assert asked + judged < 10
    assert (asked, judged) == (3, 2)
    assert step.verdict.vote.reason == "disagreement"
