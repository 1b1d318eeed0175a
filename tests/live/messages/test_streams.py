"""Streams to the caller: what has been given out is never taken back, and what is left early is closed upstream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cascade import AsyncCascade, Cascade
from cascade.core.errors import AllRungsFailed, StreamBroken
from cascade.core.trail import Answer
from cascade.emulator import Emulator
from tests.live.conftest import HAIKU, OPUS, SONNET, Connections, ladder

from .conftest import BASE, saying, text

ASKED: dict[str, Any] = {**BASE, "messages": [{"role": "user", "content": "x"}]}
LONG = "word " * 60


def reached(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so within 20 s."""
    give_up = time.monotonic() + 20
    while not is_so() and time.monotonic() < give_up:
        pass
    return is_so()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Haiku is not sure, the others are."""
    with Emulator(
        (), script=lambda body, _: saying(text(LONG), confidence=0.2 if body["model"] == HAIKU else 0.9)
    ) as running:
        yield running


@pytest.fixture
def driver(emulator: Emulator, connections: Connections) -> Iterator[Cascade]:
    """On it."""
    client = connections.sync_one.with_options(base_url=emulator.base_url)
    with Cascade(ladder(), client=client, ledger="off") as made:
        yield made


@pytest.fixture
def async_driver(emulator: Emulator, connections: Connections) -> AsyncCascade:
    """The same for asyncio."""
    client = connections.async_one.with_options(base_url=emulator.base_url)
    return AsyncCascade(ladder(), client=client, ledger="off")


def test_what_escalates_is_closed_at_its_confidence(emulator: Emulator, driver: Cascade) -> None:
    """The rung that is left bills at most 12 tokens of its answer, as an estimate; its text never reaches the caller."""
    emulator.token_latency_s = 0.005  # as a model writes; else all of it is sent before anybody can close it
    with driver.messages.stream(**ASKED) as stream:
        said = "".join(stream.text_stream)
    assert said == LONG
    first, second = stream.cascade.steps
    assert (first.verdict.closed, first.usage.is_estimate) == (True, True)
    assert first.usage.output_tokens <= 12 < second.usage.output_tokens
    assert (second.verdict.begun, second.usage.is_estimate) == (True, False)
    assert reached(lambda: [closed.model for closed in emulator.closed_early] == [HAIKU])


@pytest.mark.parametrize("leave", ["block", "close", "drop"])
def test_a_stream_that_is_left_early_ends_its_climb(emulator: Emulator, driver: Cascade, leave: str) -> None:
    """The connection to the model is closed: nobody reads on."""
    emulator.token_latency_s = 0.02
    stream = driver.messages.create(**ASKED, stream=True)
    next(event for event in stream if event.type == "content_block_delta")
    if leave == "block":
        with stream:
            pass
    elif leave == "close":
        stream.close()
    else:
        del stream
    assert reached(lambda: [closed.model for closed in emulator.closed_early] == [HAIKU, SONNET])
    assert reached(lambda: emulator.open_streams == 0)


def test_an_async_stream_that_is_left_early_ends_its_climb(
    emulator: Emulator, async_driver: AsyncCascade, connections: Connections
) -> None:
    """As the sync one."""
    emulator.token_latency_s = 0.02

    async def leave() -> None:
        async with async_driver.messages.stream(**ASKED) as stream:
            async for _ in stream.text_stream:
                break

    connections.runner.run(leave())
    assert reached(lambda: [closed.model for closed in emulator.closed_early] == [HAIKU, SONNET])
    assert reached(lambda: emulator.open_streams == 0)


def test_a_stream_that_breaks_off_raises_and_repeats_nothing(emulator: Emulator, driver: Cascade) -> None:
    """After the first word no other rung takes over; the error has the trail and what was paid."""
    emulator.faults = f"stream_overloaded,model={SONNET}"
    given: list[str] = []
    with pytest.raises(StreamBroken, match="broke off") as caught, driver.messages.stream(**ASKED) as stream:
        given.extend(stream.text_stream)
    assert LONG.startswith("".join(given))
    assert [step.rung for step in caught.value.steps] == ["haiku", "sonnet"]
    assert not any(seen.body["model"] == OPUS for seen in emulator.requests)


def test_an_async_stream_that_breaks_off_raises_and_repeats_nothing(
    emulator: Emulator, async_driver: AsyncCascade, connections: Connections
) -> None:
    """As the sync one."""
    emulator.faults = f"stream_overloaded,model={SONNET}"

    async def read() -> None:
        async with await async_driver.messages.create(**ASKED, stream=True) as stream:
            async for _ in stream:
                pass

    with pytest.raises(StreamBroken, match="broke off"):
        connections.runner.run(read())


def test_a_rung_that_fails_before_its_first_word_is_climbed_over(emulator: Emulator, driver: Cascade) -> None:
    """The caller sees one stream, as if nothing had happened."""
    emulator.faults = f"server_error,model={SONNET}"
    with driver.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == LONG
    assert [(step.rung, step.reason) for step in stream.cascade.steps] == [
        ("haiku", "low_confidence"), ("sonnet", "error"), ("opus", None),
    ]  # fmt: skip


def test_where_nothing_answers_the_stream_raises_before_its_first_event(emulator: Emulator, driver: Cascade) -> None:
    """As `create` does."""
    emulator.faults = "server_error"
    stream = driver.messages.create(**ASKED, stream=True)
    with pytest.raises(AllRungsFailed):
        next(stream)


def test_a_bypass_is_given_out_as_it_comes(emulator: Emulator, connections: Connections) -> None:
    """Unchanged in this, too."""
    emulator.token_latency_s = 0.01
    client = connections.sync_one.with_options(base_url=emulator.base_url)
    cited = {"type": "text", "media_type": "text/plain", "data": "x"}
    document = {"type": "document", "citations": {"enabled": True}, "source": cited}
    with Cascade(ladder(bypass="baseline"), client=client, ledger="off") as driver:
        stream = driver.messages.create(**{**ASKED, "messages": [{"role": "user", "content": [document]}]}, stream=True)
        next(event for event in stream if event.type == "content_block_delta")
        assert emulator.open_streams == 1
        assert "".join(event.delta.text for event in stream if event.type == "content_block_delta") in LONG  # type: ignore[union-attr]
    assert (stream.cascade.text, stream.cascade.arm, stream.cascade.degraded) == (LONG, "bypass", None)


def test_a_stream_says_what_create_says(emulator: Emulator, driver: Cascade) -> None:
    """The same message and the same climb, but for what was closed early."""
    whole = driver.messages.create(**ASKED)
    with driver.messages.stream(**ASKED) as stream:
        streamed: Any = stream.get_final_message()

    def climb_of(answer: Answer) -> list[tuple[Any, ...]]:
        return [(step.rung, step.verdict.confidence, step.reason) for step in answer.steps]

    assert streamed.content[0].text == whole.content[0].to_dict()["text"]
    assert climb_of(streamed.cascade) == climb_of(whole.cascade)
    assert streamed.cascade.cost_nanousd < whole.cascade.cost_nanousd
