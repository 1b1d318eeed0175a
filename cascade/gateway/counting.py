"""POST /v1/messages/count_tokens: relayed; for a model that climbs, as the first rung's model counts. Counting costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json

from cascade.gateway.bodies import CallerGone, json_object, read_body, read_head
from cascade.gateway.dispatch import policy_for
from cascade.gateway.hub import Hub
from cascade.gateway.visits import visit_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["CountTokensEndpoint"]


class CountTokensEndpoint:
    """The ASGI application of POST /v1/messages/count_tokens."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hub, visit = self._hub, visit_of(scope)
        try:
            body = await read_body(scope, receive, hub.settings.limits)
        except CallerGone:
            return
        visit.check()
        served = policy_for(hub, visit, read_head(body))
        if served is not None:
            body = to_json({**json_object(body), "model": served.loaded.policy.ladder[0].model})
        await hub.relay.unrecorded((scope, send), "POST", visit.headers.with_version(), body)
