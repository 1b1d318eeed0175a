from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import anthropic
import httpx2
import pytest

from cascade.core.messages import Usage
from cascade.emulator import Emulator
from cascade.emulator.answers import Answers
from cascade.emulator.server import SeenRequest

from .conftest import CORPUS, HAIKU, SONNET, asking


def reached(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so within 20 s."""
    give_up = time.monotonic() + 20
    while not is_so() and time.monotonic() < give_up:
        pass
    return is_so()


def test_what_is_open_is_counted_and_goes_back_to_nothing(emulate: Callable[..., Emulator]) -> None:
    """A connection, a reply and a stream while they last; afterwards none of them."""
    emulator = emulate(token_latency_s=30)
    clients = [anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) for _ in range(2)]

    def give_up_soon() -> None:
        with pytest.raises(anthropic.APITimeoutError):
            clients[1].with_options(timeout=0.3).messages.create(**asking())

    waiting = threading.Thread(target=give_up_soon)
    with clients[0], clients[0].messages.create(**asking(), stream=True) as stream:
        next(iter(stream))
        waiting.start()
        assert reached(lambda: emulator.open_replies == 2)
        assert (emulator.open_connections, emulator.open_streams) == (2, 1)
    waiting.join(20)
    clients[1].close()
    assert reached(lambda: (emulator.open_connections, emulator.open_replies, emulator.open_streams) == (0, 0, 0))


def test_a_stream_that_is_closed_early_is_recorded_with_what_was_written(emulate: Callable[..., Emulator]) -> None:
    """The tokens before the client went are what is billed; a stream that was read to its end is none of these."""
    emulator = emulate(token_latency_s=0.001)
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client:
        with client.messages.stream(**asking("again", model=SONNET)) as stream:
            stream.until_done()
        emulator.token_latency_s = 0.05
        with client.messages.create(**asking("unpriced"), stream=True) as events:  # three deltas of 3, 3 and 4 tokens
            for event in events:
                if event.type == "content_block_delta":
                    break
    assert reached(lambda: len(emulator.closed_early) == 1)
    (closed,) = emulator.closed_early
    assert (closed.model, closed.output_tokens) == (HAIKU, 3)
    assert (emulator.billed.replies, emulator.billed.broken_off) == (1, 1)
    assert emulator.billed.models[HAIKU].usage.output_tokens == 3
    assert emulator.billed.models[SONNET].usage == Usage(100, 20)


def test_requests_are_counted_by_model(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """Those that met a fault count, those that were refused do not."""
    client.messages.create(**asking())
    emulator.faults = "overloaded"
    for model in (HAIKU, SONNET):
        with pytest.raises(anthropic.InternalServerError):
            client.messages.create(**asking(model=model))
    with pytest.raises(anthropic.BadRequestError):
        client.post("/v1/messages", body={**asking(), "nonsense": 1}, cast_to=object)
    assert emulator.requests_by_model == {HAIKU: 2, SONNET: 1}


def test_the_last_requests_are_kept_byte_for_byte() -> None:
    """The body's spacing, the headers' case, order and credentials; no more of them than asked for, by default none."""
    bodies = [
        b'{ "model":"claude-haiku-5-5",  "max_tokens":%d, "messages":[{"role":"user","content":"plain"}]}' % n
        for n in (7, 8, 9)
    ]
    with Emulator(CORPUS, keep_requests=2) as emulator, Emulator(CORPUS) as other:
        for place in (emulator, other):
            for body in bodies:
                head = f"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nX-API-Key: secret\r\nanthropic-Version: 1\r\nContent-Length: {len(body)}\r\n\r\n"
                with socket.create_connection((place.host, place.port), timeout=20) as connection:
                    connection.sendall(head.encode() + body)
                    assert connection.recv(12) == b"HTTP/1.1 200"
        assert [request.body for request in emulator.raw_requests] == bodies[1:]
        kept = emulator.raw_requests[-1]
        assert (kept.method, kept.path) == (b"POST", b"/v1/messages?beta=true")
        assert kept.headers[:3] == ((b"Host", b"x"), (b"X-API-Key", b"secret"), (b"anthropic-Version", b"1"))
        assert other.raw_requests == ()


def test_claude_codes_headers_and_unknown_ones_are_taken(emulator: Emulator) -> None:
    """The query `beta`, several betas, and headers that no version of the API knows."""
    headers = {
        "authorization": "Bearer k",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,a-beta-of-the-future",
        "anthropic-dangerous-direct-browser-access": "true",
        "anthropic-of-the-future": "1",
        "x-app": "cli",
        "user-agent": "claude-cli/2.1.0 (external, cli)",
        "x-stainless-helper-method": "stream",
    }
    system = [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}]
    response = httpx2.post(f"{emulator.base_url}/v1/messages?beta=true", json=asking(system=system), headers=headers)
    assert response.status_code == 200


class Watched(Emulator):
    """An emulator of a test that looks on, and has answers of its own."""

    def __init__(self) -> None:
        super().__init__(CORPUS)
        self.told: list[tuple[str, object]] = []

    def note(self, request: SeenRequest) -> None:
        """Look on."""
        super().note(request)
        self.told.append((request.method, len(self.requests)))

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Look on."""
        super().bill(model, usage, whole=whole)
        self.told.append((model, whole))


def test_a_subclass_sees_requests_and_bills_and_may_change_the_answers() -> None:
    """`note` and `bill` are called for each, and answers that are put in later are the ones that are given."""
    with Watched() as emulator, anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0) as client:
        emulator.answers = Answers((), canned=True)
        message = client.messages.create(**asking("plain"))
    assert message.content[0].to_dict()["text"].startswith("[canned answer]")  # type: ignore[attr-defined]
    assert emulator.told == [("POST", 1), (HAIKU, True)]
