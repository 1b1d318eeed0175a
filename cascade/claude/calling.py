"""The two ways to call a rung: `Claude` on the SDK's sync client, `AsyncClaude` on its async one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tenacity

from cascade.claude.connections import AsyncConnections, Connections, Reached
from cascade.claude.failures import OutOfTime
from cascade.claude.retrying import Tries, failed
from cascade.claude.wire import Accumulator, outcome_of, parameters, reading
from cascade.core.messages import Failure, Reply
from cascade.core.models import STREAMS_ABOVE
from cascade.core.policy import Retry, Rung
from cascade.core.triage import Prompt

__all__ = ["AsyncClaude", "Claude"]

_CONNECT_S = 5.0


class Claude:
    """The sync way. Safe between threads."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = Connections(client), Reached()

    def prepare(self, ladder: Sequence[Rung]) -> None:
        """Connect what the ladder needs; MissingKey where that cannot be."""
        self._connections.open(ladder)

    def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """The rung's reply, or why there is none; `time_out_at` is on the injected clock, in seconds."""
        client = self._connections.of(prompt.rung)
        tries = Tries(self._retry, time_out_at, self._clock, self._chance)
        if tries.too_late:
            return tries.not_asked()
        retrying = tenacity.Retrying(sleep=time.sleep, **tries.options())
        return tries.result(
            retrying(lambda: tries.note(self._reached.judge(client, self._attempt(client, prompt, tries))))
        )

    def _attempt(self, client: Any, prompt: Prompt, tries: Tries) -> Reply | Failure:
        left = tries.seconds_left(prompt.rung)
        until, params = self._clock() + left, parameters(prompt)
        timeout = _timeout(left)
        billed = Accumulator(prompt)
        try:
            if prompt.max_tokens > STREAMS_ABOVE:
                with client.messages.create(**params, stream=True, timeout=timeout) as stream:
                    self._watch_body(stream.response, until)
                    with reading():
                        for event in stream:
                            billed.add(event)
                    return billed.outcome(stream.response.headers.get("request-id"))
            with client.messages.with_streaming_response.create(**params, timeout=timeout) as response:
                self._watch_body(response.http_response, until)
                return outcome_of(response.read(), prompt, response.headers)
        except Exception as error:  # noqa: BLE001 - mapped in one place; what is not about the call is raised again
            return failed(error, billed.usage)

    def _watch_body(self, response: Any, until: float) -> None:
        """Let the clock be looked at for every piece of the body: a time-out holds for one read, and a trickle has many."""
        pieces = response.iter_bytes

        def watched(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in pieces(chunk_size):
                yield piece
                if self._clock() >= until:
                    raise OutOfTime

        response.iter_bytes = watched

    def close(self) -> None:
        """Close the clients made here; one that was given stays open."""
        self._connections.close()


class AsyncClaude:
    """The async way, for any number of event loops."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = AsyncConnections(client), Reached()

    async def prepare(self, ladder: Sequence[Rung]) -> None:
        """As `Claude.prepare`."""
        await self._connections.open(ladder)

    async def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """As `Claude.call`."""
        client = await self._connections.of(prompt.rung)
        tries = Tries(self._retry, time_out_at, self._clock, self._chance)
        if tries.too_late:
            return tries.not_asked()
        retrying = tenacity.AsyncRetrying(sleep=asyncio.sleep, **tries.options())

        async def attempt() -> Reply | Failure:
            return tries.note(self._reached.judge(client, await self._attempt(client, prompt, tries)))

        return tries.result(await retrying(attempt))

    async def _attempt(self, client: Any, prompt: Prompt, tries: Tries) -> Reply | Failure:
        left, params = tries.seconds_left(prompt.rung), parameters(prompt)
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
            return failed(OutOfTime(), billed.usage)
        except Exception as error:  # noqa: BLE001 - mapped in one place; what is not about the call is raised again
            return failed(error, billed.usage)

    async def aclose(self) -> None:
        """Close the clients made here for the running loop; one that was given stays open."""
        await self._connections.aclose()


def _timeout(seconds: float) -> Any:
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.Timeout(seconds, connect=min(seconds, _CONNECT_S))
