from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import anthropic
import pytest

from cascade.core.errors import ConfigurationError
from cascade.corpora import write_corpus
from cascade.emulator import Emulator

from .conftest import CORPUS, asking

_HEAD = "Host: x\r\nAuthorization: Bearer k\r\nanthropic-version: 2026-10-21\r\n"


def talk(emulator: Emulator, sent: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection((emulator.host, emulator.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def test_sixty_four_at_once_each_get_a_reply(emulate: Callable[..., Emulator]) -> None:
    """All are answered, all are billed, and repeats are dealt out evenly."""
    emulator = emulate(token_latency_s=0.001)

    async def ask_all() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client:
            messages = await asyncio.gather(*[client.messages.create(**asking("again")) for _ in range(192)])
            return [block.text for message in messages for block in message.content if block.type == "text"]

    assert Counter(asyncio.run(ask_all())) == {"first": 64, "second": 64, "third": 64}
    assert emulator.billed.replies == len(emulator.requests) == 192


def test_many_requests_share_one_connection(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """Keep-alive: fifty asks of a client, streams and errors among them, come from one port."""
    ports: set[int] = set()
    for number in range(50):
        if number % 10 == 3:
            with pytest.raises(anthropic.NotFoundError):
                client.messages.create(**asking("unknown"))
        if number % 10 == 5:
            with client.messages.stream(**asking()) as stream:
                stream.until_done()
        response = client.messages.with_raw_response.create(**asking())
        network = response.http_response.extensions["network_stream"]
        ports.add(network.get_extra_info("client_addr")[1])
    assert len(ports) == 1


def test_pipelined_requests_are_answered_in_order(emulator: Emulator) -> None:
    """Requests sent in one go are answered one after the other, also while an earlier one still waits."""
    emulator.token_latency_s = 0.001
    bodies = ['{"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "again"}]}'] * 3
    sent = "".join(f"POST /v1/messages HTTP/1.1\r\n{_HEAD}Content-Length: {len(b)}\r\n\r\n{b}" for b in bodies)
    last = f"GET /v1/models HTTP/1.1\r\n{_HEAD}Connection: close\r\n\r\n"
    received = talk(emulator, (sent + last).encode()).decode()
    places = [received.index(word) for word in ("first", "second", "third", '"has_more"')]
    assert places == sorted(places)
    assert received.count("HTTP/1.1 200") == 4


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32 + b"\r\n\r\n",
    ],
    ids=["nonsense", "no host", "bad length", "long header", "tls"],
)
def test_what_is_not_http_gets_an_answer_or_a_closed_connection(emulator: Emulator, sent: bytes) -> None:
    """A client that speaks something else does not hang, and does no harm to the next."""
    try:
        received = talk(emulator, sent)
    except ConnectionResetError:  # it closed with our bytes unread, which is an end as well
        received = b""
    assert received == b"" or b'"invalid_request_error"' in received
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client:
        assert client.messages.create(**asking()).stop_reason == "end_turn"


def test_every_reply_carries_request_id_and_rate_limits(client: anthropic.Anthropic) -> None:
    """The headers that clients of the API read are on every reply, and no two ids are alike."""
    seen = [client.messages.with_raw_response.create(**asking()).headers for _ in range(2)]
    assert seen[0]["request-id"].startswith("req_")
    assert seen[0]["request-id"] != seen[1]["request-id"]
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        limit, remaining = (int(seen[0][f"anthropic-ratelimit-{name}-{what}"]) for what in ("limit", "remaining"))
        assert 0 < remaining < limit
        assert seen[0][f"anthropic-ratelimit-{name}-reset"].endswith("Z")


def open_files() -> int:
    """How many files and sockets this process has open; 0 where the system does not tell."""
    held = Path("/proc/self/fd")
    return len(list(held.iterdir())) if held.is_dir() else 0


def test_stopping_leaves_no_thread_and_no_socket() -> None:
    """Also with clients idle, waiting and in the middle of a reply; what was recorded can still be read."""
    before = threading.active_count(), open_files()
    emulator = Emulator(CORPUS, faults="timeout,model=local;trickle,delay_s=30")
    emulator.start()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((emulator.host, emulator.port), timeout=20)) for _ in range(3)
        ]
        for model, client in (("local", clients[0]), ("claude-haiku-5-5", clients[1])):
            body = json.dumps(asking(model=model)).encode()
            client.sendall(f"POST /v1/messages HTTP/1.1\r\n{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        give_up = time.monotonic() + 20
        while len(emulator.requests) < 2 and time.monotonic() < give_up:
            pass
        emulator.stop()
        emulator.stop()
        for client in clients:
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert (threading.active_count(), open_files()) == before
    assert len(emulator.requests) == 2


def test_it_can_be_started_again_on_its_port() -> None:
    """An outage of the whole endpoint: refused while stopped, back at the same address, its books carried on."""
    emulator = Emulator(CORPUS)
    with emulator, anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client:
        client.messages.create(**asking())
        emulator.stop()
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.create(**asking())
        emulator.start()
        client.messages.create(**asking())
        with pytest.raises(ConfigurationError, match="it is running already"):
            emulator.start()
    assert emulator.billed.replies == 2


def test_a_taken_port_is_one_error(emulator: Emulator) -> None:
    """What, where, and nothing left behind."""
    with pytest.raises(ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{emulator.port}: Address already"):
        Emulator(CORPUS, port=emulator.port).start()


def test_the_pytest_fixture_works_in_a_users_own_tests(tmp_path: Path) -> None:
    """A user's test asks for `cascade_emulator`, and loading the plugin imports neither the server nor h11."""
    write_corpus(tmp_path / "c.jsonl", CORPUS.manifest, CORPUS.items)
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs(cascade_emulator):\n"
        "    assert not {'h11', 'anthropic', 'cascade.emulator.server'} & sys.modules.keys()\n"
        "    emulator = cascade_emulator('c.jsonl', faults='overloaded=0.5')\n"
        "    assert emulator.base_url.startswith('http://127.0.0.1:')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "cascade.emulator.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": root}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
