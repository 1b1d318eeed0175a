"""What an emulator has seen and billed, for tests to read. Thread-safe."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cascade.core.messages import Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["Billed", "ClosedEarly", "Open", "RawRequest", "Records", "SeenRequest", "Tally"]

_KEPT = 10_000
Open = Literal["connection", "reply", "stream"]
"""What can be open: a connection, a reply that is not over yet, and of those replies the streams."""


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A received request without credentials. `body`: its JSON; None if there was none or it was invalid."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A received request, byte for byte: the headers as they were written, in their order, credentials included."""

    method: bytes
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class ClosedEarly:
    """A stream whose client went away, with the output tokens that had been written to it by then."""

    model: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Billed replies: whole ones, ones that broke off, and the tokens of both."""

    replies: int = 0
    broken_off: int = 0
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Billed(Tally):
    """Billed replies in all, and by model."""

    models: Mapping[str, Tally] = field(default_factory=dict[str, Tally])


class Records:
    """The requests, the bill, what is open now, and the streams that were closed early.

    `keep_requests`: how many raw requests are kept.
    """

    def __init__(self, keep_requests: int = 0) -> None:
        self.keeps_raw = keep_requests > 0
        self._lock = threading.Lock()
        self._seen: deque[SeenRequest] = deque(maxlen=_KEPT)
        self._raw: deque[RawRequest] = deque(maxlen=keep_requests)
        self._closed: deque[ClosedEarly] = deque(maxlen=_KEPT)
        self._tallies: dict[str, Tally] = {}
        self._by_model: Counter[str] = Counter()
        self._open: Counter[Open] = Counter()

    def note(self, request: SeenRequest) -> None:
        """Record a received request."""
        with self._lock:
            self._seen.append(request)

    def note_raw(self, request: RawRequest) -> None:
        """Record a received request, byte for byte."""
        with self._lock:
            self._raw.append(request)

    def count(self, model: str) -> None:
        """Count a valid request for a message of `model`."""
        with self._lock:
            self._by_model[model] += 1

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Bill a reply. `whole` is false if it broke off."""
        with self._lock:
            tally = Tally(int(whole), int(not whole), usage)
            self._tallies[model] = _add(self._tallies.get(model, Tally()), tally)

    def note_closed(self, model: str, output_tokens: int) -> None:
        """Record that the client of a stream went away."""
        with self._lock:
            self._closed.append(ClosedEarly(model, output_tokens))

    @contextmanager
    def opened(self, kind: Open) -> Generator[None]:
        """Count one more of `kind` as open, inside the block."""
        self._change(kind, 1)
        try:
            yield
        finally:
            self._change(kind, -1)

    def open_now(self, kind: Open) -> int:
        """How many of `kind` are open."""
        with self._lock:
            return self._open[kind]

    @property
    def seen(self) -> tuple[SeenRequest, ...]:
        """The last 10,000 requests, oldest first."""
        with self._lock:
            return tuple(self._seen)

    @property
    def raw(self) -> tuple[RawRequest, ...]:
        """The last raw requests, oldest first."""
        with self._lock:
            return tuple(self._raw)

    @property
    def closed_early(self) -> tuple[ClosedEarly, ...]:
        """The last 10,000 streams whose client went away, oldest first."""
        with self._lock:
            return tuple(self._closed)

    @property
    def by_model(self) -> Mapping[str, int]:
        """How many valid requests for a message each model got."""
        with self._lock:
            return dict(self._by_model)

    @property
    def billed(self) -> Billed:
        """What was billed so far, in all and by model."""
        with self._lock:
            models = dict(self._tallies)
        total = Tally()
        for tally in models.values():
            total = _add(total, tally)
        return Billed(total.replies, total.broken_off, total.usage, models)

    def _change(self, kind: Open, by: int) -> None:
        with self._lock:
            self._open[kind] += by


def _add(one: Tally, other: Tally) -> Tally:
    return Tally(one.replies + other.replies, one.broken_off + other.broken_off, one.usage + other.usage)
