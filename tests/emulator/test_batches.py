"""The Message Batches endpoints, asked by the real SDK: their shapes, their refusals, their faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest

from cascade.core.errors import ConfigurationError
from cascade.emulator import Emulator, ScriptedReply, parse_faults

from .conftest import HAIKU, SONNET, TRIAGE, asking

DAY_S = 24 * 3600.0


def request(custom_id: str, text: Any = "plain", **more: Any) -> Any:
    """One request of a batch."""
    return {"custom_id": custom_id, "params": asking(text, **more)}


def numbered(count: int) -> list[Any]:
    """That many requests, c0 up, in triage's form."""
    return [request(f"c{number}", output_config=TRIAGE) for number in range(count)]


def scripted_text(text: str) -> ScriptedReply:
    """A scripted reply that repeats the text."""
    return ScriptedReply([{"type": "text", "text": f"said to {text}"}])


def read(client: anthropic.Anthropic, batch_id: str) -> dict[str, Any]:
    """The results of a batch by custom_id."""
    return {line.custom_id: line.result for line in client.messages.batches.results(batch_id)}


def outcomes(client: anthropic.Anthropic, batch_id: str) -> list[str]:
    """What became of the requests c0, c1 …, in this order."""
    found = read(client, batch_id)
    return [found[f"c{number}"].type for number in range(len(found))]


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def test_a_batch_answers_as_messages_do_and_says_its_tier(emulator: Emulator, client: anthropic.Anthropic) -> None:
    """Made, ended at the first retrieval, its results equal to live replies but for the tier; each billed once."""
    batch = client.messages.batches.create(requests=[request("a"), request("b", model=SONNET), request("c", "object")])
    assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 3, None)
    ended = client.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.succeeded, ended.ended_at is None) == ("ended", 3, False)
    assert ended.expires_at - ended.created_at == ended.expires_at - batch.created_at
    found = read(client, batch.id)
    assert emulator.billed.replies == emulator.batches.billed.replies == 3
    for custom_id, more in {"a": {}, "b": {"model": SONNET}, "c": {"text": "object"}}.items():
        live = client.messages.create(**asking(**more))
        message = found[custom_id].message
        assert (message.content, message.stop_reason, message.model) == (live.content, live.stop_reason, live.model)
        assert message.usage.to_dict() == {**live.usage.to_dict(), "service_tier": "batch"}
    assert emulator.batches.processed == {"a": 1, "b": 1, "c": 1}
    assert set(emulator.batches.paid.values()) == {1}
    assert emulator.requests_by_model == {HAIKU: 4, SONNET: 2}


def test_a_script_answers_batches_too() -> None:
    """The same code chooses the reply, so a script's is given as well, with the headers of the create."""
    with (
        Emulator(script=lambda body, _: scripted_text(body["messages"][0]["content"])) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as client,
    ):
        batch = client.messages.batches.create(requests=[request("a", "you")])
        client.messages.batches.retrieve(batch.id)
        assert read(client, batch.id)["a"].message.content[0].text == "said to you"


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        ([], "requests: List should have at least 1 item"),
        ([request("a"), request("a")], "requests.1.custom_id: 'a' is not unique"),
        ([request("a b")], "requests.0.custom_id: String should match pattern"),
        ([request("x" * 65)], "requests.0.custom_id: String should match pattern"),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
        ([{"params": asking()}], "requests.0.custom_id: Field required"),
        ([{"custom_id": 1, "params": asking()}], "requests.0.custom_id: Input should be a valid string"),
        ([{"custom_id": "a", "params": 1}], "requests.0.params: Input should be an object"),
        ([{**request("a"), "priority": 1}], "requests.0.priority: Extra inputs are not permitted"),
        ([{"custom_id": f"c{number}", "params": {}} for number in range(100_001)], "at most 100000 items"),
    ],
)
def test_a_batch_that_the_api_refuses_is_not_made(client: anthropic.Anthropic, requests: Any, told: str) -> None:
    """400 with the place that is wrong; no batch is listed afterwards."""
    with pytest.raises(anthropic.BadRequestError, match=told):
        client.messages.batches.create(requests=requests)
    assert client.messages.batches.list().data == []


def test_a_body_above_the_limit_of_messages_is_taken(client: anthropic.Anthropic) -> None:
    """A batch may have 256 MB."""
    batch = client.messages.batches.create(requests=[request("a", "x" * (33 * 1024 * 1024))])
    assert batch.request_counts.processing == 1


def test_params_are_checked_when_they_are_processed(client: anthropic.Anthropic) -> None:
    """What POST /v1/messages refuses, a stream, an unknown model: errored, with the API's error, beside those that work."""
    requests = [
        request("good"),
        {"custom_id": "none", "params": {}},
        request("stream", stream=True),
        request("model", model="claude-haiku-9-9"),
        request("text", "never recorded"),
    ]
    batch = client.messages.batches.create(requests=requests)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert (counts.succeeded, counts.errored, counts.processing) == (1, 4, 0)
    found = read(client, batch.id)
    kinds = {name: found[name].error.error.type for name in found if found[name].type == "errored"}
    assert kinds == {
        "none": "invalid_request_error",
        "stream": "invalid_request_error",
        "model": "not_found_error",
        "text": "not_found_error",
    }
    assert all(found[name].error.request_id for name in kinds)


def test_batches_are_listed_in_pages_newest_first(client: anthropic.Anthropic) -> None:
    """The SDK pages through all of them, forwards and backwards; a limit that is none is a 400."""
    made = [client.messages.batches.create(requests=[request("a")]).id for _ in range(5)]
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == made[::-1]
    page = client.messages.batches.list(limit=2, after_id=made[3])
    assert ([batch.id for batch in page.data], page.has_more) == ([made[2], made[1]], True)
    back = client.messages.batches.list(limit=2, before_id=made[0])
    assert ([batch.id for batch in back.data], back.has_more) == ([made[2], made[1]], True)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.list(limit=1001)


def test_an_ended_batch_is_deleted_and_others_are_not(client: anthropic.Anthropic) -> None:
    """400 while it is in progress; afterwards 404, as for a batch that never was."""
    batch = client.messages.batches.create(requests=[request("a")])
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.delete(batch.id)
    client.messages.batches.retrieve(batch.id)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.cancel(batch.id)
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    for call in (client.messages.batches.retrieve, client.messages.batches.cancel, client.messages.batches.delete):
        with pytest.raises(anthropic.NotFoundError):
            call(batch.id)


def test_a_batch_without_credentials_is_refused(emulator: Emulator) -> None:
    """401, as on every endpoint; and a path that is none of the batches' is a 404."""
    url = f"{emulator.base_url}/v1/messages/batches"
    assert httpx2.get(url, headers={"anthropic-version": "2026-10-21"}, timeout=30).status_code == 401
    headers = {"anthropic-version": "2026-10-21", "x-api-key": "k"}
    assert httpx2.get(f"{url}/one/two", headers=headers, timeout=30).status_code == 404
    assert httpx2.post(url, headers=headers, content=b"{", timeout=30).status_code == 400


def test_a_slow_batch_ends_after_its_polls_and_is_canceled_in_between(
    emulate: Callable[..., Emulator], client_of: Callable[[Emulator], anthropic.Anthropic]
) -> None:
    """A third of it is processed at each retrieval; what is canceled then is what is left, and nothing of that is billed."""
    emulator = emulate(faults="slow_end,polls=2,times=2")
    client = client_of(emulator)
    first = client.messages.batches.create(requests=numbered(9))
    statuses = [client.messages.batches.retrieve(first.id).processing_status for _ in range(3)]
    assert statuses == ["in_progress", "in_progress", "ended"]
    second = client.messages.batches.create(requests=numbered(9))
    client.messages.batches.retrieve(second.id)
    canceling = client.messages.batches.cancel(second.id)
    assert (canceling.processing_status, canceling.request_counts.processing) == ("canceling", 9)
    ended = client.messages.batches.retrieve(second.id)
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (3, 6)
    assert outcomes(client, second.id) == ["succeeded"] * 3 + ["canceled"] * 6
    assert emulator.batches.billed.replies == 9 + 3


@pytest.mark.parametrize(("hours", "expected"), [(6, "succeeded"), (30, "expired")])
def test_a_slow_batch_ends_by_the_emulators_clock(
    emulate: Callable[..., Emulator],
    client_of: Callable[[Emulator], anthropic.Anthropic],
    hours: int,
    expected: str,
) -> None:
    """Without waiting: it ends when the clock says so, and after a day with what is unprocessed expired."""
    clock = Clock()
    emulator = emulate(faults=f"slow_end,delay_s={hours * 3600}", clock=clock)
    client = client_of(emulator)
    batch = client.messages.batches.create(requests=numbered(2))
    assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
    clock.now = min(hours * 3600.0, DAY_S)
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.ended_at is not None
    assert (ended.ended_at - ended.created_at).total_seconds() == clock.now
    assert outcomes(client, batch.id) == [expected] * 2


def test_items_meet_their_faults_the_same_in_every_run(
    emulate: Callable[..., Emulator], client_of: Callable[[Emulator], anthropic.Anthropic]
) -> None:
    """Expired, canceled, refused, overloaded: at about their rates, by the seed, and none of them billed."""
    spec = "expired=0.2,canceled=0.2,invalid_request=0.2;overloaded=0.2,on=items"
    runs: list[list[str]] = []
    for _ in range(2):
        emulator = emulate(faults=spec, seed=3)
        client = client_of(emulator)
        batch = client.messages.batches.create(requests=numbered(60))
        client.messages.batches.retrieve(batch.id)
        runs.append(outcomes(client, batch.id))
        errors = {one.error.error.type for one in read(client, batch.id).values() if one.type == "errored"}
        assert errors == {"invalid_request_error", "overloaded_error"}
        assert emulator.batches.billed.replies == runs[-1].count("succeeded")
        client.messages.create(**asking())  # the live endpoint meets none of them
    assert runs[0] == runs[1]
    assert {"succeeded", "errored", "canceled", "expired"} == set(runs[0])


def test_a_reply_that_a_fault_changes_is_changed_in_a_batch_too(
    emulate: Callable[..., Emulator], client_of: Callable[[Emulator], anthropic.Anthropic]
) -> None:
    """A fault without `on` meets messages and items."""
    client = client_of(emulate(faults="refusal,times=1"))
    batch = client.messages.batches.create(requests=numbered(1))
    client.messages.batches.retrieve(batch.id)
    assert read(client, batch.id)["c0"].message.stop_reason == "refusal"


def test_a_lost_response_leaves_a_batch_that_can_be_found(
    emulate: Callable[..., Emulator], client_of: Callable[[Emulator], anthropic.Anthropic]
) -> None:
    """The SDK sees a broken connection; the list has the batch all the same."""
    client = client_of(emulate(faults="lost,times=1"))
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=numbered(2))
    assert [batch.request_counts.processing for batch in client.messages.batches.list()] == [2]


def test_results_can_break_off_midway(
    emulate: Callable[..., Emulator], client_of: Callable[[Emulator], anthropic.Anthropic]
) -> None:
    """In the middle of a line; the next reading has them all."""
    client = client_of(emulate(faults="cut,on=results,times=1"))
    batch = client.messages.batches.create(requests=numbered(10))
    client.messages.batches.retrieve(batch.id)
    came: list[str] = []
    with pytest.raises(httpx2.RemoteProtocolError):
        came.extend(line.custom_id for line in client.messages.batches.results(batch.id))
    assert 0 < len(came) < 10
    assert len(outcomes(client, batch.id)) == 10


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("create", lambda api: api.create(requests=numbered(1))),
        ("list", lambda api: api.list()),
        ("retrieve", lambda api: api.retrieve("msgbatch_1")),
        ("cancel", lambda api: api.cancel("msgbatch_1")),
        ("delete", lambda api: api.delete("msgbatch_1")),
    ],
)
def test_each_endpoint_can_fail_alone(
    emulate: Callable[..., Emulator],
    client_of: Callable[[Emulator], anthropic.Anthropic],
    place: str,
    call: Callable[[Any], Any],
) -> None:
    """`on` names the endpoint: messages work meanwhile."""
    client = client_of(emulate(faults=f"overloaded,on={place}"))
    client.messages.create(**asking())
    with pytest.raises(anthropic.APIStatusError) as caught:
        call(client.messages.batches)
    assert caught.value.status_code == 529


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("overloaded,on=nowhere", "on is 'nowhere'"),
        ("expired,on=messages", "expired cannot occur on messages"),
        ("reset,on=items", "reset cannot occur on items"),
        ("prose,on=create", "prose cannot occur on create"),
        ("slow_end,polls=-1", "polls is -1"),
    ],
)
def test_a_fault_in_a_place_where_it_cannot_be_is_refused(spec: str, told: str) -> None:
    """The message names the fault and the place."""
    with pytest.raises(ConfigurationError, match=told):
        parse_faults(spec)
