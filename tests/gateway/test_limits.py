"""What one caller may take, and what is refused as malformed: by raw sockets, because no client would send it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cascade.gateway.settings import GatewaySettings, Limits
from tests.gateway.serving import Endpoint, Gateway, chunk, json_response, policy_file, received, sse_response
from tests.gateway.test_relay import ANSWER, CLAUDE_CODE_BODY, DELTA, START, body_of, post

HOST = b"host: localhost\r\n"


def error_of(response: bytes) -> tuple[int, str]:
    """A response's status, and the type of its error in the API's shape."""
    body = json.loads(body_of(response))
    assert body["type"] == "error"
    assert body["error"]["message"]
    return int(response.split(b" ")[1]), body["error"]["type"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with small limits, before an endpoint that answers everything. All of them share it: it stays as it is."""
    folder = tmp_path_factory.mktemp("limits")
    limits = Limits(body=100_000, headers=8_192, concurrency=2, head_s=0.3, body_s=0.3, write_s=0.3)
    with pytest.MonkeyPatch.context() as patched, Endpoint(json_response(ANSWER)) as upstream:
        patched.setenv("ANTHROPIC_API_KEY", "k")
        settings = GatewaySettings(
            policies=(str(policy_file(folder)),),
            upstream=upstream.base_url,
            port=0,
            limits=limits,
            ledger=str(folder / "l.db"),
        )
        with Gateway(settings) as running:
            yield running


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"content-length: 100001\r\nexpect: 100-continue\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"content-length: 999999999999\r\n\r\n",
    ],
)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(gateway: Gateway, head: bytes) -> None:
    """Nothing of it is sent, and the refusal comes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(head)
        response = connection.recv(65536)
    assert error_of(response) == (413, "request_too_large")


def test_a_chunked_body_that_grows_too_large_is_refused_by_count(gateway: Gateway) -> None:
    """It never says its length."""
    body = chunk(b"x" * 60_000) * 2 + b"0\r\n\r\n"
    head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert error_of(gateway.send(head + body)) == (413, "request_too_large")


def test_a_caller_that_sends_all_of_a_large_body_still_gets_the_refusal(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """50 MB, against the default of 32: the connection is not reset while the caller is still sending."""
    gateway = start(endpoint(json_response(ANSWER)).base_url)
    body = b'{"model":"claude-opus-5-5","padding":"' + b"x" * 50_000_000 + b'"}'
    assert error_of(gateway.send(post(body, {}))) == (413, "request_too_large")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n"
        + b"".join(b"x-%d: %s\r\n" % (n, b"v" * 100) for n in range(200))
        + b"\r\n",
        b"POST /v1/messages HTTP/1.1\r\nx-endless: " + b"v" * 20_000,
        b"GET /" + b"v" * 20_000,
    ],
    ids=["many headers", "an endless header", "an endless path"],
)
def test_a_head_that_is_too_large_is_refused(gateway: Gateway, head: bytes) -> None:
    """Whether or not it ever ends."""
    assert error_of(gateway.send(head))[0] == 431


@pytest.mark.parametrize("sent", [b"", b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx: "])
def test_a_head_that_does_not_arrive_in_time_closes_the_connection(gateway: Gateway, sent: bytes) -> None:
    """Connections that say nothing cost nothing for long."""
    began = time.monotonic()
    assert error_of(gateway.send(sent)) == (408, "timeout_error")
    assert time.monotonic() - began < 4


def test_a_body_that_stops_arriving_is_refused(gateway: Gateway) -> None:
    """It holds no connection for ever."""
    head = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{"
    assert error_of(gateway.send(head)) == (408, "timeout_error")


SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        + SMUGGLED,
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"
        + SMUGGLED,
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n{}{}{",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4, 5\r\n\r\n{}{}{",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: +2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0x2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r\n folded: 2\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: 1\rx-b: 2\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: 1\x00\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nbad name: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/9.9\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_shapes_that_two_programs_may_read_differently_are_refused(gateway: Gateway, request_bytes: bytes) -> None:
    """With an error in the API's shape; nothing goes upstream, and no second request is read out of them."""
    response = gateway.send(request_bytes)
    assert error_of(response)[0] == 400
    assert response.count(b"content-length:") == 1


def test_a_header_with_a_line_break_reaches_nobody(gateway: Gateway) -> None:
    """Neither by the percent-encoding of the path, nor in the query, which goes upstream as it is."""
    response = gateway.send(post(CLAUDE_CODE_BODY, {}, target="/v1/messages?beta=true%0d%0ax-injected:%201"))
    assert response.startswith(b"HTTP/1.1 200 ")
    response = gateway.send(post(CLAUDE_CODE_BODY, {"x-cascade-metadata-a": "1\n2"}))
    assert error_of(response)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "//v1/messages", "/v1//messages", "/v1/../v1/messages", "/v1/./messages", "/v1/messages/", "/v1/messages/..",
        "/v1%2fmessages", "/v1/messages%00", "/%76%31/messages", "/v1/messages;x=1", "/V1/messages", "/v1\\messages",
        "/v1/messages/batches", "/v1/complete", "/", "/v1", "/admin", "http://elsewhere//v1/messages",
    ],
)  # fmt: skip
def test_only_plain_and_listed_paths_are_served(gateway: Gateway, path: str) -> None:
    """Everything else is not found."""
    assert error_of(gateway.send(post(CLAUDE_CODE_BODY, {}, target=path))) == (404, "not_found_error")


def test_another_method_is_told_which_one_is_served(gateway: Gateway) -> None:
    """In the API's shape."""
    response = gateway.send(b"GET /v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert error_of(response) == (405, "invalid_request_error")
    assert b"\r\nallow: POST\r\n" in response


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"model": 5}', b'{"model": null}', b'{"model": ["a"]}',
        b"[" * 100_000, b'{"model":"m","messages":' + b"[" * 49_000 + b"]" * 49_000 + b"}", b'{"a":' * 19_000,
        b'{"model": "a"} trailing', b"\xff\xfe", b"NaN",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_body_that_is_no_request_is_a_400(gateway: Gateway, body: bytes, path: str) -> None:
    """Not a 500, however deep it nests."""
    assert error_of(gateway.send(post(body, {}, target=path))) == (400, "invalid_request_error")


def test_beyond_the_limit_of_concurrency_callers_are_told_to_come_again(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """529 with retry-after, while the others go on; then there is room again."""
    go = threading.Event()
    upstream = endpoint(lambda: go.wait(20), json_response(ANSWER))
    gateway = start(upstream.base_url, limits=Limits(concurrency=2))
    connections = [socket.create_connection(("127.0.0.1", gateway.port), timeout=20) for _ in range(2)]
    for connection in connections:
        connection.sendall(post(CLAUDE_CODE_BODY, {}))
    for _ in connections:
        assert upstream.arrived.acquire(timeout=20)
    refused = gateway.send(post(CLAUDE_CODE_BODY, {}))
    assert error_of(refused) == (529, "overloaded_error")
    assert b"\r\nretry-after: 1\r\n" in refused
    go.set()
    for connection in connections:
        assert received(connection).startswith(b"HTTP/1.1 200 ")
        connection.close()
    assert gateway.send(post(CLAUDE_CODE_BODY, {})).startswith(b"HTTP/1.1 200 ")


def test_a_caller_that_does_not_read_loses_its_upstream_connection(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """And what it was billed is recorded."""
    head, first, *_ = sse_response(START)
    flood = [chunk(DELTA % (b"x" * 60_000))] * 400
    never = threading.Event()
    upstream = endpoint(head, first, *flood, lambda: never.wait(20))
    gateway = start(upstream.base_url, limits=Limits(write_s=0.3))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(post(CLAUDE_CODE_BODY, {}))
        assert upstream.arrived.acquire(timeout=20)
        assert upstream.exchanges[0].gone.wait(20)
    never.set()
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert record.outcome.error == "cancelled"
    assert record.steps[0][1].detail == "the caller read too slowly"


def test_a_caller_that_does_not_take_its_pings_loses_its_climb(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """It would otherwise hold an upstream connection for as long as the rungs take."""
    never = threading.Event()
    upstream = endpoint(lambda: never.wait(20))
    gateway = start(upstream.base_url, limits=Limits(write_s=0.2), ping_s=0.00001)
    body = json.dumps(
        {
            "model": "claude-cascade-small",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "hi"}],
        }
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(post(body.encode(), {}, target="/v1/messages"))
        assert upstream.arrived.acquire(timeout=20)
        assert upstream.exchanges[0].gone.wait(60)
    never.set()
    gateway.stop()
    (record,) = gateway.records()
    assert record.outcome is not None
    assert record.outcome.error == "cancelled"


def test_a_compressed_body_is_refused_by_name(gateway: Gateway) -> None:
    """It would be read as JSON that is none."""
    response = gateway.send(post(gzip.compress(CLAUDE_CODE_BODY), {"content-encoding": "gzip"}))
    assert error_of(response) == (415, "invalid_request_error")
    assert "content-encoding" in json.loads(body_of(response))["error"]["message"]
    assert gateway.send(post(CLAUDE_CODE_BODY, {"content-encoding": "identity"})).startswith(b"HTTP/1.1 200 ")
