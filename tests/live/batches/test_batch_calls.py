"""`claude.batches`: prompts as requests of a batch, and its results as outcomes, by the real SDK on loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anthropic
import pytest

from cascade.claude import batches
from cascade.core.errors import BatchError, ConfigurationError
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.triage import Prompt, build_prompt
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, QUICK, Connections, Emulate, Endpoint, Script, error_body, item, ladder, reply
from tests.live.conftest import corpus as make_corpus

POLICY = ladder()


def prompt(text: str = "sure", index: int = 0, **more: Any) -> Prompt:
    """What a rung of the ladder is asked."""
    request = Request(({"role": "user", "content": text},), **more)
    return build_prompt(POLICY, index, request)


def requests(*texts: str) -> list[dict[str, Any]]:
    """One request for each, with the custom_ids c0 up."""
    return [batches.request_of(f"c{number}", prompt(text)) for number, text in enumerate(texts)]


Connect = Callable[[Endpoint], anthropic.Anthropic]


@pytest.fixture
def connect(connections: Connections) -> Connect:
    """The SDK's client for an endpoint, without retries of its own."""
    return lambda endpoint: connections.sync_one.with_options(base_url=endpoint.base_url, max_retries=0)


def test_a_result_reads_as_the_live_reply(connect: Connect, emulator: Emulator) -> None:
    """The same text, message, stop reason and usage as the live call's, whose params are the same."""
    client = connect(emulator)
    asked = {f"c{index}": prompt("unsure", index) for index in range(3)}
    made = batches.create(client, [batches.request_of(key, one) for key, one in asked.items()])
    assert (made.status, made.total, made.processing, made.has_results) == ("in_progress", 3, 3, False)
    ended = batches.retrieve(client, made.id)
    assert (ended.status, ended.succeeded, ended.processing, ended.has_results) == ("ended", 3, 0, True)
    assert ended.expires_at - ended.created_at == timedelta(days=1)
    found = dict(batches.results(client, made.id))
    for key, one in asked.items():
        live = client.messages.create(**batches.request_of(key, one)["params"])
        batched = found[key]
        assert isinstance(batched, Reply)
        assert batched.message is not None
        assert batched.text == "".join(block.text for block in live.content if block.type == "text")
        assert (batched.stop_reason, batched.model) == (live.stop_reason, live.model)
        assert batched.usage == Usage.from_api(live.usage.to_dict())
        assert batched.message.more["usage"] == {"service_tier": "batch"}
    bodies = [one.body for one in emulator.requests if one.method == "POST"]
    assert [one["params"] for one in bodies[0]["requests"]] == bodies[1:]


def test_what_a_batch_cannot_take_is_refused_and_nothing_is_dropped() -> None:
    """Headers and streams are errors that say so; further parameters stand in the params, as a live call's body has them."""
    with pytest.raises(ConfigurationError, match="no headers of its own, and this one has anthropic-beta"):
        batches.request_of("a", prompt(headers={"anthropic-beta": "x"}))
    with pytest.raises(ConfigurationError, match="stream is not possible"):
        batches.request_of("a", prompt(extra={"stream": True}))
    params = batches.request_of("a", prompt(extra={"service_tier": "auto"}))["params"]
    assert params["service_tier"] == "auto"
    assert not {"extra_body", "extra_headers"} & params.keys()
    raw = replace(prompt(), raw={"model": "other", "max_tokens": 7, "messages": [], "top_k": 3})
    assert batches.request_of("a", raw)["params"] == {"model": HAIKU, "max_tokens": 7, "messages": [], "top_k": 3}


def test_each_end_of_a_request_is_told_apart(connect: Connect, emulate: Emulate) -> None:
    """Answered, refused, overloaded, expired, canceled; errors by the map of live calls."""
    faults = (
        "invalid_request,after=1,times=1;overloaded,on=items,after=1,times=1;expired,after=3,times=1;canceled,after=4"
    )
    client = connect(emulate(faults=faults))
    made = batches.create(client, requests("sure", "sure", "sure", "sure", "sure"))
    batches.retrieve(client, made.id)
    found = dict(batches.results(client, made.id))
    kinds = [one.kind if isinstance(one, Failure) else one for one in (found[f"c{number}"] for number in range(1, 5))]
    assert isinstance(found["c0"], Reply)
    assert kinds == ["rejected", "overloaded", "expired", "canceled"]
    failure = found["c1"]
    assert isinstance(failure, Failure)
    assert failure.status == 400
    assert failure.request_id is not None


def test_results_that_break_off_are_read_again_and_given_once(connect: Connect, emulate: Emulate) -> None:
    """Cut off twice in the middle of a line: every custom_id comes, and none comes twice."""
    emulator = emulate(faults="cut,on=results,times=2")
    client = connect(emulator)
    made = batches.create(client, requests(*["sure"] * 50))
    batches.retrieve(client, made.id)
    found = [custom_id for custom_id, _ in batches.results(client, made.id, retry=QUICK)]
    assert sorted(found) == sorted(f"c{number}" for number in range(50))
    assert set(emulator.batches.processed.values()) == {1}
    emulator.faults = "reset,on=results"
    with pytest.raises(BatchError, match="reading the results of msgbatch_") as caught:
        list(batches.results(client, made.id, retry=QUICK))
    assert (caught.value.failure.kind, caught.value.exit_code) == ("connection", 4)


def test_a_create_whose_response_is_lost_is_not_sent_again(connect: Connect, emulate: Emulate) -> None:
    """One batch, an error that says it may exist, and the list that finds it."""
    emulator = emulate(faults="lost,times=1")
    client = connect(emulator)
    with pytest.raises(BatchError) as caught:
        batches.create(client, requests("sure", "hard"), retry=QUICK)
    assert caught.value.maybe_made
    assert caught.value.failure.attempts == 1
    later = batches.create(client, requests("sure"))
    listed = list(batches.list_since(client, later.created_at - timedelta(hours=1), page=1))
    assert [one.total for one in listed] == [1, 2]
    assert [one.id for one in batches.list_since(client, later.created_at, page=1)] == [listed[0].id]


@pytest.mark.parametrize(
    ("fault", "calls", "maybe_made"),
    [
        ("rate_limit,retry_after=0", 3, False),
        ("overloaded", 3, False),
        ("server_error", 1, True),
        ("reset", 1, True),
        ("cut", 1, True),
        ("spend_cap", 1, False),
    ],
)
def test_create_is_retried_only_where_no_batch_was_made(
    connect: Connect, emulate: Emulate, fault: str, calls: int, maybe_made: bool
) -> None:
    """A refusal of the endpoint's is tried again; what may have been carried out is not."""
    emulator = emulate(faults=f"{fault},on=create")
    client = connect(emulator)
    with pytest.raises(BatchError, match="creating the batch failed") as caught:
        batches.create(client, requests("sure"), retry=QUICK)
    assert caught.value.maybe_made is maybe_made
    assert len(emulator.requests) == calls


@pytest.mark.parametrize("fault", ["server_error", "reset", "cut"])
def test_calls_that_pay_nothing_are_retried(connect: Connect, emulate: Emulate, fault: str) -> None:
    """Retrieving and listing pass over two failures."""
    emulator = emulate(faults=f"{fault},on=retrieve,times=2;{fault},on=list,times=2;{fault},on=cancel,times=2")
    client = connect(emulator)
    made = batches.create(client, requests("sure"))
    assert batches.cancel(client, made.id, retry=QUICK).status == "canceling"
    assert [one.id for one in batches.list_since(client, made.created_at, retry=QUICK)] == [made.id]
    assert batches.retrieve(client, made.id, retry=QUICK).canceled == 1
    batches.delete(client, made.id, retry=QUICK)
    with pytest.raises(BatchError, match="HTTP 404"):
        batches.retrieve(client, made.id, retry=QUICK)


@pytest.mark.parametrize("status", [404, 405])
def test_an_endpoint_without_batches_is_one_clear_error(connect: Connect, script: Script, status: int) -> None:
    """It names the endpoint and what to do, whoever asked first."""
    endpoint = script((status, {}, error_body("not_found_error")))
    client = connect(endpoint)
    with pytest.raises(ConfigurationError, match=f"{endpoint.base_url} has no Message Batches API"):
        batches.create(client, requests("sure"))


@pytest.mark.parametrize("body", [[], {}, {"id": 1}, b"{", {"processing_status": "ended", "request_counts": 5}])
def test_a_description_of_any_other_shape_is_a_typed_error(connect: Connect, script: Script, body: Any) -> None:
    """HTTP 200 that describes no batch: BatchError, never a bare exception; the batch may exist all the same."""
    endpoint = script((200, {}, body))
    client = connect(endpoint)
    with pytest.raises(BatchError) as caught:
        batches.create(client, requests("sure"))
    assert caught.value.maybe_made


def test_an_answer_that_does_not_say_its_usage_is_billed_at_its_most_or_is_none(
    connect: Connect, emulate: Emulate
) -> None:
    """With the prompt at hand the usage is a marked estimate; without it the answer is a Failure, never free."""
    emulator = emulate(faults="no_usage")
    client = connect(emulator)
    made = batches.create(client, requests("sure"))
    batches.retrieve(client, made.id)
    known = dict(batches.results(client, made.id, prompt_of=lambda _: prompt("sure")))["c0"]
    unknown = dict(batches.results(client, made.id))["c0"]
    assert isinstance(known, Reply)
    assert known.usage.is_estimate
    assert known.usage.output_tokens == prompt("sure").max_tokens
    assert isinstance(unknown, Failure)
    assert unknown.kind == "unreadable"


def test_texts_keep_the_characters_that_end_lines_elsewhere(connect: Connect, emulate: Emulate) -> None:
    """A line of results ends with a line feed and nothing else: U+2028, U+0085, a vertical tab stay in the answer."""
    odd = "one\u2028two\x85three\x0bfour\x1cfive"
    emulator = emulate(make_corpus(item("odd", reply(0.9, odd), reply(0.9, odd), reply(None, odd))))
    client = connect(emulator)
    made = batches.create(client, [batches.request_of("c0", prompt("odd", 2))])
    batches.retrieve(client, made.id)
    answer = dict(batches.results(client, made.id))["c0"]
    assert isinstance(answer, Reply)
    assert answer.text == odd


def test_results_of_a_batch_that_has_none_are_refused(connect: Connect, emulate: Emulate) -> None:
    """One that has not ended: an error that says so, before anything is read."""
    emulator = emulate(faults="slow_end,polls=9")
    client = connect(emulator)
    made = batches.create(client, requests("sure"))
    with pytest.raises(ConfigurationError, match="results_url"):
        list(batches.results(client, made.id))
