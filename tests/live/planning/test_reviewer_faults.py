"""A reviewer that cannot review is found by its control items within one run, which ends bounded and says so; a good one is believed.

The emulator plays the executors and the reviewer, through the real SDK.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from cascade import AsyncCascade, Cascade, Policy
from cascade.core.planning.controls import CONTROLS
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Result
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.requests import ApiError
from tests.live.conftest import COST, HAIKU, OPUS, SONNET, USAGE, Connections, Emulate, ladder
from tests.live.operation.test_books import bodies, entries

SUBTASKS, RETRIES = 8, 2
RIGHT = {item.result: item.is_right for item in CONTROLS}
REASON = "The price is 30 euros, not 40."

Asked = dict[str, Any]
Reviews = Callable[[Asked], str]
"""What a reviewer replies to the JSON object that it is shown."""


def said(verdict: str, reason: str = REASON) -> str:
    """A reviewer's reply."""
    return json.dumps({"reason": reason, "verdict": verdict})


def good(asked: Asked) -> str:
    """Knows what is right: of a control item, and of results that say "wrong"."""
    is_right = RIGHT.get(asked["result"], "wrong" not in asked["result"])
    return said("accept", "it is so") if is_right else said("retry")


class Fleet:
    """What the emulator plays. `wrong`: names of the rungs' models whose results are wrong."""

    def __init__(self, reviews: Reviews, *, wrong: tuple[str, ...] = ()) -> None:
        self.reviews, self.wrong = reviews, wrong
        self.asked: list[tuple[str, str, str]] = []
        """What was asked: of which model, as "control", "review" or "execute", and the instruction."""

    def __call__(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        """The reply to one request."""
        asked = json.loads(body["messages"][0]["content"])
        if "expected_form" in asked:
            kind = "control" if asked["result"] in RIGHT else "review"
            self.asked.append((body["model"], kind, asked["instruction"]))
            return _reply(self.reviews(asked))
        self.asked.append((body["model"], "execute", asked["instruction"]))
        text = f"{body['model']}'s {'wrong' if body['model'] in self.wrong else 'right'} result"
        made = json.dumps({"result": text, "assessment": "medium", "reason": "the price may be another one"})
        return _reply(made, confidence=None if body["model"] == OPUS else 0.95)

    def count(self) -> Counter[str]:
        """How many requests there were of each kind."""
        return Counter(kind for _, kind, _ in self.asked)


def _reply(text: str, confidence: float | None = None) -> ScriptedReply:
    return ScriptedReply([{"type": "text", "text": text}], usage=USAGE, confidence=confidence)


def plan_of(subtasks: int) -> Plan:
    """Subtasks that rest on nothing but what is given."""
    return Plan(
        "Compare the makers of lamps.",
        tuple(Subtask(f"part{number}", f"Do part {number}.", ("notes",), "haiku") for number in range(subtasks)),
        ("notes",),
    )


def planning(**more: Any) -> Policy:
    """A policy whose reviewer is Opus, so that its calls are told from the executors'."""
    return ladder(plan={"planner": "opus", "reviewer": "opus", **more})


Runs = Callable[..., Result]


@pytest.fixture(params=["sync", "async"])
def runs(request: pytest.FixtureRequest, connections: Connections, emulate: Emulate) -> Runs:
    """Run a plan against a fleet: each test runs both ways. All at one endpoint: at another the reviewer is another one."""
    served: list[Fleet] = []
    emulator: Emulator = emulate((), script=lambda *asked: served[-1](*asked))  # noqa: PLW0108 - of later

    def run(fleet: Fleet, policy: Policy, *, subtasks: int = SUBTASKS, ledger: Any = "off", **options: Any) -> Result:
        served.append(fleet)
        given: dict[str, Any] = {"inputs": {"notes": "Ada sells lamps for 30 euros."}, **options}
        if request.param == "sync":
            client = connections.sync_one.with_options(base_url=emulator.base_url)
            with Cascade(policy, client=client, ledger=ledger) as driver:
                return driver.run(plan_of(subtasks), **given)
        other = connections.async_one.with_options(base_url=emulator.base_url)

        async def go() -> Result:
            async with AsyncCascade(policy, client=other, ledger=ledger) as driver:
                return await driver.run(plan_of(subtasks), **given)

        return connections.runner.run(go(), context=copy_context())

    return run


FAULTS = [
    pytest.param(lambda _: said("accept", "fine"), r"it accepted \d+ of \d+ results that are known to be wrong", 4, id="always accepts"),
    pytest.param(lambda _: said("retry"), r"it rejected \d+ of \d+ results that are known to be right", 3, id="always rejects"),
    pytest.param(lambda _: said("escalate"), r"it rejected \d+ of \d+ results that are known to be right", 3, id="always escalates"),
    pytest.param(lambda _: "I have read it, and it looks fine to me.", r"of \d+ of \d+ control items it said nothing usable", 2, id="prose"),
]  # fmt: skip


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(("reviews", "why", "enough"), FAULTS)
def test_a_reviewer_that_cannot_review_is_found_and_the_run_ends_bounded(
    runs: Runs, reviews: Reviews, why: str, enough: int, concurrency: int
) -> None:
    """After so many control items that show it, and those under way by then, it is asked nothing more."""
    fleet = Fleet(reviews)
    result = runs(fleet, planning(max_retries=RETRIES), concurrency=concurrency)
    reviewer, count = result.reviewer, fleet.count()
    assert not result.ok
    assert not reviewer.believed
    assert re.fullmatch(why, reviewer.why)
    # N subtasks, each reviewed after each of at most 1 + max_retries attempts, with at most one control item beside a review.
    assert SUBTASKS <= count["execute"] <= SUBTASKS + min(count["review"], SUBTASKS * RETRIES)
    assert enough <= count["control"] <= count["review"] <= SUBTASKS * (1 + RETRIES)
    # Further reviews are at most those under way when the items show it: one where one thing is done after the other.
    if concurrency == 1:
        assert count["control"] == count["review"] == enough
    assert count["control"] <= enough + 2 * concurrency
    assert result.of("accepted") == ()
    assert set(result.of("unsettled")) == {subtask.id for subtask in result.plan.subtasks}
    assert result.final.why == f"the reviewer is not believed: {reviewer.why}"


def test_a_good_reviewer_is_believed_and_catches_what_an_executor_got_wrong(runs: Runs) -> None:
    """Each wrong result is made again exactly one rung up, with the reason in its prompt; twelve control items test the reviewer."""
    fleet = Fleet(good, wrong=(HAIKU,))
    result = runs(fleet, planning(), subtasks=6, concurrency=2)
    assert result.ok, result
    assert (result.reviewer.believed, result.reviewer.tested, result.reviewer.controls) == (True, True, 12)
    for subtask in result.plan.subtasks:
        one = result.subtasks[subtask.id]
        models = [
            model for model, kind, instruction in fleet.asked if (kind, instruction) == ("execute", subtask.instruction)
        ]
        assert models == [HAIKU, SONNET]
        assert [(attempt.started_at, attempt.rung) for attempt in one.attempts] == [(0, "haiku"), (1, "sonnet")]
        assert [attempt.review.verdict for attempt in one.attempts if attempt.review] == ["retry", "accept"]
        assert (one.text, one.rung) == (f"{SONNET}'s right result", "sonnet")


def test_the_reason_of_a_review_is_in_the_next_rungs_prompt_and_in_no_other(
    connections: Connections, emulate: Emulate
) -> None:
    """Quoted, as what a reviewer said."""
    emulator = emulate((), script=Fleet(good, wrong=(HAIKU,)))
    client = connections.sync_one.with_options(base_url=emulator.base_url)
    with Cascade(planning(), client=client, ledger="off") as driver:
        driver.run(plan_of(1), inputs={"notes": "Ada sells lamps for 30 euros."})
    told = {model: json.dumps(REASON) in _system(body) for model, body in _bodies(emulator) if model != OPUS}
    assert told == {HAIKU: False, SONNET: True}


def test_the_executors_assessment_never_reaches_the_reviewer(connections: Connections, emulate: Emulate) -> None:
    """Nor its confidence: they would anchor the review."""
    emulator = emulate((), script=Fleet(good))
    client = connections.sync_one.with_options(base_url=emulator.base_url)
    with Cascade(planning(), client=client, ledger="off") as driver:
        driver.run(plan_of(2), inputs={"notes": "Ada sells lamps for 30 euros."})
    shown = [json.dumps(body["messages"]) for model, body in _bodies(emulator) if model == OPUS]
    assert len(shown) == 4
    assert not [text for text in shown if "assessment" in text or "may be another" in text or "0.95" in text]


def _bodies(emulator: Emulator) -> list[tuple[str, dict[str, Any]]]:
    return [(str(one.body["model"]), dict(one.body)) for one in emulator.requests]


def _system(body: Mapping[str, Any]) -> str:
    return "\n".join(block["text"] for block in body["system"])


def test_the_next_run_does_not_ask_a_reviewer_that_was_found_out(runs: Runs, tmp_path: Path) -> None:
    """By the ledger: its results that need a review are unsettled, and say why."""
    ledger = tmp_path / "ledger.db"
    first = runs(Fleet(lambda _: said("accept", "fine")), planning(), ledger=ledger)
    fleet = Fleet(good)
    second = runs(fleet, planning(), ledger=ledger)
    assert fleet.count() == {"execute": SUBTASKS}
    assert not first.reviewer.believed
    assert (second.ok, second.reviewer.why) == (False, first.reviewer.why)
    other = Fleet(good)
    third = runs(other, planning(prompts={"reviewer": "Read it twice."}), ledger=ledger)
    assert third.ok
    assert other.count()["control"] == SUBTASKS


def test_an_outage_of_the_reviewer_is_no_fault_of_its_judgement(runs: Runs, tmp_path: Path) -> None:
    """The run ends with everything marked as not reviewed, and the next run asks again."""

    def down(_: Asked) -> str:
        raise ApiError(500, "api_error", "it broke")

    ledger = tmp_path / "ledger.db"
    first = runs(Fleet(down), planning(), ledger=ledger)
    assert not first.ok
    assert first.reviewer.controls == 0
    assert all("not reviewed: the call failed" in one.why for one in first.subtasks.values())
    assert runs(Fleet(good), planning(), ledger=ledger).ok


def test_reviews_and_control_items_are_on_the_ledger_and_add_up(runs: Runs) -> None:
    """With what the reviewer said; control items say what is known of them, which was not in their request."""
    fleet = Fleet(good, wrong=(HAIKU,))
    result = runs(fleet, planning(), subtasks=3, ledger=None)
    kept, count = entries(), fleet.count()
    outcomes = {body["id"]: body for body in bodies(kept, "outcome")}
    mine = [body for body in bodies(kept, "request") if outcomes[body["id"]]["arm"] == "reviewer"]
    said = Counter((body["plan"].get("control"), outcomes[body["id"]]["review"]) for body in mine)
    controls = {("right", "accept"): count["control"] // 2, ("wrong", "retry"): count["control"] // 2}
    assert count == {"execute": 6, "review": 6, "control": 6}
    assert said == {(None, "accept"): 3, (None, "retry"): 3, **controls}
    assert result.costs["reviewer"] == sum(outcomes[body["id"]]["cost"] for body in mine) == 12 * COST["opus"]
    assert result.cost_nanousd == sum(body["cost"] for body in outcomes.values())
