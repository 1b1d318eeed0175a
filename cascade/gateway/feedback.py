"""POST /v1/feedback: a caller says whether an answer was right. It goes into the ledger's database, for the audit to read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from cascade.core.errors import LedgerError, RequestError
from cascade.engine.outcomes import keep_outcome, read_outcome
from cascade.gateway.bodies import CallerGone, json_object, read_body
from cascade.gateway.hub import Hub
from cascade.gateway.problems import Problem, send_json
from cascade.gateway.visits import visit_of
from cascade.ledger.gateway import Feedback
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["FeedbackEndpoint"]

_FIELDS = frozenset({"request_id", "right", "note"})


class FeedbackEndpoint:
    """The ASGI application of POST /v1/feedback."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record what one caller says."""
        hub, key = self._hub, visit_of(scope).key
        try:
            body = json_object(await read_body(scope, receive, hub.settings.limits))
        except CallerGone:
            return
        at, who = hub.clocks.wall(), key.id if key is not None else ""
        said = _read(body, at, who)
        if hub.settings.ledger == "off":
            raise Problem(409, "feedback is kept with the ledger, which is off here (start the gateway with a ledger)")
        keeps = hub.keeps_content
        try:
            known = await asyncio.to_thread(keep_outcome, hub.tables, said if keeps else replace(said, note=None))
        except LedgerError as problem:
            log_event("error", "feedback_not_recorded", problem=str(problem))
            message = "the ledger cannot be written now (come again)"
            raise Problem(503, message, headers=[(b"retry-after", b"5")]) from None
        answer: dict[str, Any] = {"request_id": said.request, "right": said.score, "recorded": True, "known": known}
        if said.note is not None and not keeps:
            answer["note"] = "not stored: the policy's ledger does not keep content"
        await send_json(send, 200, to_json(answer))


def _read(body: dict[str, Any], at: float, key: str) -> Feedback:
    """What is said. Raises Problem if it is something else."""
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        raise Problem(400, f"{unknown[0][:60]}: it is unknown here (send request_id, right, and perhaps note)")
    try:
        return read_outcome(body.get("request_id"), body.get("right"), body.get("note"), at=at, key=key)
    except RequestError as problem:
        raise Problem(400, str(problem)) from None
