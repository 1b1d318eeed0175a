"""An answer as the events of a stream: what the drivers' `events` return."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any, Self

from cascade.core.events import Early
from cascade.core.message_events import content_events, end_events, message_id, start_event
from cascade.core.messages import Failure, Reply, Usage
from cascade.core.trail import Answer
from cascade.providers import AsyncOpenReply, OpenReply

__all__ = ["AsyncMessageEvents", "MessageEvents", "answer_events", "first_of"]


def first_of(outcome: Reply | Failure | OpenReply | AsyncOpenReply) -> Reply | Failure | Early:
    """What the lifecycle is sent of a reply: its first tokens if it is still open, else its outcome."""
    if isinstance(outcome, (Reply, Failure)):
        return outcome
    assert outcome.reader.first is not None, "an open reply has its first tokens"
    return outcome.reader.first


def answer_events(answer: Answer[Any], *, begun: bool) -> Iterator[dict[str, Any]]:
    """The events of an answer that are still to be sent: all of them, or if its content has been sent the last ones."""
    message, shipped = answer.message, answer.shipped
    usage = shipped.usage if shipped is not None else Usage()
    if not begun:
        yield start_event(message.id or message_id(answer.request_id), answer.model or "", usage, message.more)
        yield from content_events(message)
    yield from end_events(message, usage)


class MessageEvents:
    """The events of one answer, as dicts in the Messages API's shapes, without pings.

    `answer` is there after the last one. Closing it before cancels the request.
    """

    def __init__(self, request_id: str, events: Generator[dict[str, Any], None, Answer[Any]]) -> None:
        self.request_id, self._events = request_id, events
        self.answer: Answer[Any] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            return next(self._events)
        except StopIteration as done:
            self.answer = self.answer or done.value
            raise StopIteration from None

    def close(self) -> None:
        """Cancel the request, if it still runs."""
        self._events.close()


class AsyncMessageEvents:
    """As `MessageEvents`, for asyncio."""

    def __init__(self, request_id: str, events: AsyncGenerator[dict[str, Any] | Answer[Any]]) -> None:
        self.request_id, self._events = request_id, events
        self.answer: Answer[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        event = await anext(self._events)
        if isinstance(event, dict):
            return event
        self.answer = event
        await self._events.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel the request, if it still runs."""
        await self._events.aclose()
