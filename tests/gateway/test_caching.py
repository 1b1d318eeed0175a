"""The response cache through the gateway: marked by a header, told by a header, and never shared between keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascade.emulator import Emulator
from cascade.gateway.keys.ring import KeyRing
from cascade.ledger.gateway import GatewayTables
from tests.gateway.serving import Gateway, policy_file
from tests.gateway.test_climbing import asked, script, text_of
from tests.gateway.test_limits import error_of
from tests.gateway.test_relay import body_of, post

if TYPE_CHECKING:
    import anthropic


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script, keep_requests=100)


@pytest.fixture
def begin(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Gateway]:
    """Start a gateway whose policy has a response cache."""
    monkeypatch.setenv("CASCADE_CACHE", str(tmp_path / "answers.sqlite3"))
    monkeypatch.setattr("cascade.response_cache.cache.WAIT_S", 60.0)
    path = policy_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "\ncache: {}\n", encoding="utf-8")
    return lambda: start(emulator.base_url, policies=(str(path),))


@pytest.fixture
def gateway(begin: Callable[[], Gateway]) -> Gateway:
    """Such a gateway, without keys."""
    return begin()


def headers_of(response: Any) -> Mapping[str, str]:
    """Our own headers of a response, by the rest of the name."""
    return {
        name.removeprefix("x-cascade-"): value
        for name, value in response.headers.items()
        if name.startswith("x-cascade-")
    }


def test_a_header_asks_for_the_cache_and_a_header_tells_what_came_of_it(
    gateway: Gateway, emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Off without the header; then a miss, and a hit that costs nothing and names who answered at first."""
    client, found, texts = sdk(gateway), [], []
    for mark in ({}, {"x-cascade-cache": "on"}, {"x-cascade-cache": "on"}, {"x-cascade-cache": "off"}):
        response = client.messages.with_raw_response.create(**asked("easy"), extra_headers=mark)
        headers = headers_of(response)
        found.append(
            (headers.get("cache-status"), headers.get("arm"), headers["rung"], float(headers["response-cost"]) > 0)
        )
        texts.append(text_of(response.parse()))
    assert found == [
        (None, None, "haiku", True), ("miss", None, "haiku", True), ("hit", "cache", "haiku", False), (None, None, "haiku", True)
    ]  # fmt: skip
    assert len(set(texts)) == 1
    assert len(emulator.requests) == 3


def test_a_stream_tells_it_before_its_first_event(gateway: Gateway, sdk: Callable[..., anthropic.Anthropic]) -> None:
    """Miss, then hit, with the same text."""
    client, found = sdk(gateway), []
    for _ in range(2):
        with client.messages.stream(**asked("easy"), extra_headers={"x-cascade-cache": "on"}) as stream:
            found.append((stream.response.headers["x-cascade-cache-status"], "".join(stream.text_stream)))
    assert [status for status, _ in found] == ["miss", "hit"]
    assert found[0][1] == found[1][1]


def test_one_keys_answer_is_not_given_to_another(
    begin: Callable[[], Gateway], sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """Each key has its own; and what it cost is on the ledger under the key."""
    ring = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    tokens = [ring.create(name)[0] for name in ("one", "two")]
    gateway, found = begin(), []
    for token in (*tokens, *tokens):
        client = sdk(gateway, api_key=token)
        response = client.messages.with_raw_response.create(**asked("easy"), extra_headers={"x-cascade-cache": "on"})
        found.append(response.headers["x-cascade-cache-status"])
    assert found == ["miss", "miss", "hit", "hit"]
    gateway.stop()
    arms = [(record.request.arm, record.request.metadata["key"]) for record in gateway.records()]
    assert sorted(arm for arm, _ in arms) == ["cache", "cache", "cascade", "cascade"]
    assert len({key for _, key in arms}) == 2


def test_a_mark_that_is_none_or_has_no_effect_is_the_callers_error(
    gateway: Gateway, start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path
) -> None:
    """400, with what to do."""

    def told(to: Gateway, mark: str) -> str:
        headers = {"x-cascade-cache": mark, "anthropic-version": "2023-06-01"}
        response = to.send(post(json.dumps(asked()).encode(), headers, target="/v1/messages"))
        assert error_of(response) == (400, "invalid_request_error")
        return json.loads(body_of(response))["error"]["message"]

    assert "x-cascade-cache: must be on or off" in told(gateway, "yes")
    (tmp_path / "other").mkdir()
    plain = start(emulator.base_url, policies=(str(policy_file(tmp_path / "other")),))
    assert "has no response cache" in told(plain, "on")
