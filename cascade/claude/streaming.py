"""A reply that is read as it is written: its first tokens decide, then it is read on or closed.

`ReplyReader` reads the events, without I/O. `OpenReply` and `AsyncOpenReply` hold the stream it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

from cascade.claude.failures import OutOfTime
from cascade.claude.retrying import Attempts, failure_from
from cascade.claude.wire import TEXT_OF_DELTA, Accumulator, reading
from cascade.core.early import closed_usage
from cascade.core.events import Early
from cascade.core.message_events import block_stop, start_event, text_delta, text_start
from cascade.core.messages import Failure, Reply, Usage
from cascade.core.text.envelope import EnvelopeReader
from cascade.core.triage import Prompt

__all__ = ["AsyncOpenReply", "OpenReply", "ReadingTime", "ReplyReader"]

_CHARACTERS_PER_TOKEN = 4
_CONTENT = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})


class ReplyReader:
    """Reads one reply. `first`: its first tokens, once they decide. `triage`: it is an envelope, else it is given out as it comes.

    `take` returns what may be given to the caller, as content events of the Messages API; of an envelope the answer's text.
    """

    def __init__(self, prompt: Prompt, *, triage: bool) -> None:
        self.billed = Accumulator(prompt)
        self._envelope = EnvelopeReader(structured=prompt.structured) if triage else None
        self._events: list[dict[str, Any]] = []
        self._thinking = self._written = 0  # characters
        self.first: Early | None = None
        self._begun = self._ended = False

    def add(self, event: Any) -> None:
        """Read the next event of the stream."""
        self.billed.add(event)
        kind = event.type
        if kind == "content_block_delta":
            self._written += len(getattr(event.delta, TEXT_OF_DELTA.get(event.delta.type, ""), ""))
        if self._envelope is None:
            if kind in _CONTENT:
                self._events.append(event.to_dict(mode="json"))
                self.first = self.first or Early()
            return
        if kind != "content_block_delta":
            return
        if event.delta.type == "thinking_delta":
            self._thinking += len(event.delta.thinking)
        elif event.delta.type == "text_delta":
            self._add_text(self._envelope, event.delta.text)

    def _add_text(self, envelope: EnvelopeReader, text: str) -> None:
        added = envelope.feed(text)
        if self.first is None and envelope.head is not None:
            self.first = Early(envelope.head.confidence, envelope.head.declined)
        if added:
            if not self._begun:
                self._begun = True
                self._events.append(text_start(0))
            self._events.append(text_delta(0, added))

    def take(self) -> list[dict[str, Any]]:
        """The content events since the last time."""
        events, self._events = self._events, []
        if self._begun and not self._ended and self.billed.is_complete:
            self._ended = True
            events.append(block_stop(0))
        return events

    def start_event(self) -> dict[str, Any]:
        """The event that begins the message."""
        return start_event(self.billed.message_id, self.billed.model, self.billed.usage)

    def closed(self, request_id: str | None) -> Reply:
        """The reply as it was when its stream was closed, with an estimate of its usage."""
        head = self._envelope.head if self._envelope is not None else None
        billed = self.billed.prompt_usage
        thought = max(billed.thinking_tokens, -(-self._thinking // 4))
        prompt = Usage(
            billed.input_tokens, 0, billed.cache_write_5m, billed.cache_write_1h, billed.cache_read, thought
        )  # fmt: skip
        usage = closed_usage(prompt, head.position if head is not None else 0)
        return Reply("", "", usage, self.billed.model, request_id)

    def abandoned(self, request_id: str | None) -> Reply:
        """The reply as far as it came when nobody waited for it any more. Unless it was whole, its usage is an estimate."""
        outcome = self.billed.outcome(request_id)
        if isinstance(outcome, Reply):
            return outcome
        written = -(-self._written // _CHARACTERS_PER_TOKEN)
        billed = self.billed.prompt_usage
        usage = replace(billed, output_tokens=max(billed.output_tokens, written), is_estimate=True)
        return Reply("", "", usage, self.billed.model, request_id)


class ReadingTime:
    """The time that one reply may take, on `clock`. The time in which its reader waits for the caller does not count."""

    def __init__(self, clock: Callable[[], float], until: float, *, is_fixed: bool = False) -> None:
        self._clock, self._until, self._is_fixed = clock, until, is_fixed

    @property
    def left(self) -> float:
        """Seconds; 0 or less when it is up."""
        return self._until - self._clock()

    def extend(self, until: float) -> None:
        """It may take longer, unless the rung has a time-out of its own."""
        if not self._is_fixed:
            self._until = max(self._until, until)

    def paused(self, events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The events; the time in which the caller has one does not count."""
        for event in events:
            began = self._clock()
            yield event
            self._until += self._clock() - began


class _Open:
    """A reply whose first tokens are known, and whose stream is open. `outcome`: once it has been finished."""

    def __init__(self, stream: Any, reader: ReplyReader, attempts: Attempts, time: ReadingTime) -> None:
        self.stream, self.reader, self._attempts, self._time = stream, reader, attempts, time
        self.outcome: Reply | Failure | None = None

    @property
    def _request_id(self) -> str | None:
        """The endpoint's id of the request."""
        return self.stream.response.headers.get("request-id")

    def start_event(self) -> dict[str, Any]:
        """The event that begins the message."""
        return self.reader.start_event()

    def extend(self, until: float) -> None:
        """It may take until then, on the driver's clock."""
        self._time.extend(until)

    def abandoned(self) -> Reply:
        """What came of it, for the record."""
        return self._attempts.result(self.reader.abandoned(self._request_id))

    def _end(self) -> None:
        """It has been read to its end."""
        outcome = self.reader.billed.outcome(self._request_id)
        if isinstance(outcome, Failure):
            outcome = self._attempts.broken_off(outcome)
        self.outcome = self._attempts.result(outcome)

    def _break(self, error: Exception) -> None:
        """Reading it raised an error; one that is not about the call is raised again."""
        failure = failure_from(error, self.reader.billed.usage)
        self.outcome = self._attempts.result(self._attempts.broken_off(failure))

    def _close(self) -> None:
        """Its stream was closed at its first tokens. Its usage up to there is an estimate."""
        self.outcome = self._attempts.result(self.reader.closed(self._request_id))


class OpenReply(_Open):
    """A reply of the sync client."""

    def __init__(self, stream: Any, reader: ReplyReader, attempts: Attempts, time: ReadingTime) -> None:
        super().__init__(stream, reader, attempts, time)
        self._events = iter(stream)

    def read_first(self) -> Reply | Failure | None:
        """Read up to the tokens that decide. If the reply ends before, it is returned."""
        with reading():
            for event in self._events:
                self.reader.add(event)
                if self.reader.first is not None:
                    return None
        return self.reader.billed.outcome(self._request_id)

    def rest(self) -> Iterator[dict[str, Any]]:
        """Read it to its end; yields its content events. `outcome` is set then."""
        try:
            yield from self._time.paused(self.reader.take())
            with reading():
                for event in self._events:
                    self.reader.add(event)
                    yield from self._time.paused(self.reader.take())
            self._end()
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            self._break(error)
        finally:
            self.stream.close()

    def close(self) -> None:
        """Close the stream; `outcome` is what came of it."""
        self.stream.close()
        self._close()


class AsyncOpenReply(_Open):
    """As `OpenReply`, for asyncio."""

    def __init__(self, stream: Any, reader: ReplyReader, attempts: Attempts, time: ReadingTime) -> None:
        super().__init__(stream, reader, attempts, time)
        self._events = aiter(stream)

    async def read_first(self) -> Reply | Failure | None:
        """As `OpenReply.read_first`."""
        with reading():
            async for event in self._events:
                self.reader.add(event)
                if self.reader.first is not None:
                    return None
        return self.reader.billed.outcome(self._request_id)

    async def rest(self) -> AsyncIterator[dict[str, Any]]:
        """As `OpenReply.rest`."""
        try:
            for one in self._time.paused(self.reader.take()):
                yield one
            with reading():
                while (event := await self._next()) is not None:
                    self.reader.add(event)
                    for one in self._time.paused(self.reader.take()):
                        yield one
            self._end()
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            self._break(error)
        finally:
            await self.stream.close()

    async def _next(self) -> Any:
        """The next event, None at the end. Its time-out does not last while the caller has the last one."""
        try:
            async with asyncio.timeout(max(0.001, self._time.left)):
                return await anext(self._events, None)
        except TimeoutError:
            raise OutOfTime from None

    async def close(self) -> None:
        """As `OpenReply.close`."""
        await self.stream.close()
        self._close()
