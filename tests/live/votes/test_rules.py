"""What a vote means for the rest of a policy: the storm guard, tasks, a judge, other models that vote."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from cascade import MissingKey, Policy
from cascade.core.storm import Guard
from cascade.corpora import Item
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item
from tests.live.conftest import COST, HAIKU, SONNET, Asking, Clock, Emulate, corpus, message_body, reasons, reply
from tests.live.operation.test_storms import named, run

from .conftest import Provide
from .provider import BUSY, Asked, Said, asked_often, in_turn, says

ONE = COST["haiku"]


def sampled(text: str, *answers: str, at: float) -> Item:
    """An item whose Haiku gives these answers in turn."""
    first, *further = (reply(0.9, answer) for answer in answers)
    haiku = reply(0.9, first.answer, samples=tuple(further))
    return Item(text, text, {"haiku": haiku, "sonnet": reply(0.9, "s"), "opus": reply(None, "o")}, at=at)


def test_the_storm_guard_counts_disagreement(asking: Asking, emulate: Emulate) -> None:
    """Votes that disagree trip it; then those that agree go one rung up too; live as in replay."""
    differ = [sampled(f"d{n}", "one", "two", "three", at=float(n)) for n in range(30)]
    agree = [sampled(f"a{n}", "yes", "yes", "yes", at=30.0 + n) for n in range(3)]
    items = (*differ, *agree)
    guard: dict[str, Any] = {"rate": 0.35, "window": 20, "min_samples": 10, "dwell_s": 600}
    policy = asked_often(most=3, agree=2, storm_guard=guard)
    clock = Clock()
    answers, events = run(asking(policy, emulate(corpus(*items)), clock=clock), clock, items)
    assert named(events) == [("storm_tripped", "other", "haiku")]
    assert {answer.steps[0].reason for answer in answers[:30]} == {"disagreement"}
    assert [answer.steps[0].reason for answer in answers[30:]] == ["storm"] * 3
    plan, watching = bind_policy(policy), Guard(policy.storm_guard)
    replayed = [replay_item(plan, item, guard=watching, cost_of="policy") for item in items]
    assert [(one.cost_nanousd, reasons(one)) for one in answers] == [
        (one.cost_nanousd, reasons(one)) for one in replayed
    ]


def test_a_task_may_ask_a_rung_in_another_way_or_once(asking: Asking, provide: Provide) -> None:
    """Its samples take the place of the ladder's; null: one call, against a threshold."""
    tasks = [
        {"name": "once", "samples": {"haiku": None}, "thresholds": {"haiku": 0.8}},
        {"name": "both", "samples": {"haiku": {"max": 2, "agree": 2, "same": "exact"}}},
        {"name": "sonnet", "floor": "sonnet", "samples": {"sonnet": {"max": 3, "agree": 2}}},
    ]
    provider = provide(in_turn(says(0.9, "yes"), says(0.9, "Yes."), says(0.9, "yes")))
    driver = asking(asked_often(most=4, agree=3, tasks=tasks), provider)
    counts = {
        task: [len(step.samples) for step in driver.ask("?", task=task).steps] for task in ("once", "both", "other")
    }
    assert counts == {"once": [0], "both": [2, 0], "other": [3]}
    answer = driver.ask("?", task="sonnet")
    assert ([len(step.samples) for step in answer.steps], answer.text) == ([3, 2], "sonnet's")
    assert reasons(answer) == ["floor", None]


def judging(answers: list[str], *groupings: Said) -> Any:
    """Haiku gives these answers in turn, and its groupings in turn."""
    turns, judged = iter(answers), iter(groupings)

    def say(asked: Asked) -> Said:
        if asked.to_group is not None:
            return next(judged)
        if asked.model == HAIKU:
            return says(0.9, next(turns))
        return says(0.9, "sonnet's") if asked.model == SONNET else (200, message_body("opus's"))

    return say


def groups(*members: list[int]) -> Said:
    """A grouping of answers, by their numbers from 1."""
    return 200, message_body(json.dumps({"groups": list(members)}))


def test_a_judge_groups_by_meaning_from_sample_m_on(asking: Asking, provide: Provide) -> None:
    """One call a prefix; two mean the same, so the vote is reached; each call is on the trail and billed."""
    provider = provide(judging(["a dog", "a cat", "a hound"], groups([1], [2]), groups([1, 3], [2])))
    answer = asking(asked_often(most=3, agree=2, samples={"same": "judge"}), provider).ask("?")
    assert (answer.text, answer.confidence_source, answer.cost_nanousd) == ("a dog", "agreement", 5 * ONE)
    calls = answer.steps[0].samples
    assert [(call.variant, call.is_judge) for call in calls] == [
        ("confidence_first", False), ("confidence_first", False), ("judge", True), ("confidence_first", False), ("judge", True),
    ]  # fmt: skip
    assert answer.steps[0].verdict.vote is not None
    assert answer.steps[0].verdict.vote.members == (0, 2)
    assert provider.asked[-1].to_group == ("a dog", "a cat", "a hound")


@pytest.mark.parametrize(
    "grouping",
    [groups([1, 2], [2]), groups([1]), groups([0, 1]), (200, message_body("they are alike")), (200, message_body('{"groups": 1}'))],
    ids=["twice", "left out", "unknown", "prose", "no list"],
)  # fmt: skip
def test_a_grouping_that_contradicts_itself_agrees_on_nothing(asking: Asking, provide: Provide, grouping: Said) -> None:
    """Malformed, billed, and the answer climbs by disagreement; texts that are equal need no judge."""
    provider = provide(judging(["a", "b"], grouping))
    answer = asking(asked_often(most=2, agree=2, samples={"same": "judge"}), provider).ask("?")
    assert (answer.text, reasons(answer)) == ("sonnet's", ["disagreement", None])
    assert [call.verdict.kind for call in answer.steps[0].samples] == ["answered", "answered", "malformed"]
    assert answer.steps[0].cost_nanousd == 3 * ONE
    alike = asking(asked_often(most=2, agree=2, samples={"same": "judge"}), provide(judging(["a", "a"]))).ask("?")
    assert (alike.text, alike.cost_nanousd) == ("a", 2 * ONE)


def test_a_judge_that_fails_is_an_error_and_no_disagreement(asking: Asking, provide: Provide) -> None:
    """An outage of the judge says nothing of the answers."""
    policy = asked_often(most=2, agree=2, samples={"same": "judge"}, retry={"attempts": 1})
    answer = asking(policy, provide(judging(["a", "b"], BUSY[1]))).ask("?")
    assert (answer.text, reasons(answer)) == ("sonnet's", ["error", None])


def panel(base_url: str) -> Policy:
    """Haiku, and another model at an endpoint of its own, at a price of its own."""
    other: dict[str, Any] = {
        "prompt": "steps", "model": "small", "base_url": base_url, "api_key_env": "SMALL_KEY",
        "price": {"input": 1, "output": 3},
    }  # fmt: skip
    return asked_often(
        most=3, agree=2, samples={"variants": ["confidence_first", other], "at_once": 2}, retry={"attempts": 1}
    )


def test_another_model_votes_at_its_own_endpoint_with_its_own_key_and_price(
    asking: Asking, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each endpoint sees its own key alone; the trail names the model; its tokens cost what it costs."""
    monkeypatch.setenv("SMALL_KEY", "of-the-second")
    first, second = provide(in_turn(says(0.9, "yes"))), provide(lambda _: says(0.7, "Yes."))
    with closing(asking(panel(second.base_url), first)) as driver:
        answer = driver.ask("?")
    assert (answer.text, answer.rung, answer.confidence) == ("yes", "haiku", pytest.approx(2 / 3))
    assert [(sample.model, sample.variant) for sample in answer.steps[0].samples] == [
        (HAIKU, "confidence_first"), ("small", "small/steps"),
    ]  # fmt: skip
    usage = 100 * 1_000 + 20 * 3_000
    assert [sample.cost_nanousd for sample in answer.steps[0].samples] == [ONE, usage]
    assert answer.cost_nanousd == ONE + usage
    assert ([asked.key for asked in first.asked], [asked.key for asked in second.asked]) == (
        ["Bearer test"],
        ["Bearer of-the-second"],
    )
    assert [(asked.model, asked.variant) for asked in second.asked] == [("small", "steps")]


def test_a_voter_without_its_key_is_told_before_anything_is_sent(
    asking: Asking, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is paid for a vote that cannot be taken."""
    monkeypatch.delenv("SMALL_KEY", raising=False)
    first = provide(in_turn(says(0.9, "yes")))
    with closing(asking(panel("http://127.0.0.1:9"), first)) as driver, pytest.raises(MissingKey, match="SMALL_KEY"):
        driver.ask("?")
    assert first.asked == []


def test_a_voter_that_cannot_be_reached_is_a_failed_sample(
    asking: Asking, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others may still agree."""
    monkeypatch.setenv("SMALL_KEY", "x")
    with closing(asking(panel("http://127.0.0.1:9"), provide(in_turn(says(0.9, "yes"))))) as driver:
        answer = driver.ask("?")
    assert (answer.text, [sample.verdict.kind for sample in answer.steps[0].samples]) == (
        "yes", ["answered", "failed", "answered"],
    )  # fmt: skip
