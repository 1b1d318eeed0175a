"""POST /v1/feedback: a caller says whether an answer was right. It goes into the ledger's database, for the audit to read."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from cascade.gateway.bodies import CallerGone, json_object, read_body
from cascade.gateway.hub import Hub
from cascade.gateway.problems import Problem, send_json
from cascade.gateway.visits import visit_of
from cascade.ledger.gateway import Feedback
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["FeedbackEndpoint"]

_ID = re.compile(r"casc_[0-9a-f]{32}")
_FIELDS = frozenset({"request_id", "right", "note"})
_LONGEST_NOTE = 4_000


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
        request_id, score, note = _read(body)
        if hub.settings.ledger == "off":
            raise Problem(409, "feedback is kept with the ledger, which is off here (start the gateway with a ledger)")
        keeps = hub.keeps_content
        at, who = hub.clocks.wall(), key.id if key is not None else ""
        said = Feedback(request_id, score, at, note if keeps else None, who)
        try:
            await asyncio.to_thread(hub.tables.add_feedback, said)
        except LedgerDown as problem:
            log_event("error", "feedback_not_recorded", problem=str(problem))
            message = "the ledger cannot be written now (come again)"
            raise Problem(503, message, headers=[(b"retry-after", b"5")]) from None
        answer: dict[str, Any] = {"request_id": request_id, "right": score, "recorded": True}
        if note is not None and not keeps:
            answer["note"] = "not stored: the policy's ledger does not keep content"
        await send_json(send, 200, to_json(answer))


def _read(body: dict[str, Any]) -> tuple[str, float, str | None]:
    """What is said. Raises Problem if it is something else."""
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        raise Problem(400, f"{unknown[0][:60]}: it is unknown here (send request_id, right, and perhaps note)")
    request_id, right, note = body.get("request_id"), body.get("right"), body.get("note")
    if not isinstance(request_id, str) or not _ID.fullmatch(request_id):
        raise Problem(400, "request_id: give the x-cascade-request-id of the response (casc_…)")
    if not isinstance(right, (bool, int, float)) or not 0 <= right <= 1:
        raise Problem(400, "right: give true, false, or a number from 0 (wrong) to 1 (right)")
    if note is not None and (not isinstance(note, str) or len(note) > _LONGEST_NOTE):
        raise Problem(400, f"note: give a text of at most {_LONGEST_NOTE} characters")
    if note is not None:
        note = note.replace("\0", "").encode("utf-8", "replace").decode()
    return request_id, float(right), note
