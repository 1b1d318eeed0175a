"""Headers of our own: those that a request may have, and what responses say about how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.emulator import Emulator, ScriptedReply
from tests.gateway.serving import Endpoint, Gateway, json_response, policy_file
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_endpoints import get
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
    """A response's headers of ours, without their prefix."""
    lines = response.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    pairs = (line.partition(": ") for line in lines)
    return {name.removeprefix("x-cascade-"): value for name, _, value in pairs if name.startswith("x-cascade-")}


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


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_says_what_it_cost_and_its_trail_is_found_afterwards(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], stream: bool
) -> None:
    """Two rungs were paid, and neither gave an answer."""
    gateway = start(emulate(script=lambda *_: ScriptedReply((), stop_reason="end_turn")).base_url)
    response = ask(gateway, stream=stream)
    assert response.startswith(b"HTTP/1.1 502 ")
    headers = headers_of(response)
    assert headers["policy"] == "small"
    found = json.loads(body_of(get(gateway, f"/v1/answers/{headers['request-id']}")))
    assert [step["rung"] for step in found["steps"]] == ["haiku", "sonnet"]
    assert found["cost_nanousd"] == sum(step["cost_nanousd"] for step in found["steps"]) > 0
    assert headers["response-cost"] == f"{found['cost_usd']:.9f}"
    assert found["error"] == json.loads(body_of(response))["error"]
    assert (found["policy"], found["arm"]) == ("small", "cascade")


def test_what_the_endpoint_says_of_a_request_it_refused_is_not_kept(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator]
) -> None:
    """It may quote the request; its caller has been told."""
    gateway = start(emulate(script=script, faults="stream_unauthorized").base_url)
    response = ask(gateway)
    assert response.startswith(b"HTTP/1.1 401 ")
    found = json.loads(body_of(get(gateway, f"/v1/answers/{headers_of(response)['request-id']}")))
    message = "the endpoint refused the request itself (HTTP 401)"
    assert found["error"] == {"type": "authentication_error", "message": message}


def test_an_error_before_anything_was_asked_names_the_policy_and_costs_nothing(
    start: Callable[..., Gateway], emulator: Emulator
) -> None:
    """As one that was paid for does."""
    headers = headers_of(ask(start(emulator.base_url), temperature=0.5))
    assert (headers["policy"], float(headers["response-cost"])) == ("small", 0.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("setting", "arm"),
    [
        ("mode: observe", "observe"), ("mode: 'off'", "bypass"), ("rollout: {percent: 0}", "holdout"),
        ("mode: enforce", None),
    ],
)  # fmt: skip
def test_an_answer_that_the_ladder_did_not_give_says_so(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path, setting: str, arm: str | None, stream: bool
) -> None:
    """A message's headers as a stream's."""
    path = policy_file(tmp_path)
    path.write_text(f"{path.read_text()}{setting}\n")
    response = ask(start(emulator.base_url, policies=(str(path),)), stream=stream)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert headers_of(response).get("arm") == arm


@pytest.mark.parametrize("stream", [False, True])
def test_what_could_not_climb_says_that_it_went_past_the_ladder(
    start: Callable[..., Gateway], emulator: Emulator, tmp_path: Path, stream: bool
) -> None:
    """Its error, too: the baseline takes no `temperature` either."""
    path = policy_file(tmp_path)
    path.write_text(path.read_text() + "bypass: baseline\n")
    response = ask(start(emulator.base_url, policies=(str(path),)), stream=stream, temperature=0.5)
    assert headers_of(response)["arm"] == "bypass"


def test_lists_and_counts_need_no_version_from_their_caller(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint]
) -> None:
    """Where one is sent, it goes on as it is."""
    upstream = endpoint(json_response(b"{}"))
    gateway = start(upstream.base_url)
    for version in ({}, {"anthropic-version": "2099-01-01"}):
        get(gateway, "/v1/models", **version)
        get(gateway, "/v1/models/claude-opus-5-5", **version)
        gateway.send(post(json.dumps(asked()).encode(), version, target="/v1/messages/count_tokens"))
    sent = [[value for name, value in one.headers if name == "anthropic-version"] for one in upstream.exchanges]
    assert sent == [["2023-06-01"]] * 3 + [["2099-01-01"]] * 3
