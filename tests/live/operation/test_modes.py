"""Who answers: the ladder or the baseline, by mode, by rollout, changed without a restart; and what is observed beside it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest
from structlog.testing import capture_logs

from cascade import AllRungsFailed, Cascade
from cascade.emulator import Emulator
from cascade.engine.mode_switch import SwitchFile, switch_path, write_switch_file
from cascade.hooks import Begun, Calling, Ended, Wait
from tests.live.conftest import COST, HAIKU, OPUS, SONNET, Asking, Emulate, Endpoint, ladder


class Books:
    """A hook that keeps what it is told: (arm, whose shadow, rungs called, the end) of each request."""

    def __init__(self) -> None:
        self.kept: list[tuple[Begun, list[Calling], list[Ended]]] = []

    def begin(self, begun: Begun) -> Track:
        """One more."""
        track = Track()
        self.kept.append((begun, track.calls, track.ends))
        return track


class Track:
    """One request's."""

    def __init__(self) -> None:
        self.calls: list[Calling] = []
        self.ends: list[Ended] = []

    def calling(self, call: Calling) -> None:
        """Keep it."""
        self.calls.append(call)

    def ended(self, end: Ended) -> None:
        """Keep it."""
        self.ends.append(end)


def asked(emulator: Emulator) -> list[str]:
    """The models that were asked, in turn."""
    return [str(seen.body["model"]) for seen in emulator.requests]


def test_off_sends_the_request_unchanged_to_the_baseline_and_marks_it(asking: Asking, emulator: Emulator) -> None:
    """No triage, no rules of ours in the system prompt; the top rung's plain answer, not certified."""
    answer = asking(ladder(mode="off"), emulator).ask("sure", system="Be brief.")
    assert (answer.text, answer.rung, answer.arm, answer.bypass) == ("opus's", "opus", "bypass", True)
    assert (answer.confidence, answer.certificate, answer.cost_nanousd) == (None, "uncertified", COST["opus"])
    (seen,) = emulator.requests
    assert (seen.body["model"], seen.body["system"]) == (OPUS, "Be brief.")
    assert "format" not in (seen.body.get("output_config") or {})


def test_the_baseline_may_be_any_rung_or_model(asking: Asking, emulator: Emulator) -> None:
    """By the rung's name or the model's; asked plainly, whatever its place on the ladder."""
    for baseline in ("sonnet", SONNET):
        answer = asking(ladder(mode="off", baseline=baseline), emulator).ask("hard")
        assert (answer.text, answer.rung, answer.model) == ("sonnet's", "sonnet", SONNET)


def test_an_answer_of_the_baseline_is_checked_as_any(asking: Asking, emulator: Emulator) -> None:
    """An empty one is never returned, and there is nowhere to climb to."""
    with pytest.raises(AllRungsFailed, match="opus: answered"):
        asking(ladder(mode="off"), emulator).ask("void")


def test_a_mode_is_in_force_on_the_next_request(
    asking: Asking, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CASCADE_MODE, then the switch over it, then neither again: the same driver, no restart."""
    driver = asking(ladder(), emulator)
    arms = [driver.ask("sure").arm]
    monkeypatch.setenv("CASCADE_MODE", "off")
    arms.append(driver.ask("sure").arm)
    write_switch_file(SwitchFile(policies={"live": "observe"}), switch_path())
    arms.append(driver.ask("sure").arm)
    write_switch_file(SwitchFile(), switch_path())
    monkeypatch.delenv("CASCADE_MODE")
    arms.append(driver.ask("sure").arm)
    assert arms == ["cascade", "bypass", "observe", "cascade"]


def test_a_rollout_keeps_a_customer_on_one_side(asking: Asking, emulator: Emulator) -> None:
    """Thirty in a hundred climb, and each customer always fares alike; without a name a request is of the holdout."""
    driver = asking(ladder(rollout={"percent": 30, "by": "customer"}), emulator)
    sides = {
        customer: {driver.ask("sure", metadata={"customer": f"c{customer}"}).arm for _ in range(2)}
        for customer in range(120)
    }
    counts = Counter(side for (side,) in sides.values())
    assert counts.keys() == {"cascade", "holdout"}
    assert 20 <= counts["cascade"] <= 52
    with capture_logs() as events:
        assert {driver.ask("sure").arm for _ in range(2)} == {"holdout"}
    assert [(event["event"], event["by"]) for event in events] == [("rollout_unit_missing", "customer")]


def shadows(policy: Any, endpoint: Endpoint, texts: list[str], **options: Any) -> Books:
    """What was told of these requests and of their shadows, once all are over."""
    books = Books()
    client = anthropic.Anthropic(base_url=endpoint.base_url, api_key="test", max_retries=0)
    with client, Cascade(policy, client=client, hooks=[books], **options) as driver:
        for text in texts:
            assert driver.ask(text).arm == "observe"
    return books


def test_what_is_observed_is_put_to_every_rung_beside_the_answer(emulate: Emulate) -> None:
    """The baseline answers once; Haiku and Sonnet are asked as live, whatever their confidence; the rule tells who would ship."""
    emulator = emulate()
    books = shadows(ladder(mode="observe", observe={"sample": 1.0}), emulator, ["sure", "hard"])
    assert Counter(asked(emulator)) == {HAIKU: 2, SONNET: 2, OPUS: 2}
    told = {
        begun.observed_as: (begun.arm, [call.rung.rung for call in calls], end.answer and end.answer.rung)
        for begun, calls, (end,) in books.kept
        if begun.observed_as
    }
    ids = {begun.request.id: begun.request.messages[0]["content"] for begun, _, _ in books.kept}
    assert {ids[name]: one for name, one in told.items() if name} == {
        "sure": ("shadow", ["haiku", "sonnet"], "haiku"),
        "hard": ("shadow", ["haiku", "sonnet"], "opus"),
    }


def test_a_sample_is_observed_and_no_more(emulate: Emulate) -> None:
    """One in five: of 60 requests a few are put to the ladder, the others are not."""
    emulator = emulate()
    shadows(ladder(mode="observe", observe={"sample": 0.2}), emulator, ["sure"] * 60)
    models = Counter(asked(emulator))
    assert models[OPUS] == 60
    assert 1 <= models[HAIKU] == models[SONNET] <= 30


def test_what_is_observed_keeps_to_a_daily_cap_of_its_own(emulate: Emulate) -> None:
    """With room for nothing nothing is put to the ladder; the callers have their answers all the same."""
    emulator = emulate()
    shadows(ladder(mode="observe", observe={"sample": 1.0, "daily_usd": "0.000001"}), emulator, ["sure"] * 3)
    assert asked(emulator) == [OPUS] * 3


def test_a_ladder_that_fails_beside_the_answer_costs_nobody_anything(emulate: Emulate) -> None:
    """Haiku is down: the baseline answers, and how the shadow ended is told to the hooks alone."""
    emulator = emulate(faults=f"server_error,model={HAIKU}")
    books = shadows(ladder(mode="observe", observe={"sample": 1.0}), emulator, ["sure"])
    (end,) = next(ends for begun, _, ends in books.kept if begun.observed_as)
    assert [(step.rung, step.verdict.kind) for step in end.steps] == [("haiku", "failed")]
    assert end.answer is None


def test_the_policys_checks_do_not_fail_the_baseline(asking: Asking, emulator: Emulator) -> None:
    """They say when to climb, and there is nowhere to climb to; the caller's own hold."""
    driver = asking(ladder(mode="off", checks=[{"max_chars": 3}]), emulator)
    assert driver.ask("sure").text == "opus's"
    with pytest.raises(AllRungsFailed):
        driver.ask("sure", checks=[lambda text: len(text) < 3])


def test_a_driver_that_is_closed_meanwhile_still_answers(emulator: Emulator) -> None:
    """What would be observed is passed over: the answer was paid for."""
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
    with client, Cascade(ladder(mode="observe", observe={"sample": 1.0}), client=client, ledger="off") as driver:
        assert driver.ask("sure").text == "opus's"
        pool = driver._background  # pyright: ignore[reportPrivateUsage] - as a close in another thread does it
        assert pool is not None
        pool.shutdown()
        with capture_logs() as events:
            assert driver.ask("sure").text == "opus's"
    assert [(event["event"], event["busy"], event["closed"]) for event in events] == [("observe_passed_over", 0, 1)]


def test_what_is_passed_over_is_counted_by_its_cause(emulate: Emulate) -> None:
    """The first and the tenth at once, all of them when the driver closes: why, and how many."""
    emulator = emulate(token_latency_s=0.02)
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0)
    observing = ladder(mode="observe", observe={"sample": 1.0, "concurrency": 1})
    with client, capture_logs() as events:
        with Cascade(observing, client=client, ledger="off") as driver, ThreadPoolExecutor(13) as callers:
            list(callers.map(driver.ask, ["sure"] * 13))
            slots = driver._shadow_slots  # pyright: ignore[reportPrivateUsage]
        passed = slots.passed_over["busy"]
    told = [event for event in events if event["event"] == "observe_passed_over"]
    assert passed > 1
    assert told[0]["passed_over"] == 1
    assert (told[-1]["passed_over"], told[-1]["busy"], told[-1]["closed"]) == (passed, passed, 0)
    assert "observe.concurrency (1)" in told[-1]["hint"]
    assert "closed" not in told[-1]["hint"]


class Failing:
    """A hook whose records cannot be made durable, and that says so."""

    def begin(self, begun: Begun) -> Failing:
        """For every request."""
        return self

    def calling(self, call: Calling) -> Wait:
        """It fails."""
        return self.ended(None)

    def ended(self, end: Ended | None) -> Wait:
        """It fails."""
        done: Wait = Wait()
        done.set_exception(OSError("no"))
        return done


def test_a_hook_that_fails_costs_no_answer(asking: Asking, emulator: Emulator) -> None:
    """Neither by what it raises nor by what it has the driver wait for."""

    class Raising:
        def begin(self, begun: Begun) -> Track:
            raise ValueError("begin")

    with capture_logs() as events:
        driver = asking(ladder(), emulator, ledger="off", hooks=[Failing(), Raising()])
        assert driver.ask("sure").text == "haiku's"
    assert [(event["event"], event["error"]) for event in events] == [("hook_failed", "ValueError")]
