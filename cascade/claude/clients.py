"""The two ways to call: `Claude` on the SDK's sync client, `AsyncClaude` on its async one."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import tenacity
from pydantic_core import from_json

from cascade.claude.failures import NO_KEY, OutOfTime, Unreadable
from cascade.claude.retrying import Attempt, Tries, failed
from cascade.claude.wire import STREAMS_ABOVE, Accumulator, parameters, reply_of
from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Retry, Rung
from cascade.core.triage import Prompt

__all__ = ["AsyncClaude", "Claude", "connect", "own_client"]

_CONNECT_S = 5.0


def _key_of(rung: Rung) -> str | None:
    if rung.api_key_env is None:
        return None
    key = os.environ.get(rung.api_key_env)
    if not key:
        raise MissingKey(f"rung {rung.rung}: the environment variable {rung.api_key_env} is not set (it names its key)")
    return key


def _own_options(rung: Rung) -> dict[str, Any]:
    options: dict[str, Any] = {"max_retries": 0}
    if rung.base_url is not None:
        options["base_url"] = rung.base_url
        # The environment's key is Anthropic's: an endpoint of the policy's own gets it only where the policy names it.
        options["api_key"] = "none"
    key = _key_of(rung)
    if key is not None:
        options["api_key"] = key
    return options


def _endpoint(rung: Rung) -> tuple[str | None, str | None]:
    return rung.base_url, rung.api_key_env


def _refuse(client: object, wanted: type, other: type) -> None:
    if isinstance(client, other):
        mend = "AsyncCascade" if other.__name__.startswith("Async") else "Cascade"
        raise ConfigurationError(f"client: {type(client).__name__} does not fit here (use it with {mend})")
    if not isinstance(client, wanted):
        raise ConfigurationError(f"client: {type(client).__name__} is not a client of the anthropic SDK")


class Claude:
    """The sync way. One client an endpoint, made when first needed and again after a fork; safe between threads."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._clients: dict[tuple[str | None, str | None], Any] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._given = None
        if client is not None:
            from anthropic._base_client import AsyncAPIClient, SyncAPIClient  # noqa: PLC0415 - the platforms' one root

            _refuse(client, SyncAPIClient, AsyncAPIClient)
            self._given = client.with_options(max_retries=0)

    def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """The rung's reply, or why there is none; `time_out_at` is on the injected clock, in seconds."""
        client = self._client(prompt.rung)
        tries = Tries(self._retry, time_out_at, self._clock, self._chance)
        retrying = tenacity.Retrying(sleep=time.sleep, **tries.options())
        return tries.result(retrying(lambda: tries.note(self._attempt(client, prompt, tries))))

    def _attempt(self, client: Any, prompt: Prompt, tries: Tries) -> Attempt:
        left = tries.seconds_left(prompt.rung)
        until, params = self._clock() + left, parameters(prompt)
        timeout = _timeout(left)
        billed = Accumulator()
        try:
            if prompt.max_tokens > STREAMS_ABOVE:
                with client.messages.create(**params, stream=True, timeout=timeout) as stream:
                    self._watch_body(stream.response, until)
                    for event in stream:
                        billed.add(event)
                    return Attempt(_read(lambda: billed.reply(stream.response.headers.get("request-id"))))
            with client.messages.with_streaming_response.create(**params, timeout=timeout) as response:
                self._watch_body(response.http_response, until)
                body = response.read()
                return Attempt(_read(lambda: reply_of(from_json(body), response.request_id)))
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

    def _client(self, rung: Rung) -> Any:
        endpoint = _endpoint(rung)
        if self._given is not None and endpoint == (None, None):
            return self._given
        with self._lock:
            if self._process != os.getpid():  # a forked child must not share its parent's connections
                self._clients.clear()
                self._process = os.getpid()
            client = self._clients.get(endpoint)
            if client is None:
                client = self._clients[endpoint] = own_client(rung)
            return client

    def close(self) -> None:
        """Close the clients made here; one that was given stays open."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()


class AsyncClaude:
    """The async way. One client an endpoint and event loop: connections cannot be shared between loops."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self._retry, self._clock, self._chance = retry, clock, chance
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str | None, str | None], Any]]
        self._loops = WeakKeyDictionary()
        self._keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncGenerator[None]]] = WeakKeyDictionary()
        self._given = None
        if client is not None:
            from anthropic._base_client import AsyncAPIClient, SyncAPIClient  # noqa: PLC0415 - the platforms' one root

            _refuse(client, AsyncAPIClient, SyncAPIClient)
            self._given = client.with_options(max_retries=0)

    async def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """As `Claude.call`."""
        client = await self._client(prompt.rung)
        tries = Tries(self._retry, time_out_at, self._clock, self._chance)
        retrying = tenacity.AsyncRetrying(sleep=asyncio.sleep, **tries.options())

        async def attempt() -> Attempt:
            return tries.note(await self._attempt(client, prompt, tries))

        return tries.result(await retrying(attempt))

    async def _attempt(self, client: Any, prompt: Prompt, tries: Tries) -> Attempt:
        left, params = tries.seconds_left(prompt.rung), parameters(prompt)
        timeout = _timeout(left)
        billed = Accumulator()
        try:
            async with asyncio.timeout(left):
                if prompt.max_tokens > STREAMS_ABOVE:
                    async with await client.messages.create(**params, stream=True, timeout=timeout) as stream:
                        async for event in stream:
                            billed.add(event)
                        return Attempt(_read(lambda: billed.reply(stream.response.headers.get("request-id"))))
                async with client.messages.with_streaming_response.create(**params, timeout=timeout) as response:
                    body = await response.read()
                    return Attempt(_read(lambda: reply_of(from_json(body), response.request_id)))
        except TimeoutError:
            return failed(OutOfTime(), billed.usage)
        except Exception as error:  # noqa: BLE001 - mapped in one place; what is not about the call is raised again
            return failed(error, billed.usage)

    async def _client(self, rung: Rung) -> Any:
        endpoint = _endpoint(rung)
        if self._given is not None and endpoint == (None, None):
            return self._given
        loop = asyncio.get_running_loop()
        clients = self._loops.setdefault(loop, {})
        client = clients.get(endpoint)
        if client is None:
            import anthropic  # noqa: PLC0415

            client = anthropic.AsyncAnthropic(**_own_options(rung))
            _want_credentials(client)
            clients[endpoint] = client
            # asyncio.run closes all open async generators before its loop: so this one closes the client in time.
            keeper = _keep(client)
            await anext(keeper)
            self._keepers.setdefault(loop, []).append(keeper)
        return client

    async def aclose(self) -> None:
        """Close the clients made here for the running loop; one that was given stays open."""
        loop = asyncio.get_running_loop()
        self._loops.pop(loop, None)
        for keeper in self._keepers.pop(loop, []):
            await keeper.aclose()


def own_client(rung: Rung) -> Any:
    """A sync client for a rung's endpoint, with its own key or the environment's; MissingKey where there is none."""
    import anthropic  # noqa: PLC0415

    client = anthropic.Anthropic(**_own_options(rung))
    _want_credentials(client)
    return client


def connect(base_url: str, api_key: str) -> Any:
    """A sync client of the SDK for an endpoint, such as the emulator; a context manager that closes it."""
    import anthropic  # noqa: PLC0415

    return anthropic.Anthropic(base_url=base_url, api_key=api_key, max_retries=0)


async def _keep(client: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.close()


def _read(make: Callable[[], Reply]) -> Reply:
    try:
        return make()
    except ValueError as problem:
        raise Unreadable(str(problem).splitlines()[0]) from None


def _timeout(seconds: float) -> Any:
    import anthropic  # noqa: PLC0415

    return anthropic.Timeout(seconds, connect=min(seconds, _CONNECT_S))


def _want_credentials(client: Any) -> None:
    if not (client.api_key or client.auth_token or client.credentials):
        raise MissingKey(NO_KEY)
