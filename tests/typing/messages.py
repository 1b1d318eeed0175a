"""What a type checker makes of messages that climb. Never run: `make check` has pyright read it."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

import anthropic
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import BaseModel

import cascade
from cascade import Answer, AsyncCascade, Cascade


class Order(BaseModel):
    """A type for answers."""

    number: str


def created(driver: Cascade) -> None:
    """A message of the SDK with the answer beside it, or a stream of the SDK's events."""
    message = driver.messages.create(model="claude-cascade-default", max_tokens=1, messages=[])
    as_the_sdks: Message = message
    assert_type(message.cascade, Answer)
    assert_type(as_the_sdks.stop_sequence, str | None)
    stream = driver.messages.create(model="claude-cascade-default", max_tokens=1, messages=[], stream=True)
    for event in stream:
        assert_type(event, RawMessageStreamEvent)
    assert_type(stream.cascade, Answer)


def parsed(driver: Cascade) -> None:
    """The caller's type comes back."""
    message = driver.messages.parse(output_format=Order, model="m", max_tokens=1, messages=[])
    assert_type(message.parsed_output, Order | None)
    with driver.messages.stream(output_format=Order, model="m", max_tokens=1, messages=[]) as stream:
        assert_type(stream.get_final_message().parsed_output, Order | None)
        assert_type(stream.cascade, Answer)


async def awaited(driver: AsyncCascade) -> None:
    """The same, awaited."""
    message = await driver.messages.create(model="m", max_tokens=1, messages=[])
    assert_type(message.cascade, Answer)
    async with driver.messages.stream(model="m", max_tokens=1, messages=[]) as stream:
        async for text in stream.text_stream:
            assert_type(text, str)
    assert_type(stream.cascade, Answer)


def wrapped() -> None:
    """A client that climbs is of the client's own type."""
    assert_type(cascade.wrap(anthropic.Anthropic()), anthropic.Anthropic)
    assert_type(cascade.wrap(anthropic.AsyncAnthropic(), "support"), anthropic.AsyncAnthropic)
