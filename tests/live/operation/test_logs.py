"""Nothing of what users write, of what is answered, or of keys is ever logged or printed."""

from __future__ import annotations

import logging
from typing import Any

import anthropic
import pytest
from structlog.testing import capture_logs

from cascade import Cascade, ClimbError
from cascade.corpora import Item
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, MODELS, Asking, Clock, Emulate, Script, corpus, error_body, ladder, reply

PROMPT, ANSWER, KEY, SYSTEM = "PROMPT-7f3a", "ANSWER-9c1b", "KEY-2d8e", "SYSTEM-4b6f"
SECRETS = (PROMPT, ANSWER, KEY, SYSTEM)
FAULTS = [
    "",
    "server_error",
    "refusal",
    "prose",
    "truncated_json",
    "bad_confidence",
    "empty",
    "spend_cap",
    "reset",
    "cut",
]


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that a logger of ours says, at DEBUG."""
    for name in ("cascade", "cascade.claude", "cascade.engine", "cascade.core"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def said(records: pytest.LogCaptureFixture, events: list[Any]) -> str:
    """All of it as one text, arguments and exceptions included."""
    ours = [record for record in records.records if record.name.split(".")[0] == "cascade"]
    return repr([vars(record) for record in ours]) + repr(events)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_prompt_answer_or_key_is_logged(
    asking: Asking,
    emulate: Emulate,
    records: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """Good answers and all kinds of bad ones, often enough for both guards to speak; errors do not quote them either."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    answers = {rung: reply(0.1, f"{ANSWER} of {rung}") for rung in MODELS}
    emulator = emulate(corpus(Item("1", PROMPT, answers)), faults=fault)
    clock = Clock()
    policy = ladder(retry={"attempts": 1}, storm_guard={"rate": 0.35, "window": 20, "min_samples": 20})
    driver = asking(policy, emulator, clock=clock)
    errors: list[str] = []
    with capture_logs() as events:
        for _ in range(30):
            clock.now += 1
            try:
                driver.ask(PROMPT, system=SYSTEM, metadata={"name": PROMPT})
            except ClimbError as error:
                errors.append(f"{error} {error!r}")
    assert events  # a storm or an outage was told, without a word of these:
    everything = said(records, events) + "".join(errors) + "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in everything]


def test_a_rejection_is_raised_and_not_logged(
    asking: Asking, script: Script, records: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its message may quote the upstream, so it goes to the caller alone."""
    endpoint = script((400, {}, error_body("invalid_request_error", f"you wrote {PROMPT}")))
    with capture_logs() as events, pytest.raises(ClimbError, match=PROMPT):
        asking(ladder(), endpoint).ask(PROMPT)
    assert PROMPT not in said(records, events) + "".join(capfd.readouterr())


def test_values_that_people_print_do_not_hold_the_key(emulate: Emulate) -> None:
    """A driver, a policy and an answer show no key; an answer's steps show no prompt."""
    emulator = emulate(corpus(Item("1", PROMPT, {rung: reply(0.9, "fine") for rung in MODELS})))
    with anthropic.Anthropic(base_url=emulator.base_url, api_key=KEY) as client:
        driver = Cascade(ladder(), client=client)
        answer = driver.ask(PROMPT, system=SYSTEM)
    for value in (driver, driver.policy, answer):
        assert KEY not in repr(value)
    assert PROMPT not in repr(answer)
    assert SYSTEM not in repr(answer)
    assert answer.model == HAIKU


def test_a_task_the_policy_does_not_know_is_told_once(asking: Asking, emulator: Emulator) -> None:
    """A typo loses a floor: an event says so, with what may have been meant, and never what was asked."""
    driver = asking(ladder(tasks=[{"name": "refund", "floor": "sonnet"}]), emulator)
    with capture_logs() as told:
        for task in ("refnd", "refnd", "refund", "other"):
            driver.ask("sure", task=task)
    expected = {"event": "task_unknown", "policy": "live", "task": "refnd", "did_you_mean": "refund"}
    assert [{key: entry[key] for key in expected} for entry in told] == [expected]
