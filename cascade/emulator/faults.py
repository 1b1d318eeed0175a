"""Faults to inject, and a seeded choice among them that is the same in every run.

rate_limit=0.1,overloaded=0.05,retry_after=0.02      two kinds at these rates; the option holds for both
reset,model=claude-haiku-5-5,after=10,times=3        each request to this model from the 11th on, three times
server_error=0.5;trickle,delay_s=0.01                `;` separates groups: an option holds for its group only
overloaded=0.1,on=items;slow_end,polls=3             only requests inside batches; each batch ends late
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

from cascade.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BREAKS_OFF", "Fault", "FaultKind", "FaultPlan", "Place", "RetryAfterAs", "chance", "parse_faults"]

FaultKind = Literal[
    # No reply, nothing billed:
    "rate_limit",  # 429 with retry-after
    "spend_cap",  # 429 without: waiting does not help
    "overloaded",  # 529
    "server_error",  # 500
    "unavailable",  # 503
    "context_overflow_400",  # 400, the prompt is too long
    "reset",  # the connection is reset before a byte is sent
    "timeout",  # nothing is sent until the client disconnects, or delay_s have passed
    # A reply that breaks off; of a stream, the usage in message_start is billed:
    "cut",  # the connection ends in the middle of the body
    "stream_overloaded",  # an overloaded event inside the stream; 529 where no stream was asked for
    "stream_unauthorized",  # the same with an authentication error; 401
    # A whole reply, billed as recorded:
    "trickle",  # a few bytes at a time, delay_s apart
    "slow_start",  # a stream begins at once, and its content comes delay_s later
    "truncated_json",  # cut off, stop_reason max_tokens
    "context_overflow",  # cut off, stop_reason model_context_window_exceeded
    "prose",  # sentences where JSON was asked for
    "bad_confidence",  # a confidence outside 0..1
    "refusal",  # stop_reason refusal, no content
    "empty",  # no content
    "no_usage",  # without usage, as some compatible endpoints send it
    "unknown_stop",  # a stop_reason that no client knows
    "thinking",  # as recorded, after a thinking block: valid, but a surprise to a client that reads content[0]
    # Of batches; nothing is billed for the first three:
    "expired",  # a request of a batch is not processed in time
    "canceled",  # a request of a batch is canceled
    "invalid_request",  # a request of a batch is refused, as the API does with params that it cannot take
    "slow_end",  # a batch ends only after `polls` retrievals or `delay_s` on the emulator's clock
    "lost",  # the batch is made (canceled, deleted), but the connection is closed without a response
]

Place = Literal["messages", "items", "create", "list", "retrieve", "results", "cancel", "delete"]
"""What a fault meets: POST /v1/messages, a request inside a batch, or one of the batch endpoints."""

RetryAfterAs = Literal["seconds", "ms", "date", "rfc850", "asctime"]

_KINDS: frozenset[str] = frozenset(get_args(FaultKind))
_FORMS: frozenset[str] = frozenset(get_args(RetryAfterAs))
BREAKS_OFF: frozenset[str] = frozenset({"cut", "stream_overloaded", "stream_unauthorized"})
"""The faults that end a stream in the middle."""
_PLACES: frozenset[Place] = frozenset(get_args(Place))
_ENDPOINTS: frozenset[Place] = _PLACES - {"messages", "items"}
_ONE_PLACE: dict[str, Place] = {
    "expired": "items",
    "canceled": "items",
    "invalid_request": "items",
    "slow_end": "create",
}
_OF_CONNECTIONS = frozenset({"reset", "timeout", "cut", "trickle"})
_OF_HTTP = _OF_CONNECTIONS | {"rate_limit", "spend_cap", "unavailable", "overloaded", "server_error"}
_NEVER_ITEMS = _OF_CONNECTIONS | {"rate_limit", "spend_cap", "unavailable", "slow_start", *BREAKS_OFF}
_BOOLEANS = {"true": True, "false": False}
_KNOWN = f"faults: {', '.join(sorted(_KINDS))}; options: model, on, after, times, retry_after, retry_after_as, should_retry, delay_s, polls"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and when it occurs.

    `rate`: the share of requests, 0..1. `model`: only requests to this model. `after`: how many such requests pass first.
    `times`: how often at most. `retry_after`: seconds the client is asked to wait (rate_limit: 1 by default; other errors:
    no header). `retry_after_as`: its form: seconds, ms (`retry-after-ms`), or an HTTP date (whole seconds, rounded up).
    `should_retry`: the header `x-should-retry`. `delay_s`: seconds before the answer; of a timeout its length (60), of a
    trickle the time between two pieces (0.05), of a slow_start 1. `on`: only there (see `Place`); without it a fault meets
    messages, and the requests of batches where it can. `polls`: of a slow_end, the retrievals that find the batch in progress.
    """

    kind: FaultKind
    rate: float = 1.0
    model: str | None = None
    after: int = 0
    times: int | None = None
    retry_after: float | None = None
    delay_s: float | None = None
    retry_after_as: RetryAfterAs = "seconds"
    should_retry: bool | None = None
    on: Place | None = None
    polls: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigurationError(
                f"faults: no fault is called {self.kind!r} (there are {', '.join(sorted(_KINDS))})"
            )
        if not 0 <= self.rate <= 1:
            raise ConfigurationError(f"faults: {self.kind}: its rate is {self.rate} (give a share, 0..1)")
        if self.retry_after_as not in _FORMS:
            raise ConfigurationError(
                f"faults: {self.kind}: retry_after_as is {self.retry_after_as!r} (one of {', '.join(sorted(_FORMS))})"
            )
        if self.on is not None and self.on not in _PLACES:
            raise ConfigurationError(f"faults: {self.kind}: on is {self.on!r} (one of {', '.join(sorted(_PLACES))})")
        if self.on is not None and not self.can_meet(self.on):
            raise ConfigurationError(f"faults: {self.kind} cannot occur on {self.on}")
        for name in ("after", "times", "retry_after", "delay_s", "polls"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigurationError(f"faults: {self.kind}: {name} is {value} (give a number from 0 up)")

    def can_meet(self, place: Place) -> bool:
        """Whether the fault can occur there at all."""
        if self.kind in _ONE_PLACE:
            return place == _ONE_PLACE[self.kind]
        if self.kind == "lost":
            return place in ("create", "cancel", "delete")
        if place in _ENDPOINTS:
            return self.kind in _OF_HTTP
        return place == "messages" or self.kind not in _NEVER_ITEMS

    def meets(self, place: Place, model: str) -> bool:
        """Whether the fault is meant for a request there."""
        if self.model not in (None, model):
            return False
        if self.on is None:
            common = (
                place in ("messages", "items") or self.kind in _ONE_PLACE or (self.kind == "lost" and place == "create")
            )
            return common and self.can_meet(place)
        return self.on == place


def parse_faults(spec: str | Iterable[Fault] | None) -> tuple[Fault, ...]:
    """Parse a spec (see this module's docstring) or a list. Raises ConfigurationError that names the invalid part."""
    if spec is None:
        return ()
    if not isinstance(spec, str):
        return tuple(spec)
    return tuple(fault for group in spec.split(";") if group.strip() for fault in _parse_group(group))


def _parse_group(group: str) -> Iterable[Fault]:
    faults: list[Fault] = []
    options: dict[str, str | int | float] = {}
    for part in filter(str.strip, group.split(",")):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            if name in ("model", "retry_after_as", "on") and value:
                options[name] = value
            elif name == "should_retry":
                if value not in _BOOLEANS:
                    raise ConfigurationError(f"faults: {part.strip()!r}: should_retry is true or false")
                options[name] = _BOOLEANS[value]
            elif name in ("after", "times", "polls"):
                options[name] = int(value)
            elif name in ("retry_after", "delay_s"):
                options[name] = float(value)
            else:
                if name not in _KINDS:
                    raise ConfigurationError(f"faults: no fault or option is called {name!r} ({_KNOWN})")
                faults.append(Fault(cast("FaultKind", name), float(value or 1)))
        except ValueError:
            raise ConfigurationError(
                f"faults: {part.strip()!r} is not a number (as in rate_limit=0.1,times=3)"
            ) from None
    if not faults:
        raise ConfigurationError(f"faults: {group.strip()!r} names no fault (there are {', '.join(sorted(_KINDS))})")
    return [replace(fault, **options) for fault in faults]  # pyright: ignore[reportArgumentType]


class FaultPlan:
    """Chooses the fault of each request: the first listed that occurs. Not thread-safe: only the server's loop uses it."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self.faults, self.seed = faults, seed
        self._requests: Counter[str] = Counter()
        self._matched: Counter[int] = Counter()
        self._injected: Counter[int] = Counter()

    def choose(self, model: str, place: Place = "messages") -> Fault | None:
        """The fault of the next request to `model` there, if any. Depends only on the seed and the order of requests.

        `model` is "" where a request names none.
        """
        key = model if place == "messages" else f"{place} {model}"
        ordinal = self._requests[key]
        self._requests[key] += 1
        chosen: Fault | None = None
        for index, fault in enumerate(self.faults):
            if not fault.meets(place, model):
                continue
            self._matched[index] += 1
            if chosen or self._matched[index] <= fault.after or self._injected[index] == fault.times:
                continue
            if chance(self.seed, index, key, ordinal) < fault.rate:
                self._injected[index] += 1
                chosen = fault
        return chosen


def chance(*key: object) -> float:
    """A number in [0, 1) that depends only on the key, on every machine and in every run."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
