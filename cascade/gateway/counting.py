"""POST /v1/messages/count_tokens: relayed; for a model that climbs, as the first rung's model counts. Counting costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from pydantic_core import to_json

from cascade.gateway.bodies import CallerGone, json_object, read_body, read_head
from cascade.gateway.callers import Caller
from cascade.gateway.dispatch import policy_for
from cascade.gateway.hub import Hub
from cascade.gateway.problems import Problem
from cascade.gateway.relay import relay_response, upstream_problem
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
        response: aiohttp.ClientResponse | None = None
        problem: Problem | None = None
        with Caller(scope, send, hub.settings.limits.write_s) as caller:
            try:
                response = await hub.upstream.send(
                    "POST", scope["path"], scope["query_string"], visit.headers.with_version(), body
                )
                await relay_response(response, caller, None)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if caller.started or caller.gone:
                    caller.abort()
                    raise
                problem = upstream_problem(error, sent=response is not None)
            finally:
                if response is not None:
                    response.close()
        if problem is not None:
            raise problem
