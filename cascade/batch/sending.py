"""Send calls through the Message Batches API, so that a crash at any moment loses nothing and pays nothing twice.

    calls ─> stored ─> put into parts ─> marked as being sent ─> created ─> its id stored ─> polled ─> results stored
                                                                   │ killed here: the endpoint's batches are listed
                                                                   └ and matched before anything is sent again (`matching`)

Each arrow is on the disk before the next begins. What has an outcome is not sent again under the same key, by any later process.
Expired and failed calls, which are not billed, go again in the next round, `BatchLimits.attempts` times in all. Results are stored as
they are read: no more than a page of them is in memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cascade.batch.calls import BatchCall, BatchLimits, decode_outcome, digest_of, encode_json, kept_outcome, pages
from cascade.batch.database import lock_folder, make_folder, unlock
from cascade.batch.matching import Matcher
from cascade.batch.store import CALLS_FILE, CallStore, Part, Registered
from cascade.claude.batches import BatchOutcome, create, request_of, results, retrieve
from cascade.core.errors import BatchError, ConfigurationError
from cascade.core.messages import Failure, Reply
from cascade.core.policy import Rung
from cascade.core.triage import Prompt

__all__ = ["BatchSender", "Outcomes", "endpoint_of"]

_RUN = re.compile(r"[a-zA-Z0-9_-]{1,40}\Z")
_NOT_FOUND = 404
_PATIENCE = 20  # polls in a row that may fail

# What the endpoint could not do this time. The call was not billed, and another time may succeed.
_TRANSIENT = frozenset(
    {"rate_limited", "overloaded", "server", "connection", "unreachable", "timeout", "conflict", "expired"}
)
_DOWN = _TRANSIENT - {"expired"}


class _Line(NamedTuple):
    """A result as it is stored. `is_transient`: the call may be sent again."""

    place: int
    outcome: Reply | Failure
    kind: str
    written: bytes
    is_transient: bool


Outcomes = Iterator[tuple[str, Reply | Failure]]
"""Keys and what became of their calls."""


class BatchSender:
    """Sends the calls of one run. One process at a time: its folder is locked. For one thread at a time.

    `run` names it at the endpoint, so it must be unique to the account. `client_of`: the SDK's sync client for a rung. `clock`: Unix
    seconds; `wait` sleeps for seconds. Raises ConfigurationError if the folder is in use, or belongs to another run.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        client_of: Callable[[Rung], Any],
        limits: BatchLimits | None = None,
        *,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        if not _RUN.match(run):
            raise ConfigurationError(f"batch run {run!r}: a name has 1 to 40 letters, digits, `_` and `-`")
        self._run, self._client_of, self._limits = run, client_of, limits or BatchLimits()
        self._clock, self._wait = clock, wait
        make_folder(folder)
        self._lock = lock_folder(folder)
        try:
            self.store = CallStore(folder / CALLS_FILE)
            _require_own(folder, run, self.store.bind("run", run))
        except BaseException:
            unlock(self._lock)
            raise
        self._turn = self.store.next_turn()
        self._matcher = Matcher(self._place_of, self._limits.settle_s, clock)
        self._endpoints: dict[tuple[str | None, str | None], int] = {}
        self._failed_polls = 0

    def close(self) -> None:
        """Close the store, and let another process drive the run."""
        if self._lock is not None:
            self.store.close()
            unlock(self._lock)
            self._lock = None

    def send(self, calls: Iterable[BatchCall]) -> Outcomes:
        """Make the calls; yield each outcome once it is known, and stored. It waits until all are known.

        Raises BatchError if the endpoint cannot be used; what was sent is known on the disk, and the same calls go on where it
        stopped. Raises ConfigurationError for a call that a batch cannot hold, or that has another prompt than before.
        """
        self._turn = self.store.next_turn()
        yield from self.add(calls)
        while self.is_under_way or self.has_open:
            self.dispatch()
            for page in self.collect():
                yield from page

    def add(self, calls: Iterable[BatchCall]) -> Outcomes:
        """Store the calls; `dispatch` sends them. Yields those whose outcome is known already."""
        for page in pages(map(self._registered, calls), lambda call: len(call.params)):
            for key, kind, written in self.store.register(self._turn, page):
                yield key, _outcome(kind, written)

    def dispatch(self) -> None:
        """Send the calls that were asked for and stand in no batch, as one round. Raises BatchError."""
        self.store.plan(self._turn, self._limits)
        for part in self.store.parts("planned"):
            self._create(part)

    def collect(self, *, wait: bool = True) -> Iterator[list[tuple[str, Reply | Failure]]]:
        """Yield the outcomes of what was sent as the batches end, a page at a time. `wait`: until all have; otherwise one look at each.

        Calls that are to go again in the next round are not among them. Raises BatchError; if a batch is not found, after the others.
        """
        while True:
            under_way, unknown = False, None
            for part in self.store.parts("planned", "sending", "open"):
                try:
                    ended = yield from self._look(part)
                except BatchError as error:
                    if part.batch is None or error.failure.status != _NOT_FOUND:
                        raise
                    unknown = _not_found(part.batch, error.failure)
                else:
                    under_way = under_way or not ended
            if unknown is not None and not (under_way and wait):
                raise unknown
            if not under_way or not wait:
                return
            self._wait(self._limits.poll_s)

    def outcome(self, key: str) -> Reply | Failure | None:
        """What is stored of a call; None if its outcome is not known."""
        found = self.store.outcome(key)
        return None if found is None else _outcome(*found)

    @property
    def is_empty(self) -> bool:
        """Whether no call was ever asked for."""
        return self.store.is_empty()

    @property
    def is_under_way(self) -> bool:
        """Whether any batch has not been read to its end."""
        return bool(self.store.parts("planned", "sending", "open"))

    @property
    def has_open(self) -> bool:
        """Whether calls that were asked for stand in no batch: they go into the next round."""
        return self.store.count_open(self._turn) > 0

    def _registered(self, call: BatchCall) -> Registered:
        rung = call.prompt.rung
        endpoint = self._endpoints.get((rung.base_url, rung.api_key_env))
        if endpoint is None:
            endpoint = self.store.endpoint(endpoint_of(rung), rung)
            self._endpoints[rung.base_url, rung.api_key_env] = endpoint
        params = encode_json(request_of("", call.prompt)["params"])
        return Registered(call.key, endpoint, digest_of(params), params)

    def _create(self, part: Part) -> None:
        """Send a part. Where it cannot be told whether its batch was created, it is left to `_look`."""
        client = self._client_of(self.store.rung_at(part.endpoint))
        prefix = f"{self._run}-{part.round}-"
        requests = [
            {"custom_id": f"{prefix}{place}", "params": msgspec.json.decode(params)}
            for place, params in self.store.params_of(part)
        ]
        self.store.set_sending(part, self._clock())
        try:
            info = create(client, requests)
        except BatchError as error:
            if not error.maybe_made:
                self.store.set_planned(part)
                raise
        except ConfigurationError:
            self.store.set_planned(part)
            raise
        else:
            self.store.set_open(part, info.id)

    def _look(self, part: Part) -> Generator[list[tuple[str, Reply | Failure]], None, bool]:
        """See what has become of a part; whether it is done. An endpoint that is down for a while is asked again."""
        try:
            if part.state == "planned":  # it turned out that it was not created
                self._create(part)
                return False
            client = self._client_of(self.store.rung_at(part.endpoint))
            if part.state == "sending":
                self._match(client, part)
                return False
            assert part.batch is not None, "an open part has a batch"
            info = retrieve(client, part.batch)
            if info.status != "ended":
                self._failed_polls = 0
                return False
            if info.is_archived and not info.has_results:
                yield self._give_up(part)
            else:
                yield from self._read(client, part, part.batch)
        except BatchError as error:
            self._failed_polls += 1
            if error.failure.kind not in _DOWN or self._failed_polls >= _PATIENCE:
                raise
            return False
        self._failed_polls = 0
        return True

    def _match(self, client: Any, part: Part) -> None:
        # Counted from the first look of any process, or one that looks once and ends would never send it again.
        since = self.store.bind(f"sought {part.id} {part.sent_at}", repr(self._clock()))
        found = self._matcher.find(client, part, self.store.batches(), float(since))
        if found.batch is not None:
            self.store.set_open(part, found.batch)
        elif found.is_none:
            self.store.set_planned(part)
        self._failed_polls = 0

    def _read(self, client: Any, part: Part, batch: str) -> Iterator[list[tuple[str, Reply | Failure]]]:
        """Store the results of a batch that has ended. It may have been read in part before."""
        read = results(client, batch, prompt_of=lambda custom_id: self._prompt_of(part, custom_id))
        with closing(read):
            for page in pages(read, _length):
                lines = (self._line(part, custom_id, outcome) for custom_id, outcome in page)
                yield self._settle(part, [line for line in lines if line is not None])
        missing = Failure("server", f"batch {batch} has ended without a result for this call")
        yield self._settle(part, [_Line(place, *kept_outcome(missing), True) for place in self.store.unsettled(part)])
        self.store.set_read(part)

    def _give_up(self, part: Part) -> list[tuple[str, Reply | Failure]]:
        """The results of a part are gone. What may be paid for is not made again, nor the next rung paid for it."""
        gone = f"the results of batch {part.batch} are no longer kept at the endpoint: the call may be paid for, and is not made again"
        lost = kept_outcome(Failure("canceled", gone))
        settled = self._settle(part, [_Line(place, *lost, False) for place in self.store.unsettled(part)])
        self.store.set_read(part)
        return settled

    def _settle(self, part: Part, lines: list[_Line]) -> list[tuple[str, Reply | Failure]]:
        written = [(line.place, line.kind, line.written, line.is_transient) for line in lines]
        settled = self.store.settle(part, self._turn, written, self._limits.attempts)
        outcomes = {line.place: line.outcome for line in reversed(lines)}  # the first of a place is stored
        return [(key, outcomes[place]) for key, place in settled]

    def _line(self, part: Part, custom_id: str, outcome: BatchOutcome) -> _Line | None:
        """A result as it is stored; None for one that is not of this part."""
        place = self._place_of(custom_id)
        if place is None or not part.contains(*place):
            return None
        if outcome == "expired":
            outcome = Failure("expired", f"batch {part.batch} expired before the call was made")
        elif outcome == "canceled":
            outcome = Failure("canceled", f"batch {part.batch} was canceled before the call was made")
        assert not isinstance(outcome, str), "there is no other word"
        is_transient = isinstance(outcome, Failure) and outcome.kind in _TRANSIENT
        return _Line(place[1], *kept_outcome(outcome), is_transient)

    def _prompt_of(self, part: Part, custom_id: str) -> Prompt | None:
        """What was sent, as far as its most tokens depend on it; for an answer that does not say what it was billed."""
        place = self._place_of(custom_id)
        written = None if place is None or not part.contains(*place) else self.store.params_at(part, place[1])
        if written is None:
            return None
        params = msgspec.json.decode(written)
        extra = {name: params[name] for name in ("tools", "output_config", "thinking") if name in params}
        rung = self.store.rung_at(part.endpoint)
        return Prompt(rung, tuple(params["messages"]), params.get("system"), None, params["max_tokens"], extra=extra)

    def _place_of(self, custom_id: str) -> tuple[int, int] | None:
        run, _, rest = custom_id.rpartition("-")
        run, _, round_number = run.rpartition("-")
        if run != self._run or not (round_number.isdecimal() and rest.isdecimal()):
            return None
        return int(round_number), int(rest)


def _not_found(batch: str, failure: Failure) -> BatchError:
    hint = (
        "with the key of another workspace it is not found; if it was deleted, what it answered is lost: `cascade batch results` has"
        " the inputs that are done"
    )
    return BatchError(f"retrieving {batch}", replace(failure, message=f"{failure.message} ({hint})"))


def _require_own(folder: Path, run: str, known: str) -> None:
    if known != run:
        raise ConfigurationError(f"{folder}: it belongs to the batch run {known!r}, not to {run!r}")


def endpoint_of(rung: Rung) -> str:
    """The name of a rung's endpoint: rungs with the same one may stand in one batch."""
    return f"{rung.base_url or ''}|{rung.api_key_env or ''}"


def _outcome(kind: str, written: bytes) -> Reply | Failure:
    outcome = decode_outcome(kind, written)
    assert isinstance(outcome, (Reply, Failure)), "a sender stores nothing else"
    return outcome


def _length(result: tuple[str, BatchOutcome]) -> int:
    return len(result[1].text) if isinstance(result[1], Reply) else 0
