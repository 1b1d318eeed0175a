"""Replies of compatible endpoints and of later APIs: what they leave out, and what we do not know of them yet."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from cascade import AllRungsFailed
from cascade.core.budgets import max_usage, upper_bound
from cascade.core.messages import Request, Usage
from cascade.core.requests import read_messages
from cascade.core.triage import build_prompt
from cascade.emulator import Emulator
from cascade.policy.binding import bind_policy
from tests.live.conftest import COST, HAIKU, OPUS, Asking, Emulate, Script, ladder, message_body, reasons, verdict
from tests.live.operation.test_books import bodies, entries, files

STREAMED = ladder(max_tokens=30_000)
POLICIES = {"whole": ladder(), "streamed": STREAMED}
CACHED = [{"role": "user", "content": [{"type": "text", "text": "sure", "cache_control": {"type": "ephemeral"}}]}]


def bound(way: str, index: int = 0, prompt: Any = "sure") -> tuple[Usage, int]:
    """The most that a call may be billed, and cost in nano-USD."""
    plan = bind_policy(POLICIES[way])
    asked = build_prompt(plan.policy, index, Request(read_messages(prompt)))
    return max_usage(asked)[0], upper_bound(plan.rates[index], asked)


@pytest.mark.parametrize("way", POLICIES)
def test_an_answer_without_usage_ships_and_counts_as_the_most_it_may_cost(
    asking: Asking, emulate: Emulate, way: str
) -> None:
    """It was paid: nobody pays for it again, and its usage is marked as an estimate, on the step and on the answer."""
    emulator = emulate(faults="no_usage")
    answer = asking(POLICIES[way], emulator).ask("sure")
    most, cost = bound(way)
    assert (answer.text, answer.rung, len(emulator.requests)) == ("haiku's", "haiku", 1)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (most.input_tokens, most.output_tokens)
    assert (answer.usage.is_estimate, answer.steps[0].usage.is_estimate) == (True, True)
    assert answer.cost_nanousd == cost > COST["haiku"]


@pytest.mark.parametrize("way", POLICIES)
def test_one_step_without_usage_marks_the_whole_answer(asking: Asking, emulate: Emulate, way: str) -> None:
    """The steps that said theirs are counted to the nano-USD."""
    answer = asking(POLICIES[way], emulate(faults=f"no_usage,model={HAIKU}")).ask("unsure")
    assert [step.usage.is_estimate for step in answer.steps] == [True, False]
    assert (answer.usage.is_estimate, answer.cost_nanousd) == (True, bound(way, prompt="unsure")[1] + COST["sonnet"])


def test_a_usage_that_is_said_is_no_estimate(asking: Asking, emulator: Emulator) -> None:
    """The mark says something."""
    assert not asking(ladder(), emulator).ask("hard").usage.is_estimate


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        (None, Usage()),
        ({}, Usage()),
        ("many", Usage()),
        ({"prompt_tokens": 100, "completion_tokens": 20}, Usage()),
        ({"input_tokens": 100}, Usage(input_tokens=100)),
        ({"input_tokens": 100, "output_tokens": None, "cache_read_input_tokens": 7}, Usage(100, cache_read=7)),
        ({"output_tokens": 20}, Usage(output_tokens=20)),
    ],
)
def test_what_a_usage_leaves_out_is_counted_as_the_most_it_may_be(
    asking: Asking, script: Script, usage: object, known: Usage
) -> None:
    """What it does say is kept."""
    endpoint = script((200, {}, message_body(verdict(0.9, "fine"), usage=usage)))
    answer = asking(ladder(), endpoint).ask("sure")
    most, _ = bound("whole")
    assert answer.text == "fine"
    assert answer.usage == Usage(
        known.input_tokens or most.input_tokens,
        known.output_tokens or most.output_tokens,
        cache_read=known.cache_read,
        is_estimate=True,
    )


def test_a_body_without_the_key_is_an_answer_too(asking: Asking, script: Script) -> None:
    """Not null, but left out."""
    body = message_body(verdict(0.9, "fine"))
    del body["usage"]
    answer = asking(ladder(), script((200, {}, body))).ask("sure")
    assert (answer.text, answer.usage.is_estimate) == ("fine", True)


def test_a_prompt_that_may_be_cached_counts_at_the_dearest_rate(asking: Asking, script: Script) -> None:
    """A cache write costs more than plain input, and nobody says that it was none."""
    endpoint = script((200, {}, message_body(verdict(0.9, "fine"), usage=None)))
    answer = asking(ladder(), endpoint).ask(CACHED)
    assert answer.usage.cache_write_1h > 0
    assert answer.cost_nanousd == bound("whole", prompt=CACHED)[1]


def test_the_output_that_a_stream_begins_with_is_not_taken_for_all_of_it(asking: Asking, script: Script) -> None:
    """message_start tells of one token; where message_delta has no usage, nobody knows how many there were."""
    said = [
        {"type": "message_start", "message": message_body(content=[], stop_reason=None, usage={"input_tokens": 100, "output_tokens": 1})},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": verdict(0.9, "fine")}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]  # fmt: skip
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in said).encode()
    answer = asking(STREAMED, script((200, {"content-type": "text/event-stream"}, stream))).ask("sure")
    assert answer.text == "fine"
    assert answer.usage == Usage(100, bound("streamed")[0].output_tokens, is_estimate=True)


def test_the_ledger_carries_the_mark(asking: Asking, emulate: Emulate) -> None:
    """On the step, and no saving is reckoned from tokens that nobody confirmed."""
    policy = ladder(ledger={"durability": "commit"})
    asking(policy, emulate(faults=f"no_usage,model={HAIKU}")).ask("unsure")
    kept = entries()
    assert [step.get("is_estimate", False) for step in bodies(kept, "step")] == [True, False]
    assert "estimate" not in bodies(kept, "outcome")[0]
    (path,) = (one for one in files() if one.suffix == ".db")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT is_estimate FROM steps ORDER BY id").fetchall() == [(1,), (0,)]


def test_an_unknown_stop_reason_at_the_top_ships_and_says_so(asking: Asking, emulate: Emulate) -> None:
    """The text is whole as far as anybody can tell: it is marked instead of thrown away."""
    answer = asking(ladder(), emulate(faults=f"unknown_stop,model={OPUS}")).ask("hard")
    assert (answer.text, answer.rung, answer.degraded) == ("opus's", "opus", "malformed")
    assert answer.steps[-1].verdict.unknown_stop
    assert answer.steps[-1].verdict.detail == "stopped by a_reason_of_the_future"
    assert answer.cost_nanousd == sum(COST.values())


def test_an_unknown_stop_reason_below_the_top_climbs_and_is_held(asking: Asking, emulate: Emulate) -> None:
    """Its confidence is not trusted; where nothing above brings an answer, it is the best held."""
    answer = asking(ladder(), emulate(faults=f"unknown_stop,model={HAIKU}")).ask("sure")
    assert (answer.text, reasons(answer), answer.degraded) == ("sonnet's", ["malformed", None], None)
    assert answer.steps[0].verdict.confidence is None
    held = asking(ladder(), emulate(faults=f"unknown_stop,model={HAIKU};server_error")).ask("sure")
    assert (held.text, held.rung, held.degraded) == ("haiku's", "haiku", "error")


def test_an_unknown_stop_reason_on_half_a_json_is_not_held(asking: Asking, script: Script) -> None:
    """Nor repaired: below the top only sound JSON shows that nothing is missing."""
    cut = (200, {}, message_body('{"confidence": 0.9, "answer": "half of a sen', stop_reason="what"))
    nothing = (200, {}, message_body("", stop_reason="what"))
    with pytest.raises(AllRungsFailed, match=r"haiku.*: malformed \[stopped by what\]") as caught:
        asking(ladder(), script(cut, cut, nothing)).ask("sure")
    assert [step.verdict.kind for step in caught.value.steps] == ["malformed", "malformed", "answered"]
    assert caught.value.steps[-1].verdict.failed_checks == ("not_empty",)


def test_a_text_that_stopped_for_no_reason_is_not_held(asking: Asking, script: Script) -> None:
    """No stop_reason at all is how a message looks that has not ended."""
    with pytest.raises(AllRungsFailed, match="stopped by nothing"):
        asking(ladder(), script((200, {}, message_body("fine", stop_reason=None)))).ask("sure")
