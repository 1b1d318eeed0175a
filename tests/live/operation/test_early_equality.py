"""Early stop: `replay --early-stop` is the live run's bill on the same corpus, and its trail and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cascade import Policy
from cascade.corpora import Corpus, Item, RecordedReply, read_corpus, write_corpus
from cascade.emulator import Emulator, Fault
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item
from cascade.replay.run import ReplayOptions, replay_corpus
from tests.cli.conftest import support
from tests.live.conftest import HAIKU, Asking, Connections, Driver, Emulate, corpus, item, ladder, reply
from tests.live.operation.test_equality import live, purely, scenes

__all__ = ["support"]


@st.composite
def early_scenes(draw: st.DrawFn) -> tuple[Policy, Corpus]:
    """A policy that stops early, with floors, ceilings and checks, and a corpus with blank, declined and missing answers."""
    policy, made, _ = draw(scenes())
    return policy.model_copy(update={"early_stop": True}), made


@settings(max_examples=25)
@given(scene=early_scenes())
def test_live_sync_is_live_async_is_the_replay(connections: Connections, scene: tuple[Policy, Corpus]) -> None:
    """Rung, text, confidence, cost to the nano-USD, usage, and the whole trail with its reasons and what was closed."""
    policy, made = scene
    nothing_wrong: list[dict[str, str]] = [{} for _ in made.items]
    replayed = purely(bind_policy(policy), made, nothing_wrong)
    closed = sum(step[3].is_estimate for told in replayed for step in told[-1])
    event("closed some" if closed else "closed none")
    assert live("sync", connections, policy, made, nothing_wrong) == replayed
    assert live("async", connections, policy, made, nothing_wrong) == replayed


LONG = "It depends on the carrier and on the day. " * 6
MIXED = corpus(
    item("sure", reply(0.9, LONG), reply(0.9, LONG), reply(None, LONG)),
    item("unsure", reply(0.5, LONG), reply(0.95, LONG), reply(None, LONG)),
    item("hard", reply(0.123456, LONG), reply(0.6, LONG), reply(None, LONG)),
    item("declined", reply(0.2, None), reply(0.9, None), reply(None, LONG)),
    item("blank", reply(0.3, " "), reply(0.9, LONG), reply(None, LONG)),
)


def test_the_commands_bill_is_the_live_one(asking: Asking, emulate: Emulate, tmp_path: Path) -> None:
    """`replay --early-stop` on the corpus that the emulator answers from: the same total, to the nano-USD; and the saving."""
    driver = asking(ladder(early_stop=True), emulate(MIXED))
    bill = sum(driver.ask(one.input).cost_nanousd for one in MIXED.items)
    whole = asking(ladder(), emulate(MIXED))
    without = sum(whole.ask(one.input).cost_nanousd for one in MIXED.items)
    path = tmp_path / "mixed.jsonl"
    write_corpus(path, MIXED.manifest, MIXED.items)
    replayed = replay_corpus(path, ReplayOptions(ladder(), reprice=True, early_stop=True))
    assert replayed.figures.cost == bill < without
    assert replayed.early_stop is not None
    assert replayed.early_stop.saved == without - bill
    assert dict(replayed.early_stop.closed) == {"haiku": 3, "sonnet": 2}


def cut(text: str, *, has_head: bool) -> Item:
    """What a recording says of a reply of Haiku that was truncated, before its answer began or after it."""
    low = RecordedReply(
        0.9 if has_head else None, None, 0.0, usage=reply(0.9, "").usage, extra={"verdict": "truncated"}
    )
    return item(text, low, reply(0.9, "sonnet's"), reply(None, "opus's"))


@pytest.mark.parametrize("checks", [(), ({"max_chars": 9_999},)], ids=["no check", "a check"])
@pytest.mark.parametrize("answer", [LONG, "a"], ids=["after the decision", "before it"])
def test_a_truncated_reply_is_what_it_is_live(asking: Asking, emulate: Emulate, answer: str, checks: Any) -> None:
    """Truncated after it was let through it ships, degraded; else it climbs. The bill, the rung and the trail are the same."""
    policy = ladder(early_stop=True, checks=checks)
    emulator = emulate(corpus(item("q", reply(0.9, answer), reply(0.9, "sonnet's"), reply(None, "opus's"))))
    emulator.faults = [Fault("truncated_json", model=HAIKU)]
    asked = asking(policy, emulator).ask("q")
    replayed = replay_item(bind_policy(policy), cut("q", has_head=answer == LONG), cost_of="policy")
    ships = answer == LONG and not checks
    assert (asked.rung, asked.degraded) == (("haiku", "truncated") if ships else ("sonnet", None))
    for one in (asked, replayed):
        assert (one.rung, one.degraded, one.cost_nanousd) == (asked.rung, asked.degraded, asked.cost_nanousd)
        assert [(step.rung, step.reason, step.usage) for step in one.steps] == [
            (step.rung, step.reason, step.usage) for step in asked.steps
        ]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_shipped_corpus_costs_live_what_its_replay_says(connections: Connections, support: Path, way: str) -> None:
    """Eighty tickets in the order of the file: every bill, and so the sum."""
    whole = read_corpus(support)
    models = {entry.rung: entry.name for entry in whole.manifest.ladder}
    policy = ladder(early_stop=True)
    items, seen = list[Item](), set[str]()
    for one in whole.items:  # a repeated input gets the recorded replies in turn, which is another test's matter
        if (key := json.dumps(one.input)) not in seen:
            items.append(one)
        seen.add(key)
    items = items[:80]
    assert [models[rung.rung] for rung in policy.ladder] == [rung.model for rung in policy.ladder]
    with Emulator(Corpus(whole.manifest, tuple(items))) as emulator:
        driver = Driver(way, connections, policy, emulator.base_url)
        asked = [driver.ask(one.input).cost_nanousd for one in items]
    plan = bind_policy(policy)
    assert asked == [replay_item(plan, one, cost_of="policy").cost_nanousd for one in items]
