"""`BatchSender`: each call's outcome once, whatever happens between the two ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Policy
from cascade.batch import BatchCall, BatchLimits, BatchSender
from cascade.core.errors import BatchError, ConfigurationError
from cascade.core.messages import Failure, Reply, Request
from cascade.core.triage import build_prompt
from cascade.emulator import Emulator

from .conftest import LIMITS

Emulate = Callable[..., tuple[Emulator, anthropic.Anthropic]]


def sender(folder: Path, client: anthropic.Anthropic, limits: BatchLimits = LIMITS) -> BatchSender:
    """One that sends everything to this client."""
    return BatchSender(folder, "run", lambda _: client, limits)


@pytest.fixture
def calls(policy_of: Callable[..., Policy]) -> Callable[[int], list[BatchCall]]:
    """That many calls of the first rung."""
    policy = policy_of()

    def make(count: int) -> list[BatchCall]:
        asked = (Request(({"role": "user", "content": f"call {number}"},)) for number in range(count))
        return [BatchCall(f"k{number}", build_prompt(policy, 0, request)) for number, request in enumerate(asked)]

    return make


def answers(outcomes: Iterable[tuple[str, Reply | Failure]]) -> dict[str, Reply | Failure]:
    """By key; each is there once."""
    found = list(outcomes)
    assert len({key for key, _ in found}) == len(found)
    return dict(found)


def test_calls_are_split_sent_once_and_known_from_then_on(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """25 calls in batches of 10; a second `send`, of another sender, asks nothing."""
    emulator, client = emulate()
    one = sender(tmp_path, client)
    found = answers(one.send(calls(25)))
    assert sorted(part.calls for part in one.store.parts("read")) == [5, 10, 10]
    one.close()
    again = sender(tmp_path, client)
    assert answers(again.send(calls(25))) == found
    again.close()
    assert set(emulator.batches.paid.values()) == {1}
    assert len(emulator.batches.paid) == 25


def test_bytes_split_a_batch_too(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """A limit that holds about three calls makes batches of no more."""
    _, client = emulate()
    one = sender(tmp_path, client, BatchLimits(max_bytes=6_000, poll_s=0.01))
    assert len(answers(one.send(calls(8)))) == 8
    assert max(part.calls for part in one.store.parts()) < 8
    one.close()


def test_no_body_is_larger_than_its_limit(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """As it is sent: with the custom ids, and what is written around each request."""
    _, client = emulate()
    sizes: list[int] = []
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [lambda sent: sizes.append(len(sent.content))]})
    with client.with_options(http_client=http) as counted:
        one = BatchSender(tmp_path, "r" * 40, lambda _: counted, replace(LIMITS, max_bytes=2_650))
        assert len(answers(one.send(calls(30)))) == 30
        one.close()
    assert 1_000 < max(sizes) <= 2_650
    with pytest.raises(ConfigurationError, match="max_requests=0 must be from 1 to 100000"):
        BatchLimits(max_requests=0)


def test_expired_and_failed_calls_go_again_and_only_so_often(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """Some expire once and are answered in a later round; what always expires is a failure that says so."""
    emulator, client = emulate(faults="expired=0.3;overloaded=0.2,on=items")
    one = sender(tmp_path / "some", client, BatchLimits(attempts=30, poll_s=0.01))
    assert all(isinstance(outcome, Reply) for outcome in answers(one.send(calls(20))).values())
    assert max(part.round for part in one.store.parts()) > 1
    assert set(emulator.batches.paid.values()) == {1}
    one.close()
    _, other = emulate(faults="expired")
    never = sender(tmp_path / "none", other)
    assert {outcome.kind for outcome in answers(never.send(calls(3))).values()} == {"expired"}  # type: ignore[union-attr]
    assert max(part.round for part in never.store.parts()) == LIMITS.attempts
    never.close()


def test_canceled_and_refused_calls_are_not_sent_again(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """Whoever canceled them does not want them; a request that the API refuses stays refused."""
    for faults, kind in (("canceled", "canceled"), ("invalid_request", "rejected")):
        emulator, client = emulate(faults=faults)
        one = sender(tmp_path / kind, client)
        assert {outcome.kind for outcome in answers(one.send(calls(2))).values()} == {kind}  # type: ignore[union-attr]
        assert len(one.store.parts()) == 1
        assert not emulator.batches.paid
        one.close()


def test_a_batch_whose_response_was_lost_is_found_and_not_paid_twice(
    tmp_path: Path, emulate: Emulate, calls: Any
) -> None:
    """The batch was made, and the connection closed without a word; others of the same size were made meanwhile."""
    emulator, client = emulate(faults="lost,times=2")
    params = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "another's"}]}
    one = sender(tmp_path, client)
    begun = one.add(calls(20))
    assert list(begun) == []
    one.dispatch()
    client.messages.batches.create(requests=[{"custom_id": f"other-1-{n}", "params": params} for n in range(10)])  # type: ignore[typeddict-item]
    assert [part.state for part in one.store.parts()] == ["sending", "sending"]
    assert len([key for page in one.collect() for key, _ in page]) == 20
    assert {emulator.batches.processed[f"run-1-{n}"] for n in range(20)} == {1}
    one.close()


def test_a_batch_that_was_never_made_is_sent_after_a_while(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """The connection broke before the endpoint had the batch: none is listed, and it is sent again, once."""
    emulator, client = emulate(faults="reset,on=create,times=1")
    one = sender(tmp_path, client)
    assert len(answers(one.send(calls(5)))) == 5
    assert set(emulator.batches.processed.values()) == {1}
    one.close()


def test_a_refused_batch_is_told_and_nothing_is_lost(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """An endpoint that is down is an error; the same calls go on later."""
    _, client = emulate()
    with Emulator(script=lambda *_: None) as gone:
        nowhere = anthropic.Anthropic(base_url=gone.base_url, api_key="k", max_retries=0)
    one = sender(tmp_path, nowhere)
    with pytest.raises(BatchError, match="connection refused"):
        list(one.send(calls(3)))
    one.close()
    nowhere.close()
    again = sender(tmp_path, client)
    assert len(answers(again.send(calls(3)))) == 3
    again.close()


def test_one_process_at_a_time_and_the_same_prompts(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """A second sender is refused while the first is open; another prompt under a known key is refused too."""
    _, client = emulate()
    one = sender(tmp_path, client)
    with pytest.raises(ConfigurationError, match="being driven already"):
        sender(tmp_path, client)
    list(one.send(calls(2)))
    first, second = calls(2)
    with pytest.raises(ConfigurationError, match="k0 was sent with other parameters"):
        list(one.send([BatchCall("k0", second.prompt), BatchCall("k1", first.prompt)]))
    one.close()


@pytest.mark.parametrize("hours", [-9, 9])
def test_a_wrong_clock_pays_nothing_twice(hours: int, tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """A machine whose clock is hours off finds the batch whose response was lost."""
    emulator, client = emulate(faults="lost,times=1")
    one = BatchSender(tmp_path, "run", lambda _: client, LIMITS, clock=lambda: time.time() + hours * 3600)
    assert len(answers(one.send(calls(5)))) == 5
    assert set(emulator.batches.processed.values()) == {1}
    one.close()


def test_processes_that_look_once_send_again_what_was_never_made(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """The time to settle runs over all of them, not anew in each."""
    emulator, client = emulate(faults="reset,on=create,times=1")
    now = time.time()
    for later in (0.0, 30.0, 70.0, 71.0):
        limits = BatchLimits(max_requests=10)
        one = BatchSender(tmp_path, "run", lambda _: client, limits, clock=lambda at=now + later: at)
        known = list(one.add(calls(5)))
        one.dispatch()
        came = [outcome for page in one.collect(wait=False) for outcome in page]
        one.close()
    assert len(known) + len(came) == 5
    assert set(emulator.batches.processed.values()) == {1}


def test_a_batch_that_is_described_in_unknown_words_is_not_sent_again(
    tmp_path: Path, emulate: Emulate, calls: Any
) -> None:
    """The answer to its creation cannot be read: it is looked for, as after a lost response."""
    emulator, client = emulate()

    def odd(response: Any) -> None:
        if response.request.method == "POST":
            body = response.read().replace(b'"in_progress"', b'"queued"')
            response._content = body  # the one way to change what a real endpoint said

    http = anthropic.DefaultHttpxClient(event_hooks={"response": [odd]})
    with client.with_options(http_client=http) as strange:
        one = sender(tmp_path, strange)
        assert len(answers(one.send(calls(5)))) == 5
        one.close()
    assert set(emulator.batches.processed.values()) == {1}


def test_a_deleted_batch_costs_the_others_nothing(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """The outcomes of the other batches come first; then it is said what may be wrong."""
    _, client = emulate()
    one = sender(tmp_path, client)
    assert list(one.add(calls(30))) == []
    one.dispatch()
    deleted = one.store.parts()[0].batch
    assert deleted is not None
    client.messages.batches.retrieve(deleted)
    client.messages.batches.delete(deleted)
    pages = one.collect()
    came = [key for key, _ in (*next(pages), *next(pages), *next(pages), *next(pages))]
    with pytest.raises(BatchError, match=r"not found \(with the key of another workspace"):
        next(pages)
    assert sorted(came) == sorted(f"k{number}" for number in range(10, 30))
    one.close()


def test_results_that_are_no_longer_kept_end_their_calls(tmp_path: Path, emulate: Emulate, calls: Any) -> None:
    """Nothing is paid again for them, and the run does not stop for ever."""
    emulator, client = emulate()
    one = sender(tmp_path, client)
    assert list(one.add(calls(5))) == []
    one.dispatch()
    for batch in client.messages.batches.list():
        client.messages.batches.retrieve(batch.id)
        emulator.batches.archive(batch.id)
    outcomes = dict(outcome for page in one.collect() for outcome in page)
    assert {getattr(outcome, "kind", None) for outcome in outcomes.values()} == {"canceled"}
    assert (len(outcomes), one.has_open, one.is_under_way) == (5, False, False)
    one.close()
