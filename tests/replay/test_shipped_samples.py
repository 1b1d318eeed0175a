"""Figures from answers: a vote is scored by the sample that ships, not by the first that was recorded."""

from __future__ import annotations

import pytest

from cascade.core.policy import Policy
from cascade.corpora import Item, RecordedReply
from cascade.policy.binding import bind_policy
from cascade.replay.driver import replay_item
from cascade.replay.figures import answering_reply, figures_of

RUNGS = ("haiku", "sonnet", "opus")


def policy_of(*variants: str) -> Policy:
    """Haiku is asked up to three times, until two answers agree."""
    samples = {"max": 3, "agree": 2, "variants": list(variants)}
    ladder = [
        {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.5, "max_tokens": 100, "samples": samples},
        {"rung": "sonnet", "model": "claude-sonnet-5-5", "threshold": 0.5, "max_tokens": 100},
        {"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 100},
    ]
    return Policy.model_validate({"version": 1, "name": "votes", "ladder": ladder})


def reply(answer: str, variant: str | None = None, samples: tuple[RecordedReply, ...] | None = None) -> RecordedReply:
    """A reply that costs 1,000 nano-USD; "right" is right."""
    score = float(answer == "right")
    return RecordedReply(confidence=0.9, answer=answer, score=score, cost_usd=1e-6, variant=variant, samples=samples)


def item_of(*samples: tuple[str, str | None]) -> Item:
    """An item that haiku was asked several times: (answer, variant)."""
    first, *others = (reply(*sample) for sample in samples)
    every = reply(first.answer, first.variant, tuple(others))
    return Item(id="i", input="?", replies={"haiku": every, "sonnet": reply("wrong"), "opus": reply("wrong")})


@pytest.mark.parametrize(
    ("variants", "samples"),
    [
        (("confidence_first", "steps"), [("wrong", "confidence_first"), ("right", "steps"), ("right", "confidence_first")]),
        (("steps", "doubt"), [("wrong", "doubt"), ("right", "steps"), ("right", "steps")]),
        (("confidence_first",), [("wrong", None), ("right", None), ("right", None)]),
    ],
    ids=["in turn", "recorded in another order", "recorded without a variant's name"],
)  # fmt: skip
def test_the_sample_that_ships_is_scored(variants: tuple[str, ...], samples: list[tuple[str, str | None]]) -> None:
    """The first recorded sample is wrong, the vote is right."""
    policy, item = policy_of(*variants), item_of(*samples)
    answer = replay_item(bind_policy(policy), item)
    assert (answer.rung, answer.text) == ("haiku", "right")
    assert answering_reply(item, answer.steps[0]).answer == "right"
    figures = figures_of([item], [answer], RUNGS)
    assert (figures.quality, figures.wrong, figures.false_confident, figures.cost) == (1.0, 0, 0, 3_000)
    assert (figures.singles["haiku"].quality, figures.singles["haiku"].cost) == (0.0, 1_000)


def test_a_vote_that_fails_leaves_the_score_to_the_rung_above() -> None:
    """No two answers agree: sonnet's answer ships, and its score counts."""
    item = item_of(("right", "steps"), ("a", "steps"), ("b", "steps"))
    answer = replay_item(bind_policy(policy_of("steps")), item)
    assert answer.rung == "sonnet"
    assert figures_of([item], [answer], RUNGS).quality == 0.0
