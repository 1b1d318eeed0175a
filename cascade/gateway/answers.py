"""GET /v1/answers/{request_id}: the trail and the cost of an answer, for ten minutes. A stream's headers come too early for them.

One process keeps the last answers itself; with a shared state they are there, for all workers and gateways. No text is kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from cascade.core.arms import Arm
from cascade.core.trail import Answer, Step
from cascade.gateway.problems import Problem, send_json
from cascade.gateway.visits import visit_of
from cascade.state import State

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from cascade.gateway.hub import Hub

__all__ = ["AnswerEndpoint", "Answers", "trail_of", "trail_of_failure"]

Trail = Callable[[], dict[str, Any]]

_TTL_S = 600.0
_MOST = 5_000  # about 10 MB
_OMITTED = ("text", "data", "metadata", "flags")


class Answers:
    """The answers of the last minutes. `clock`: seconds from any origin."""

    def __init__(self, state: State, clock: Callable[[], float] = time.monotonic) -> None:
        self._state, self._clock = state, clock
        self._kept: OrderedDict[str, tuple[float, str, Trail]] = OrderedDict()

    def keep(self, request_id: str, key: str, trail: Trail) -> None:
        """Keep an answer. It may take a round trip with a shared state. `key`: whose answer it is.

        `trail` is called when it is needed, which it seldom is.
        """
        if self._state.is_remote:
            value = to_json({"key": key, "trail": trail()}).decode()
            self._state.remember([_name(request_id)], value, _TTL_S)
            return
        self._kept[request_id] = (self._clock() + _TTL_S, key, trail)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def find(self, request_id: str, key: str) -> dict[str, Any] | None:
        """An answer's trail, if it is known here and is this key's. It may take a round trip."""
        if self._state.is_remote:
            value = self._state.recall([_name(request_id)])
            found: Any = from_json(value) if value is not None else None
            return found["trail"] if found is not None and found["key"] == key else None
        kept = self._kept.get(request_id)
        if kept is None:
            return None
        until, owner, trail = kept
        return trail() if until > self._clock() and owner == key else None


def trail_of(answer: Answer) -> dict[str, Any]:
    """An answer as `Answer.to_dict`, without what users wrote."""
    return {name: value for name, value in answer.to_dict().items() if name not in _OMITTED}


def trail_of_failure(
    request_id: str, policy: str, arm: Arm, steps: Sequence[Step], error: Mapping[str, str]
) -> dict[str, Any]:
    """What is known of a request without an answer, with the names of `Answer.to_dict`. `error`: its type and message."""
    cost = sum(step.cost_nanousd for step in steps)
    return {
        "request_id": request_id, "policy": policy, "arm": arm, "model": None, "rung": None, "cost_nanousd": cost,
        "cost_usd": cost / 1e9, "steps": [step.to_dict() for step in steps], "error": dict(error),
    }  # fmt: skip


def _name(request_id: str) -> str:
    return f"gateway answer {request_id}"


class AnswerEndpoint:
    """The ASGI application of GET /v1/answers/{request_id}."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer one request."""
        hub, key = self._hub, visit_of(scope).key
        request_id: str = scope["path_params"]["request_id"]
        found = await hub.blocking(lambda: hub.answers.find(request_id, key.id if key is not None else ""))
        if found is None:
            raise Problem(
                404,
                f"there is no answer {request_id[:60]!r} here (it is kept for {_TTL_S / 60:g} minutes, for the key that asked;"
                " the ledger keeps it: cascade ledger export)",
            )
        await send_json(send, 200, to_json(found))
