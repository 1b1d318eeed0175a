from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic
import httpx2
import pytest

from cascade.core.errors import ConfigurationError
from cascade.core.messages import Usage
from cascade.emulator import Emulator, Fault, parse_faults
from cascade.emulator.faults import FaultPlan

from .conftest import HAIKU, SONNET, TRIAGE, asking

Ask = Callable[..., anthropic.types.Message]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, emulator: Emulator) -> Ask:
    """Ask once by the real SDK, sync or async, of the running emulator; `stream=True` accumulates a stream."""
    options: dict[str, Any] = {"base_url": emulator.base_url, "api_key": "test", "max_retries": 0}

    def ask_sync(*, stream: bool = False, limit_s: float = 20, **more: Any) -> anthropic.types.Message:
        with anthropic.Anthropic(**options, timeout=limit_s) as client:
            if not stream:
                return client.messages.create(**asking(output_config=TRIAGE, **more))
            with client.messages.stream(**asking(output_config=TRIAGE, **more)) as events:
                return events.get_final_message()

    async def ask_async(*, stream: bool = False, limit_s: float = 20, **more: Any) -> anthropic.types.Message:
        async with anthropic.AsyncAnthropic(**options, timeout=limit_s) as client:
            if not stream:
                return await client.messages.create(**asking(output_config=TRIAGE, **more))
            async with client.messages.stream(**asking(output_config=TRIAGE, **more)) as events:
                return await events.get_final_message()

    return ask_sync if request.param == "sync" else lambda **more: asyncio.run(ask_async(**more))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("fault", "status", "kind", "retry_after"),
    [
        ("rate_limit,retry_after=0.02", 429, "rate_limit_error", "0.02"),
        ("rate_limit", 429, "rate_limit_error", "1"),
        ("spend_cap", 429, "rate_limit_error", None),
        ("overloaded", 529, "overloaded_error", None),
        ("overloaded,retry_after=3", 529, "overloaded_error", "3"),
        ("server_error", 500, "api_error", None),
        ("unavailable,retry_after=2", 503, "api_error", "2"),
        ("context_overflow_400", 400, "invalid_request_error", None),
    ],
)
def test_an_error_status_is_what_the_sdk_expects_of_it(
    emulator: Emulator, ask: Ask, stream: bool, fault: str, status: int, kind: str, retry_after: str | None
) -> None:
    """Status, type, error code, request id and retry-after arrive; nothing is billed."""
    emulator.faults = fault
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(stream=stream)
    assert (caught.value.status_code, caught.value.type) == (status, kind)
    assert caught.value.response.headers.get("retry-after") == retry_after
    assert caught.value.request_id == caught.value.response.headers["request-id"]
    assert caught.value.error_code == ("enforced_spend_limit_reached" if fault == "spend_cap" else None)
    assert emulator.billed.replies == emulator.billed.broken_off == 0


@pytest.mark.parametrize("fault", ["reset", "timeout,delay_s=0"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_connection_that_breaks_before_the_reply_bills_nothing(
    emulator: Emulator, ask: Ask, fault: str, stream: bool
) -> None:
    """Reset, or closed without a word: the SDK's connection error."""
    emulator.faults = fault
    with pytest.raises(anthropic.APIConnectionError):
        ask(stream=stream)
    assert emulator.billed.usage == Usage()


def test_a_reset_is_a_reset_on_the_wire(emulator: Emulator) -> None:
    """The client sees ECONNRESET, not an orderly end."""
    emulator.faults = "reset"
    headers = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}
    with pytest.raises(httpx2.ReadError, match="reset by peer"):
        httpx2.post(f"{emulator.base_url}/v1/messages", json=asking(), headers=headers)


def test_a_timeout_answers_nothing_until_the_client_goes(emulator: Emulator, ask: Ask) -> None:
    """The client's own limit is what ends it, and the emulator is free for the next."""
    emulator.faults = "timeout,times=1"
    with pytest.raises(anthropic.APITimeoutError):
        ask(limit_s=0.2)
    assert ask().stop_reason == "end_turn"
    assert emulator.billed.replies == 1


def test_a_trickle_is_slow_but_whole(emulator: Emulator, ask: Ask) -> None:
    """The bytes come in many small pieces, and make the same reply."""
    emulator.faults = "trickle,delay_s=0.0001"
    for stream in (False, True):
        message = ask(stream=stream)
        assert [block.to_dict()["text"] for block in message.content] == ['{"confidence": 0.9, "answer": "yes – ja"}']
    assert emulator.billed.replies == 2


def test_a_body_that_is_cut_off_is_a_connection_error(emulator: Emulator, ask: Ask) -> None:
    """The reply ends in the middle; of a stream, what its beginning told is billed, and no more."""
    emulator.faults = "cut"
    with pytest.raises(anthropic.APIConnectionError):
        ask()
    assert emulator.billed.usage == Usage()
    with pytest.raises(httpx2.RemoteProtocolError):  # the SDK does not wrap what breaks inside a stream
        ask(stream=True)
    assert (emulator.billed.replies, emulator.billed.broken_off, emulator.billed.usage) == (0, 1, Usage(100, 1))


def test_an_overload_inside_a_stream_has_status_200(emulator: Emulator, ask: Ask) -> None:
    """An error event after the first events; where no stream was asked for, the plain 529."""
    emulator.faults = "stream_overloaded"
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(stream=True)
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
    assert (emulator.billed.replies, emulator.billed.broken_off, emulator.billed.usage) == (0, 1, Usage(100, 1))
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask()
    assert caught.value.status_code == 529


def test_an_authentication_error_inside_a_stream_has_status_200(emulator: Emulator, ask: Ask) -> None:
    """The credentials ended in the middle; where no stream was asked for, the plain 401."""
    emulator.faults = "stream_unauthorized"
    for stream, status in ((True, 200), (False, 401)):
        with pytest.raises(anthropic.APIStatusError) as caught:
            ask(stream=stream)
        assert (caught.value.status_code, caught.value.type) == (status, "authentication_error")


@pytest.mark.parametrize(
    ("form", "header", "said"),
    [
        ("seconds", "retry-after", r"90"),
        ("ms", "retry-after-ms", r"90000"),
        ("date", "retry-after", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
        ("rfc850", "retry-after", r"\w{6,9}, \d\d-\w{3}-\d\d \d\d:\d\d:\d\d GMT"),
        ("asctime", "retry-after", r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"),
    ],
)
def test_a_wait_is_asked_for_in_each_form_there_is(
    emulator: Emulator, ask: Ask, form: str, header: str, said: str
) -> None:
    """By one header; a date is that many seconds behind the response's own."""
    emulator.faults = f"unavailable,retry_after=90,retry_after_as={form}"
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask()
    headers = caught.value.response.headers
    assert re.fullmatch(said, headers[header])
    assert len({"retry-after", "retry-after-ms"} & headers.keys()) == 1
    if header == "retry-after" and form != "seconds":
        until, sent = (parsedate_to_datetime(headers[name]).replace(tzinfo=UTC) for name in (header, "date"))
        assert (until - sent).total_seconds() == 90


@pytest.mark.parametrize("said", ["true", "false"])
def test_an_error_may_say_whether_to_try_again(emulator: Emulator, ask: Ask, said: str) -> None:
    """The header that the SDK obeys."""
    emulator.faults = f"overloaded,should_retry={said}"
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask()
    assert caught.value.response.headers["x-should-retry"] == said


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_reply_without_usage_is_billed_all_the_same(emulator: Emulator, ask: Ask, stream: bool) -> None:
    """It is whole but for that; what it cost is known here only."""
    emulator.faults = "no_usage"
    if not stream:
        message = ask()
        assert (message.usage, message.stop_reason) == (None, "end_turn")
    else:  # the SDK's own accumulation of a stream needs a usage
        with anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client:
            events = list(client.messages.create(**asking(), stream=True))
        told = [getattr(event, "usage", getattr(getattr(event, "message", None), "usage", None)) for event in events]
        assert not any(told)
        assert events[-1].type == "message_stop"
    assert emulator.billed.usage == Usage(100, 20)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("fault", "stop_reason", "readable"),
    [
        ("truncated_json", "max_tokens", False),
        ("context_overflow", "model_context_window_exceeded", False),
        ("prose", "end_turn", False),
        ("bad_confidence", "end_turn", True),
        ("refusal", "refusal", None),
        ("empty", "end_turn", None),
        ("unknown_stop", "a_reason_of_the_future", True),
        ("thinking", "end_turn", True),
    ],
)
def test_a_bad_reply_is_a_whole_reply_and_billed(
    emulator: Emulator, ask: Ask, stream: bool, fault: str, stop_reason: str, readable: bool | None
) -> None:
    """It has its stop reason, the recorded usage, and JSON that can be read, cannot be read, or is not there."""
    emulator.faults = fault
    message = ask(stream=stream)
    texts = [block.text for block in message.content if block.type == "text"]
    assert message.stop_reason == stop_reason
    assert Usage.from_api(message.usage.to_dict()) == emulator.billed.usage == Usage(100, 20)
    assert len(texts) == (0 if readable is None else 1)
    if readable is False:
        with pytest.raises(ValueError, match=r"Expecting|delimiter|Unterminated"):
            json.loads(texts[0])
    if fault == "bad_confidence":
        assert not 0 <= json.loads(texts[0])["confidence"] <= 1
    assert ("thinking" in [block.type for block in message.content[:1]]) == (fault == "thinking")
    assert (message.stop_details is not None) == (fault == "refusal")


def test_a_fault_does_not_use_up_a_repeat_unless_it_brings_a_reply(emulator: Emulator, ask: Ask) -> None:
    """What is asked again after an error gets the reply that it would have got."""
    for fault in ("overloaded,times=1", "stream_overloaded,times=1"):
        emulator.faults = fault
        with pytest.raises(anthropic.APIStatusError):
            ask(text="again", stream=True)
    assert "first" in str(ask(text="again").content)


def test_faults_can_be_changed_while_it_runs(emulator: Emulator, ask: Ask) -> None:
    """An outage of one model in the middle, and its end; the other model is not touched."""
    assert ask().model == HAIKU
    emulator.faults = [Fault("overloaded", model=HAIKU)]
    with pytest.raises(anthropic.APIStatusError):
        ask()
    assert ask(model=SONNET).model == SONNET
    emulator.faults = None
    assert ask().model == HAIKU
    assert emulator.faults == ()


def test_latency_is_waited_for_by_the_token(emulate: Callable[..., Emulator]) -> None:
    """20 output tokens of 5 ms are at least 0.1 s, as JSON and as a stream; who does not wait is not billed."""
    emulator = emulate(token_latency_s=0.005)
    with anthropic.Anthropic(base_url=emulator.base_url, api_key="test", max_retries=0, timeout=20) as client:
        assert client.messages.with_raw_response.create(**asking()).elapsed.total_seconds() >= 0.1
        with client.messages.stream(**asking()) as stream:
            assert stream.get_final_text() == "yes – ja"
            assert stream.response.elapsed.total_seconds() >= 0.1
        emulator.token_latency_s = 5.0
        with pytest.raises(anthropic.APITimeoutError):
            client.with_options(timeout=0.05).messages.create(**asking())
    assert emulator.billed.replies == 2


def test_a_spec_means_the_faults_that_it_names() -> None:
    """Options hold for their group; a kind alone always strikes."""
    assert parse_faults("rate_limit=0.1, overloaded=0.05, model=m, times=3, after=10, retry_after=0.02; reset,") == (
        Fault("rate_limit", 0.1, "m", 10, 3, 0.02),
        Fault("overloaded", 0.05, "m", 10, 3, 0.02),
        Fault("reset"),
    )
    assert parse_faults(None) == parse_faults("") == ()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("overloded", "no fault or option is called 'overloded'"),
        ("overloaded=2", "overloaded: its rate is 2.0 (give a share, 0..1)"),
        ("overloaded=often", "'overloaded=often'"),
        ("overloaded,times=x", "'times=x'"),
        ("overloaded,delay_s=-1", "overloaded: delay_s is -1.0"),
        ("overloaded,delay_s=nan", "overloaded: delay_s is nan"),
        ("overloaded=nan", "its rate is nan"),
        ("times=3", "'times=3' names no fault"),
        ("overloaded,retry_after_as=days", "overloaded: retry_after_as is 'days' (one of asctime, date"),
        ("overloaded,should_retry=no", "'should_retry=no': should_retry is true or false"),
    ],
)
def test_a_spec_that_means_nothing_is_one_error(spec: str, told: str) -> None:
    """A typing error never means that nothing goes wrong."""
    with pytest.raises(ConfigurationError, match=r"^faults: ") as caught:
        parse_faults(spec)
    assert told in str(caught.value)


def test_chance_repeats_by_seed_and_keeps_its_rate() -> None:
    """The same seed strikes the same requests whatever other models do; another seed strikes others."""
    faults = parse_faults("overloaded=0.3")

    def struck(seed: int, others: int) -> list[bool]:
        plan = FaultPlan(faults, seed)
        drawn: list[bool] = []
        for _ in range(500):
            for other in range(others):
                plan.choose(str(other))
            drawn.append(plan.choose(HAIKU) is not None)
        return drawn

    assert struck(1, 0) == struck(1, 1)
    assert struck(1, 0) != struck(2, 0)
    assert 110 <= sum(struck(1, 0)) <= 190


def test_after_times_and_model_bound_a_fault() -> None:
    """It lets `after` of its requests pass, strikes `times`, and only its model; then the next fault has its turn."""
    plan = FaultPlan(parse_faults("reset,model=a,after=2,times=3;empty,model=a,after=4"), 0)
    kinds = [fault.kind if (fault := plan.choose(model)) else None for model in "aabaaaaa"]
    assert kinds == [None, None, None, "reset", "reset", "reset", "empty", "empty"]
