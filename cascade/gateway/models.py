"""GET /v1/models and /v1/models/{id}: the models that climb, and then the endpoint's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic_core import from_json, to_json

from cascade.gateway.headers import Incoming
from cascade.gateway.hub import Hub
from cascade.gateway.policies import ServedPolicy
from cascade.gateway.problems import Problem, send_json
from cascade.gateway.settings import VIRTUAL
from cascade.gateway.visits import Visit, visit_of
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["ModelEndpoint", "ModelsEndpoint"]

_TIMEOUT = aiohttp.ClientTimeout(total=5)  # a list of models must not wait for an endpoint that is down
_MOST_BYTES = 4 * 1024 * 1024
_LATER_PAGE = (b"after_id=", b"before_id=")


class ModelsEndpoint:
    """The list. The models that climb stand on its first page; they are all of it while the endpoint cannot be reached."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer one request."""
        visit, query = visit_of(scope), scope["query_string"]
        own = [] if any(mark in query for mark in _LATER_PAGE) else _own_models(self._hub, visit)
        listed = await self._upstream_list(visit.headers, query)
        found: Any = listed.get("data")
        data: list[Any] = [*own, *(found if isinstance(found, list) else ())]  # pyright: ignore[reportUnknownArgumentType]
        ids: list[Any] = [one["id"] for one in data if isinstance(one, dict) and "id" in one]
        page: dict[str, Any] = {
            **listed,
            "data": data,
            "has_more": listed.get("has_more", False),
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
        await send_json(send, 200, to_json(page))

    async def _upstream_list(self, headers: Incoming, query: bytes) -> dict[str, Any]:
        """The endpoint's answer; empty if there is none."""
        try:
            response = await self._hub.upstream.send(
                "GET", "/v1/models", query, _uncompressed(headers.with_version()), timeout=_TIMEOUT
            )
            async with response:
                body = await response.content.read(_MOST_BYTES)
                while not response.content.at_eof() and len(body) < _MOST_BYTES:
                    body += await response.content.read(_MOST_BYTES)
                value: Any = from_json(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as problem:
            log_event(
                "warning",
                "models_not_listed",
                error=type(problem).__name__,
                hint="only the models that climb are listed",
            )
            return {}
        return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


class ModelEndpoint:
    """One model. `claude-cascade-*` is ours, any other the endpoint's."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer one request."""
        name: str = scope["path_params"]["model"]
        visit = visit_of(scope)
        if name.startswith(VIRTUAL):
            found = next((one for one in _own_models(self._hub, visit) if one["id"] == name), None)
            if found is None:
                raise Problem(404, f"model: there is no {name[:100]} here ({', '.join(self._hub.policies.models)})")
            await send_json(send, 200, to_json(found))
            return
        await self._hub.relay.unrecorded((scope, send), "GET", visit.headers.with_version())


def _own_models(hub: Hub, visit: Visit) -> list[dict[str, Any]]:
    own = visit.key.policy if visit.key is not None else None
    return [_model(name, one) for name, one in hub.policies.served.items() if own in (None, name)]


def _model(name: str, one: ServedPolicy) -> dict[str, Any]:
    ladder = ", ".join(rung.model for rung in one.loaded.policy.ladder)
    at = datetime.fromtimestamp(one.stamp[0] / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": VIRTUAL + name, "display_name": f"cascade {name}: {ladder}", "created_at": at}


def _uncompressed(headers: Incoming) -> Incoming:
    kept = [(name, value) for name, value in headers.forwarded if name != "accept-encoding"]
    return Incoming([*kept, ("accept-encoding", "identity")], headers.own, headers.authorization, headers.api_key)
