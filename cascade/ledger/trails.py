"""Finds requests without reading the whole ledger: the newest ones, and one by its id, each with its entries put together.

Entries are numbered in the order of storing, which nearly is that of time. So the end of a period is found by halving, and what is before
it is read backwards, for a bounded number of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from cascade.core.errors import LedgerError
from cascade.ledger.records import OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.requests import RequestRecord
from cascade.ledger.stores import Reader

__all__ = ["asked_of", "find_request", "newest_requests", "newest_stamp"]

_BACK: Final = 100_000  # entries before a period's end that the newest requests are looked for among
_TOGETHER: Final = 5_000  # entries that are read at once for all of them
_AFTER: Final = 2_000  # entries read after a period's end, for the requests that were running
_WINDOWS: Final = (2_000, 20_000, 200_000)
"""How many of a writer's next entries are read for the rest of one request."""

_COLUMNS = "e.id, w.name, e.seq, e.at, e.kind, e.request, e.body FROM entries e JOIN writers w ON w.id = e.writer"
_NUMBERED = "SELECT id, at FROM entries WHERE id <= :id ORDER BY id DESC LIMIT 1"

_read_request = msgspec.json.Decoder(RequestBody).decode
_read_open = msgspec.json.Decoder(OpenBody).decode
_read_step = msgspec.json.Decoder(StepBody).decode
_read_outcome = msgspec.json.Decoder(OutcomeBody).decode

_Row = tuple[int, str, int, float, str, str, str]


def newest_requests(
    reader: Reader, since: float, until: float, count: int, policy: str | None = None
) -> tuple[RequestRecord, ...]:
    """The last `count` requests that began in [since, until), newest first: of one policy or of all.

    They are looked for among the last 100,000 entries. Raises LedgerDown, and LedgerError for an entry that cannot be read.
    """
    newest = next(iter(tuple(reader.select(_NUMBERED, {"id": 2**62}))), None)
    if newest is None:
        return ()
    end = int(newest[0]) if float(newest[1]) < until else _last_before(reader, until, int(newest[0]))
    values: dict[str, Any] = {"end": end, "low": end - _BACK, "since": since, "until": until}
    question = f"SELECT {_COLUMNS} WHERE e.id <= :end AND e.id > :low AND e.kind = 'request' AND e.at >= :since AND e.at < :until"
    if policy is not None:  # the first field of every such body
        start = f'{{"policy":{msgspec.json.encode(policy).decode()},'
        question = f"{question} AND substr(e.body, 1, {len(start):d}) = :start"
        values["start"] = start
    firsts: list[_Row] = [*reader.select(f"{question} ORDER BY e.id DESC LIMIT {count:d}", values)]
    if not firsts:
        return ()
    low, names = firsts[-1][0], {f"request_{place}": first[5] for place, first in enumerate(firsts)}
    if end - low <= _TOGETHER:
        question = (
            f"SELECT {_COLUMNS} WHERE e.id >= :low AND e.id <= :end AND e.request IN ({', '.join(f':{name}' for name in names)})"
            " ORDER BY e.id"
        )
        found = [*_gathered(reader, reader.select(question, {"low": low, "end": end + _AFTER, **names}))]
    else:
        found = [_followed(reader, first) for first in firsts]
    return tuple(sorted(found, key=lambda one: -one.at))


def find_request(reader: Reader, request: str) -> RequestRecord | None:
    """One request by its id, with all its entries; None if the ledger does not have it. Raises as `newest_requests`.

    Its texts are not read. What a process wrote long after the request began, behind 200,000 other entries, is not found.
    """
    question = f"SELECT {_COLUMNS} WHERE e.kind = 'request' AND e.request = :request ORDER BY e.id LIMIT 1"
    first = next(iter(tuple(reader.select(question, {"request": request}))), None)
    return None if first is None else _followed(reader, first)


def _followed(reader: Reader, first: _Row) -> RequestRecord:
    """The request that this entry begins: its writer's next entries are read, more of them until its end is found."""
    _, writer, seq, _, _, request, _ = first
    question = (
        f"SELECT {_COLUMNS} WHERE e.writer = (SELECT id FROM writers WHERE name = :writer)"  # noqa: S608 - constants
        " AND e.seq >= :seq AND e.seq < :end AND e.request = :request ORDER BY e.seq"
    )
    found = next(_gathered(reader, [first]))
    for window in _WINDOWS:
        values = {"writer": writer, "seq": seq, "end": seq + window, "request": request}
        found = next(_gathered(reader, reader.select(question, values)))
        if found.outcome is not None:
            break
    return found


def asked_of(reader: Reader, requests: Sequence[str]) -> Mapping[str, tuple[float, RequestBody]]:
    """When these requests began, and what is on record of them. Raises as `newest_requests`."""
    if not requests:
        return {}
    names = {f"request_{place}": request for place, request in enumerate(requests)}
    question = (
        "SELECT request, at, body FROM entries WHERE kind = 'request'"  # noqa: S608 - names of values
        f" AND request IN ({', '.join(f':{name}' for name in names)}) ORDER BY id DESC"
    )
    return {request: (at, _read_request(body)) for request, at, body in reader.select(question, names)}


def newest_stamp(reader: Reader) -> str:
    """A text that changes when entries or marks are added."""
    question = (
        "SELECT (SELECT max(id) FROM entries), (SELECT max(id) FROM marks), (SELECT max(id) FROM audit_marks),"
        " (SELECT max(id) FROM feedback)"
    )
    return "-".join(str(one or 0) for one in next(iter(tuple(reader.select(question, {})))))


def _last_before(reader: Reader, until: float, newest: int) -> int:
    """The number of the last entry before this time, found by halving."""
    low, high = 0, newest
    while low < high:
        middle = (low + high + 1) // 2
        found = next(iter(tuple(reader.select(_NUMBERED, {"id": middle}))), None)
        if found is None or float(found[1]) < until:
            low = middle
        else:
            high = int(found[0]) - 1
    return low


def _gathered(reader: Reader, rows: Iterable[Any]) -> Iterator[RequestRecord]:
    """The requests whose first entry is among these, which are in the order of storing."""
    found: dict[str, RequestRecord] = {}
    for row in rows:
        try:
            _add(found, row)
        except msgspec.MsgspecError:
            message = f"seq {row[2]} of {row[1]} cannot be read (`cascade ledger verify` explains)"
            raise LedgerError(f"{reader.where}: {message}") from None
    yield from found.values()


def _add(found: dict[str, RequestRecord], row: _Row) -> None:
    _, writer, _, at, kind, request, body = row
    if kind == "request":
        found[request] = RequestRecord(request, at, writer, _read_request(body))
        return
    one = found.get(request)
    if one is None:
        return
    if kind == "open":
        call = _read_open(body)
        one.open_calls[call.number] = call
    elif kind == "step":
        step = _read_step(body)
        one.steps.append((at, step))
        one.open_calls.pop(step.number, None)
    else:
        one.outcome, one.ended = _read_outcome(body), at
