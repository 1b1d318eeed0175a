"""Puts each request's entries together again, in bounded memory.

A request's entries lie close together, so only requests without an outcome are held. A request that never ended (its process was
killed, or it is still running) comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from cascade.core.errors import LedgerError
from cascade.ledger.records import Entry, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.stores import Reader

__all__ = ["RequestRecord", "gather", "with_texts"]

_LONGEST_S = 3_600.0  # outcomes are looked for so long after the end of the period
_AT_ONCE = 200  # requests whose texts are read in one query

_read_request = msgspec.json.Decoder(RequestBody).decode
_read_open = msgspec.json.Decoder(OpenBody).decode
_read_step = msgspec.json.Decoder(StepBody).decode
_read_outcome = msgspec.json.Decoder(OutcomeBody).decode


@dataclass(slots=True)
class RequestRecord:
    """All that is recorded of one request.

    `steps`: (Unix seconds, a call's result); `open_calls`: announced calls without one, by number. `texts`: by part, if they
    were requested and are stored. `outcome` None: no end is on record.
    """

    id: str
    at: float
    writer: str
    request: RequestBody
    steps: list[tuple[float, StepBody]] = field(default_factory=list[tuple[float, StepBody]])
    open_calls: dict[int, OpenBody] = field(default_factory=dict[int, OpenBody])
    outcome: OutcomeBody | None = None
    ended: float | None = None
    texts: dict[str, str] = field(default_factory=dict[str, str])


def gather(reader: Reader, since: float | None = None, until: float | None = None) -> Iterator[RequestRecord]:
    """The requests that began in [since, until), in the order in which they ended.

    Raises LedgerDown, and LedgerError if an entry cannot be read.
    """
    running: dict[str, RequestRecord] = {}
    for entry in reader.entries(since=since, until=None if until is None else until + _LONGEST_S):
        try:
            done = _add(running, entry, until)
        except msgspec.MsgspecError:
            message = f"seq {entry.seq} of {entry.writer} cannot be read (`cascade ledger verify` explains)"
            raise LedgerError(f"{reader.where}: {message}") from None
        if done is not None:
            yield done
    yield from running.values()


def _add(running: dict[str, RequestRecord], entry: Entry, until: float | None) -> RequestRecord | None:
    if entry.kind == "request":
        if until is None or entry.at < until:
            running[entry.request] = RequestRecord(entry.request, entry.at, entry.writer, _read_request(entry.body))
        return None
    one = running.get(entry.request)
    if one is None:  # it began before the period
        return None
    if entry.kind == "open":
        call = _read_open(entry.body)
        one.open_calls[call.number] = call
    elif entry.kind == "step":
        step = _read_step(entry.body)
        one.steps.append((entry.at, step))
        one.open_calls.pop(step.number, None)
    else:
        one.outcome, one.ended = _read_outcome(entry.body), entry.at
        return running.pop(entry.request)
    return None


def with_texts(reader: Reader, records: Iterator[RequestRecord]) -> Iterator[RequestRecord]:
    """The same records, with their stored texts."""
    while some := {one.id: one for one in islice(records, _AT_ONCE)}:
        for content in reader.contents(tuple(some)):
            some[content.request].texts[content.part] = content.text
        yield from some.values()
