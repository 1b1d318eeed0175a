"""POST /v1/messages: a request for a model that climbs goes up the ladder, any other is passed through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cascade.gateway.bodies import CallerGone, Head, read_body, read_head
from cascade.gateway.hub import Hub
from cascade.gateway.keys.budgets import Reservation, relay_bound
from cascade.gateway.messages import Climbing
from cascade.gateway.policies import ServedPolicy, UnknownModel
from cascade.gateway.problems import Problem
from cascade.gateway.settings import VIRTUAL
from cascade.gateway.visits import Visit, visit_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["MessagesEndpoint", "policy_for"]


class MessagesEndpoint:
    """The ASGI application of POST /v1/messages."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._climbing = Climbing(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hub, visit = self._hub, visit_of(scope)
        try:
            body = await read_body(scope, receive, hub.settings.limits)
        except CallerGone:
            return
        visit.check()
        head = read_head(body)
        served = policy_for(hub, visit, head)
        if served is not None:
            await self._climbing.answer((scope, receive, send), visit, served.loaded, body)
            return
        await self._relay((scope, receive, send), visit, head.model, body)

    async def _relay(self, exchange: tuple[Scope, Receive, Send], visit: Visit, model: str, body: bytes) -> None:
        hub, key = self._hub, visit.key
        relayed = hub.recorder.begin(model, {}, metadata=visit.metadata(), task=visit.task or "other")
        reservation: Reservation | None = None
        if key is not None and key.daily_usd is not None:
            bound = relay_bound(relayed.rates, body)
            reservation = await hub.blocking(lambda: hub.budgets.reserve(key, bound), may_wait=True)
        try:
            await hub.relay.messages(exchange, visit.headers, body, relayed)
        finally:
            if reservation is not None:
                held = reservation
                await asyncio.shield(hub.blocking(lambda: hub.budgets.settle(held, relayed.counts_as(held.bound))))
        await hub.blocking(lambda: hub.answers.keep(relayed.id, key.id if key is not None else "", relayed.trail))


def policy_for(hub: Hub, visit: Visit, head: Head) -> ServedPolicy | None:
    """The policy that a request climbs by; None: it is passed through. Raises Problem."""
    own = visit.key.policy if visit.key is not None else None
    if own is not None:
        if head.model.startswith(VIRTUAL) and head.model != VIRTUAL + own:
            raise Problem(
                403, f"model: this key's requests climb by policy {own} alone (name {VIRTUAL}{own}, or a real model)"
            )
        served = hub.policies.of_name(own)
        if served is None:
            raise Problem(403, f"this key is for policy {own}, which this gateway does not serve")
        return served
    try:
        return hub.policies.of_model(head.model)
    except UnknownModel as problem:
        raise Problem(404, str(problem)) from None
