"""What all endpoints of one gateway process share. Made on its event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cascade.core.policy import Policy
from cascade.engine import AsyncCascade
from cascade.engine.relaying import RELAY, RelayRecorder
from cascade.gateway.answers import Answers
from cascade.gateway.arms import Arms
from cascade.gateway.connections import Upstream
from cascade.gateway.keys.budgets import KeyBudgets, open_gateway_state
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.policies import Policies, check_forwarded
from cascade.gateway.relay import Relay
from cascade.gateway.settings import GatewaySettings
from cascade.gateway.watching import Watching
from cascade.hooks import Hook
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.opening import spent_lookup
from cascade.state import State
from cascade.telemetry.metrics import Prometheus

__all__ = ["Clocks", "Hub"]

_T = TypeVar("_T")
_KEYS_S = 0.5  # a revoked key is refused within a second


@dataclass(frozen=True, slots=True)
class Clocks:
    """`clock`: seconds from any origin; `wall`: Unix seconds."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(slots=True)
class Hub:
    """The gateway's parts. `running`: requests that are being answered; `idle` is set while there are none.

    `state`: the gateway's own, beside those of its policies. `registry`, `metrics`: None where the extra `prometheus` is not installed.
    """

    settings: GatewaySettings
    upstream: Upstream
    policies: Policies
    recorder: RelayRecorder
    relay: Relay
    state: State
    tables: GatewayTables
    keys: KeyRing
    budgets: KeyBudgets
    answers: Answers
    arms: Arms
    registry: Any
    metrics: Prometheus | None
    clocks: Clocks = field(default_factory=Clocks)
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    watching: Watching = field(init=False)

    def __post_init__(self) -> None:
        self.watching = Watching(self)
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
    async def open(cls, settings: GatewaySettings, clocks: Clocks | None = None) -> Hub:
        """Load the policies and the keys. Raises CascadeError for what cannot be used."""
        upstream = Upstream(settings)
        try:
            hub = cls._open(settings, upstream, clocks or Clocks())
            await hub.policies.prepare()
            return hub
        except BaseException:
            await upstream.close()
            raise

    @classmethod
    def _open(cls, settings: GatewaySettings, upstream: Upstream, clocks: Clocks) -> Hub:
        address = None if settings.ledger == "off" else settings.ledger
        tables = GatewayTables(address)
        keys = KeyRing(tables, clocks.wall)
        keys.read()
        registry, metrics = _metrics()
        hooks: tuple[Hook, ...] = () if metrics is None else (metrics,)
        arms = Arms()

        def make(policy: Policy) -> AsyncCascade:
            if settings.auth == "forward":
                check_forwarded(policy)
            return AsyncCascade(
                policy, client=upstream.client, ledger=settings.ledger, state=settings.state,
                hooks=(arms, *hooks), clock=clocks.clock, wall=clocks.wall,
            )  # fmt: skip

        policies = Policies(settings.policies, settings.routes, make)
        first = next(iter(policies.served.values())).loaded.policy
        ladders = [rung for one in policies.served.values() for rung in one.loaded.policy.ladder]
        recorder = RelayRecorder(
            first.ledger, ledger=settings.ledger, hooks=hooks, ladders=ladders, clock=clocks.clock, wall=clocks.wall
        )
        lookup = spent_lookup(address) if settings.ledger != "off" else None
        state = open_gateway_state(settings.state, lambda: (RELAY, *policies.served), lookup, clocks.clock)
        relay = Relay(upstream, recorder, settings.limits)
        budgets = KeyBudgets(state, clocks.wall)
        answers = Answers(state, clocks.clock)
        return cls(
            settings,
            upstream,
            policies,
            recorder,
            relay,
            state,
            tables,
            keys,
            budgets,
            answers,
            arms,
            registry,
            metrics,
            clocks,
        )

    @property
    def keeps_content(self) -> bool:
        """Whether what users write may be stored."""
        return all(one.loaded.policy.ledger.content for one in self.policies.served.values())

    async def watch_keys(self) -> None:
        """Read the keys again and again, for ever."""
        while True:
            await asyncio.sleep(_KEYS_S)
            await asyncio.to_thread(self.keys.refresh)

    async def blocking(self, function: Callable[[], _T], *, may_wait: bool = False) -> _T:
        """Run a function of the state: in a thread where it takes a round trip."""
        if may_wait or self.state.is_remote:
            return await asyncio.to_thread(function)
        return function()

    async def close(self) -> None:
        """Close what `open` opened, and write the ledger."""
        self.watching.close()
        await self.policies.close()
        await self.upstream.close()
        await asyncio.to_thread(self.state.close)
        await asyncio.to_thread(self.recorder.flush)


def _metrics() -> tuple[Any, Prometheus | None]:
    """A registry of Prometheus and the hook that counts in it; neither where the extra is not installed."""
    try:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra
    except ImportError:
        return None, None
    registry = CollectorRegistry()
    return registry, Prometheus(registry)
