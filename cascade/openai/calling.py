"""The two ways to call a rung: `OpenAIModels` on the SDK's sync client, `AsyncOpenAIModels` on its async one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cascade.core.errors import RequestError
from cascade.core.messages import Failure, Message, Reply, Usage
from cascade.core.policy import Retry, Rung
from cascade.core.triage import Prompt
from cascade.openai.connections import AsyncConnections, Connections
from cascade.openai.failures import failure_of, is_refusal
from cascade.openai.replies import outcome_of
from cascade.openai.wire import parameters
from cascade.transport.attempts import Attempts
from cascade.transport.endpoints import ReachedEndpoints
from cascade.transport.failures import OutOfTime

__all__ = ["AsyncOpenAIModels", "OpenAIModels"]

_CONNECT_S = 5.0


class OpenAIModels:
    """Calls rungs synchronously. Thread-safe."""

    def __init__(self, retry: Retry, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = Connections(), ReachedEndpoints()

    def prepare(self, ladder: Sequence[Rung]) -> None:
        """Make the clients that the rungs need. Raises MissingKey or MissingExtra."""
        self._connections.open(ladder)

    def client_of(self, rung: Rung) -> Any:
        """The SDK's client for a rung, without retries of its own."""
        return self._connections.of(rung)

    def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """The rung's reply, or why there is none. `time_out_at`: seconds on the injected clock.

        A prompt that has no place there is rejected without a call. What a ladder is asked is looked at before the climb
        (`core.carrying`); a summary of a conversation with documents is told here, and the climb goes on without it.
        """
        client, params = self._connections.of(prompt.rung), _parameters(prompt)
        if isinstance(params, Failure):
            return params
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        def attempt() -> Reply | Failure:
            return attempts.count(self._reached.classify(client, self._attempt(client, prompt, params, attempts)))

        return attempts.result(attempts.run(attempt))

    def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure:  # noqa: ARG002 - as Claude's
        """As `call`: the reply is read whole. A rung of this vendor is decided at its end, not at its first tokens."""
        return self.call(prompt, time_out_at)

    def _attempt(self, client: Any, prompt: Prompt, params: dict[str, Any], attempts: Attempts) -> Reply | Failure:
        left = attempts.seconds_left(prompt.rung)
        until = self._clock() + left
        try:
            create = client.chat.completions.with_streaming_response.create
            with create(**params, timeout=_timeout(left)) as response:
                body = b"".join(self._in_time(response.iter_bytes(), until))
                return outcome_of(body, prompt, response.headers)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            return _outcome_from(error, prompt)

    def _in_time(self, pieces: Iterator[bytes], until: float) -> Iterator[bytes]:
        """The pieces of a body. The SDK's time-out is per read, and a slow body has many, so the clock is checked at each."""
        for piece in pieces:
            yield piece
            if self._clock() >= until:
                raise OutOfTime

    def close(self) -> None:
        """Close the clients."""
        self._connections.close()


class AsyncOpenAIModels:
    """Calls rungs asynchronously, in any number of event loops."""

    def __init__(self, retry: Retry, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._connections, self._reached = AsyncConnections(), ReachedEndpoints()

    async def prepare(self, ladder: Sequence[Rung]) -> None:
        """As `OpenAIModels.prepare`."""
        await self._connections.open(ladder)

    async def client_of(self, rung: Rung) -> Any:
        """As `OpenAIModels.client_of`."""
        return await self._connections.of(rung)

    async def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """As `OpenAIModels.call`."""
        client, params = await self._connections.of(prompt.rung), _parameters(prompt)
        if isinstance(params, Failure):
            return params
        attempts = Attempts(self._retry, time_out_at, self._clock, self._chance)
        if attempts.too_late:
            return attempts.out_of_time()

        async def attempt() -> Reply | Failure:
            made = await self._attempt(client, prompt, params, attempts)
            return attempts.count(self._reached.classify(client, made))

        return attempts.result(await attempts.run_async(attempt))

    async def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure:  # noqa: ARG002 - as Claude's
        """As `OpenAIModels.open`."""
        return await self.call(prompt, time_out_at)

    async def _attempt(
        self, client: Any, prompt: Prompt, params: dict[str, Any], attempts: Attempts
    ) -> Reply | Failure:
        left = attempts.seconds_left(prompt.rung)
        try:
            async with asyncio.timeout(left):
                create = client.chat.completions.with_streaming_response.create
                async with create(**params, timeout=_timeout(left)) as response:
                    return outcome_of(await response.read(), prompt, response.headers)
        except TimeoutError:
            return _outcome_from(OutOfTime(), prompt)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            return _outcome_from(error, prompt)

    async def aclose(self) -> None:
        """Close the clients of the running loop."""
        await self._connections.aclose()


def _parameters(prompt: Prompt) -> dict[str, Any] | Failure:
    try:
        return parameters(prompt)
    except RequestError as fault:
        return Failure("rejected", str(fault), status=400, attempts=0)


def _timeout(seconds: float) -> Any:
    import openai  # noqa: PLC0415 - an extra, which takes a second to import

    return openai.Timeout(seconds, connect=min(seconds, _CONNECT_S))


def _outcome_from(error: Exception, prompt: Prompt) -> Reply | Failure:
    """The outcome of an attempt that raised `error`. Raises it again if it is not about the call."""
    if is_refusal(error):  # it climbs, as a refusal by the model does: another vendor's filter may take the prompt
        request_id = getattr(error, "request_id", None)
        return Reply("", "refusal", Usage(), prompt.rung.model, request_id, message=Message("", (), "refusal", None))
    failure = failure_of(error)
    if failure is None:
        raise error
    return replace(failure, usage=Usage())
