"""The SDK's clients: one per endpoint, made once and closed again. As those of `claude`, but that none is the caller's.

A key of one vendor never goes to the other: this package reads OPENAI_API_KEY, for OpenAI's own endpoint alone, or the
variable that the rung names.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from cascade.core.errors import MissingExtra, MissingKey
from cascade.core.policy import Rung
from cascade.forks import renew_in_children
from cascade.transport.endpoints import key_of, naming_rung, only_key

__all__ = ["AsyncConnections", "Connections", "own_client"]

_Endpoint = tuple[str | None, str | None]


class Connections:
    """The sync clients of one driver. Thread-safe; a forked child makes its own."""

    def __init__(self) -> None:
        self._clients: dict[_Endpoint, Any] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child drops its parent's connections as well."""
        self._lock = threading.Lock()
        self._clients = {}

    def open(self, ladder: Sequence[Rung]) -> None:
        """Make every client that the rungs need. Raises MissingKey without credentials, MissingExtra without the SDK."""
        for rung in ladder:
            self.of(rung)

    def of(self, rung: Rung) -> Any:
        """The client for a rung."""
        endpoint = (rung.base_url, rung.api_key_env)
        client = self._clients.get(endpoint)
        if client is not None:
            return client
        _sdk()  # slow, so not under the lock
        with self._lock:
            client = self._clients.get(endpoint)
            if client is None:
                client = self._clients[endpoint] = own_client(rung)
            return client

    def close(self) -> None:
        """Close the clients."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()


class AsyncConnections:
    """The async clients of one driver, separate for each event loop, which cannot share connections."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Endpoint, Any]] = WeakKeyDictionary()
        self._keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncGenerator[None]]] = WeakKeyDictionary()

    async def open(self, ladder: Sequence[Rung]) -> None:
        """As `Connections.open`, for the running loop."""
        for rung in ladder:
            await self.of(rung)

    async def of(self, rung: Rung) -> Any:
        """As `Connections.of`, for the running loop."""
        endpoint, loop = (rung.base_url, rung.api_key_env), asyncio.get_running_loop()
        clients = self._loops.setdefault(loop, {})
        client = clients.get(endpoint)
        if client is None:
            sdk = _sdk()
            with naming_rung(rung.rung, "OPENAI_BASE_URL"):
                client = clients[endpoint] = sdk.AsyncOpenAI(**_options(rung))
            # asyncio.run closes open async generators before it closes its loop: this one then closes the client.
            keeper = _keep(client, lambda: self._forget(loop))
            await anext(keeper)
            self._keepers.setdefault(loop, []).append(keeper)
        return client

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        # A keeper refers to its loop, so the loop cannot be collected while the keeper is kept.
        self._loops.pop(loop, None)
        self._keepers.pop(loop, None)

    async def aclose(self) -> None:
        """Close the clients of the running loop."""
        loop = asyncio.get_running_loop()
        self._loops.pop(loop, None)
        for keeper in self._keepers.pop(loop, []):
            await keeper.aclose()


def own_client(rung: Rung) -> Any:
    """A sync client for a rung's endpoint. Raises MissingKey without a key, MissingExtra without the SDK."""
    sdk = _sdk()
    with naming_rung(rung.rung, "OPENAI_BASE_URL"):
        return sdk.OpenAI(**_options(rung))


def _sdk() -> Any:
    try:
        return import_module("openai")
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise MissingExtra("a rung of provider openai", "openai") from None


async def _keep(client: Any, forget: Callable[[], None]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        forget()
        await client.close()


def _options(rung: Rung) -> dict[str, Any]:
    options: dict[str, Any] = {"max_retries": 0, "api_key": _key(rung)}
    if rung.base_url is not None:
        # What the environment says of an account at OpenAI is not for others: its organisation, project, key and headers.
        omit = _sdk().Omit()
        own = only_key(options["api_key"], "OPENAI_CUSTOM_HEADERS", omit)
        own |= {"OpenAI-Organization": omit, "OpenAI-Project": omit}
        options |= {"base_url": rung.base_url, "default_headers": own}
    return options


def _key(rung: Rung) -> str:
    """The rung's key. OPENAI_API_KEY is for OpenAI: another endpoint gets it only if the policy names it."""
    if rung.base_url is not None and rung.api_key_env is None:
        return "none"
    name = rung.api_key_env or "OPENAI_API_KEY"
    if (key := key_of(rung.rung, name)) is not None:
        return key
    names = "" if rung.api_key_env is None else " (it names its key)"
    hint = "" if names else "; `cascade doctor` checks it"
    raise MissingKey(
        f"rung {rung.rung}: the environment variable {name} is not set{names or f' (provider openai{hint})'}"
    )
