"""The clients of an SDK, one per endpoint: made once, and closed again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any
from weakref import WeakKeyDictionary

from cascade.forks import renew_in_children

__all__ = ["AsyncClients", "Clients", "Endpoint"]

Endpoint = tuple[str | None, str | None]
"""A rung's `base_url` and `api_key_env`."""


class Clients:
    """Sync clients. Thread-safe; a forked child makes its own."""

    def __init__(self) -> None:
        self._clients: dict[Endpoint, Any] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: a child drops its parent's connections as well."""
        self._lock = threading.Lock()
        self._clients = {}

    def find(self, endpoint: Endpoint) -> Any:
        """The client for an endpoint; None if it was not made yet."""
        return self._clients.get(endpoint)

    def make(self, endpoint: Endpoint, make: Callable[[], Any]) -> Any:
        """The client for an endpoint, made now unless another thread was faster. `make` runs under the lock: import the SDK before."""
        with self._lock:
            client = self._clients.get(endpoint)
            if client is None:
                client = self._clients[endpoint] = make()
            return client

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()


class AsyncClients:
    """Async clients, separate for each event loop, which cannot share connections."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, Any]] = WeakKeyDictionary()
        self._keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncGenerator[None]]] = WeakKeyDictionary()

    async def of(self, endpoint: Endpoint, make: Callable[[], Any]) -> Any:
        """The running loop's client for an endpoint, made by `make` where there is none yet."""
        loop = asyncio.get_running_loop()
        clients = self._loops.setdefault(loop, {})
        client = clients.get(endpoint)
        if client is None:
            client = clients[endpoint] = make()
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
        """Close those of the running loop."""
        loop = asyncio.get_running_loop()
        self._loops.pop(loop, None)
        for keeper in self._keepers.pop(loop, []):
            await keeper.aclose()


async def _keep(client: Any, forget: Callable[[], None]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        forget()
        await client.close()
