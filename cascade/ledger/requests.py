"""Requests out of entries: what is on record of each, put together again, in bounded memory.

A request's entries lie close together, so only those that are not over are held; one that never ended (a kill, or it is still
in flight) comes at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from cascade.core.errors import LedgerError
from cascade.ledger.records import Entry, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.stores import Reader

__all__ = ["Gathered", "gather", "with_texts"]

_LONGEST_S = 3_600.0  # after the end of the time asked for, a request that began before it is waited for so long
_AT_ONCE = 200  # requests whose texts are fetched together

_read_request = msgspec.json.Decoder(RequestBody).decode
_read_open = msgspec.json.Decoder(OpenBody).decode
_read_step = msgspec.json.Decoder(StepBody).decode
_read_outcome = msgspec.json.Decoder(OutcomeBody).decode


@dataclass(slots=True)
class Gathered:
    """What is on record of one request. `steps`: (Unix seconds, step); `opens`: calls announced and not settled.

    `texts`: by part, where they were asked for and are kept. `outcome` None: it never ended, as far as is known.
    """

    id: str
    at: float
    writer: str
    asked: RequestBody
    steps: list[tuple[float, StepBody]] = field(default_factory=list[tuple[float, StepBody]])
    opens: dict[int, OpenBody] = field(default_factory=dict[int, OpenBody])
    outcome: OutcomeBody | None = None
    ended: float | None = None
    texts: dict[str, str] = field(default_factory=dict[str, str])


def gather(reader: Reader, since: float | None = None, until: float | None = None) -> Iterator[Gathered]:
    """The requests that were taken up in [since, until), in the order in which they ended.

    Raises LedgerDown, and LedgerError for an entry that cannot be read.
    """
    running: dict[str, Gathered] = {}
    for entry in reader.entries(since=since, until=None if until is None else until + _LONGEST_S):
        try:
            done = _add(running, entry, until)
        except msgspec.MsgspecError:
            told = f"seq {entry.seq} of {entry.writer} cannot be read (`cascade ledger verify` says what became of it)"
            raise LedgerError(f"{reader.where}: {told}") from None
        if done is not None:
            yield done
    yield from running.values()


def _add(running: dict[str, Gathered], entry: Entry, until: float | None) -> Gathered | None:
    if entry.kind == "request":
        if until is None or entry.at < until:
            running[entry.request] = Gathered(entry.request, entry.at, entry.writer, _read_request(entry.body))
        return None
    one = running.get(entry.request)
    if one is None:  # it began before the time asked for
        return None
    if entry.kind == "open":
        call = _read_open(entry.body)
        one.opens[call.index] = call
    elif entry.kind == "step":
        step = _read_step(entry.body)
        one.steps.append((entry.at, step))
        one.opens.pop(step.index, None)
    else:
        one.outcome, one.ended = _read_outcome(entry.body), entry.at
        return running.pop(entry.request)
    return None


def with_texts(reader: Reader, gathered: Iterator[Gathered]) -> Iterator[Gathered]:
    """The same, each with the texts that are kept of it."""
    while some := {one.id: one for one in islice(gathered, _AT_ONCE)}:
        for content in reader.contents(tuple(some)):
            some[content.request].texts[content.part] = content.text
        yield from some.values()
