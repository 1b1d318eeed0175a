"""The SDK's clients: one per endpoint, made once and closed again. As those of `claude`, but that none is the caller's.

A key of one vendor never goes to the other: this package reads OPENAI_API_KEY, for OpenAI's own endpoint alone, or the
variable that the rung names.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cascade.core.errors import MissingExtra, MissingKey
from cascade.core.policy import Rung
from cascade.transport.clients import AsyncClients, Clients, Endpoint
from cascade.transport.endpoints import key_of, naming_rung, only_key

__all__ = ["AsyncConnections", "Connections", "own_client"]


class Connections:
    """The sync clients of one driver. Thread-safe; a forked child makes its own."""

    def __init__(self) -> None:
        self._clients = Clients()

    def open(self, ladder: Sequence[Rung]) -> None:
        """Make every client that the rungs need. Raises MissingKey without credentials, MissingExtra without the SDK."""
        for rung in ladder:
            self.of(rung)

    def of(self, rung: Rung) -> Any:
        """The client for a rung."""
        client = self._clients.find(_endpoint(rung))
        if client is not None:
            return client
        _sdk()  # slow, so not under the lock
        return self._clients.make(_endpoint(rung), lambda: own_client(rung))

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()


class AsyncConnections:
    """The async clients of one driver, separate for each event loop, which cannot share connections."""

    def __init__(self) -> None:
        self._clients = AsyncClients()

    async def open(self, ladder: Sequence[Rung]) -> None:
        """As `Connections.open`, for the running loop."""
        for rung in ladder:
            await self.of(rung)

    async def of(self, rung: Rung) -> Any:
        """As `Connections.of`, for the running loop."""
        return await self._clients.of(_endpoint(rung), lambda: _own_async_client(rung))

    async def aclose(self) -> None:
        """Close the clients of the running loop."""
        await self._clients.aclose()


def _endpoint(rung: Rung) -> Endpoint:
    return rung.base_url, rung.api_key_env


def own_client(rung: Rung) -> Any:
    """A sync client for a rung's endpoint. Raises MissingKey without a key, MissingExtra without the SDK."""
    sdk = _sdk()
    with naming_rung(rung.rung, "OPENAI_BASE_URL"):
        return sdk.OpenAI(**_options(rung))


def _own_async_client(rung: Rung) -> Any:
    sdk = _sdk()
    with naming_rung(rung.rung, "OPENAI_BASE_URL"):
        return sdk.AsyncOpenAI(**_options(rung))


def _sdk() -> Any:
    try:
        return import_module("openai")
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise MissingExtra("a rung of provider openai", "openai") from None


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
