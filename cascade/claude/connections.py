"""The SDK's clients: one per endpoint, made once and closed again.

They are made before a climb begins, so a missing key is reported before anything is paid, and the second that the SDK
takes to import does not count towards the deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary, ref

from cascade.claude.failures import NO_KEY
from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.policy import Rung
from cascade.transport.clients import AsyncClients, Clients, Endpoint
from cascade.transport.endpoints import ReachedEndpoints, address_of, key_of, naming_rung, only_key

__all__ = ["AsyncConnections", "Connections", "ReachedEndpoints", "address_of", "connect", "own_client"]

_given_loops: WeakKeyDictionary[Any, ref[asyncio.AbstractEventLoop]] = WeakKeyDictionary()
"""The event loop that each async client of a caller is used in, across all drivers."""


class Connections:
    """The sync clients of one driver. Thread-safe; a forked child makes its own."""

    def __init__(self, given: Any) -> None:
        self._given, self._clients = _without_retries(given, asynchronous=False), Clients()

    def open(self, ladder: Sequence[Rung]) -> None:
        """Make every client that the ladder needs. Raises MissingKey if one has no credentials."""
        for rung in ladder:
            self.of(rung)

    def of(self, rung: Rung) -> Any:
        """The client for a rung: the caller's, or our own if the rung names its endpoint."""
        endpoint = _endpoint(rung)
        if self._given is not None and endpoint == (None, None):
            return _require_open(self._given)
        client = self._clients.find(endpoint)
        if client is not None:
            return client
        import_module("anthropic")  # slow, so not under the lock
        return self._clients.make(endpoint, lambda: own_client(rung))

    def close(self) -> None:
        """Close our own clients; a caller's client stays open."""
        self._clients.close()


class AsyncConnections:
    """The async clients of one driver, separate for each event loop, which cannot share connections."""

    def __init__(self, given: Any) -> None:
        self._given, self._original = _without_retries(given, asynchronous=True), given
        self._clients = AsyncClients()

    async def open(self, ladder: Sequence[Rung]) -> None:
        """As `Connections.open`, for the running loop."""
        for rung in ladder:
            await self.of(rung)

    async def of(self, rung: Rung) -> Any:
        """As `Connections.of`, for the running loop."""
        endpoint = _endpoint(rung)
        if self._given is not None and endpoint == (None, None):
            loop = asyncio.get_running_loop()
            if _given_loops.setdefault(self._original, ref(loop))() is not loop:
                raise ConfigurationError(
                    f"client: this {type(self._given).__name__} was used in another event loop, and its connections end"
                    " with it (leave client= out and each loop gets its own client, or make one client per loop)"
                )
            return _require_open(self._given)
        return await self._clients.of(endpoint, lambda: _own_async_client(rung))

    async def aclose(self) -> None:
        """Close our own clients of the running loop; a caller's client stays open."""
        await self._clients.aclose()


def own_client(rung: Rung) -> Any:
    """A sync client for a rung's endpoint, with the rung's key or the environment's. Raises MissingKey without one."""
    import anthropic  # noqa: PLC0415 - it takes a second to import

    with naming_rung(rung.rung, "ANTHROPIC_BASE_URL"):
        client = anthropic.Anthropic(**_own_options(rung))
    _require_credentials(client)
    return client


def _own_async_client(rung: Rung) -> Any:
    import anthropic  # noqa: PLC0415 - it takes a second to import

    with naming_rung(rung.rung, "ANTHROPIC_BASE_URL"):
        client = anthropic.AsyncAnthropic(**_own_options(rung))
    _require_credentials(client)
    return client


def connect(base_url: str, api_key: str) -> Any:
    """A sync client of the SDK for an endpoint such as the emulator; as a context manager it closes itself."""
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.Anthropic(base_url=base_url, api_key=api_key, max_retries=0)


def _without_retries(given: Any, *, asynchronous: bool) -> Any:
    """The caller's client without the SDK's own retries. Raises ConfigurationError if it does not fit the driver."""
    if given is None:
        return None
    client: object = given
    from anthropic._base_client import AsyncAPIClient, SyncAPIClient  # noqa: PLC0415 - the base of all platforms' clients

    wanted, other, hint = (
        (AsyncAPIClient, SyncAPIClient, "Cascade") if asynchronous else (SyncAPIClient, AsyncAPIClient, "AsyncCascade")
    )
    if isinstance(client, other):
        raise ConfigurationError(f"client: {type(client).__name__} does not fit here (use it with {hint})")
    if not isinstance(client, wanted):
        raise ConfigurationError(f"client: {type(client).__name__} is not a client of the anthropic SDK")
    if "cascade" in vars(client):
        raise ConfigurationError("client: it was wrapped, so its messages climb already (give the client itself)")
    return given.with_options(max_retries=0)


def _require_open(given: Any) -> Any:
    if given.is_closed():
        raise ConfigurationError(f"client: this {type(given).__name__} is closed (give an open one)")
    return given


def _endpoint(rung: Rung) -> Endpoint:
    return rung.base_url, rung.api_key_env


def _own_options(rung: Rung) -> dict[str, Any]:
    import anthropic  # noqa: PLC0415 - it takes a second to import

    options: dict[str, Any] = {"max_retries": 0}
    if rung.base_url is not None:
        options["base_url"] = rung.base_url
        # ANTHROPIC_API_KEY is for Anthropic: another endpoint gets it only if the policy names it.
        options["api_key"] = "none"
    if rung.api_key_env is not None:
        key = key_of(rung.rung, rung.api_key_env)
        if key is None:
            raise MissingKey(
                f"rung {rung.rung}: the environment variable {rung.api_key_env} is not set (it names its key)"
            )
        options["api_key"] = key
    elif rung.base_url is None and (key := key_of(rung.rung, "ANTHROPIC_API_KEY")) is not None:
        options["api_key"] = key
    if rung.base_url is not None:
        options["default_headers"] = only_key(options["api_key"], "ANTHROPIC_CUSTOM_HEADERS", anthropic.Omit())
    return options


def _require_credentials(client: Any) -> None:
    if not (client.api_key or client.auth_token or client.credentials):
        raise MissingKey(NO_KEY)
