"""GET /healthz and GET /metrics: for those who watch the gateway. Neither counts as one of its requests."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from cascade.core.errors import CascadeError
from cascade.gateway.hub import Hub
from cascade.gateway.policies import ServedPolicy
from cascade.gateway.problems import Problem, send_json
from cascade.gateway.visits import visit_of
from cascade.ledger.opening import address_of, display_address
from cascade.ledger.stores import LedgerDown
from cascade.state.opening import check_state
from cascade.telemetry.workers import AllWorkers

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["HealthEndpoint", "MetricsEndpoint"]


class HealthEndpoint:
    """Alive: 200, whatever the state of what it depends on, because it answers without its ledger and its state, too.

    Callers with a key (or all, where there are none) also learn the policies in force and what cannot be reached.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._looking: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer one request."""
        hub = self._hub
        if not visit_of(scope).is_trusted:
            await send_json(send, 200, b'{"status":"ok"}')
            return
        ledger, state = await self._look()
        policies = {name: _policy(one) for name, one in hub.policies.served.items()}
        is_degraded = (
            ledger["problem"] is not None
            or state["problem"] is not None
            or any(one["problem"] is not None for one in policies.values())
        )
        found: dict[str, Any] = {
            "status": "degraded" if is_degraded else "ok",
            "policies": policies,
            "ledger": ledger,
            "state": state,
            "running": hub.running,
            "pid": os.getpid(),
        }
        await send_json(send, 200, to_json(found))

    async def _look(self) -> list[dict[str, Any]]:
        """The ledger and the state; whoever asks while they are looked at gets what is found."""
        hub, looking = self._hub, self._looking
        if looking is None or looking.done():
            aside = hub.watching.aside
            looking = self._looking = asyncio.gather(aside(lambda: _ledger(hub)), aside(lambda: _state(hub)))
        return list(await asyncio.shield(looking))


def _policy(one: ServedPolicy) -> dict[str, Any]:
    return {"hash": one.loaded.policy.hash, "reloads": one.reloads, "problem": one.problem}


def _ledger(hub: Hub) -> dict[str, Any]:
    if hub.settings.ledger == "off":
        return {"address": "off", "problem": None}
    address = display_address(address_of(hub.settings.ledger))
    try:
        hub.tables.keys()
    except LedgerDown as problem:
        return {"address": address, "problem": str(problem)}
    return {"address": address, "problem": None}


def _state(hub: Hub) -> dict[str, Any]:
    try:
        address, problem = check_state(hub.settings.state)
    except CascadeError as error:
        return {"address": "", "problem": str(error)}
    return {"address": address, "problem": problem}


class MetricsEndpoint:
    """Prometheus's text format. With several workers, of all of them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer one request."""
        if self._hub.registry is None:
            raise Problem(404, "metrics need an optional dependency (pip install 'cascade-ladder[prometheus]')")
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra

        watching = self._hub.watching
        await watching.refresh()
        registry: Any = self._hub.registry
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            collector, registry = AllWorkers(folder, registry), CollectorRegistry()
            registry.register(collector)
        body = await watching.aside(lambda: generate_latest(registry))
        length = (b"content-length", str(len(body)).encode())
        headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
