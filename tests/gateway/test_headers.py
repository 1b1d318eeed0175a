"""Headers of our own: those that a request may have, and what responses say about how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cascade.emulator import Emulator
from tests.gateway.serving import Gateway
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_limits import error_of
from tests.gateway.test_relay import body_of, post

MODELS = ("claude-cascade-small", "claude-sonnet-5-5")


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script, keep_requests=100)


def ask(gateway: Gateway, question: str = "easy", headers: dict[str, str] | None = None, **more: Any) -> bytes:
    """One request's response."""
    sent = {"anthropic-version": "2023-06-01", **(headers or {})}
    return gateway.send(post(json.dumps(asked(question, **more)).encode(), sent, target="/v1/messages"))


def headers_of(response: bytes) -> dict[str, str]:
    """A response's headers, without the prefix of ours."""
    lines = response.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    pairs = (line.partition(": ") for line in lines)
    return {name.lower().removeprefix("x-cascade-"): value for name, _, value in pairs}


@pytest.mark.parametrize("model", MODELS)
def test_a_misspelt_header_of_ours_is_a_400_that_names_it(
    start: Callable[..., Gateway], emulator: Emulator, model: str
) -> None:
    """Of climbs and of what is passed through: what was meant by it would be missing without a word."""
    response = ask(start(emulator.base_url), headers={"x-cascade-tsak": "refund"}, model=model)
    assert error_of(response) == (400, "invalid_request_error")
    message = json.loads(body_of(response))["error"]["message"]
    assert message.startswith("x-cascade-tsak: there is no such header (task, flags, session")
    assert emulator.requests == ()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["t" * 65, "two words", "a/b", "a,b", "é"])
def test_a_task_that_is_no_name_is_a_400(
    start: Callable[..., Gateway], emulator: Emulator, model: str, task: str
) -> None:
    """It becomes a label of metrics and a column of the ledger."""
    response = ask(start(emulator.base_url), headers={"x-cascade-task": task}, model=model)
    assert error_of(response) == (400, "invalid_request_error")
    assert "x-cascade-task" in json.loads(body_of(response))["error"]["message"]
    assert emulator.requests == ()


@pytest.mark.parametrize("model", MODELS)
def test_a_task_may_be_any_name_up_to_64_characters(
    start: Callable[..., Gateway], emulator: Emulator, model: str
) -> None:
    """Letters, digits, and what separates them; an empty one is none."""
    gateway = start(emulator.base_url)
    tasks = ["Team_a.refund:v-2", "t" * 64, ""]
    for task in tasks:
        assert ask(gateway, headers={"x-cascade-task": task}, model=model).startswith(b"HTTP/1.1 200 ")
    gateway.stop()
    assert [record.request.task for record in gateway.records()] == [*tasks[:2], "other"]
