"""Early stop in replay: what is decided at the confidence, what a closed reply costs, and one meaning on two paths."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import AllRungsFailed, Answer, Policy
from cascade.core.early import position_of
from cascade.core.errors import CorpusError, PolicyError
from cascade.core.policy.operations import Limits
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.exact import ExactRun
from cascade.replay.mapping import mapping_of, own_mapping
from cascade.replay.outcomes import REASONS, STOPS, Outcomes
from cascade.replay.vectorised import evaluate
from tests.cli.conftest import Run

from .scenes import corpora, escalations, policies


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Corpus, PolicyMapping]:
    """A corpus and a policy that stops early; some have a budget that forbids to close, or another order."""
    names = tuple(f"r{n}" for n in range(draw(st.integers(2, 4))))
    corpus = draw(corpora(names))
    mapping = mapping_of(draw(policies(names)), corpus.manifest, reprice=draw(st.booleans()), early_stop=True)
    policy = mapping.plan.policy
    if draw(st.integers(0, 5)):
        policy = policy.model_copy(update={"scorer": None})
    if draw(st.booleans()):  # nothing but not_empty: an answer may ship at its confidence
        tasks = tuple(task.model_copy(update={"checks": ()}) for task in policy.tasks)
        policy = policy.model_copy(update={"checks": (), "tasks": tasks})
        plan = dataclasses.replace(
            mapping.plan, checks={}, shared_checks=mapping_of(policy, corpus.manifest).plan.shared_checks
        )
        mapping = dataclasses.replace(mapping, plan=plan)
    budget = draw(
        st.sampled_from([(), (), (), Limits(daily_usd=Decimal(1)), Limits(daily_usd=Decimal(1), on_exhausted="hold")])
    )
    policy = policy.model_copy(update={"budget": (budget,) if budget else ()})
    plan = dataclasses.replace(mapping.plan, policy=policy, escalation=draw(escalations(names)))
    return corpus, dataclasses.replace(mapping, plan=plan)


def both(corpus: Corpus, mapping: PolicyMapping) -> tuple[Outcomes, Outcomes]:
    """What either path makes of a corpus."""
    run = ExactRun(mapping)
    columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=run.take)
    return evaluate(columns, mapped), run.outcomes()


def rows_of(outcomes: Outcomes) -> list[tuple[int, ...]]:
    """All that must be the same, an item a row."""
    columns = (outcomes.shipped, outcomes.last, outcomes.stopped, outcomes.cost, *outcomes.reasons, *outcomes.closed)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=50)
@given(scene=scenes())
def test_the_vectorised_early_stop_is_the_engines_own_path(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Who shipped, why each rung sent it up, what was closed, nano-USD, and every storm."""
    corpus, mapping = scene
    fast, slow = both(corpus, mapping)
    closed = any(one.any() for one in fast.closed)
    event("closed some" if closed else "closed none")
    for code in {int(code) for code in slow.stopped}:
        event(f"stopped: {STOPS[code]}")
    for reasons, early in zip(fast.reasons, fast.closed, strict=False):
        for code in set(reasons[early].tolist()):
            event(f"closed: {REASONS[code]}")
    assert rows_of(fast) == rows_of(slow)
    assert fast.storms == slow.storms


PRICE = {"input": "1", "output": "5"}
USAGE = {"input_tokens": 100, "output_tokens": 40}
NAMES = ("low", "high")


def policy_of(**more: Any) -> Policy:
    """Two rungs at 1 and 5 USD per million tokens, threshold 0.8, that stop early."""
    ladder = [
        {"rung": "low", "model": "model-low", "max_tokens": 100, "price": PRICE, "threshold": 0.8},
        {"rung": "high", "model": "model-high", "max_tokens": 100, "price": PRICE},
    ]
    return Policy.model_validate({"version": 1, "name": "p", "ladder": ladder, "early_stop": True, **more})


def answered(reply: RecordedReply, *, top: RecordedReply | None = None, reprice: bool = True, **more: Any) -> Answer:
    """What becomes of one item whose first rung replied so."""
    above = top or RecordedReply(None, "sure", 1.0, usage=USAGE, cost_usd=0.0003)
    item = Item("i", "question", {"low": reply, "high": above})
    mapping = mapping_of(policy_of(**more), MANIFEST, reprice=reprice)
    return replay_item(mapping.plan, item, cost_of=mapping.cost_of)


MANIFEST = Manifest("m", tuple(LadderEntry(name, f"model-{name}") for name in NAMES))


@pytest.mark.parametrize(("confidence", "tokens"), [(0.5, 8), (0.123456, 9), (0.12345678901234567, 12), (0.0, 8)])
def test_a_closed_reply_costs_its_prompt_and_the_tokens_of_its_head(confidence: float, tokens: int) -> None:
    """A token for four characters of `{"confidence": …, "answer": "`, at most 12; and it is called an estimate."""
    step = answered(RecordedReply(confidence, "maybe", 0.0, usage=USAGE)).steps[0]
    head = f'{{"confidence": {json.dumps(confidence)}, "answer": "'
    assert tokens == min(12, -(-len(head) // 4)) == min(12, -(-position_of(confidence) // 4))
    assert (step.verdict.closed, step.verdict.text, step.reason) == (True, None, "low_confidence")
    assert (step.usage.input_tokens, step.usage.output_tokens, step.usage.is_estimate) == (100, tokens, True)
    assert step.cost_nanousd == 100 * 1_000 + tokens * 5_000


def test_thinking_comes_before_the_confidence_and_is_paid() -> None:
    """It is written before the head, so closing saves none of it."""
    usage = {**USAGE, "output_tokens_details": {"thinking_tokens": 20}}
    step = answered(RecordedReply(0.5, "maybe", 0.0, usage=usage)).steps[0]
    assert (step.usage.output_tokens, step.cost_nanousd) == (28, 100_000 + 28 * 5_000)


@pytest.mark.parametrize(
    ("recorded", "cost"), [(0.0003, 140_000), (0.00015, 70_000), (0.0, 0)], ids=["list price", "half price", "free"]
)
def test_of_a_recorded_cost_the_share_is_taken_that_was_written(recorded: float, cost: int) -> None:
    """A discount that the recording had is kept: 140 of the 300 that the whole reply costs at the policy's prices."""
    reply = RecordedReply(0.5, "maybe", 0.0, usage=USAGE, cost_usd=recorded)
    assert answered(reply, reprice=False).steps[0].cost_nanousd == cost


@pytest.mark.parametrize(
    ("reply", "more", "closed"),
    [
        (RecordedReply(0.5, "maybe"), {}, True),
        (RecordedReply(0.9, None), {}, True),
        (RecordedReply(0.5), {}, True),
        (RecordedReply(0.5, {"a": 1}), {}, True),
        (RecordedReply(0.5, None, extra={"verdict": "truncated"}), {}, True),
        (RecordedReply(0.9, "maybe"), {"tasks": [{"name": "other", "floor": "high"}]}, True),
        (RecordedReply(0.5, "maybe"), {"budget": {"daily_usd": 1}}, True),
        (RecordedReply(0.5, "maybe"), {"checks": [{"max_chars": 4}]}, True),
        (RecordedReply(0.5, " \n"), {}, False),
        (RecordedReply(None, "maybe"), {}, False),
        (RecordedReply(None, None, extra={"verdict": "truncated"}), {}, False),
        (RecordedReply(0.5, None, extra={"verdict": "failed"}), {}, False),
        (RecordedReply(0.9, "maybe"), {"checks": [{"max_chars": 4}]}, False),
        (RecordedReply(0.5, "maybe"), {"tasks": [{"name": "other", "ceiling": "low"}]}, False),
        (RecordedReply(0.5, "maybe"), {"budget": {"daily_usd": 1, "on_exhausted": "hold"}}, False),
        (RecordedReply(0.5, "maybe"), {"triage": {"order": "answer_first"}}, False),
        (RecordedReply(0.5, "maybe"), {"scorer": {"low": {"bias": 0.0, "features": []}}}, False),
        (RecordedReply(0.5, "maybe"), {"early_stop": False}, False),
    ],
    ids=[
        "low", "declined", "text not recorded", "structured", "truncated", "floor", "budget that only alerts",
        "low, whatever the checks", "blank", "no confidence", "truncated before its confidence", "failed", "check failed", "ceiling",
        "budget that may refuse", "answer first", "scored", "off",
    ],
)  # fmt: skip
def test_what_is_closed_and_what_is_read_whole(reply: RecordedReply, more: dict[str, Any], closed: bool) -> None:
    """Only what escalates for a reason known at the confidence, where nothing else could be needed of the reply."""
    step = answered(replace(reply, score=0.0, usage=USAGE), **more).steps[0]
    assert step.verdict.closed == closed
    assert step.cost_nanousd == (140_000 if closed else 300_000)


def test_a_closed_answer_is_not_held() -> None:
    """Where the top rung fails, the low answer would have been returned: closed, there is none."""
    low = RecordedReply(0.5, "maybe", 1.0, usage=USAGE)
    failed = RecordedReply(None, None, 0.0, usage=USAGE, extra={"verdict": "failed"})
    assert answered(low, top=failed, early_stop=False).text == "maybe"
    with pytest.raises(AllRungsFailed):
        answered(low, top=failed)


@pytest.mark.parametrize("verdict", ["truncated", "refused", "malformed", "overflow"])
def test_a_reply_that_ends_badly_after_it_was_let_through_ships_degraded(verdict: str) -> None:
    """As live, where its first part is with the caller already. With a check that needs all of it, it climbs."""
    cut = RecordedReply(0.9, None, 0.0, usage=USAGE, extra={"verdict": verdict})
    answer = answered(cut)
    assert (answer.rung, answer.degraded, answer.cost_nanousd) == ("low", verdict, 300_000)
    checked = answered(cut, checks=[{"max_chars": 9}])
    assert (checked.rung, checked.steps[0].reason) == ("high", verdict)


def test_a_closed_reply_without_usage_is_an_error_on_both_paths() -> None:
    """Its recorded cost does not tell what its head cost: the item and the rung are named, nothing is guessed."""
    low = RecordedReply(0.5, "maybe", 0.0, cost_usd=0.0003)
    item = Item("i7", "question", {"low": low, "high": RecordedReply(None, "b", 1.0, cost_usd=0.001)}, line=3)
    mapping = mapping_of(policy_of(), MANIFEST)
    columns, (mapped,) = read_columns([item], MANIFEST, [mapping])
    told: list[str] = []
    for refuses in (lambda: evaluate(columns, mapped), lambda: ExactRun(mapping).take([item])):
        with pytest.raises(CorpusError) as caught:
            refuses()
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert "i7" in told[0]
    assert "the reply of 'low' has no usage (record it, or replay without early stop)" in told[0]


def test_a_ladder_without_list_prices_cannot_price_early_stop() -> None:
    """A corpus's own ladder has no prices of its own; the message says what to give."""
    with pytest.raises(PolicyError, match=r"--early-stop: low: there is no price .*give a --policy"):
        own_mapping(MANIFEST, early_stop=True)


def test_a_policy_without_the_key_is_replayed_as_before() -> None:
    """No column is built for it, and nothing is closed."""
    item = Item("i", "question", {name: RecordedReply(0.5, "a", 1.0, cost_usd=0.001) for name in NAMES})
    columns, (mapped,) = read_columns([item], MANIFEST, [mapping_of(policy_of(early_stop=False), MANIFEST)])
    assert mapped.left == evaluate(columns, mapped).closed == ()


def corpus_file(folder: Path) -> str:
    """Three items: one ships low, two climb; the dear one writes 400 tokens."""
    told = [(0.9, 40), (0.5, 40), (0.5, 400)]
    items = [
        Item(
            f"i{number}",
            f"question {number}",
            {
                "low": RecordedReply(
                    said, "a", 1.0, usage={"input_tokens": 100, "output_tokens": tokens},
                    cost_usd=(100 + 5 * tokens) / 1e6,
                ),
                "high": RecordedReply(None, "b", 1.0, usage=USAGE, cost_usd=0.001),
            },
        )
        for number, (said, tokens) in enumerate(told)
    ]  # fmt: skip
    path = folder / "c.jsonl"
    write_corpus(path, MANIFEST, items)
    (folder / "p.yaml").write_text(json.dumps(policy_of(early_stop=False).model_dump(mode="json", exclude_unset=True)))
    return str(path)


@pytest.mark.parametrize("engine", [(), ("--exact-engine",)], ids=["vectorised", "exact"])
def test_the_command_says_what_early_stop_saves(run: Run, tmp_path: Path, engine: tuple[str, ...]) -> None:
    """One line with the cost beside the cost without; in the JSON the saving and what was closed, by rung."""
    command = ("replay", corpus_file(tmp_path), "--policy", str(tmp_path / "p.yaml"), *engine)
    plain, early = run(*command, "--json").json, run(*command, "--early-stop", "--json").json
    assert "early_stop" not in plain
    assert early["early_stop"] == {"saved_usd": (32 + 392) * 5 / 1e6, "closed": {"low": 2}}
    assert early["cost_usd"] + early["early_stop"]["saved_usd"] == pytest.approx(plain["cost_usd"])
    assert {**plain["shipped"]} == early["shipped"]
    line = "early stop: 0.0026 USD, without it 0.0047, 45.1% saved; closed at their confidence: low 2"
    assert line in run(*command, "--early-stop").out


def test_where_early_stop_decides_nothing_that_is_said(run: Run, tmp_path: Path) -> None:
    """An answer-first policy knows the confidence too late."""
    path = corpus_file(tmp_path)
    values = policy_of(early_stop=False, triage={"order": "answer_first"}).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    told = run("replay", path, "--policy", str(tmp_path / "p.yaml"), "--early-stop", "--json").json
    assert "early_stop" not in told
    assert any(note.startswith("early stop has no effect") for note in told["notes"])


def test_replies_that_ended_badly_without_a_confidence_are_told(run: Run, tmp_path: Path) -> None:
    """Nobody knows whether they had begun: they climb, and the figures say so."""
    corpus_file(tmp_path)
    cut = RecordedReply(None, None, 0.0, usage=USAGE, cost_usd=0.0003, extra={"verdict": "truncated"})
    items = [Item("i", "question", {"low": cut, "high": RecordedReply(None, "b", 1.0, usage=USAGE, cost_usd=0.001)})]
    write_corpus(tmp_path / "cut.jsonl", MANIFEST, items)
    command = ("replay", str(tmp_path / "cut.jsonl"), "--policy", str(tmp_path / "p.yaml"), "--json")
    note = "1 replies ended badly and have no confidence"
    assert any(one.startswith(note) for one in run(*command, "--early-stop").json["notes"])
    assert not any(one.startswith(note) for one in run(*command).json["notes"])
