"""The gateway's own endpoints: models, health, metrics, answers, feedback, OpenAPI; and policies that change while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade.core.policy import Policy
from cascade.emulator import Emulator
from cascade.engine import AsyncCascade
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.openapi import document
from cascade.gateway.policies import Policies
from cascade.ledger.audit import AuditTables, Ratchet
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.opening import open_reader
from tests.gateway.serving import Endpoint, Gateway, json_response, policy_file
from tests.gateway.test_climbing import MODEL, asked, script
from tests.gateway.test_keys import wait_until
from tests.gateway.test_limits import error_of
from tests.gateway.test_relay import ANSWER, body_of, post
from tests.live.audit.stepping import settled


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script)


def get(gateway: Gateway, path: str, **headers: str) -> bytes:
    """A response."""
    lines = [
        f"GET {path} HTTP/1.1",
        "host: localhost",
        "connection: close",
        *(f"{name}: {one}" for name, one in headers.items()),
    ]
    return gateway.send("\r\n".join([*lines, "", ""]).encode())


def health(gateway: Gateway) -> dict[str, Any]:
    """What /healthz says."""
    return json.loads(body_of(get(gateway, "/healthz")))


def test_the_list_of_models_begins_with_those_that_climb(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """Then come the endpoint's own; on a later page only they."""
    emulator = emulate()
    client = sdk(start(emulator.base_url))
    listed = [model.id for model in client.models.list()]
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="x") as direct:
        assert listed == [MODEL, *(model.id for model in direct.models.list())]
    assert client.models.retrieve(MODEL).display_name.startswith("cascade small")
    assert client.models.retrieve("claude-haiku-5-5").id == "claude-haiku-5-5"
    later = client.get("/v1/models?after_id=x", cast_to=dict[str, Any])
    assert MODEL not in [model["id"] for model in later["data"]]
    with pytest.raises(anthropic.NotFoundError, match=MODEL):
        client.models.retrieve("claude-cascade-nope")


def test_the_models_that_climb_are_listed_while_the_endpoint_is_down(start: Callable[..., Gateway]) -> None:
    """They are all of it then."""
    with Endpoint() as closed:
        pass
    response = get(start(closed.base_url), "/v1/models")
    assert [model["id"] for model in json.loads(body_of(response))["data"]] == [MODEL]


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"data": 5}', b'{"data": [1, null, {"x": 1}]}', b"<html>"])
def test_a_strange_list_of_models_does_no_harm(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], body: bytes
) -> None:
    """Whatever the endpoint sends."""
    response = get(start(endpoint(json_response(body)).base_url), "/v1/models")
    assert json.loads(body_of(response))["data"][0]["id"] == MODEL


def test_health_names_the_policies_and_what_cannot_be_reached(
    start: Callable[..., Gateway], emulator: Emulator
) -> None:
    """It is alive all the same."""
    gateway = start(emulator.base_url)
    found = health(gateway)
    assert (found["status"], found["ledger"]["problem"]) == ("ok", None)
    assert len(found["policies"]["small"]["hash"]) == 64
    down = start(emulator.base_url, state="redis://127.0.0.1:1/0")
    assert get(down, "/healthz").startswith(b"HTTP/1.1 200 ")
    found = health(down)
    assert found["status"] == "degraded"
    assert found["state"]["problem"] is not None


def test_metrics_count_climbs_and_relayed_requests(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic]
) -> None:
    """By the names that the library has for them."""
    gateway = start(emulator.base_url)
    client = sdk(gateway)
    client.messages.create(**asked("hard"))
    client.messages.create(**asked("easy", model="claude-sonnet-5-5"))
    lines = body_of(get(gateway, "/metrics")).decode().splitlines()
    assert 'cascade_requests_total{arm="cascade",outcome="answered",policy="small",task="other"} 1.0' in lines
    assert 'cascade_requests_total{arm="relay",outcome="answered",policy="relay",task="other"} 1.0' in lines


def test_a_caller_says_whether_an_answer_was_right(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """It is in the ledger's database, without words that the policy does not let it keep."""
    client = sdk(start(emulator.base_url))
    request_id = client.messages.with_raw_response.create(**asked()).headers["x-cascade-request-id"]
    said = client.post(
        "/v1/feedback", body={"request_id": request_id, "right": False, "note": "wrong town"}, cast_to=dict[str, Any]
    )
    assert (said["recorded"], said["known"]) == (True, False)  # this policy has no audit
    assert said["note"].startswith("not stored")
    client.post("/v1/feedback", body={"request_id": request_id, "right": 0.75}, cast_to=dict[str, Any])
    kept = GatewayTables(str(tmp_path / "ledger.db")).feedback()
    assert [(one.request, one.score, one.note) for one in kept] == [(request_id, 0.0, None), (request_id, 0.75, None)]


def test_a_note_is_kept_where_content_is_and_erased_with_it(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """`ledger erase` removes it; what was said of the answer stays."""
    path = policy_file(tmp_path)
    path.write_text(path.read_text() + "ledger: {content: true}\n")
    gateway = start(emulator.base_url, policies=(str(path),))
    client = sdk(gateway)
    request_id = client.messages.with_raw_response.create(**asked()).headers["x-cascade-request-id"]
    said = {"request_id": request_id, "right": True, "note": "a name in it"}
    assert "note" not in client.post("/v1/feedback", body=said, cast_to=dict[str, Any])
    gateway.stop()
    tables = GatewayTables(str(tmp_path / "ledger.db"))
    assert [one.note for one in tables.feedback()] == ["a name in it"]
    reader = open_reader(str(tmp_path / "ledger.db"))
    assert reader.erase([request_id]) == 3  # the prompt, the answer, the note
    reader.close()
    assert [(one.score, one.note) for one in tables.feedback()] == [(1.0, None)]
    assert b"a name in it" not in b"".join(one.read_bytes() for one in tmp_path.glob("ledger.db*"))


@pytest.mark.parametrize(
    "said",
    [
        {}, {"right": True}, {"request_id": "casc_1", "right": True}, {"request_id": "casc_" + "0" * 32},
        {"request_id": "casc_" + "0" * 32, "right": 2}, {"request_id": "casc_" + "0" * 32, "right": "yes"},
        {"request_id": "casc_" + "0" * 32, "right": 1, "note": 5}, {"request_id": "casc_" + "0" * 32, "right": 1, "x": 1},
        {"request_id": "casc_" + "0" * 32, "right": 1, "note": "n" * 5_000},
    ],
)  # fmt: skip
def test_feedback_that_says_nothing_is_refused(
    start: Callable[..., Gateway], emulator: Emulator, said: dict[str, Any], tmp_path: Path
) -> None:
    """And nothing of it is kept."""
    gateway = start(emulator.base_url)
    assert error_of(gateway.send(post(json.dumps(said).encode(), {}, target="/v1/feedback")))[0] == 400
    assert GatewayTables(str(tmp_path / "ledger.db")).feedback() == ()


def test_an_answer_is_found_by_its_own_key_alone(
    start: Callable[..., Gateway], endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """To another one it is unknown, like an id that never was."""
    ring = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    (mine, _), (other, _) = ring.create("mine"), ring.create("other")
    gateway = start(endpoint(json_response(ANSWER)).base_url)
    response = gateway.send(post(b'{"model":"claude-opus-5-5"}', {"x-api-key": mine}))
    head = response.decode().split("\r\n")
    request_id = next(line.split(": ")[1] for line in head if line.startswith("x-cascade-request-id"))
    path = f"/v1/answers/{request_id}"
    found = json.loads(body_of(get(gateway, path, **{"x-api-key": mine})))
    assert (found["arm"], found["model"], found["cost_usd"]) == ("relay", "claude-opus-5-5", 0.006)
    assert error_of(get(gateway, path, **{"x-api-key": other}))[0] == 404
    assert error_of(get(gateway, "/v1/answers/casc_" + "0" * 32, **{"x-api-key": mine}))[0] == 404


def test_answers_are_shared_by_gateways_with_one_redis(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], redis_server: Any
) -> None:
    """Whichever of them gave it."""
    one, other = (start(emulator.base_url, state=redis_server.url) for _ in range(2))
    request_id = sdk(one).messages.with_raw_response.create(**asked("hard")).headers["x-cascade-request-id"]
    path = f"/v1/answers/{request_id}"
    wait_until(lambda: get(other, path).startswith(b"HTTP/1.1 200 "))
    assert json.loads(body_of(get(other, path)))["rung"] == "sonnet"


def test_a_changed_policy_is_in_force_without_a_restart(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """At the next request: nothing that runs is disturbed."""
    gateway = start(emulator.base_url, reload_s=0.02)
    client = sdk(gateway)
    assert client.messages.create(**asked("easy")).model == "claude-haiku-5-5"
    rewrite(tmp_path, threshold=0.99)
    wait_until(lambda: health(gateway)["policies"]["small"]["reloads"] == 1)
    assert client.messages.create(**asked("easy")).model == "claude-sonnet-5-5"


def test_a_broken_policy_file_leaves_the_one_before_in_force(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """It is told where one looks for it; and mended, it is loaded."""
    gateway = start(emulator.base_url, reload_s=0.02)
    client = sdk(gateway)
    for broken in ("version: [", "version: 1\nname: renamed\n", ""):
        before = health(gateway)["policies"]["small"]["problem"]
        draft = tmp_path / "draft"
        draft.write_text(broken)
        draft.replace(tmp_path / "small.yaml")
        wait_until(lambda before=before: health(gateway)["policies"]["small"]["problem"] not in (None, before))
        assert health(gateway)["status"] == "degraded"
        assert client.messages.create(**asked("easy")).model == "claude-haiku-5-5"
    (tmp_path / "small.yaml").unlink()
    assert client.messages.create(**asked("easy")).model == "claude-haiku-5-5"
    rewrite(tmp_path, threshold=0.99)
    wait_until(lambda: health(gateway)["policies"]["small"]["problem"] is None)
    assert client.messages.create(**asked("easy")).model == "claude-sonnet-5-5"


@pytest.mark.usefixtures("stack")
def test_an_edit_while_the_gateway_starts_is_seen(tmp_path: Path) -> None:
    """Between reading the file and making its driver, too: the first look for changes loads it."""
    path = policy_file(tmp_path)

    async def served() -> tuple[int, float | None]:
        edits = iter([lambda: rewrite(tmp_path, threshold=0.99)])

        def make(policy: Policy) -> AsyncCascade:
            next(edits, lambda: None)()
            return AsyncCascade(policy, ledger="off")

        policies = Policies((str(path),), (), make)
        await policies.reload_changed()
        small = policies.served["small"]
        await policies.close()
        return small.reloads, small.loaded.policy.ladder[0].threshold

    assert asyncio.run(served()) == (1, 0.99)


def test_a_gateway_climbs_at_the_ratchets_step_and_keeps_it_when_the_policy_changes(
    start: Callable[..., Gateway], emulator: Emulator, sdk: Callable[..., anthropic.Anthropic], tmp_path: Path
) -> None:
    """The first threshold is 0.8 in the file and 0.9 at the step; another one is loaded, of the same certificate, and is raised too."""
    path = policy_file(tmp_path, threshold=0.8)
    path.write_text(f"{path.read_text()}audit: {{on_alarm: ratchet}}\n")
    address = str(tmp_path / "ledger.db")
    assert AuditTables(address).step_ratchet(None, Ratchet("small", "", 1, 0.0))
    gateway = start(emulator.base_url, policies=(str(path),), reload_s=0.02)
    client = sdk(gateway)
    settled()
    assert [client.messages.create(**asked(text)).model for text in ("easy", "fair")] == [
        "claude-haiku-5-5", "claude-sonnet-5-5",
    ]  # fmt: skip
    draft = tmp_path / "draft"
    draft.write_text(path.read_text().replace("0.8,", "0.79,"))
    draft.replace(path)
    wait_until(lambda: health(gateway)["policies"]["small"]["reloads"] == 1)
    settled()
    assert client.messages.create(**asked("fair")).model == "claude-sonnet-5-5"


def rewrite(folder: Path, threshold: float) -> None:
    """Replace the policy's file in one step."""
    (folder / "new").mkdir(exist_ok=True)
    policy_file(folder / "new", threshold=threshold).replace(folder / "small.yaml")


def test_the_published_document_lists_what_is_served(start: Callable[..., Gateway], emulator: Emulator) -> None:
    """Each path and method of it, and nothing else."""
    gateway = start(emulator.base_url)
    published = json.loads(body_of(get(gateway, "/openapi.json")))
    assert published == json.loads(json.dumps(document()))
    for path, operations in published["paths"].items():
        plain = path.replace("{model}", MODEL).replace("{request_id}", "casc_" + "0" * 32)
        for method in {"get", "post", "put", "delete"} & operations.keys():
            request = f"{method.upper()} {plain} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            assert b" 405 " not in gateway.send(request.encode()).split(b"\r\n")[0]
        absent = "POST" if "get" in operations else "GET"
        request = f"{absent} {plain} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        assert error_of(gateway.send(request.encode()))[0] == 405
