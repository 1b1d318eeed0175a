"""The two ways to call a rung: `Claude` on the SDK's sync client, `AsyncClaude` on its async one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cascade.claude.connections import AsyncConnections, Connections, ReachedEndpoints
from cascade.claude.failures import OutOfTime
from cascade.claude.retrying import Attempts, failure_from
from cascade.claude.streaming import AsyncOpenReply, OpenReply, ReadingTime, ReplyReader
from cascade.claude.wire import Accumulator, outcome_of, parameters, reading
from cascade.core.messages import Failure, Reply
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Retry, Rung
from cascade.core.triage import Prompt

__all__ = ["AsyncClaude", "Claude"]

_CONNECT_S = 5.0


class Claude:
    """Calls rungs synchronously. Thread-safe."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = Connections(client), ReachedEndpoints()

    def prepare(self, ladder: Sequence[Rung]) -> None:
        """Make the clients that the ladder needs. Raises MissingKey if an endpoint has no credentials."""
        self._connections.open(ladder)

    def client_of(self, rung: Rung) -> Any:
        """The SDK's client for a rung, without retries of its own."""
        return self._connections.of(rung)

    def on(self, client: Any) -> Claude:
        """The same on another client of the caller's."""
        return Claude(self._retry, client, clock=self._clock, chance=self._chance)

    def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """The rung's reply, or why there is none. `time_out_at`: seconds on the injected clock."""
        client = self._connections.of(prompt.rung)
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        def attempt() -> Reply | Failure:
            return attempts.count(self._reached.classify(client, self._attempt(client, prompt, attempts)))

        return attempts.result(attempts.run(attempt))

    def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure | OpenReply:
        """As `call`, but the reply may still be open: it is returned once its first tokens decide.

        `triage`: the reply is an envelope.
        """
        client = self._connections.of(prompt.rung)
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        def attempt() -> Failure | OpenReply | Reply:
            return attempts.count(self._reached.classify(client, self._open(client, prompt, attempts, triage=triage)))

        outcome = attempts.run(attempt)
        return outcome if isinstance(outcome, OpenReply) else attempts.result(outcome)

    def _open(self, client: Any, prompt: Prompt, attempts: Attempts, *, triage: bool) -> Reply | Failure | OpenReply:
        left, params = attempts.seconds_left(prompt.rung), parameters(prompt)
        time = ReadingTime(self._clock, self._clock() + left, is_fixed=prompt.rung.timeout_s is not None)
        reader = ReplyReader(prompt, triage=triage)
        stream: Any = None
        reply: OpenReply | None = None
        try:
            stream = client.messages.create(**params, stream=True, timeout=_timeout(left))
            self._watch_body(stream.response, time)
            reply = OpenReply(stream, reader, attempts, time)
            outcome = reply.read_first()
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            outcome = failure_from(error, reader.billed.usage)
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        if outcome is None and reply is not None:
            return reply
        assert outcome is not None, "without an open reply there is an outcome"
        if stream is not None:
            stream.close()
        return outcome

    def _attempt(self, client: Any, prompt: Prompt, attempts: Attempts) -> Reply | Failure:
        left = attempts.seconds_left(prompt.rung)
        time, params = ReadingTime(self._clock, self._clock() + left), parameters(prompt)
        timeout = _timeout(left)
        billed = Accumulator(prompt)
        try:
            if prompt.max_tokens > STREAMS_ABOVE:
                with client.messages.create(**params, stream=True, timeout=timeout) as stream:
                    self._watch_body(stream.response, time)
                    with reading():
                        for event in stream:
                            billed.add(event)
                    return billed.outcome(stream.response.headers.get("request-id"))
            with client.messages.with_streaming_response.create(**params, timeout=timeout) as response:
                self._watch_body(response.http_response, time)
                return outcome_of(response.read(), prompt, response.headers)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            return failure_from(error, billed.usage)

    def _watch_body(self, response: Any, time: ReadingTime) -> None:
        """Check the clock at every piece of the body: the SDK's time-out is per read, and a slow body has many."""
        pieces = response.iter_bytes

        def watched(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in pieces(chunk_size):
                yield piece
                if time.left <= 0:
                    raise OutOfTime

        response.iter_bytes = watched

    def close(self) -> None:
        """Close our own clients; a caller's client stays open."""
        self._connections.close()


class AsyncClaude:
    """Calls rungs asynchronously, in any number of event loops."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = AsyncConnections(client), ReachedEndpoints()

    async def prepare(self, ladder: Sequence[Rung]) -> None:
        """As `Claude.prepare`."""
        await self._connections.open(ladder)

    async def client_of(self, rung: Rung) -> Any:
        """As `Claude.client_of`."""
        return await self._connections.of(rung)

    def on(self, client: Any) -> AsyncClaude:
        """As `Claude.on`."""
        return AsyncClaude(self._retry, client, clock=self._clock, chance=self._chance)

    async def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """As `Claude.call`."""
        client = await self._connections.of(prompt.rung)
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        async def attempt() -> Reply | Failure:
            return attempts.count(self._reached.classify(client, await self._attempt(client, prompt, attempts)))

        return attempts.result(await attempts.run_async(attempt))

    async def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure | AsyncOpenReply:
        """As `Claude.open`."""
        client = await self._connections.of(prompt.rung)
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        async def attempt() -> Failure | AsyncOpenReply | Reply:
            opened = await self._open(client, prompt, attempts, triage=triage)
            return attempts.count(self._reached.classify(client, opened))

        outcome = await attempts.run_async(attempt)
        return outcome if isinstance(outcome, AsyncOpenReply) else attempts.result(outcome)

    async def _open(
        self, client: Any, prompt: Prompt, attempts: Attempts, *, triage: bool
    ) -> Reply | Failure | AsyncOpenReply:
        left, params = attempts.seconds_left(prompt.rung), parameters(prompt)
        time = ReadingTime(self._clock, self._clock() + left, is_fixed=prompt.rung.timeout_s is not None)
        reader = ReplyReader(prompt, triage=triage)
        stream: Any = None
        reply: AsyncOpenReply | None = None
        try:
            async with asyncio.timeout(left):
                stream = await client.messages.create(**params, stream=True, timeout=_timeout(left))
                reply = AsyncOpenReply(stream, reader, attempts, time)
                outcome = await reply.read_first()
        except TimeoutError:
            outcome = failure_from(OutOfTime(), reader.billed.usage)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            outcome = failure_from(error, reader.billed.usage)
        except BaseException:
            if stream is not None:
                await stream.close()
            raise
        if outcome is None and reply is not None:
            return reply
        assert outcome is not None, "without an open reply there is an outcome"
        if stream is not None:
            await stream.close()
        return outcome

    async def _attempt(self, client: Any, prompt: Prompt, attempts: Attempts) -> Reply | Failure:
        left, params = attempts.seconds_left(prompt.rung), parameters(prompt)
        timeout = _timeout(left)
        billed = Accumulator(prompt)
        try:
            async with asyncio.timeout(left):
                if prompt.max_tokens > STREAMS_ABOVE:
                    async with await client.messages.create(**params, stream=True, timeout=timeout) as stream:
                        with reading():
                            async for event in stream:
                                billed.add(event)
                        return billed.outcome(stream.response.headers.get("request-id"))
                async with client.messages.with_streaming_response.create(**params, timeout=timeout) as response:
                    return outcome_of(await response.read(), prompt, response.headers)
        except TimeoutError:
            return failure_from(OutOfTime(), billed.usage)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            return failure_from(error, billed.usage)

    async def aclose(self) -> None:
        """Close our own clients of the running loop; a caller's client stays open."""
        await self._connections.aclose()


def _timeout(seconds: float) -> Any:
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.Timeout(seconds, connect=min(seconds, _CONNECT_S))
