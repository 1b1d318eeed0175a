"""What all endpoints of one gateway process share. Made on its event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cascade.core.policy import Policy
from cascade.engine import AsyncCascade
from cascade.engine.relaying import RelayRecorder
from cascade.gateway.connections import Upstream
from cascade.gateway.policies import Policies
from cascade.gateway.relay import Relay
from cascade.gateway.settings import GatewaySettings
from cascade.hooks import Hook

__all__ = ["Clocks", "Hub"]


@dataclass(frozen=True, slots=True)
class Clocks:
    """`clock`: seconds from any origin; `wall`: Unix seconds."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(slots=True)
class Hub:
    """The gateway's parts. `running`: requests that are being answered; `idle` is set while there are none."""

    settings: GatewaySettings
    upstream: Upstream
    policies: Policies
    recorder: RelayRecorder
    relay: Relay
    clocks: Clocks = field(default_factory=Clocks)
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def enter(self) -> None:
        """A request begins."""
        self.running += 1
        self.idle.clear()

    def leave(self) -> None:
        """A request has ended."""
        self.running -= 1
        if not self.running:
            self.idle.set()

    @classmethod
    def open(cls, settings: GatewaySettings, clocks: Clocks | None = None) -> Hub:
        """Load the policies, and connect nothing yet. Raises CascadeError for what cannot be used."""
        clocks = clocks or Clocks()
        upstream = Upstream(settings)
        hooks: tuple[Hook, ...] = ()

        def make(policy: Policy) -> AsyncCascade:
            return AsyncCascade(
                policy, client=upstream.client, ledger=settings.ledger, state=settings.state, hooks=hooks,
                clock=clocks.clock, wall=clocks.wall,
            )  # fmt: skip

        policies = Policies(settings.policies, settings.routes, make)
        first = next(iter(policies.served.values())).loaded.policy
        ladders = [rung for one in policies.served.values() for rung in one.loaded.policy.ladder]
        recorder = RelayRecorder(
            first.ledger, ledger=settings.ledger, hooks=hooks, ladders=ladders, clock=clocks.clock, wall=clocks.wall
        )
        return cls(settings, upstream, policies, recorder, Relay(upstream, recorder, settings.limits), clocks)

    async def close(self) -> None:
        """Close what `open` opened, and write the ledger."""
        await self.policies.close()
        await self.upstream.close()
        self.recorder.flush()
