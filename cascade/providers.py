"""Calls rungs, whoever their vendor is: `Providers` on sync clients, `AsyncProviders` on async ones.

A rung's `provider` says whose API its endpoint speaks. The package of another vendor than Anthropic is imported with the first
rung that needs it, and no vendor's SDK before the first client.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cascade.claude import AsyncClaude, AsyncOpenReply, Claude, OpenReply
from cascade.claude import inspect_endpoint as inspect_claude
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Retry, Rung
from cascade.core.triage import Prompt
from cascade.transport.inspecting import EndpointStatus, ModelStatus

if TYPE_CHECKING:
    from cascade.openai import AsyncOpenAIModels, OpenAIModels

__all__ = [
    "AsyncOpenReply", "AsyncProviders", "EndpointStatus", "ModelStatus", "OpenReply", "Providers", "inspect_endpoint",
]  # fmt: skip


class Providers:
    """Calls rungs synchronously. Thread-safe. `client`: the caller's, of the anthropic SDK, for rungs of that provider."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self.claude = Claude(retry, client, clock=clock, chance=chance)
        self._openai = _Later(lambda: _openai().OpenAIModels(retry, clock=clock, chance=chance))

    def prepare(self, ladder: Sequence[Rung]) -> None:
        """Make the clients that the ladder needs. Raises MissingKey if an endpoint has no credentials, MissingExtra without an SDK."""
        for rung in ladder:
            self._of(rung).prepare((rung,))

    def client_of(self, rung: Rung) -> Any:
        """The client of the rung's vendor, without retries of its own."""
        return self._of(rung).client_of(rung)

    def on(self, client: Any) -> Providers:
        """The same on another client of the caller's. Both share the clients of other vendors."""
        other = object.__new__(Providers)
        other.claude, other._openai = self.claude.on(client), self._openai
        return other

    def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """The rung's reply, or why there is none. `time_out_at`: seconds on the injected clock."""
        return self._of(prompt.rung).call(prompt, time_out_at)

    def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure | OpenReply:
        """As `call`, but the reply of a Claude rung may still be open: it is returned once its first tokens decide.

        `triage`: the reply is an envelope. Another vendor's reply is read whole.
        """
        return self._of(prompt.rung).open(prompt, time_out_at, triage=triage)

    def _of(self, rung: Rung) -> Claude | OpenAIModels:
        return self.claude if rung.provider == "anthropic" else self._openai.made()

    def close(self) -> None:
        """Close our own clients; a caller's client stays open."""
        self.claude.close()
        if self._openai.is_made:
            self._openai.made().close()


class AsyncProviders:
    """Calls rungs asynchronously, in any number of event loops. `client` as for `Providers`."""

    def __init__(self, retry: Retry, client: Any = None, *, clock: Callable[[], float], chance: random.Random) -> None:
        self.claude = AsyncClaude(retry, client, clock=clock, chance=chance)
        self._openai = _Later(lambda: _openai().AsyncOpenAIModels(retry, clock=clock, chance=chance))

    async def prepare(self, ladder: Sequence[Rung]) -> None:
        """As `Providers.prepare`."""
        for rung in ladder:
            await self._of(rung).prepare((rung,))

    async def client_of(self, rung: Rung) -> Any:
        """As `Providers.client_of`."""
        return await self._of(rung).client_of(rung)

    def on(self, client: Any) -> AsyncProviders:
        """As `Providers.on`."""
        other = object.__new__(AsyncProviders)
        other.claude, other._openai = self.claude.on(client), self._openai
        return other

    async def call(self, prompt: Prompt, time_out_at: float) -> Reply | Failure:
        """As `Providers.call`."""
        return await self._of(prompt.rung).call(prompt, time_out_at)

    async def open(self, prompt: Prompt, time_out_at: float, *, triage: bool) -> Reply | Failure | AsyncOpenReply:
        """As `Providers.open`."""
        return await self._of(prompt.rung).open(prompt, time_out_at, triage=triage)

    def _of(self, rung: Rung) -> AsyncClaude | AsyncOpenAIModels:
        return self.claude if rung.provider == "anthropic" else self._openai.made()

    async def aclose(self) -> None:
        """Close our own clients of the running loop; a caller's client stays open."""
        await self.claude.aclose()
        if self._openai.is_made:
            await self._openai.made().aclose()


class _Later:
    """Something that is made when it is first needed. Two threads may make two; the one that is kept is everybody's."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: dict[None, Any] = {}

    @property
    def is_made(self) -> bool:
        return None in self._made

    def made(self) -> Any:
        return self._made[None] if self.is_made else self._made.setdefault(None, self._make())


def _openai() -> Any:
    import cascade.openai  # noqa: PLC0415 - a ladder of Claude models has no need of it

    return cascade.openai


def inspect_endpoint(rungs: Sequence[Rung]) -> EndpointStatus:
    """Inspect the endpoint that these rungs share, at no cost. They are of one provider."""
    return inspect_claude(rungs) if rungs[0].provider == "anthropic" else _openai().inspect_endpoint(rungs)
