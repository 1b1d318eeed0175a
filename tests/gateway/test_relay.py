"""Requests for real models pass through untouched, and are on the ledger."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade.emulator import Emulator
from tests.gateway.conftest import KEY
from tests.gateway.serving import Endpoint, Gateway, chunk, json_response, policy_file, received, sse_response

# As Claude Code sends it: its query, its headers, a system array with cache marks, odd white space and key order.
CLAUDE_CODE_BODY = (
    b'{"model":"claude-opus-5-5", "max_tokens":32000,"messages":[{"role":"user","content":[{"type":"text","text":"h\\u00e9 \\ud83d\\ude00"}]}],\n'
    b'"system":[{"type":"text","text":"You are Claude Code.","cache_control":{"type":"ephemeral"}}],"tools":[],'
    b'"metadata":{"user_id":"user_1"},"thinking":{"type":"adaptive"},"context_management":{"edits":[]},"unknown_field":1.0e2}'
)
CLAUDE_CODE_HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "claude-cli/2.1.0 (external, cli)",
    "x-app": "cli",
    "x-stainless-lang": "js",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-unknown": "kept",
}
ANSWER = json.dumps(
    {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "yes"}], "usage": {"input_tokens": 1000, "output_tokens": 100},
    }
).encode()  # fmt: skip
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],'
    b'"model":"claude-opus-5-5","stop_reason":null,"usage":{"input_tokens":1000,"output_tokens":1}}}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}\n\n'
END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def post(body: bytes, headers: dict[str, str], target: str = "/v1/messages?beta=true", close: bool = True) -> bytes:
    """A request's bytes."""
    lines = [f"POST {target} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["connection: close"] if close else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def body_of(response: bytes) -> bytes:
    """A response's body, as it came."""
    return response.partition(b"\r\n\r\n")[2]


def test_claude_code_s_requests_reach_the_endpoint_byte_for_byte(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Its query, headers, white space and unknown fields; and the response comes back as it was."""
    upstream = endpoint(json_response(ANSWER, "request-id: req_7"))
    gateway = start(upstream.base_url)
    response = gateway.send(post(CLAUDE_CODE_BODY, CLAUDE_CODE_HEADERS | {"authorization": "Bearer caller"}))
    (seen,) = upstream.exchanges
    assert seen.body == CLAUDE_CODE_BODY
    assert seen.target == "/v1/messages?beta=true"
    forwarded = {name.lower(): value for name, value in seen.headers}
    assert {name: forwarded.get(name) for name in CLAUDE_CODE_HEADERS} == CLAUDE_CODE_HEADERS
    assert forwarded.keys() - CLAUDE_CODE_HEADERS.keys() <= {"host", "content-length", "authorization", "connection"}
    assert body_of(response) == ANSWER
    assert b"\r\nrequest-id: req_7\r\n" in response


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"authorization": "Bearer caller"}, ("authorization", f"Bearer {KEY}")),
        ({"x-api-key": "caller"}, ("x-api-key", KEY)),
        ({}, ("x-api-key", KEY)),
    ],
)
def test_the_gateway_s_own_key_goes_upstream_in_the_header_the_caller_used(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], sent: dict[str, str], expected: tuple[str, str]
) -> None:
    """The caller's own credential goes no further."""
    upstream = endpoint(json_response(ANSWER))
    start(upstream.base_url).send(post(CLAUDE_CODE_BODY, sent))
    (seen,) = upstream.exchanges
    assert [pair for pair in seen.headers if pair[0].lower() in ("authorization", "x-api-key")] == [expected]
    assert b"caller" not in seen.head


def test_with_auth_forward_the_caller_s_own_credentials_go_upstream(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """And in the header that they came in."""
    upstream = endpoint(json_response(ANSWER))
    gateway = start(upstream.base_url, auth="forward")
    gateway.send(post(CLAUDE_CODE_BODY, {"authorization": "Bearer mine"}))
    gateway.send(post(CLAUDE_CODE_BODY, {"x-api-key": "mine"}))
    assert [one.header("authorization") for one in upstream.exchanges] == ["Bearer mine", None]
    assert [one.header("x-api-key") for one in upstream.exchanges] == [None, "mine"]


def test_our_own_and_hop_by_hop_headers_stay_here(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Those of the request, and those of the response."""
    upstream = endpoint(json_response(ANSWER, "x-cascade-rung: forged", "keep-alive: timeout=9", "anthropic-kept: 1"))
    headers = {"x-cascade-task": "refund", "te": "trailers", "connection": "x-private, close", "x-private": "1"}
    response = start(upstream.base_url).send(post(CLAUDE_CODE_BODY, headers, close=False))
    (seen,) = upstream.exchanges
    assert not {"x-cascade-task", "te", "x-private", "keep-alive"} & {name.lower() for name, _ in seen.headers}
    assert b"forged" not in response
    assert b"timeout=9" not in response
    assert b"anthropic-kept: 1" in response


def test_a_compressed_response_passes_compressed_and_its_usage_is_read(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Only codings that the gateway can read are asked for."""
    packed = gzip.compress(ANSWER)
    upstream = endpoint(json_response(packed, "content-encoding: gzip"))
    gateway = start(upstream.base_url)
    response = gateway.send(post(CLAUDE_CODE_BODY, {"accept-encoding": "gzip, deflate, br, zstd"}))
    assert body_of(response) == packed
    assert upstream.exchanges[0].header("accept-encoding") == "gzip, deflate"
    gateway.stop()
    (record,) = gateway.records()
    assert record.steps[0][1].output_tokens == 100


def test_a_stream_arrives_as_it_comes_and_byte_for_byte(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """The endpoint waits with the rest until the caller has the first event."""
    go = threading.Event()
    events = [START, DELTA % b"a", DELTA % b"b", END]
    head, first, *rest = sse_response(*events)
    upstream = endpoint(head, first, lambda: go.wait(20), *rest)
    gateway = start(upstream.base_url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(CLAUDE_CODE_BODY, {}))
        seen = b""
        while START not in seen:  # the rest is not sent before this has arrived
            piece = connection.recv(65536)
            assert piece
            seen += piece
        go.set()
        seen += received(connection)
    assert dechunked(body_of(seen)) == b"".join(events)
    gateway.stop()
    (record,) = gateway.records()
    step = record.steps[0][1]
    assert (step.input_tokens, step.output_tokens, step.is_estimate) == (1000, 42, False)


def dechunked(body: bytes) -> bytes:
    """A chunked body's content."""
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + body[:length], body[length + 2 :]
    return found


def test_a_relayed_request_is_on_the_ledger_at_its_price_with_arm_relay(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """With its metadata, task and the endpoint's id."""
    gateway = start(endpoint(json_response(ANSWER, "request-id: req_7")).base_url)
    headers = {"x-cascade-metadata-workflow": "nightly", "x-cascade-task": "refund"}
    response = gateway.send(post(CLAUDE_CODE_BODY, headers))
    gateway.stop()
    (record,) = gateway.records()
    assert f"x-cascade-request-id: {record.id}".encode() in response
    assert record.request.arm == "relay"
    assert record.request.metadata == {"workflow": "nightly"}
    assert record.request.prompts == {}, "none of cascade's words went with it"
    assert record.request.task == "refund"
    ((_, step),) = record.steps
    assert (step.model, step.cost, step.upstream_id) == ("claude-opus-5-5", 1000 * 4_000 + 100 * 20_000, "req_7")
    assert record.outcome is not None
    assert (record.outcome.arm, record.outcome.resolved, record.outcome.cost) == ("relay", True, step.cost)


def test_a_proxy_that_the_environment_names_is_used(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it says that the endpoint needs none."""
    proxy = endpoint(json_response(ANSWER))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("http_proxy", proxy.base_url)
    assert body_of(start("http://api.example").send(post(CLAUDE_CODE_BODY, {}))) == ANSWER
    assert [one.target for one in proxy.exchanges] == ["http://api.example/v1/messages?beta=true"]
    direct = endpoint(json_response(ANSWER))
    start(direct.base_url).send(post(CLAUDE_CODE_BODY, {}))
    assert (len(direct.exchanges), len(proxy.exchanges)) == (1, 1)


def test_with_durability_commit_a_call_is_announced_before_it_is_made(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """It is on the disk while the endpoint has not answered yet."""
    path = policy_file(tmp_path)
    path.write_text(path.read_text() + "ledger: {durability: commit}\n")
    go = threading.Event()
    upstream = endpoint(lambda: go.wait(20), json_response(ANSWER))
    gateway = start(upstream.base_url, policies=(str(path),))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(CLAUDE_CODE_BODY, {}))
        assert upstream.arrived.acquire(timeout=20)
        (record,) = gateway.records()
        assert [call.model for call in record.open_calls.values()] == ["claude-opus-5-5"]
        go.set()
        assert received(connection).endswith(ANSWER)
    gateway.stop()
    (record,) = gateway.records()
    assert (len(record.steps), record.open_calls) == (1, {})


def test_pipelined_requests_are_answered_in_their_order(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Both are recorded."""
    gateway = start(endpoint(json_response(ANSWER)).base_url)
    count = post(CLAUDE_CODE_BODY, {}, target="/nothing")
    response = gateway.send(post(CLAUDE_CODE_BODY, {}, close=False) + post(CLAUDE_CODE_BODY, {}, close=False) + count)
    assert [int(line[:3]) for line in response.split(b"HTTP/1.1 ")[1:]] == [200, 200, 404]
    gateway.stop()
    assert len(gateway.records()) == 2


def test_a_model_without_a_price_is_recorded_at_an_estimate_and_never_at_nothing(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """The dearest price known stands in, and the row says so."""
    gateway = start(endpoint(json_response(ANSWER)).base_url)
    gateway.send(post(CLAUDE_CODE_BODY.replace(b"claude-opus-5-5", b"claude-next-9"), {}))
    gateway.stop()
    ((_, step),) = gateway.records()[0].steps
    assert step.cost == 1000 * 15_000 + 100 * 75_000
    assert step.is_estimate
    assert "no price is known" in step.detail


def test_an_error_of_the_endpoint_passes_untouched_and_is_recorded(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Status, retry-after and body."""
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
    gateway = start(endpoint(json_response(body, "retry-after: 7", status="429 Too Many Requests")).base_url)
    response = gateway.send(post(CLAUDE_CODE_BODY, {}))
    assert response.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: 7\r\n" in response
    assert body_of(response) == body
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert (record.outcome.error, record.outcome.cost) == ("UpstreamRejected", 0)


def test_an_endpoint_that_is_down_is_a_502_in_the_api_s_shape(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Its request id is the ledger's."""
    with Endpoint() as closed:
        pass
    gateway = start(closed.base_url)
    response = gateway.send(post(CLAUDE_CODE_BODY, {}))
    assert response.startswith(b"HTTP/1.1 502 ")
    error = json.loads(body_of(response))
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    reached = (
        f"the endpoint 127.0.0.1:{closed.port} cannot be reached: connection refused (check the gateway's --upstream"
    )
    assert error["error"]["message"].startswith(reached)
    gateway.stop()
    (record,) = gateway.records()
    assert record.id == error["request_id"]


@pytest.mark.parametrize("phase", ["before the head", "in the stream"])
def test_a_caller_that_disconnects_ends_the_call_upstream_and_is_recorded(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], phase: str
) -> None:
    """What was billed is estimated by what has passed."""
    never = threading.Event()
    begun = [sse_response()[0], chunk(START), chunk(DELTA % (b"x" * 400))] if phase == "in the stream" else []
    upstream = endpoint(*begun, lambda: never.wait(20))
    gateway = start(upstream.base_url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(CLAUDE_CODE_BODY, {}, close=False))
        assert upstream.arrived.acquire(timeout=20)
        seen = b""
        while begun and b"xxxx" not in seen:
            seen += connection.recv(65536)
    assert upstream.exchanges[0].gone.wait(20)
    never.set()
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert record.outcome.error == "cancelled"
    ((_, step),) = record.steps
    assert step.is_estimate
    if begun:
        assert (step.input_tokens, step.output_tokens) == (1000, 100)  # 400 characters
    else:
        assert step.input_tokens == pytest.approx(len(CLAUDE_CODE_BODY) / 4, abs=1)


def test_an_error_inside_a_stream_is_no_answer_on_the_ledger(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """The caller gets the event as it is."""
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    gateway = start(endpoint(*sse_response(START, error)).base_url)
    assert dechunked(body_of(gateway.send(post(CLAUDE_CODE_BODY, {})))) == START + error
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert (record.outcome.error, record.outcome.resolved) == ("AllRungsFailed", False)


def test_a_stream_that_breaks_off_does_not_seem_to_end_well(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """The last chunk is missing."""
    go = threading.Event()
    head, first, *_ = sse_response(START)
    gateway = start(endpoint(head, first, lambda: go.wait(20), None).base_url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post(CLAUDE_CODE_BODY, {}, close=False))
        seen = b""
        while START not in seen:
            seen += connection.recv(65536)
        go.set()
        seen += received(connection)
    assert not seen.endswith(b"0\r\n\r\n")
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert (record.outcome.error, record.steps[0][1].is_estimate) == ("AllRungsFailed", True)


def test_the_sdk_gets_the_same_through_the_gateway_as_directly(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Whole and streamed."""
    emulator = emulate()
    client = sdk(start(emulator.base_url))
    asked: dict[str, Any] = {
        "model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "plain"}],
    }  # fmt: skip
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="x", max_retries=0) as direct:
        expected = direct.messages.create(**asked).model_dump(exclude={"id"})
        with direct.messages.stream(**asked) as stream:
            streamed = stream.get_final_message().model_dump(exclude={"id"})
    assert client.messages.create(**asked).model_dump(exclude={"id"}) == expected
    with client.messages.stream(**asked) as stream:
        assert stream.get_final_message().model_dump(exclude={"id"}) == streamed


def test_the_async_sdk_s_requests_at_the_same_time_all_pass_and_are_all_recorded(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator]
) -> None:
    """Forty of them."""
    gateway = start(emulate().base_url)

    async def ask_all() -> set[str]:
        async with anthropic.AsyncAnthropic(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
            asked = [
                client.messages.create(
                    model="claude-haiku-5-5", max_tokens=99, messages=[{"role": "user", "content": "plain"}]
                )
                for _ in range(40)
            ]
            return {message.id for message in await asyncio.gather(*asked)}

    assert len(asyncio.run(ask_all())) == 40
    gateway.stop()
    assert len(gateway.records()) == 40
