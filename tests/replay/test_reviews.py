"""A review gate in replay: the recorded review is read, and paid for, exactly where the live rule would ask for one."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import Policy
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.corpora.items import RecordedReview
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.driver import request_of
from cascade.replay.exact import ExactRun
from cascade.replay.mapping import mapping_of
from cascade.replay.outcomes import REASONS, Outcomes, reviews_of
from cascade.replay.reviews import ACCEPTED, REJECTED, UNUSABLE
from cascade.replay.vectorised import evaluate
from tests.cli.conftest import Run

from .scenes import corpora, escalations, policies
from .test_votes import voting


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Corpus, PolicyMapping]:
    """A corpus with reviews and a policy with gates, for all requests and for tasks; some stop early."""
    names = tuple(f"r{n}" for n in range(draw(st.integers(2, 4))))
    policy = gated(draw, draw(policies(names)), names)
    # Reviews are few, used many times, as replies are.
    pool = draw(st.lists(reviews(names), min_size=1, max_size=6))
    corpus = draw(corpora(names))
    sure = st.sampled_from([0.25, 0.5, 0.7999999999999999, 0.8, 1.0])
    items: list[Item] = []
    for one in corpus.items:
        replies = {rung: replace(reply, review=draw(st.sampled_from(pool))) for rung, reply in one.replies.items()}
        if draw(st.booleans()):  # an answer that passes the checks, at some confidence
            replies = {rung: replace(reply, answer="yes", confidence=draw(sure)) for rung, reply in replies.items()}
        items.append(replace(one, replies=replies))
    # Which rung reviewed is the gate's own, as recorded by `cascade record`.
    mapping = mapping_of(policy, corpus.manifest, reprice=draw(st.booleans()), early_stop=draw(st.booleans()))
    items = [by_its_gate(item, mapping) for item in items]
    plan = dataclasses.replace(mapping.plan, escalation=draw(escalations(names)))
    return Corpus(corpus.manifest, tuple(items)), dataclasses.replace(mapping, plan=plan)


def gated(draw: st.DrawFn, policy: Policy, names: tuple[str, ...]) -> Policy:
    """The policy with a gate, or several: a task's takes the place of the policy's."""
    values: dict[str, Any] = policy.model_dump(by_alias=True, exclude_unset=True)
    for rung in values["ladder"][:-1]:
        rung["threshold"] = draw(st.sampled_from([0.0, 0.25, 0.5, 0.8]))
    if draw(st.booleans()):
        values.pop("scorer", None)
    gate = st.builds(
        lambda rung, below: {"kind": "review", "rung": rung, "below": below},
        st.sampled_from(names[1:]),
        st.sampled_from([0.5, 0.8, 1.0, 1.0]),
    )
    for part in (values, *values.get("tasks", ())):
        if part is values or draw(st.booleans()):
            part["checks"] = [*part.get("checks", ()), draw(gate)]
    return Policy.model_validate(values)


def reviews(names: tuple[str, ...]) -> st.SearchStrategy[RecordedReview]:
    """A review: what it says, and what it cost."""
    usage = st.fixed_dictionaries({"input_tokens": st.integers(0, 500), "output_tokens": st.integers(1, 50)})
    said = st.sampled_from([True, False, True, False, None])
    return st.builds(RecordedReview, st.just(names[-1]), said, usage, st.sampled_from([0.0, 1e-9, 0.000045]))


def by_its_gate(item: Item, mapping: PolicyMapping) -> Item:
    """The item with its reviews by the rung that its task's gate asks."""
    task = mapping.plan.signals.classify(request_of(item)).task
    gate = mapping.plan.review_of(task)
    assert gate is not None, "the policy has a gate for all requests"
    return replace(
        item,
        replies={
            rung: replace(one, review=replace(one.review, rung=gate.rung) if one.review else None)
            for rung, one in item.replies.items()
        },
    )


def both(corpus: Corpus, mapping: PolicyMapping) -> tuple[Outcomes, Outcomes]:
    """What either path makes of a corpus."""
    run = ExactRun(mapping)
    columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=run.take)
    return evaluate(columns, mapped), run.outcomes()


def rows_of(outcomes: Outcomes) -> list[tuple[int, ...]]:
    """All that must be the same, an item a row."""
    columns = (
        outcomes.shipped, outcomes.last, outcomes.stopped, outcomes.cost, *outcomes.reasons, *outcomes.closed,
        *outcomes.reviews,
    )  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=25)
@given(scene=scenes())
def test_the_vectorised_replay_is_the_engines_own_path(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Who shipped, what was reviewed and what came of it, what was paid, to the nano-USD, and every storm."""
    corpus, mapping = scene
    fast, slow = both(corpus, mapping)
    for code in {int(code) for one in slow.reviews for code in one}:
        event(f"review: {code}")
    event("early" if fast.closed else "whole")
    assert rows_of(fast) == rows_of(slow)
    assert fast.storms == slow.storms
    assert len(fast.reviews) == len(mapping.rungs) - 1


LADDER = (
    LadderEntry("low", "claude-haiku-5-5"),
    LadderEntry("mid", "claude-sonnet-5-5"),
    LadderEntry("top", "claude-opus-5-5"),
)
CHECK = {"kind": "review", "rung": "mid", "below": 0.9}


def policy_with(*checks: Any, **more: Any) -> Policy:
    """A ladder of three that ships at 0.5, with these checks."""
    rungs = [
        {"rung": entry.rung, "model": entry.model, "max_tokens": 100, "threshold": 0.5, **more} for entry in LADDER
    ]
    del rungs[-1]["threshold"]
    rungs[-1].pop("samples", None)
    rungs[1].pop("samples", None)
    return Policy.model_validate({"version": 1, "name": "gated", "ladder": rungs, "checks": checks})


def item(name: str, said: float, review: RecordedReview | None, **more: Any) -> Item:
    """An item whose rungs cost 0.001, 0.010 and 0.1 USD; the upper two are sure."""
    low = RecordedReply(said, "a", 0.0, cost_usd=0.001, review=review, **more)
    return Item(
        name,
        f"question {name}",
        {
            "low": low,
            "mid": RecordedReply(0.95, "b", 1.0, cost_usd=0.01),
            "top": RecordedReply(None, "c", 1.0, cost_usd=0.1),
        },
    )


def said(accepted: bool | None, cost: float | None = 0.002, rung: str = "mid") -> RecordedReview:
    """A review by the middle rung."""
    return RecordedReview(rung, accepted, {"input_tokens": 1000, "output_tokens": 10}, cost)


ITEMS = [
    item("accepted", 0.8, said(True)),
    item("rejected", 0.8, said(False)),
    item("unusable", 0.8, said(None)),
    item("sure", 0.9, said(False)),  # not below 0.9: it ships unread
    item("unsure", 0.4, said(True)),  # it climbs in any case: its review is not paid
]


def written(folder: Path, items: list[Item]) -> Path:
    """The corpus as a file."""
    path = folder / "reviewed.jsonl"
    write_corpus(path, Manifest("reviewed", LADDER, synthetic=True), items)
    return path


def test_a_review_is_paid_where_the_answer_would_ship(tmp_path: Path, run: Run) -> None:
    """Five items reckoned by hand: what ships, why each climbs, what each costs, and what the gate did."""
    mapping = mapping_of(policy_with(CHECK), Manifest("reviewed", LADDER))
    fast, slow = both(Corpus(Manifest("reviewed", LADDER), tuple(ITEMS)), mapping)
    assert rows_of(fast) == rows_of(slow)
    assert fast.shipped.tolist() == [0, 1, 1, 0, 1]
    assert [REASONS[code] for code in fast.reasons[0]] == ["", "check_failed", "error", "", "low_confidence"]
    assert fast.cost.tolist() == [3_000_000, 13_000_000, 13_000_000, 1_000_000, 11_000_000]
    assert fast.reviews[0].tolist() == [ACCEPTED, REJECTED, UNUSABLE, 0, 0]
    assert not fast.reviews[1].any()
    policy = tmp_path / "gated.yaml"
    policy.write_text(json.dumps(policy_with(CHECK).model_dump(by_alias=True, exclude_unset=True, mode="json")))
    path = written(tmp_path, ITEMS)
    found = run("replay", str(path), "--policy", str(policy), "--json").json
    assert found["reviews"] == {"low": {"asked": 3, "rejected": 1, "unusable": 1, "cost_usd": 0.006}}
    assert found["cost_usd"] == 0.041
    assert found["reasons"] == {"check_failed": 1, "error": 1, "low_confidence": 1}
    exact = run("replay", str(path), "--policy", str(policy), "--json", "--exact-engine").json
    assert {**exact, "seconds": 0} == {**found, "seconds": 0}
    shown = run("replay", str(path), "--policy", str(policy)).out
    assert "reviews of low: 3 answers, 1 rejected, 1 could not be used; 0.0060 USD" in shown


def test_the_trail_has_the_review(tmp_path: Path) -> None:
    """As live: the step's cost includes the review's, and the rejection is a failed check."""
    mapping = mapping_of(policy_with(CHECK), Manifest("reviewed", LADDER))
    step = replay_item(mapping.plan, ITEMS[1]).steps[0]
    assert step.review is not None
    assert (step.review.rung, step.review.accepted, step.review.cost_nanousd) == ("mid", False, 2_000_000)
    assert (step.cost_nanousd, step.verdict.failed_checks, step.reason) == (3_000_000, ("review:mid",), "check_failed")


def test_a_trail_tells_of_the_recording_only_where_the_review_said_nothing() -> None:
    """An accepted or a rejected answer has no other detail than live; a review that could not be used has that reason."""
    plan = mapping_of(policy_with(CHECK), Manifest("reviewed", LADDER)).plan
    told = [replay_item(plan, one).steps[0].verdict.checks[-1].detail for one in ITEMS[:3]]
    assert told == ["", "", "recorded"]


LACKING = {
    "none": (None, "no review by 'mid' of the reply of rung 'low' was recorded"),
    "another reviewer's": (said(True, rung="top"), "no review by 'mid' of the reply of rung 'low' was recorded"),
    "without its cost": (said(True, cost=None), "the review of the reply of 'low' has no cost_usd"),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_review_that_the_rule_needs_and_that_was_not_recorded_is_an_error(tmp_path: Path, lacking: str) -> None:
    """It names item, rung and reviewer in both paths; where the rule needs none, nothing is missed."""
    review, problem = LACKING[lacking]
    mapping = mapping_of(policy_with(CHECK), Manifest("reviewed", LADDER))
    unneeded = Corpus(Manifest("reviewed", LADDER), (item("unsure", 0.4, review), item("sure", 0.9, review)))
    fast, slow = both(unneeded, mapping)
    assert rows_of(fast) == rows_of(slow)
    hurt = (ITEMS[0], item("lacking", 0.8, review))
    run = ExactRun(mapping)
    columns, (mapped,) = read_columns(hurt, Manifest("reviewed", LADDER), [mapping])
    for path in (lambda: evaluate(columns, mapped), lambda: run.take(hurt)):
        with pytest.raises(CorpusError) as caught:
            path()
        assert (caught.value.item, caught.value.problem) == ("lacking", problem)


def test_a_policy_without_a_gate_reads_no_review() -> None:
    """A corpus with reviews is the same to every other policy: nothing is paid for them."""
    mapping = mapping_of(policy_with(), Manifest("reviewed", LADDER))
    fast, slow = both(Corpus(Manifest("reviewed", LADDER), tuple(ITEMS)), mapping)
    assert rows_of(fast) == rows_of(slow)
    assert fast.reviews == ()
    assert fast.shipped.tolist() == [0, 0, 0, 0, 1]


def test_a_gate_over_votes_is_refused(tmp_path: Path) -> None:
    """The answer of a vote has no recorded review: rather an error than a bill without it."""
    mapping = mapping_of(policy_with(CHECK, samples={"max": 2, "agree": 2}), Manifest("reviewed", LADDER))
    with pytest.raises(ConfigurationError, match="a review gate over low, asked more than once"):
        read_columns(ITEMS, Manifest("reviewed", LADDER), [mapping])
    low = replace(ITEMS[0].reply("low"), variant="confidence_first")
    voted = replace(ITEMS[0], replies={**ITEMS[0].replies, "low": replace(low, samples=(low,))})
    with pytest.raises(CorpusError, match="the answer of a vote of 'low' has no recorded review"):
        replay_item(mapping.plan, voted)


def test_votes_of_rungs_that_no_gate_reviews_are_the_engines_own() -> None:
    """Only the rungs below the gate's are asked once: from there on votes stay votes."""
    votes = read = 0
    for seed in range(30):
        corpus, drawn = voting(seed)
        names, chance = corpus.manifest.rungs, random.Random(seed)
        reviewer = len(names) // 2
        values = drawn.plan.policy.model_dump(by_alias=True, exclude_unset=True, exclude={"scorer", "storm_guard"})
        for rung in values["ladder"][:reviewer]:
            rung["threshold"] = 0.5
            rung.pop("samples", None)
        for task in values["tasks"]:
            task["samples"] = {rung: own for rung, own in task["samples"].items() if rung in names[reviewer:]}
        values["checks"] = [{"kind": "review", "rung": names[reviewer], "below": 1.0}]
        mapping = mapping_of(Policy.model_validate(values), corpus.manifest)
        review = [RecordedReview(names[reviewer], said, None, 0.000045) for said in (True, False, None)]
        items = tuple(
            replace(
                item, replies={rung: replace(one, review=chance.choice(review)) for rung, one in item.replies.items()}
            )
            for item in corpus.items
        )
        fast, slow = both(Corpus(corpus.manifest, items), mapping)
        assert rows_of(fast) == rows_of(slow), seed
        read += sum(int((one != 0).sum()) for one in fast.reviews)
        _, (mapped,) = read_columns(items, corpus.manifest, [mapping])
        for index in range(reviewer, len(names) - 1):
            if (ballot := mapped.vote(index)) is not None:
                votes += int(((ballot.asked > 1) & (fast.last >= index)).sum())
    assert read > 100
    assert votes > 100


def test_repriced_reviews_cost_the_reviewers_price() -> None:
    """--reprice: 1,000 tokens read and 10 written at the middle rung's list price."""
    mapping = mapping_of(policy_with(CHECK), Manifest("reviewed", LADDER), reprice=True)
    priced = [
        replace(
            one,
            replies={
                rung: replace(reply, usage={"input_tokens": 0, "output_tokens": 0})
                for rung, reply in one.replies.items()
            },
        )
        for one in ITEMS
    ]
    columns, (mapped,) = read_columns(priced, Manifest("reviewed", LADDER), [mapping])
    outcomes = evaluate(columns, mapped)
    rates = mapping.plan.rates[1].tiers[0][1]
    assert outcomes.cost[0] == (1000 * rates.input + 10 * rates.output) // 1_000_000
    assert reviews_of(mapped, outcomes)["low"].cost == 3 * outcomes.cost[0]
