"""Storms and outages on the emulator: time is the items' own, told to the guard's clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade import Answer, Policy
from cascade.core.storm import Guard
from cascade.corpora import Corpus, Item, read_corpus
from cascade.policy.binding import bind_policy
from cascade.policy.shipped import shipped
from cascade.replay import replay_item
from tests.live.conftest import HAIKU, Asking, Clock, Driver, Emulate, corpus, ladder, reasons, reply

WATCH: dict[str, Any] = {"rate": 0.35, "window": 200, "min_samples": 50, "dwell_s": 60}
CALM, STORM, AFTER = 100, 80, 120  # requests of the sharp storm, one each second


def settings(on_trip: str = "escalate", **more: Any) -> Policy:
    """The ladder with the guard on."""
    return ladder(storm_guard={**WATCH, "on_trip": on_trip, **more})


def sharp() -> Corpus:
    """Sure, then unsure on both rungs all at once, then sure again. PROMPT stands in the inputs, and nowhere else."""

    def one(n: int) -> Item:
        sure = not CALM <= n < CALM + STORM
        confidence = 0.9 if sure else 0.1
        replies = {
            "haiku": reply(confidence, f"h{n}"),
            "sonnet": reply(confidence, f"s{n}"),
            "opus": reply(None, f"o{n}"),
        }
        return Item(f"i{n}", f"PROMPT {n}", replies, at=float(n))

    return corpus(*(one(n) for n in range(CALM + STORM + AFTER)))


@pytest.fixture(scope="module")
def support() -> Corpus:
    """220 tickets of the shipped synthetic corpus: its first storm, what comes before it, and the calm after it."""
    path = shipped("corpora", "support")
    assert isinstance(path, Path)
    whole = read_corpus(path)
    return Corpus(whole.manifest, whole.items[200:420])


def run(driver: Driver, clock: Clock, items: Sequence[Item]) -> tuple[list[Answer], list[Any]]:
    """Ask item by item at its time; the answers, and the events."""
    answers: list[Answer] = []
    with capture_logs() as events:
        for item in items:
            assert item.at is not None
            clock.now = item.at
            answers.append(driver.ask(item.input, task=item.task))
    return answers, events


def purely(policy: Policy, items: Sequence[Item]) -> list[Answer]:
    """The pure rule with the same guard."""
    plan, guard = bind_policy(policy), Guard(policy.storm_guard)
    return [replay_item(plan, item, guard=guard, cost_of="policy") for item in items]


def tell(answers: Sequence[Answer]) -> list[Any]:
    """What must be equal."""
    return [(one.rung, one.text, one.cost_nanousd, one.degraded, reasons(one)) for one in answers]


def named(events: Sequence[Any]) -> list[tuple[str, ...]]:
    """Event, task and rung of each event."""
    return [(one["event"], one["task"], one["rung"]) for one in events]


# Where nothing is sent up, Sonnet's watch sees no requests after the storm, and waits for some before it releases.
HELD_EVENTS = [
    ("storm_released", "other", "haiku"),
    ("storm_tripped", "other", "haiku"),
    ("storm_tripped", "other", "sonnet"),
]


def test_a_storm_on_the_shipped_corpus_trips_and_releases(asking: Asking, emulate: Emulate, support: Corpus) -> None:
    """As the pure rule says of it: each watch that trips releases, none flaps, nobody skips a rung."""
    clock, policy = Clock(), settings()
    answers, events = run(asking(policy, emulate(support), clock=clock), clock, support.items)
    assert tell(answers) == tell(purely(policy, support.items))
    told = named(events)
    tripped = [where for event, *where in told if event == "storm_tripped"]
    assert tripped
    assert len(tripped) == len({tuple(where) for where in tripped})  # once each: no flapping
    assert all(("storm_released", *where) in told for where in tripped)
    assert any("storm" in reasons(answer) for answer in answers)
    for answer in answers:
        assert [step.index for step in answer.steps] == list(range(len(answer.steps)))


def test_a_sharp_storm_trips_once_in_it_and_releases_once_after_it(asking: Asking, emulate: Emulate) -> None:
    """Haiku's and Sonnet's watches, each one trip and one release, with what a person needs to act on."""
    clock, source = Clock(), sharp()
    answers, events = run(asking(settings(), emulate(source), clock=clock), clock, source.items)
    assert tell(answers) == tell(purely(settings(), source.items))
    assert sorted(named(events)) == [
        ("storm_released", "other", "haiku"),
        ("storm_released", "other", "sonnet"),
        ("storm_tripped", "other", "haiku"),
        ("storm_tripped", "other", "sonnet"),
    ]
    stormy = [n for n, answer in enumerate(answers) if "storm" in reasons(answer)]
    # In it requests climb by themselves; after it they are sent up for a while, one rung at a time, past none.
    assert stormy
    assert CALM + STORM <= stormy[0] <= stormy[-1] < CALM + STORM + AFTER - 50
    for n in stormy:
        assert [step.index for step in answers[n].steps] == list(range(len(answers[n].steps)))
        assert reasons(answers[n]) in (["storm", None], ["storm", "storm", None])
    assert "PROMPT" not in str(events)
    assert events[0]["policy"] == "live"
    assert 0 <= events[0]["rate"] <= 1
    assert events[0]["log_level"] == "warning"


def test_hold_stops_below_the_top_and_says_so(asking: Asking, emulate: Emulate) -> None:
    """The best held goes out marked `storm`; the top rung is spared as long as the guard is tripped."""
    clock, source, policy = Clock(), sharp(), settings("hold")
    answers, events = run(asking(policy, emulate(source), clock=clock), clock, source.items)
    assert tell(answers) == tell(purely(policy, source.items))
    trip = [n for n, answer in enumerate(answers) if answer.degraded == "storm"]
    assert trip
    assert all(CALM <= n < CALM + STORM for n in trip)
    assert all(answers[n].text == f"s{n}" and len(answers[n].steps) == 2 for n in trip)
    assert sorted(named(events)) == HELD_EVENTS


def test_alert_changes_nothing_but_what_is_told(asking: Asking, emulate: Emulate) -> None:
    """The same answers as without a guard, and the events."""
    clock, source = Clock(), sharp()
    answers, events = run(asking(settings("alert"), emulate(source), clock=clock), clock, source.items)
    assert tell(answers) == tell(purely(ladder(), source.items))
    assert sorted(named(events)) == HELD_EVENTS


def test_a_storm_that_does_not_end_is_a_limit_that_is_wrong(asking: Asking, emulate: Emulate) -> None:
    """After max_trip_s it is said once for each watch, and the guard only alerts from then on."""
    clock, source = Clock(), sharp()
    driver = asking(settings(max_trip_s=30), emulate(source), clock=clock)
    _, events = run(driver, clock, source.items[: CALM + STORM])
    wrong = [one for one in events if one["event"] == "storm_limit_wrong"]
    assert sorted(one["rung"] for one in wrong) == ["haiku", "sonnet"]
    assert all(one["tripped_s"] > 30 and "limit is wrong" in one["hint"] for one in wrong)


@pytest.mark.parametrize("guard", [None, WATCH], ids=["no storm guard", "storm guard"])
def test_an_outage_of_a_rung_climbs_one_rung_and_is_told_once(
    asking: Asking, emulate: Emulate, guard: dict[str, Any] | None
) -> None:
    """500s on Haiku alone: Sonnet answers, the errors' alert is raised once, no storm is seen in it."""
    clock, source = Clock(), sharp()
    policy = ladder(retry={"attempts": 1}, storm_guard=guard)
    driver = asking(policy, emulate(source, f"server_error,model={HAIKU},after=60"), clock=clock)
    answers, events = run(driver, clock, source.items[:CALM])
    assert {tuple(reasons(answer)) for answer in answers[:60]} == {(None,)}
    assert {(answer.rung, *reasons(answer)) for answer in answers[60:]} == {("sonnet", "error", None)}
    assert [(one["event"], one["rung"], one["log_level"]) for one in events] == [("errors_tripped", "haiku", "warning")]
    assert "fails often" in events[0]["hint"]
    assert "task" not in events[0]  # an outage is a rung's, whatever the task


def test_an_outage_that_ends_is_told_too(asking: Asking, emulate: Emulate) -> None:
    """Tripped, released, once each; answers were Haiku's again before that: the alert never acts."""
    clock, source = Clock(), sharp()
    driver = asking(ladder(retry={"attempts": 1}), emulate(source, f"server_error,model={HAIKU},times=30"), clock=clock)
    answers, events = run(driver, clock, source.items[:CALM])
    assert [one["event"] for one in events] == ["errors_tripped", "errors_released"]
    assert {answer.rung for answer in answers[30:]} == {"haiku"}
