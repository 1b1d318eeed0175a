"""The failure contract: what fails climbs, what was paid is counted, and nobody gets an empty answer."""

from __future__ import annotations

import pytest

from cascade import AllRungsFailed, UpstreamRejected
from cascade.core.messages import Usage
from cascade.emulator import Emulator
from tests.live.conftest import (
    COST,
    HAIKU,
    MODELS,
    OPUS,
    SONNET,
    Asking,
    Emulate,
    Script,
    error_body,
    ladder,
    message_body,
    reasons,
    verdict,
)

ALL = tuple(MODELS)
# What the emulator does to a reply, and what we make of it: the verdict's kind is why it climbs, too.
BENT = [
    ("truncated_json", "truncated"),
    ("refusal", "refused"),
    ("prose", "malformed"),
    ("bad_confidence", "malformed"),
    ("empty", "malformed"),
    ("context_overflow", "overflow"),
]
GONE = ["server_error", "overloaded", "reset", "cut", "rate_limit,retry_after=0"]


@pytest.mark.parametrize("fault", GONE)
def test_a_rung_that_fails_for_good_climbs_one_rung(asking: Asking, emulate: Emulate, fault: str) -> None:
    """The reason is `error`, the next rung answers, every attempt is told and only the answer is paid for."""
    answer = asking(ladder(), emulate(faults=f"{fault},model={HAIKU}")).ask("sure")
    assert (answer.text, answer.rung, answer.degraded) == ("sonnet's", "sonnet", None)
    assert reasons(answer) == ["error", None]
    assert [step.attempts for step in answer.steps] == [3, 1]
    assert (answer.attempts, answer.cost_nanousd) == (4, COST["sonnet"])


def test_the_trail_names_each_attempt_by_its_request_id(asking: Asking, emulate: Emulate) -> None:
    """Steps carry the endpoint's ids, the answer ours, and the books add up."""
    answer = asking(ladder(), emulate(faults=f"server_error,model={HAIKU}")).ask("hard", metadata={"customer": "7"})
    assert all((step.request_id or "").startswith("req_") for step in answer.steps)
    assert answer.request_id.startswith("casc_")
    assert answer.usage == sum((step.usage for step in answer.steps), Usage())
    assert (answer.metadata, answer.policy, answer.certificate) == ({"customer": "7"}, "live", "uncertified")


@pytest.mark.parametrize("fault", GONE)
def test_a_failing_top_rung_ships_the_best_held_and_says_so(asking: Asking, emulate: Emulate, fault: str) -> None:
    """The highest answer that passed its checks goes out, marked."""
    answer = asking(ladder(), emulate(faults=f"{fault},model={OPUS}")).ask("hard")
    assert (answer.text, answer.rung, answer.degraded) == ("sonnet's", "sonnet", "error")
    assert (answer.confidence, answer.attempts) == (0.6, 5)
    assert reasons(answer) == ["low_confidence", "low_confidence", None]
    assert answer.cost_nanousd == COST["haiku"] + COST["sonnet"]


def test_all_rungs_failing_raises_with_the_trail(asking: Asking, emulate: Emulate) -> None:
    """Nothing is held: an error with what was tried, never an empty answer or an invented cost."""
    with pytest.raises(AllRungsFailed, match="haiku, sonnet, opus: failed") as caught:
        asking(ladder(), emulate(faults="server_error")).ask("sure")
    assert [step.rung for step in caught.value.steps] == list(ALL)
    assert [step.attempts for step in caught.value.steps] == [3, 3, 3]
    assert caught.value.cost_usd == 0
    assert "\n" not in str(caught.value)


def test_with_exhausted_abstain_nothing_to_ship_is_a_value(asking: Asking, emulate: Emulate) -> None:
    """No text, and why; the trail and its cost are there."""
    answer = asking(ladder(exhausted="abstain"), emulate(faults=f"server_error,model={OPUS}")).ask("declined")
    assert (answer.text, answer.rung, answer.abstained, answer.degraded) == (None, None, "error", None)
    assert (str(answer), answer.cost_nanousd) == ("", COST["haiku"] + COST["sonnet"])


@pytest.mark.parametrize(("fault", "kind"), BENT)
def test_a_reply_that_cannot_be_used_is_paid_for_and_climbs(
    asking: Asking, emulate: Emulate, fault: str, kind: str
) -> None:
    """It is tried once, its spend is counted to the nano-USD, and the next rung answers."""
    emulator = emulate(faults=f"{fault},model={HAIKU}")
    answer = asking(ladder(), emulator).ask("sure")
    assert (answer.steps[0].verdict.kind, reasons(answer)) == (kind, [kind, None])
    assert (answer.text, answer.attempts) == ("sonnet's", 2)
    assert answer.cost_nanousd == COST["haiku"] + COST["sonnet"]
    assert answer.usage == emulator.billed.usage


@pytest.mark.parametrize("fault", ["truncated_json", "refusal", "context_overflow"])
def test_nothing_of_a_broken_off_reply_is_ever_shipped(asking: Asking, emulate: Emulate, fault: str) -> None:
    """Not even from the top, where half a text would look like one."""
    emulator = emulate(faults=fault)
    with pytest.raises(AllRungsFailed) as caught:
        asking(ladder(), emulator).ask("sure")
    assert all(step.verdict.text is None for step in caught.value.steps)
    assert sum(step.cost_nanousd for step in caught.value.steps) == sum(COST.values())
    assert emulator.billed.replies == 3


@pytest.mark.parametrize("checks", [None, [{"max_chars": 100}], []], ids=["default", "others", "none"])
def test_an_empty_answer_fails_not_empty_and_climbs(
    asking: Asking, emulator: Emulator, checks: list[object] | None
) -> None:
    """`not_empty` is in force whatever the policy lists, and whatever the confidence was."""
    policy = ladder() if checks is None else ladder(checks=checks)
    answer = asking(policy, emulator).ask("empty")
    assert [step.verdict.failed_checks for step in answer.steps] == [("not_empty",), ("not_empty",), ()]
    assert (answer.text, reasons(answer)) == ("opus's", ["check_failed", "check_failed", None])
    assert answer.cost_nanousd == sum(COST.values())


def test_an_empty_answer_at_the_top_is_not_shipped_either(asking: Asking, emulator: Emulator) -> None:
    """The best held goes out, marked check_failed; where none is held, it is an error."""
    answer = asking(ladder(checks=[]), emulator).ask("void above")
    assert (answer.text, answer.degraded) == ("haiku's", "check_failed")
    with pytest.raises(AllRungsFailed, match="not_empty"):
        asking(ladder(checks=[]), emulator).ask("void")


def test_content_without_any_block_is_no_answer(asking: Asking, emulate: Emulate) -> None:
    """The endpoint says end_turn and sends nothing: below the top malformed, at the top an empty text."""
    with pytest.raises(AllRungsFailed) as caught:
        asking(ladder(), emulate(faults="empty")).ask("sure")
    kinds = [step.verdict.kind for step in caught.value.steps]
    assert kinds == ["malformed", "malformed", "answered"]
    assert caught.value.steps[-1].verdict.failed_checks == ("not_empty",)
    assert sum(step.cost_nanousd for step in caught.value.steps) == sum(COST.values())


def test_a_thinking_block_before_the_answer_does_no_harm(asking: Asking, emulate: Emulate) -> None:
    """Blocks are told apart by their type, not by their place."""
    assert asking(ladder(), emulate(faults="thinking")).ask("sure").text == "haiku's"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
def test_what_is_the_callers_fault_is_raised_at_once(asking: Asking, script: Script, status: int) -> None:
    """One attempt, one rung, one line that names rung, model and status; the id for the vendor's support is there."""
    refused = (status, {"request-id": "req_9", "content-type": "application/json"}, error_body("some_error", "not so"))
    endpoint = script(refused)
    with pytest.raises(UpstreamRejected, match=rf"^haiku \({HAIKU}\): .*HTTP {status}: not so$") as caught:
        asking(ladder(), endpoint).ask("sure")
    assert endpoint.models == [HAIKU]
    assert (caught.value.status, caught.value.request_id) == (status, "req_9")
    assert [(step.rung, step.attempts, step.cost_nanousd) for step in caught.value.steps] == [("haiku", 1, 0)]


def test_a_rejection_in_the_middle_of_a_climb_tells_what_was_paid(asking: Asking, script: Script) -> None:
    """The trail has the rungs before it, with their cost."""
    unsure = (200, {}, message_body(verdict(0.1, "hm")))
    endpoint = script(unsure, (403, {}, error_body("permission_error")))
    with pytest.raises(UpstreamRejected) as caught:
        asking(ladder(), endpoint).ask("sure")
    assert endpoint.models == [HAIKU, SONNET]
    assert [step.cost_nanousd for step in caught.value.steps] == [COST["haiku"], 0]


def test_a_model_that_the_endpoint_does_not_know_is_a_rejection(asking: Asking, emulator: Emulator) -> None:
    """The emulator's own 404: a wrong name in the policy is told, not climbed over."""
    with pytest.raises(UpstreamRejected, match="HTTP 404"):
        asking(ladder(), emulator).ask("a text that no corpus has")
    assert len(emulator.requests) == 1


def test_a_prompt_that_is_too_long_for_a_rung_climbs_as_overflow(asking: Asking, emulate: Emulate) -> None:
    """A 400 of this one kind is not the caller's fault: a model above may have a larger window."""
    answer = asking(ladder(), emulate(faults=f"context_overflow_400,model={HAIKU}")).ask("sure")
    assert (answer.text, reasons(answer)) == ("sonnet's", ["overflow", None])
    assert (answer.attempts, answer.cost_nanousd) == (2, COST["sonnet"])
    assert answer.steps[0].verdict.detail.startswith("overflow")


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[]", b'{"type": "message"}', b'"text"', b"\xff", b""])
def test_a_200_that_is_no_message_climbs_as_an_error(asking: Asking, script: Script, body: bytes) -> None:
    """A proxy's page, half a JSON, another shape: it may have been paid, so it is not tried again; climbed, no crash."""
    endpoint = script((200, {"content-type": "application/json"}, body), (200, {}, message_body(verdict(1, "ok"))))
    answer = asking(ladder(), endpoint).ask("sure")
    assert (answer.text, reasons(answer), answer.attempts) == ("ok", ["error", None], 2)
    assert answer.cost_nanousd == COST["sonnet"]


def test_callers_checks_stand_beside_the_policys_and_may_raise(asking: Asking, emulator: Emulator) -> None:
    """Only True passes: what a check raises or returns instead fails it by name, and the climb goes on."""

    def not_haikus(text: str) -> bool:
        return not text.startswith("haiku")

    def broken(text: str) -> bool:
        raise KeyError(text)

    answer = asking(ladder(), emulator).ask("sure", checks=[not_haikus])
    assert (answer.text, answer.steps[0].verdict.failed_checks) == ("sonnet's", ("not_haikus",))
    with pytest.raises(AllRungsFailed, match=r"broken \(raised KeyError\)"):
        asking(ladder(), emulator).ask("sure", checks=[broken])
