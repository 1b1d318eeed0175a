"""What is told of each request as it goes: the protocol that the ledger, OpenTelemetry and Prometheus hang on.

    driver ── begin(Begun) ─────────> Hook        one per request: returns its Track
    driver ── calling(Calling) ─────> Track       before each call; may return a Wait, which the driver waits for
    driver ── ended(Ended) ─────────> Track       the answer, the error, or neither (cancelled); may return a Wait

A hook never fails a request: what it raises is logged once (its type, nothing it says), and the request goes on.
Calls are made on the caller's thread, so a hook must be quick; none may block, which is what a Wait is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError as NotDone
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.core.climb import Plan
from cascade.core.messages import Request
from cascade.core.policy import Rung
from cascade.core.trail import Answer, Arm, Step

__all__ = ["Begun", "Calling", "Ended", "Hook", "Track", "Tracks", "Wait", "begin", "wait", "wait_async"]

Wait = Future[Any]
"""Done when what was told is durable, or cannot be made so for now. Its result says nothing, and its failure fails nobody.

It may be lazy: whoever asks for its `result` may do the work himself, or have it begun by asking to be called back.
"""

_LONGEST_WAIT_S = 5.0  # a disk that hangs must not take the answer with it


@dataclass(frozen=True, slots=True)
class Begun:
    """A request, as it is taken up.

    `at`: Unix seconds. `slot`: see `core.modes`. `observed_as`: the id of the request whose shadow this climb is
    (`mode: observe`).
    """

    plan: Plan
    request: Request
    task: str
    arm: Arm
    at: float
    slot: int = 0
    observed_as: str | None = None


@dataclass(frozen=True, slots=True)
class Calling:
    """A call that is about to be made.

    `steps`: all before it, each with the reason why it went up. `bound`: the most it may cost, in nano-USD; 0 where
    nobody asked for it.
    """

    index: int
    rung: Rung
    steps: tuple[Step, ...]
    bound: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over. `steps`: the whole trail; `answer` None: `error` says why, or it was cancelled (both None)."""

    steps: tuple[Step, ...]
    answer: Answer | None
    error: BaseException | None
    latency_s: float
    estimate: int | None = None
    """What the baseline alone would have cost, estimated from the tokens seen, in nano-USD; None where it answered."""


class Track(Protocol):
    """One request's."""

    def calling(self, call: Calling) -> Wait | None:
        """Before each call."""
        ...

    def ended(self, end: Ended) -> Wait | None:
        """Once, at the end."""
        ...


class Hook(Protocol):
    """Told of every request of a driver."""

    def begin(self, begun: Begun) -> Track | None:
        """A request was taken up; None: nothing more is to be told of it."""
        ...


class Tracks:
    """All hooks' tracks of one request, as one."""

    __slots__ = ("_tell", "_tracks")

    def __init__(self, tracks: Sequence[Track], tell: Callable[[str, Exception], None]) -> None:
        self._tracks, self._tell = tracks, tell

    def calling(self, call: Calling) -> tuple[Wait, ...]:
        """Before each call; what must be waited for before it is made."""
        return self._all(lambda track: track.calling(call))

    def ended(self, end: Ended) -> tuple[Wait, ...]:
        """At the end; what must be waited for before the answer is returned."""
        return self._all(lambda track: track.ended(end))

    def _all(self, call: Callable[[Track], Wait | None]) -> tuple[Wait, ...]:
        waits: list[Wait] = []
        for track in self._tracks:
            try:
                one = call(track)
            except Exception as problem:  # noqa: BLE001 - a hook's fault must not cost an answer that was paid for
                self._tell(type(track).__qualname__, problem)
                continue
            if one is not None:
                waits.append(one)
        return tuple(waits)


def begin(hooks: Sequence[Hook], begun: Begun, tell: Callable[[str, Exception], None]) -> Tracks:
    """Begin a request with every hook; `tell(name, problem)` is called for one that fails."""
    tracks: list[Track] = []
    for hook in hooks:
        try:
            track = hook.begin(begun)
        except Exception as problem:  # noqa: BLE001 - as above
            tell(type(hook).__qualname__, problem)
            continue
        if track is not None:
            tracks.append(track)
    return Tracks(tracks, tell)


def wait(waits: Sequence[Wait]) -> None:
    """Wait for all of them, but not for ever."""
    for one in waits:
        with suppress(Exception, NotDone):  # a hook's own failure is its own to tell: it must not cost the answer
            one.result(_LONGEST_WAIT_S)


async def wait_async(waits: Sequence[Wait]) -> None:
    """The same for asyncio."""
    if waits:
        done, _ = await asyncio.wait([asyncio.wrap_future(one) for one in waits], timeout=_LONGEST_WAIT_S)
        for one in done:
            if not one.cancelled():
                one.exception()  # looked at: a hook's own failure is its own to tell
