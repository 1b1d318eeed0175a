"""The Message Batches of an emulator: their requests, and what became of each.

A batch is processed while it is retrieved: without a `slow_end` the first retrieval finds it ended, with one each retrieval
finds a further share of its requests processed; a listing counts as one, after it is made. So a test never waits, and what
is canceled or has expired is the same in every run. Batches are kept in memory; beyond the limits the oldest ended ones are archived, as the API does after a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from cascade.emulator.api import read_request
from cascade.emulator.checks import check_fields, list_of, object_of, refuse, shorten
from cascade.emulator.content import encode
from cascade.emulator.faults import chance
from cascade.emulator.messages import error_json, message_json
from cascade.emulator.records import Records
from cascade.emulator.requests import ApiError
from cascade.emulator.responses import ERRORS, fault_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cascade.emulator.answers import Answers
    from cascade.emulator.faults import Fault, Place
    from cascade.emulator.records import Billed
    from cascade.emulator.replies import Replies

__all__ = ["MAX_BATCH_BYTES", "BatchHost", "Batches"]

MAX_BATCH_BYTES: Final = 256 * 1024 * 1024  # the API's own limit
_MAX_REQUESTS: Final = 100_000
_MAX_PAGE: Final = 1000
_LIFE_S: Final = 24 * 3600.0
_KEPT_BATCHES: Final = 10_000
_KEPT_RESULTS: Final = 500_000
_KEPT_COUNTS: Final = 1_000_000
_AT_ONCE: Final = 100  # requests processed before other connections get their turn
_CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_ENDS: Final = ("succeeded", "errored", "canceled", "expired")

_Key = TypeVar("_Key")
_Status = Literal["in_progress", "canceling", "ended"]


class BatchHost(Protocol):
    """What batches need from their server."""

    answers: Answers
    replies: Replies
    records: Records
    prefix_check: bool
    seed: int

    def next_id(self) -> int:
        """A number that is unique to a request."""
        ...

    def choose_fault(self, model: str, place: Place = "messages") -> Fault | None:
        """The fault of the next request to `model` there, if any."""
        ...


@dataclass(slots=True)
class _Batch:
    """One batch. `made_at`: on the emulator's clock. `waiting`: what is not processed yet, the next request last."""

    id: str
    made_at: float
    headers: Mapping[str, str]
    beta: bool
    waiting: list[tuple[str, dict[str, Any]]]
    total: int
    polls: int
    delay_s: float
    status: _Status = "in_progress"
    polled: int = 0
    canceled_at: float | None = None
    ended_at: float | None = None
    is_archived: bool = False
    results: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ENDS, 0))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Batches:
    """The batches of one emulator. `clock`: seconds. Only the server's loop changes them; any thread may read the counts."""

    def __init__(self, host: BatchHost, clock: Callable[[], float]) -> None:
        self._host, self._clock = host, clock
        self._began, self._began_at = clock(), datetime.now(UTC)
        self._batches: dict[str, _Batch] = {}  # in the order in which they were made
        self._bill = Records()
        self._lock = threading.Lock()
        self._processed: dict[str, int] = {}
        self._paid: dict[tuple[str, str], int] = {}

    @property
    def processed(self) -> Mapping[str, int]:
        """How often a request with each custom_id was processed, whatever became of it."""
        with self._lock:
            return dict(self._processed)

    @property
    def paid(self) -> Mapping[tuple[str, str], int]:
        """How often each prompt was answered and billed, by its model and a digest of its params."""
        with self._lock:
            return dict(self._paid)

    @property
    def billed(self) -> Billed:
        """What was billed for requests of batches, counted in the emulator's own bill too."""
        return self._bill.billed

    def create(
        self, body: object, headers: Mapping[str, str], *, beta: bool, slow: Fault | None, url: str
    ) -> dict[str, Any]:
        """Make a batch. Raises the API's 400; the params of its requests are checked when they are processed."""
        requests = _read_requests(body)
        polls, delay_s = ((slow.polls or 0), (slow.delay_s or 0.0)) if slow is not None else (0, 0.0)
        batch = _Batch(
            f"msgbatch_{self._host.next_id():024x}", self._clock(), headers, beta, requests[::-1], len(requests), polls, delay_s
        )  # fmt: skip
        self._batches[batch.id] = batch
        self._archive()
        return self._describe(batch, url)

    async def page(self, query: Mapping[str, list[str]], url: str) -> dict[str, Any]:
        """A page of batches, the newest first. `query`: `limit`, `after_id`, `before_id`, as in the API."""
        try:
            limit = int(query.get("limit", ["20"])[0])
        except ValueError:
            limit = 0
        if not 1 <= limit <= _MAX_PAGE:
            refuse(f"limit: Input should be from 1 to {_MAX_PAGE}")
        found = list(reversed(self._batches))
        if "before_id" in query:
            found = found[: found.index(self._get(query["before_id"][0]).id)]
            shown, more = found[-limit:], len(found) > limit
        else:
            if "after_id" in query:
                found = found[found.index(self._get(query["after_id"][0]).id) + 1 :]
            shown, more = found[:limit], len(found) > limit
        ends = (shown[0], shown[-1]) if shown else (None, None)
        data = [self._describe(self._batches[one], url) for one in shown]
        for batch in [self._batches[one] for one in shown]:
            async with batch.lock:
                await self._advance(batch)
        return {"data": data, "has_more": more, "first_id": ends[0], "last_id": ends[1]}

    async def retrieve(self, batch_id: str, url: str) -> dict[str, Any]:
        """One batch, processed a little further first. Raises the API's 404."""
        batch = self._get(batch_id)
        async with batch.lock:
            await self._advance(batch)
        self._archive()
        return self._describe(batch, url)

    def results(self, batch_id: str) -> Iterator[bytes]:
        """The lines of an ended batch, not in the order of its requests. Raises the API's 400 or 404."""
        batch = self._get(batch_id)
        if batch.status != "ended":
            refuse(f"batch {batch.id}: processing has not ended, so there are no results yet")
        if batch.is_archived:
            raise ApiError(404, "not_found_error", f"batch {batch.id}: its results are archived")
        return (line for _, line in sorted(batch.results))

    def cancel(self, batch_id: str, url: str) -> dict[str, Any]:
        """Cancel what is not processed yet; the next retrieval finds the batch ended. Raises the API's 400 or 404."""
        batch = self._get(batch_id)
        if batch.status == "ended":
            refuse(f"batch {batch.id}: processing has ended, it cannot be canceled")
        if batch.status == "in_progress":
            batch.status, batch.canceled_at = "canceling", self._clock()
        return self._describe(batch, url)

    def delete(self, batch_id: str) -> dict[str, Any]:
        """Forget an ended batch. Raises the API's 400 or 404."""
        batch = self._get(batch_id)
        if batch.status != "ended":
            refuse(f"batch {batch.id}: processing has not ended (cancel it first)")
        del self._batches[batch.id]
        return {"id": batch.id, "type": "message_batch_deleted"}

    def archive(self, batch_id: str) -> None:
        """Drop the results of an ended batch, as the API does after 29 days. Raises the API's 404."""
        batch = self._get(batch_id)
        batch.is_archived, batch.results = True, []

    def _get(self, batch_id: str) -> _Batch:
        batch = self._batches.get(batch_id)
        if batch is None:
            raise ApiError(404, "not_found_error", f"message batch {shorten(batch_id)} not found")
        return batch

    async def _advance(self, batch: _Batch) -> None:
        """Process the share that is due at this retrieval; the batch ends when none of it is left to wait for."""
        if batch.status == "ended":
            return
        if batch.status == "canceling":
            self._end(batch, "canceled")
            return
        passed, batch.polled = self._clock() - batch.made_at, batch.polled + 1
        if passed >= _LIFE_S and batch.delay_s >= _LIFE_S:
            self._end(batch, "expired")
            return
        shares = (batch.polled / (batch.polls + 1), passed / batch.delay_s if batch.delay_s else 1.0)
        due = batch.total - int(batch.total * min(1.0, *shares))
        while len(batch.waiting) > due and batch.status == "in_progress":
            custom_id, params = batch.waiting[-1]
            result = await self._result(batch, params)
            batch.waiting.pop()
            self._count(self._processed, custom_id)
            self._note(batch, custom_id, result)
            if len(batch.waiting) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if not batch.waiting:
            self._end(batch, "canceled")

    def _end(self, batch: _Batch, rest: Literal["canceled", "expired"]) -> None:
        """End a batch; what is not processed becomes `rest`."""
        while batch.waiting:
            self._note(batch, batch.waiting.pop()[0], {"type": rest})
        batch.status, batch.ended_at = "ended", self._clock()

    def _note(self, batch: _Batch, custom_id: str, result: dict[str, Any]) -> None:
        batch.counts[result["type"]] += 1
        line = encode({"custom_id": custom_id, "result": result}) + b"\n"
        batch.results.append((chance(self._host.seed, batch.id, custom_id), line))

    async def _result(self, batch: _Batch, params: dict[str, Any]) -> dict[str, Any]:
        """What becomes of one request: as POST /v1/messages would answer it."""
        request_id = f"req_{(number := self._host.next_id()):024x}"
        try:
            return await self._answer(batch, params, number)
        except ApiError as error:
            return {"type": "errored", "error": error_json(error, request_id)}

    async def _answer(self, batch: _Batch, params: dict[str, Any], number: int) -> dict[str, Any]:
        host = self._host
        if "stream" in params:
            refuse("stream: Extra inputs are not permitted in a batch")
        request = read_request(
            params,
            beta=batch.beta,
            names=host.answers.names,
            signed=host.replies.signed,
            prefix_check=host.prefix_check,
        )
        host.replies.check_model(host.answers, request.model)
        host.records.count(request.model)
        fault = host.choose_fault(request.model, "items")
        kind = fault.kind if fault is not None else None
        if fault is not None and kind in ("expired", "canceled"):
            return {"type": kind}
        if fault is not None and kind in ERRORS:
            raise fault_error(fault)
        reply = await host.replies.choose(host.answers, request, batch.headers, kind, number)
        message = message_json(request, reply, f"msg_{number:024x}")
        if message["usage"] is not None:
            message["usage"]["service_tier"] = "batch"
        for records in (host.records, self._bill):
            records.bill(request.model, reply.usage, whole=True)
        self._count(self._paid, (request.model, hashlib.blake2b(encode(params), digest_size=8).hexdigest()))
        return {"type": "succeeded", "message": message}

    def _count(self, counts: dict[_Key, int], key: _Key) -> None:
        with self._lock:
            counts[key] = counts.get(key, 0) + 1
            if len(counts) > _KEPT_COUNTS:
                del counts[next(iter(counts))]

    def _archive(self) -> None:
        """Keep within the limits: results go first, then batches."""
        ended = [batch for batch in self._batches.values() if batch.status == "ended" and not batch.is_archived]
        kept = sum(len(batch.results) for batch in ended)
        for batch in ended[:-1]:
            if kept <= _KEPT_RESULTS:
                break
            kept -= len(batch.results)
            self.archive(batch.id)
        for batch in list(self._batches.values())[:-_KEPT_BATCHES]:
            if batch.status == "ended":
                del self._batches[batch.id]

    def _describe(self, batch: _Batch, url: str) -> dict[str, Any]:
        is_ended = batch.status == "ended"
        counts = batch.counts if is_ended else {**dict.fromkeys(_ENDS, 0), "processing": batch.total}
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.status,
            "request_counts": {"processing": 0, **counts},
            "created_at": self._date(batch.made_at),
            "expires_at": self._date(batch.made_at + _LIFE_S),
            "ended_at": self._date(batch.ended_at),
            "cancel_initiated_at": self._date(batch.canceled_at),
            "archived_at": self._date(self._clock()) if batch.is_archived else None,
            "results_url": f"{url}/{batch.id}/results" if is_ended and not batch.is_archived else None,
        }

    def _date(self, at: float | None) -> str | None:
        return None if at is None else (self._began_at + timedelta(seconds=at - self._began)).isoformat()


def _read_requests(body: object) -> list[tuple[str, dict[str, Any]]]:
    """The requests of a new batch, by custom_id. Raises the API's 400."""
    fields = object_of(body, "body")
    check_fields(fields, ("requests",), "")
    if "requests" not in fields:
        refuse("requests: Field required")
    requests = list_of(fields["requests"], "requests")
    if not requests:
        refuse("requests: List should have at least 1 item after validation, not 0")
    if len(requests) > _MAX_REQUESTS:
        refuse(f"requests: List should have at most {_MAX_REQUESTS} items after validation, not {len(requests)}")
    read: dict[str, dict[str, Any]] = {}
    for at, request in enumerate(requests):
        one, where = object_of(request, f"requests.{at}"), f"requests.{at}"
        check_fields(one, ("custom_id", "params"), f"{where}.")
        for name in ("custom_id", "params"):
            if name not in one:
                refuse(f"{where}.{name}: Field required")
        custom_id = one["custom_id"]
        if not isinstance(custom_id, str):
            refuse(f"{where}.custom_id: Input should be a valid string")
        if not _CUSTOM_ID.match(custom_id):
            refuse(f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if custom_id in read:
            refuse(f"{where}.custom_id: {custom_id!r} is not unique within the batch")
        read[custom_id] = object_of(one["params"], f"{where}.params")
    return list(read.items())
