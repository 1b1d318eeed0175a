"""HTTP 200 with a body of any shape: a typed outcome, what it was billed in the cost, and never a bare exception."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest

from cascade import AllRungsFailed
from tests.live.conftest import COST, Asking, Script, ladder, message_body, reasons, verdict

GOOD = message_body(verdict(0.9, "fine"))
NO_COUNTS = ["12", [3], -5, 10.5, True, {"a": 1}]
VALUES: list[Any] = [
    None,
    "",
    "x",
    0,
    -1,
    1e308,
    True,
    [],
    {},
    [[]],
    {"type": "text"},
    [{"type": "text"}],
    [1],
    "\ud800",
]
STREAMED = ladder(max_tokens=30_000)


def events(*changes: dict[str, Any]) -> bytes:
    """A stream's events, each as it should be but for what `changes` says of its type."""
    changed = {change["type"]: change for change in changes}
    usual: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**GOOD, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": verdict(0.9, "fine")}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}},
        {"type": "message_stop"},
    ]
    said = [changed.get(event["type"], event) for event in usual]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in said).encode()


@pytest.mark.parametrize("count", NO_COUNTS)
def test_no_money_is_made_of_what_is_no_count(asking: Asking, script: Script, count: object) -> None:
    """A usage that is not whole tokens, 0 or more, counts as one that is missing: the answer ships, its cost is a bound."""
    bad = message_body(verdict(0.9, "x"), usage={"input_tokens": count, "output_tokens": 20})
    answer = asking(ladder(), script((200, {}, bad), (200, {}, GOOD))).ask("hi")
    assert (str(answer), reasons(answer)) == ("x", [None])
    assert answer.usage.is_estimate
    assert answer.cost_nanousd > COST["haiku"]


@pytest.mark.parametrize("change", [{"content": None}, {"content": [1]}, {"stop_reason": 5}, {"stop_reason": {"a": 1}}])
def test_an_unreadable_reply_is_paid_for_once(asking: Asking, script: Script, change: dict[str, Any]) -> None:
    """What it says that it was billed is counted, and nobody pays for it again by a retry."""
    endpoint = script((200, {}, {**GOOD, **change}), (200, {}, GOOD))
    answer = asking(ladder(), endpoint).ask("hi")
    assert reasons(answer) == ["error", None]
    assert (endpoint.requests, answer.attempts) == (2, 2)
    assert answer.cost_nanousd == COST["haiku"] + COST["sonnet"]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "message_start", "message": None},
        {"type": "message_start"},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "message_delta", "delta": None, "usage": {}},
        {"type": "message_delta", "delta": {}, "usage": None},
    ],
)
def test_a_strange_stream_is_a_failed_rung(asking: Asking, script: Script, change: dict[str, Any]) -> None:
    """An event that is not what it should be: the rung failed, the next is asked."""
    stream = {"content-type": "text/event-stream"}
    endpoint = script((200, stream, events(change)), (200, stream, events()))
    answer = asking(STREAMED, endpoint).ask("hi")
    assert (str(answer), answer.rung) == ("fine", "sonnet")
    assert reasons(answer)[0] in ("error", "malformed")


def test_a_stream_that_is_not_json_is_a_failed_rung(asking: Asking, script: Script) -> None:
    """Broken JSON in an event."""
    stream = {"content-type": "text/event-stream"}
    broken = b"event: message_start\ndata: {\n\n"
    answer = asking(STREAMED, script((200, stream, broken), (200, stream, events()))).ask("hi")
    assert (str(answer), reasons(answer)) == ("fine", ["error", None])


def test_hostile_bodies_bring_typed_outcomes_only(asking: Asking, script: Script) -> None:
    """Two hundred bodies with a value of another shape somewhere in them."""
    chance = random.Random(5)
    bodies: list[tuple[int, dict[str, str], object]] = []
    for _ in range(200):
        body: dict[str, Any] = json.loads(json.dumps(GOOD))
        place = chance.choice([body, body["usage"], body["content"][0]])
        place[chance.choice(list(place))] = chance.choice(VALUES)
        bodies.append((200, {}, json.dumps(body).encode()))
    driver = asking(ladder(), script(*bodies, (200, {}, b"[" * 5_000), (200, {}, b"\xff"), (200, {}, b"")))
    for _ in range(60):
        with suppress(AllRungsFailed):  # typed, too; anything else is not
            answer = driver.ask("hi")
            assert answer.text
            assert isinstance(answer.cost_nanousd, int)
            assert answer.cost_nanousd >= 0
