"""A live policy with a certificate: its answers say what is proved, and a certificate that is void is told once."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from cascade.policy.roles import climb_roles
from tests.calibration.certified import certified, with_keys
from tests.live.conftest import CORPUS, Asking, Clock, Emulate, corpus, item, ladder, reply

PROVED = certified(ladder())
TOLD = "certified: false_confident <= 0.02 at 0.95"


def test_answers_carry_the_certificate_of_their_policy(asking: Asking, emulate: Emulate) -> None:
    """Whichever rung answers; nothing is logged, for all is well."""
    with capture_logs() as events:
        driver = asking(PROVED, emulate(CORPUS))
        assert [driver.ask(text).certificate for text in ("sure", "unsure", "hard")] == [TOLD] * 3
    assert events == []


def test_a_certificate_that_no_longer_holds_warns_once_and_answers_are_uncertified(
    asking: Asking, emulate: Emulate
) -> None:
    """The event names what changed; not on every request."""
    changed = with_keys(PROVED, triage={"order": "answer_first"})
    with capture_logs() as events:
        driver = asking(changed, emulate(CORPUS))
        assert {driver.ask(text).certificate for text in ("sure", "unsure", "hard")} == {"uncertified"}
    (event,) = [one for one in events if not one["event"].startswith("emulator")]  # which says what it has not recorded
    assert (event["event"], event["log_level"], event["changed"]) == ("certificate_stale", "warning", ["prompts"])
    assert "calibrate again" in event["hint"]


def test_a_stale_certificate_names_the_role_whose_words_changed(asking: Asking, emulate: Emulate) -> None:
    """If it was written with the versions of the words by role, as `calibrate` does."""
    proved = certified(ladder(), roles=climb_roles(ladder()))
    with capture_logs() as events:
        asking(with_keys(proved, triage={"order": "answer_first"}), emulate(CORPUS)).ask("sure")
    (event,) = [one for one in events if one["event"] == "certificate_stale"]
    assert (event["changed"], event["roles"]) == (["prompts"], ["triage"])


def test_a_storm_that_holds_an_answer_back_makes_it_uncertified(asking: Asking, emulate: Emulate) -> None:
    """Shipped below the top because a guard said so: no corpus has proved that."""
    guard: dict[str, Any] = {"rate": 0.05, "window": 20, "min_samples": 20, "on_trip": "hold"}
    policy, clock = certified(ladder(storm_guard=guard)), Clock()
    unsure = corpus(item("unsure", reply(0.1, "haiku's"), reply(0.1, "sonnet's"), reply(None, "opus's")))
    driver = asking(policy, emulate(unsure), clock=clock)
    answers = []
    for second in range(40):
        clock.now = float(second)
        answers.append(driver.ask("unsure"))
    assert (answers[0].degraded, answers[0].certificate) == (None, TOLD)
    assert (answers[-1].degraded, answers[-1].certificate) == ("storm", "uncertified")


def test_the_live_guard_expects_the_certified_rate(asking: Asking, emulate: Emulate) -> None:
    """The same traffic trips the guard without a certificate, and not where its rate was certified."""
    guard: dict[str, Any] = {"rate": 0.05, "window": 20, "min_samples": 20}
    unsure = corpus(item("unsure", reply(0.1, "haiku's"), reply(0.9, "sonnet's"), reply(None, "opus's")))
    emulator = emulate(unsure)

    def events_of(escalation: dict[str, float], by_task: dict[str, dict[str, float]] | None = None) -> set[str]:
        clock = Clock()
        driver = asking(
            certified(ladder(storm_guard=guard), escalation=escalation, escalation_by_task=by_task),
            emulator,
            clock=clock,
        )
        with capture_logs() as events:
            for second in range(40):
                clock.now = float(second)
                driver.ask("unsure")
        return {event["event"] for event in events}

    assert events_of({}) == {"storm_tripped"}
    assert events_of({"haiku": 0.95}) == set()
    assert events_of({"haiku": 0.95}, {"other": {"haiku": 0.2}}) == {"storm_tripped"}
    assert events_of({"haiku": 0.2}, {"other": {"haiku": 0.95}}) == set()
