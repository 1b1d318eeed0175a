"""Requests for claude-cascade-*: they climb, and the caller gets what the Messages API would send."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascade.core.errors import (
    AllRungsFailed,
    BudgetExceeded,
    CascadeError,
    ConfigurationError,
    DeadlineExceeded,
    RequestError,
    UpstreamRejected,
)
from cascade.core.trail import Step, Verdict
from cascade.emulator import Emulator, ScriptedReply
from cascade.gateway.failures import problem_of
from cascade.gateway.settings import Route
from tests.gateway.serving import Gateway, policy_file, received
from tests.gateway.test_relay import body_of, dechunked, post

if TYPE_CHECKING:
    import anthropic

MODEL = "claude-cascade-small"
LONG = 'A longer answer – ‘quoted’, "escaped",\nof several lines and 😀.' * 8


def script(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
    """Haiku is sure of `easy` alone, a little less so of `fair`, and declines what is `declined`."""
    question = body["messages"][-1]["content"]
    if "haiku" in body["model"]:
        content = () if question == "declined" else ({"type": "text", "text": f"haiku: {LONG}"},)
        return ScriptedReply(content, confidence={"easy": 0.95, "fair": 0.85}.get(question, 0.1))
    return ScriptedReply(({"type": "text", "text": f"sonnet: {LONG}"},))


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script."""
    return emulate(script=script, keep_requests=100)


def asked(question: str = "easy", **more: Any) -> dict[str, Any]:
    """The parameters of one request."""
    return {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": question}], **more}


def text_of(message: anthropic.types.Message) -> str:
    """A message's texts, joined."""
    return "".join(block.text for block in message.content if block.type == "text")


def raw(question: str, headers: Mapping[str, str] | None = None, **more: Any) -> bytes:
    """One request's bytes."""
    return post(json.dumps({**asked(question), **more}).encode(), dict(headers or {}), target="/v1/messages")


def events_of(response: bytes) -> list[dict[str, Any]]:
    """The events of a stream."""
    lines = dechunked(body_of(response)).decode().split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_an_answer_comes_with_what_it_cost_and_who_gave_it(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """As a message of the SDK, and as headers."""
    response = sdk(start(emulator.base_url)).messages.with_raw_response.create(**asked("easy"))
    message, headers = response.parse(), response.headers
    assert (text_of(message), message.model) == (f"haiku: {LONG}", "claude-haiku-5-5")
    own = {name.removeprefix("x-cascade-"): value for name, value in headers.items() if name.startswith("x-cascade-")}
    assert own.pop("request-id").startswith("casc_")
    assert float(own.pop("response-cost")) > 0
    assert own == {
        "policy": "small", "model": "claude-haiku-5-5", "rung": "haiku", "confidence": "0.95", "escalations": "0",
        "prompt-cache-status": "miss",
    }  # fmt: skip
    assert headers["request-id"].startswith("req_")


def test_what_the_first_rung_does_not_stand_for_climbs(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Declined or not sure: the next rung answers."""
    client = sdk(start(emulator.base_url))
    for question in ("hard", "declined"):
        response = client.messages.with_raw_response.create(**asked(question))
        assert text_of(response.parse()) == f"sonnet: {LONG}"
        assert response.headers["x-cascade-escalations"] == "1"


@pytest.mark.parametrize(("question", "rung"), [("easy", "haiku"), ("hard", "sonnet"), ("declined", "sonnet")])
def test_a_stream_s_deltas_are_the_answer(
    start: Callable[..., Gateway],
    emulator: Emulator,
    sdk: Callable[..., anthropic.Anthropic],
    question: str,
    rung: str,
) -> None:
    """Its headers have the id, under which the trail and the cost are found afterwards."""
    gateway = start(emulator.base_url)
    client = sdk(gateway)
    with client.messages.stream(**asked(question)) as stream:
        assert "".join(stream.text_stream) == f"{rung}: {LONG}"
        headers = stream.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-cascade-policy"] == "small"
    found = client.get(f"/v1/answers/{headers['x-cascade-request-id']}", cast_to=dict[str, Any])
    assert (found["rung"], found["arm"]) == (rung, "cascade")
    assert found["cost_nanousd"] == sum(step["cost_nanousd"] for step in found["steps"])
    assert not {"text", "data"} & found.keys()


def test_a_route_lets_a_real_model_s_name_climb(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Existing callers change no line; other models pass through."""
    client = sdk(start(emulator.base_url, routes=(Route("claude-opus-*", "small"),)))
    assert client.messages.create(**asked("easy", model="claude-opus-5-5")).model == "claude-haiku-5-5"
    assert client.messages.create(**asked("easy", model="claude-sonnet-5-5")).model == "claude-sonnet-5-5"


def test_task_flags_and_metadata_come_in_headers(start: Callable[..., Gateway], emulator: Emulator) -> None:
    """And are on the ledger."""
    gateway = start(emulator.base_url)
    headers = {"x-cascade-task": "refund", "x-cascade-flags": "vip, urgent", "x-cascade-metadata-workflow": "w-1"}
    assert gateway.send(raw("easy", headers)).startswith(b"HTTP/1.1 200 ")
    gateway.stop()
    (record,) = gateway.records()
    assert (record.request.task, record.request.flags) == ("refund", ["urgent", "vip"])
    assert record.request.metadata == {"workflow": "w-1"}


def test_beta_headers_go_with_every_call_and_the_version_is_the_sdk_s(
    start: Callable[..., Gateway], emulator: Emulator
) -> None:
    """Of credentials, the gateway's own go upstream."""
    sent = {
        "anthropic-beta": "a-2026,b-2026",
        "anthropic-version": "2023-06-01",
        "x-api-key": "caller",
        "anthropic-new": "1",
    }
    start(emulator.base_url).send(raw("hard", sent))
    assert len(emulator.requests) == 2
    for one in emulator.requests:
        assert (one.headers["anthropic-beta"], one.headers["anthropic-new"]) == ("a-2026,b-2026", "1")
        assert one.headers["anthropic-version"] != "2023-06-01"
    assert "caller" not in repr(emulator.raw_requests)


@pytest.mark.parametrize("header", [{"x-api-key": "mine"}, {"authorization": "Bearer mine"}])
def test_with_auth_forward_a_climb_uses_the_caller_s_key(
    start: Callable[..., Gateway], emulator: Emulator, header: dict[str, str]
) -> None:
    """At every rung."""
    start(emulator.base_url, auth="forward").send(raw("hard", header))
    for one in emulator.raw_requests:
        found = [
            (name.lower(), value) for name, value in one.headers if name.lower() in (b"authorization", b"x-api-key")
        ]
        assert found == [(b"authorization", b"Bearer mine")]
    assert len(emulator.raw_requests) == 2


def test_with_auth_forward_no_other_endpoint_gets_a_caller_s_key(start: Callable[..., Gateway], tmp_path: Path) -> None:
    """A rung that has one is refused at the start."""
    path = policy_file(tmp_path, "elsewhere")
    path.write_text(path.read_text().replace("max_tokens: 256", "max_tokens: 256, base_url: 'http://127.0.0.1:1'"))
    with pytest.raises(ConfigurationError, match=r"--auth forward: rung haiku of policy elsewhere has an endpoint"):
        start("http://127.0.0.1:1", auth="forward", policies=(str(path),))


def test_what_cannot_climb_goes_to_the_baseline_where_the_policy_says_so(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path
) -> None:
    """Unchanged but for its model. What that says is the answer: here, that it takes no prefill either."""
    path = policy_file(tmp_path)
    path.write_text(path.read_text() + "bypass: baseline\n")
    gateway = start(emulator.base_url, policies=(str(path),))
    prefill = [{"role": "user", "content": "easy"}, {"role": "assistant", "content": "It"}]
    assert b"does not support assistant message prefill" in gateway.send(raw("easy", messages=prefill))
    (seen,) = emulator.requests
    assert (seen.body["model"], seen.body["messages"]) == ("claude-sonnet-5-5", prefill)
    gateway.stop()
    assert [record.request.arm for record in gateway.records()] == ["bypass"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_climb_is_a_400_that_names_it(
    start: Callable[..., Gateway], emulator: Emulator, stream: bool
) -> None:
    """Nothing is dropped, and nothing is sent."""
    gateway = start(emulator.base_url)
    cases: list[dict[str, Any]] = [
        {"temperature": 0.5}, {"messages": "text"}, {"max_tokens": "many"}, {"stop_sequences": [5]},
    ]  # fmt: skip
    for wrong in cases:
        body = json.dumps({**asked(), **wrong, "stream": stream}).encode()
        response = gateway.send(post(body, {}, target="/v1/messages"))
        assert response.startswith(b"HTTP/1.1 400 ")
        assert next(iter(wrong)) in json.loads(body_of(response))["error"]["message"]
    assert emulator.requests == ()


def test_while_nothing_is_said_pings_are_sent(start: Callable[..., Gateway], emulate: Callable[..., Emulator]) -> None:
    """The first of them begins the response."""
    go = threading.Event()

    async def waiting(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        await asyncio.to_thread(go.wait, 20)
        return script(body, headers)

    gateway = start(emulate(script=waiting).base_url, ping_s=0.02)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(raw("easy", stream=True))
        seen = b""
        while seen.count(b"event: ping") < 2:
            piece = connection.recv(65536)
            assert piece
            seen += piece
        go.set()
        seen += received(connection)
    kinds = [event["type"] for event in events_of(seen)]
    assert kinds[:2] == ["ping", "ping"]
    assert next(kind for kind in kinds if kind != "ping") == "message_start"
    assert kinds[-1] == "message_stop"


def failing(after_pings: threading.Event) -> Callable[..., Any]:
    """A script that is refused once the pings have been seen."""

    async def refuse(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        await asyncio.to_thread(after_pings.wait, 20)
        return ScriptedReply((), stop_reason="end_turn")

    return refuse


def test_after_a_ping_an_error_is_an_event(start: Callable[..., Gateway], emulate: Callable[..., Emulator]) -> None:
    """The status has been sent by then."""
    seen_pings = threading.Event()
    gateway = start(emulate(script=failing(seen_pings)).base_url, ping_s=0.02)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(raw("easy", stream=True))
        seen = b""
        while b"event: ping" not in seen:
            seen += connection.recv(65536)
        seen_pings.set()
        seen += received(connection)
    assert seen.startswith(b"HTTP/1.1 200 ")
    last = events_of(seen)[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert last["request_id"].startswith("casc_")
    assert seen.endswith(b"0\r\n\r\n")


def test_before_anything_was_sent_an_error_is_a_status(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator]
) -> None:
    """Of a stream as of a message."""
    gateway = start(emulate(script=script, faults="stream_unauthorized").base_url)
    assert gateway.send(raw("easy", stream=False)).startswith(b"HTTP/1.1 401 ")
    assert gateway.send(raw("easy", stream=True)).startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 200 "))


@pytest.mark.parametrize("fault", ["cut", "stream_overloaded"])
def test_a_failure_after_the_first_delta_ends_the_stream_with_an_error(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], fault: str
) -> None:
    """Never with a text that is silently cut off, or begun again."""
    gateway = start(emulate(script=script, faults=f"{fault},model=claude-haiku-5-5").base_url)
    events = events_of(gateway.send(raw("easy", stream=True)))
    text = "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")
    kinds = [one["type"] for one in events]
    assert kinds[0] == "message_start"
    if text.startswith("haiku"):
        assert f"haiku: {LONG}".startswith(text)
        assert kinds[-1] == "error"
    else:  # it broke off before the text had begun: the next rung answers
        assert text == f"sonnet: {LONG}"
        assert kinds[-1] == "message_stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_disconnects_ends_the_climb(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], stream: bool
) -> None:
    """The endpoint's connection is closed, and the request is on the ledger."""
    began, ended = threading.Event(), threading.Event()

    async def waiting(body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    gateway = start(emulate(script=waiting).base_url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(raw("easy", stream=stream))
        assert began.wait(20)
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert record.outcome.error == "cancelled"


def failed(*details: str) -> tuple[Step, ...]:
    """A trail of failed steps."""
    return tuple(Step(0, "haiku", "m", Verdict("failed", detail=detail)) for detail in details)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RequestError("prefill: no"), 400, "invalid_request_error"),
        (UpstreamRejected("no", status=402), 402, "billing_error"),
        (UpstreamRejected("no", status=413), 413, "request_too_large"),
        (BudgetExceeded("no room"), 429, "rate_limit_error"),
        (DeadlineExceeded("late"), 504, "timeout_error"),
        (AllRungsFailed("no", steps=failed("overloaded, HTTP 529", "overloaded, HTTP 529")), 529, "overloaded_error"),
        (AllRungsFailed("no", steps=failed("rate_limited, HTTP 429")), 429, "rate_limit_error"),
        (AllRungsFailed("no", steps=failed("overloaded, HTTP 529", "server, HTTP 500")), 502, "api_error"),
        (AllRungsFailed("no", steps=(Step(0, "haiku", "m", Verdict("refused")),)), 502, "api_error"),
        (ConfigurationError("state: bad"), 500, "api_error"),
    ],
)
def test_each_error_has_its_status_and_type(error: CascadeError, status: int, kind: str) -> None:
    """As the Messages API names them."""
    problem = problem_of(error)
    assert (problem.status, problem.kind) == (status, kind)


def test_how_long_the_endpoint_asks_to_wait_is_passed_on() -> None:
    """The longest of all rungs, rounded up."""
    steps = failed("overloaded, HTTP 529, asks to wait 2.5 s", "overloaded, HTTP 529, asks to wait 1 s")
    assert (b"retry-after", b"3") in problem_of(AllRungsFailed("no", steps=steps)).headers


def test_a_paid_refusal_is_not_tried_again_by_the_sdk() -> None:
    """Its rungs have answered: asking once more would be paid for nothing."""
    error = AllRungsFailed("no", steps=(Step(0, "haiku", "m", Verdict("refused")),))
    assert (b"x-should-retry", b"false") in problem_of(error).headers


def test_a_tool_loop_over_the_sdk_goes_on_where_it_was(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Three turns: Haiku declines the first, Sonnet calls a tool twice and answers; Haiku is not asked again."""

    def tools(body: dict[str, Any], headers: Mapping[str, str]) -> Any:
        if "haiku" in body["model"]:
            return [{"type": "tool_use", "name": "cascade_escalate", "input": {"reason": "too hard"}}]
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        if turns < 2:
            return [{"type": "tool_use", "name": "add", "input": {"a": turns, "b": 1}}]
        return [{"type": "text", "text": "done"}]

    emulator = emulate(script=tools)
    client = sdk(start(emulator.base_url))
    tool: Any = {
        "name": "add",
        "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    }
    messages: list[Any] = [{"role": "user", "content": "add them"}]
    while True:
        reply = client.messages.create(model=MODEL, max_tokens=300, messages=messages, tools=[tool])
        messages.append({"role": "assistant", "content": [block.to_dict() for block in reply.content]})
        calls = [block for block in reply.content if block.type == "tool_use"]
        if not calls:
            break
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": str(call.input)} for call in calls]
        messages.append({"role": "user", "content": results})
    assert text_of(reply) == "done"
    assert [one.body["model"] for one in emulator.requests] == ["claude-haiku-5-5", *["claude-sonnet-5-5"] * 3]


def test_count_tokens_of_a_climb_counts_as_the_first_rung(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """And costs nothing: it is not on the ledger."""
    gateway = start(emulator.base_url)
    counted = sdk(gateway).messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x" * 400}])
    assert counted.input_tokens == 100
    assert [one.body["model"] for one in emulator.requests] == ["claude-haiku-5-5"]
    gateway.stop()
    assert not Path(str(gateway.settings.ledger)).exists() or gateway.records() == []
