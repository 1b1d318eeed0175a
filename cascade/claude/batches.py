"""The Message Batches API: a Prompt as one request of a batch, the batch's life, and its results as outcomes.

Calls that cannot pay twice are retried as a rung's are (`retrying`). `create` is retried only where no batch can have been
made: after a lost response its caller looks in `list_since` for the batch before it sends again. Results are read line by
line, so a batch is never in memory as a whole. A rung's `timeout_s` means nothing here: a batch may take a day.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, cast

from pydantic_core import from_json

from cascade.claude.connections import address_of
from cascade.claude.failures import failure_of_body
from cascade.claude.retrying import Attempts, failure_from
from cascade.claude.wire import outcome_of_message, parameters
from cascade.core.errors import BatchError, ConfigurationError
from cascade.core.messages import Failure, FailureKind, Reply, Usage
from cascade.core.policy import Retry
from cascade.core.triage import Prompt

__all__ = [
    "BatchInfo", "BatchOutcome", "BatchStatus", "cancel", "create", "delete", "list_since", "request_of", "results",
    "retrieve",
]  # fmt: skip

BatchStatus = Literal["in_progress", "canceling", "ended"]
BatchOutcome = Reply | Failure | Literal["canceled", "expired"]
"""What became of one request: an answer, an error of its own, or that it was not processed."""

_RETRY = Retry()
_PAGE = 100
_TIMEOUT_S = 600.0  # of one call; the largest batch has 256 MB
_CONNECT_S = 5.0
_NO_OBJECT = Failure("unreadable", "HTTP 200, but not a JSON object", status=200)
_NO_BATCHES = (404, 405, 501)
_MAYBE_MADE: frozenset[FailureKind] = frozenset({"connection", "timeout", "server", "unreadable", "conflict"})
_CHANCE = random.Random()  # noqa: S311 - only the jitter of waits


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch as the API describes it. The counts of requests are 0 until it has ended, but for `processing`.

    `is_archived`: it ended so long ago that its results are gone.
    """

    id: str
    status: BatchStatus
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    has_results: bool
    is_archived: bool
    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int

    @property
    def total(self) -> int:
        """How many requests it has."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


def request_of(custom_id: str, prompt: Prompt) -> dict[str, Any]:
    """One request of a batch: what `messages.create` would be called with, as one body.

    Raises ConfigurationError for what the API cannot take inside a batch.
    """
    params = parameters(prompt)
    if headers := params.pop("extra_headers", None):
        names = ", ".join(sorted(headers))
        raise ConfigurationError(
            f"batches: a request inside a batch has no headers of its own, and this one has {names} (leave them out, or"
            " set them on the client: Anthropic(default_headers=…))"
        )
    params |= params.pop("extra_body", {})  # which comes last in a live call too
    if params.get("stream"):
        raise ConfigurationError("batches: stream is not possible inside a batch (leave it out)")
    return {"custom_id": custom_id, "params": params}


def create(client: Any, requests: Sequence[Mapping[str, Any]], *, retry: Retry = _RETRY) -> BatchInfo:
    """Make a batch of requests (see `request_of`).

    Raises BatchError; its `maybe_made` says that the batch may exist, so that sending it again might pay twice. Raises
    ConfigurationError if the endpoint has no batches.
    """
    body = _call(
        client, "creating the batch", retry, lambda api: api.create(requests=requests, timeout=_timeout()), creates=True
    )
    try:
        return _info_of(body)
    except BatchError as error:  # made, but described in words that are not known here
        raise BatchError("creating the batch", error.failure, maybe_made=True) from error


def retrieve(client: Any, batch_id: str, *, retry: Retry = _RETRY) -> BatchInfo:
    """The state of a batch. Raises BatchError."""
    return _info_of(
        _call(client, f"retrieving {batch_id}", retry, lambda api: api.retrieve(batch_id, timeout=_timeout()))
    )


def cancel(client: Any, batch_id: str, *, retry: Retry = _RETRY) -> BatchInfo:
    """Cancel what has not been processed of a batch. Raises BatchError."""
    return _info_of(_call(client, f"canceling {batch_id}", retry, lambda api: api.cancel(batch_id, timeout=_timeout())))


def delete(client: Any, batch_id: str, *, retry: Retry = _RETRY) -> None:
    """Delete an ended batch and its results. Raises BatchError."""
    _call(client, f"deleting {batch_id}", retry, lambda api: api.delete(batch_id, timeout=_timeout()))


def list_since(client: Any, since: datetime, *, page: int = _PAGE, retry: Retry = _RETRY) -> Iterator[BatchInfo]:
    """The account's batches that were created at `since` or later, by the endpoint's clock, the newest first.

    Batches that others make meanwhile come first and are left out. Raises BatchError, or ConfigurationError if the endpoint
    has no batches.
    """
    after: dict[str, Any] = {}
    while True:
        asked = {"limit": page, **after, "timeout": _timeout()}
        body = _call(client, "listing the batches", retry, lambda api, asked=asked: api.list(**asked), lists=True)
        with _reading("the list of batches"):
            found = [_info_of(one) for one in body["data"]]
            last, has_more = body.get("last_id"), bool(body.get("has_more"))
        for batch in found:
            if batch.created_at < since:
                return
            yield batch
        if not has_more or not found or not last:
            return
        after = {"after_id": last}


def results(
    client: Any, batch_id: str, *, prompt_of: Callable[[str], Prompt | None] = lambda _: None, retry: Retry = _RETRY
) -> Generator[tuple[str, BatchOutcome]]:
    """What became of each request of an ended batch, by its custom_id: each once, in no order.

    Results that break off are read again, without those that were given already. A request may be missing where an endpoint
    loses results: the caller knows what it sent. `prompt_of` gives the prompt of a custom_id; it is asked where an answer
    does not say what it was billed, and its most is taken. Without it such an answer is a Failure, since it is not free.
    Raises BatchError if the results cannot be read, ConfigurationError if the batch has none (it has not ended, or they are
    archived).
    """
    seen: set[str] = set()
    reader = _ResultReader(client, batch_id)
    try:
        while True:
            attempts = Attempts(retry, float("inf"), time.monotonic, _CHANCE)
            line = attempts.run(reader.next_line)
            if isinstance(line, Failure):
                raise BatchError(f"reading the results of {batch_id}", line)
            if line is None:
                return
            with _reading(f"a result of {batch_id}"):
                entry: Any = from_json(line, allow_inf_nan=False)
                custom_id, result = str(entry["custom_id"]), entry["result"]
            if custom_id not in seen:
                seen.add(custom_id)
                yield custom_id, _outcome_of(result, custom_id, prompt_of)
    finally:
        reader.close()


class _ResultReader:
    """Reads the lines of a batch's results. After a Failure it begins again with the first."""

    def __init__(self, client: Any, batch_id: str) -> None:
        self._api, self._batch_id = _api_of(client), batch_id
        self._open = ExitStack()
        self._lines: Iterator[bytes] | None = None

    def next_line(self) -> bytes | Failure | None:
        """The next line, None at the end."""
        try:
            if self._lines is None:
                opening = self._api.with_streaming_response.results(self._batch_id, timeout=_timeout())
                self._lines = _lines_of(self._open.enter_context(opening).iter_bytes())
            return next(self._lines, None)
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            self.close()
            return failure_from(error, Usage())

    def close(self) -> None:
        """Close the connection, if one is open."""
        self._lines = None
        self._open.close()


def _lines_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    # By line feeds alone: a text may hold other characters that end a line for str.splitlines.
    begun: list[bytes] = []
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            begun.append(line)
            if joined := b"".join(begun):
                yield joined
            begun.clear()
        begun.append(rest)
    if joined := b"".join(begun):
        yield joined


def _outcome_of(result: Any, custom_id: str, prompt_of: Callable[[str], Prompt | None]) -> BatchOutcome:
    found = cast("dict[str, Any]", result) if isinstance(result, dict) else {}
    kind = found.get("type")
    if kind in ("canceled", "expired"):
        return kind
    if kind == "succeeded":
        outcome = outcome_of_message(found.get("message"), None, {})
        if isinstance(outcome, Reply) or (prompt := prompt_of(custom_id)) is None:
            return outcome
        return outcome_of_message(found.get("message"), prompt, {})
    if kind == "errored":
        error = found.get("error")
        body = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
        request_id = body.get("request_id")
        return replace(failure_of_body(body, 200, {}), request_id=request_id if isinstance(request_id, str) else None)
    return Failure("unreadable", f"a result of an unknown kind ({str(kind)[:40]!r})", status=200)


def _call(
    client: Any, what: str, retry: Retry, call: Callable[[Any], Any], *, creates: bool = False, lists: bool = False
) -> dict[str, Any]:
    """The answer to one call. `creates`: it is not made again where it may have been carried out."""
    api = _api_of(client).with_raw_response
    attempts = Attempts(retry, float("inf"), time.monotonic, _CHANCE)

    def attempt() -> dict[str, Any] | Failure:
        try:
            data = call(api).read()
        except Exception as error:  # noqa: BLE001 - mapped in one place; errors that are not about the call are raised again
            failure = failure_from(error, Usage())
            return replace(failure, should_retry=False) if creates and failure.kind in _MAYBE_MADE else failure
        try:
            body: Any = from_json(data, allow_inf_nan=False)
        except ValueError:
            body = None
        return cast("dict[str, Any]", body) if isinstance(body, dict) else _NO_OBJECT

    outcome = attempts.run(attempt)
    if not isinstance(outcome, Failure):
        return outcome
    address = address_of(client)
    if (creates or lists) and outcome.status in _NO_BATCHES:
        raise ConfigurationError(
            f"batches: {address} has no Message Batches API (HTTP {outcome.status}): ask this endpoint without batches"
        )
    raise BatchError(what, replace(outcome, where=address), maybe_made=creates and outcome.kind in _MAYBE_MADE)


def _api_of(client: Any) -> Any:
    """The batch endpoints of a client. Raises ConfigurationError where its platform has none."""
    with suppress(AttributeError):
        return client.messages.batches
    raise ConfigurationError(
        f"batches: {type(client).__name__} has no Message Batches API (use Anthropic's own, or no batches)"
    )


def _info_of(body: Mapping[str, Any]) -> BatchInfo:
    with _reading("the description of a batch"):
        status, counts = body["processing_status"], body["request_counts"]
        if status not in ("in_progress", "canceling", "ended"):
            raise ValueError("processing_status")
        ended = body.get("ended_at")
        return BatchInfo(
            str(body["id"]), status,
            datetime.fromisoformat(body["created_at"]), datetime.fromisoformat(body["expires_at"]),
            None if ended is None else datetime.fromisoformat(ended), bool(body.get("results_url")), body.get("archived_at") is not None,
            *(int(counts[name]) for name in ("processing", "succeeded", "errored", "canceled", "expired")),
        )  # fmt: skip


@contextmanager
def _reading(what: str) -> Generator[None]:
    """Turns errors of reading what an endpoint said, whatever its shape, into BatchError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        failure = Failure(
            "unreadable", f"HTTP 200, but not as the API writes it ({type(problem).__name__})", status=200
        )
        raise BatchError(f"reading {what}", failure) from problem


def _timeout() -> Any:
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.Timeout(_TIMEOUT_S, connect=_CONNECT_S)
