"""What came of an answer: whether it was right, as the caller found out. The audit believes it before any grader."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from typing import Any

from cascade.core.errors import ConfigurationError, LedgerError, RequestError
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.opening import flush_writers, open_reader
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event

__all__ = ["keep_outcome", "read_outcome", "report_to", "without_note"]

_ID = re.compile(r"casc_[0-9a-f]{32}")
_LONGEST_NOTE = 4_000


def read_outcome(request_id: Any, right: Any, note: Any, *, at: float, key: str = "") -> Feedback:
    """What is reported. `at`: Unix seconds; `key`: of the gateway's key that reports it. Raises RequestError for anything invalid."""
    if not isinstance(request_id, str) or not _ID.fullmatch(request_id):
        raise RequestError(
            "request_id: give that of the answer (its request_id, or the response's x-cascade-request-id): casc_ and 32 hex digits"
        )
    if not isinstance(right, (bool, int, float)) or not 0 <= right <= 1:
        raise RequestError("right: give true, false, or a number from 0 (wrong) to 1 (right)")
    if note is not None and (not isinstance(note, str) or len(note) > _LONGEST_NOTE):
        raise RequestError(f"note: give a text of at most {_LONGEST_NOTE} characters")
    if note is not None:
        note = note.replace("\0", "").encode("utf-8", "replace").decode()
    return Feedback(request_id, float(right), at, note, key)


def keep_outcome(tables: GatewayTables | None, said: Feedback, *, make: bool = True) -> bool:
    """Put it on record; whether it is of an audited request.

    Not `make`: a ledger that is not there is an error, and is not made. Raises ConfigurationError without a ledger (None), LedgerError
    if it cannot be written.
    """
    if tables is None:
        raise ConfigurationError(
            "report_outcome: outcomes are kept with the ledger, which is off (remove `ledger: off`, or give a ledger's address)"
        )
    try:
        return tables.add_feedback(said, make=make)
    except LedgerDown as down:
        raise LedgerError(str(down)) from None


def report_to(said: Feedback, address: str | None) -> bool:
    """Put it on record in the ledger at this address, which must be there; whether it is of an audited request.

    Its note is kept if the ledger holds the request's texts. Raises as `keep_outcome` does.
    """
    if address == "off":
        return keep_outcome(None, said)
    flush_writers(address)
    if said.note is not None and not _keeps_texts(said.request, address):
        said = without_note(said)
    return keep_outcome(GatewayTables(address), said, make=False)


def _keeps_texts(request_id: str, address: str | None) -> bool:
    try:
        with closing(open_reader(address)) as reader:
            return next(reader.contents((request_id,)), None) is not None
    except LedgerDown as down:
        raise LedgerError(str(down)) from None


def without_note(said: Feedback) -> Feedback:
    """The same without its note, if it has one; that is logged."""
    if said.note is None:
        return said
    hint = "a note is kept only where the ledger keeps content (`ledger: {content: true}`)"
    log_event("info", "outcome_note_not_kept", request_id=said.request, hint=hint)
    return replace(said, note=None)
