"""Hooks: the protocol by which the ledger, OpenTelemetry and Prometheus observe each request.

    driver ── begin(Begun) ─────────> Hook        once per request: returns its Track
    driver ── calling(Calling) ─────> Track       before each call; may return a Wait, which the driver waits for
    driver ── ended(Ended) ─────────> Track       the answer, the error, or neither (cancelled); may return a Wait

A hook never fails a request: the type of what it raises is logged once, and the request goes on. Hooks run on the
caller's thread, so they must be fast and must not block; slow work is returned as a Wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError as NotDone
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cascade.core.arms import Arm
from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Request
from cascade.core.planning.part import Part
from cascade.core.policy import Rung
from cascade.core.step_calls import FIRST_AUXILIARY
from cascade.core.trail import Answer, Sample, Step

__all__ = [
    "Begun", "Calling", "Ended", "Hook", "Track", "Tracks", "Wait", "begin", "cost_of_end", "unfinished_calls", "unplaced_calls", "wait",
    "wait_async",
]  # fmt: skip

Wait = Future[Any]
"""Done when a record is durable, or cannot be made durable for now. Its result and its failure are ignored.

It may be lazy: the work may start only when its `result` or a callback is asked for, on the thread that asks.
"""

_LONGEST_WAIT_S = 5.0  # a disk that hangs must not cost the answer


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that begins.

    `at`: Unix seconds. `slot`: see `core.modes`. `observed_as`: in mode observe, the id of the request that this climb
    shadows. `cache`: whether the response cache has its answer; None: it is not used. `part`: which part of a run it is. `prompts`: the
    versions of the words in which it is asked, by role; None: as the policy has it.
    """

    plan: BoundPolicy
    request: Request
    task: str
    arm: Arm
    at: float
    slot: int = 0
    observed_as: str | None = None
    cache: Literal["hit", "miss"] | None = None
    part: Part | None = None
    prompts: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Calling:
    """A call that is about to be made.

    `steps`: those before it, each with its escalation reason. `bound`: the most it may cost, in nano-USD; 0 if it was not
    computed. For a rung that is asked more than once, `taken`: the calls of this step before it, and `number`: the
    sample's, from 0 (None: a rung asked once, or the judge of a vote). `reviewed`: the step whose answer this call is to review;
    it is not in `steps` yet. `auxiliary`: of an auxiliary call, how many of its step came before it. `beside`: those calls.
    """

    index: int
    rung: Rung
    steps: tuple[Step, ...]
    bound: int = 0
    taken: tuple[Sample, ...] = ()
    number: int | None = None
    reviewed: Step | None = None
    auxiliary: int | None = None
    beside: tuple[Sample, ...] = ()

    @property
    def place(self) -> int:
        """The call's number within its step, from 0: of the samples and the judge's calls, then the review; 0 for a rung asked once.

        Auxiliary calls are numbered from `step_calls.FIRST_AUXILIARY`.
        """
        if self.auxiliary is not None:
            return FIRST_AUXILIARY + self.auxiliary
        if self.reviewed is not None:
            return len(self.reviewed.samples) or 1
        if self.number is None:
            return len(self.taken)
        asked = sum(not one.is_judge for one in self.taken)
        return len(self.taken) + self.number - asked  # samples of a wave are announced one after the other


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that ended. `steps`: the whole trail. Without an `answer` there is an `error`, or it was cancelled."""

    steps: tuple[Step, ...]
    answer: Answer | None
    error: BaseException | None
    latency_s: float
    estimate: int | None = None
    """The estimated cost of the baseline alone, from the tokens seen, in nano-USD; None if the baseline answered, nothing was answered, or usage was an estimate."""
    is_known: bool = True
    """Whether `steps` has all that was spent: not if a call was cut off before anything of its reply came."""
    beside: tuple[Sample, ...] = ()
    """The auxiliary calls that were made for a rung without a step: the request ended, or a budget did, before its own call."""
    taken: tuple[Sample, ...] = ()
    """The calls of a vote that was cut off."""


def unfinished_calls(last: Calling | None, end: Ended) -> tuple[Sample, ...]:
    """The calls of a step that was not completed, because the request was cut off in the middle of it.

    They are billed, and in none of the steps. `last`: the last call that was announced.
    """
    taken = end.taken or (last.taken if last is not None and len(last.steps) == len(end.steps) else ())
    return (*taken, *unplaced_calls(end)) if end.beside else taken


def unplaced_calls(end: Ended) -> tuple[Sample, ...]:
    """The auxiliary calls that stand with none of the steps."""
    return tuple(one for one in end.beside if all(one not in step.auxiliaries for step in end.steps))


def cost_of_end(end: Ended) -> int:
    """What a request cost, in nano-USD: its steps, and the calls of one that was cut off."""
    return sum(call.cost_nanousd for call in (*end.steps, *unfinished_calls(None, end)))


class Track(Protocol):
    """Observes one request."""

    def calling(self, call: Calling) -> Wait | None:
        """Called before each call to a model."""
        ...

    def ended(self, end: Ended) -> Wait | None:
        """Called once, at the end."""
        ...


class Hook(Protocol):
    """Observes every request of a driver."""

    def begin(self, begun: Begun) -> Track | None:
        """A request begins; return None to ignore it."""
        ...


class Tracks:
    """The tracks of all hooks for one request, as one."""

    __slots__ = ("_report", "_tracks")

    def __init__(self, tracks: Sequence[Track], report: Callable[[str, Exception], None]) -> None:
        self._tracks, self._report = tracks, report

    def calling(self, call: Calling) -> tuple[Wait, ...]:
        """What must be waited for before the call."""
        return self._all(lambda track: track.calling(call))

    def ended(self, end: Ended) -> tuple[Wait, ...]:
        """What must be waited for before the answer is returned."""
        return self._all(lambda track: track.ended(end))

    def _all(self, call: Callable[[Track], Wait | None]) -> tuple[Wait, ...]:
        waits: list[Wait] = []
        for track in self._tracks:
            try:
                one = call(track)
            except Exception as problem:  # noqa: BLE001 - a failing hook must not cost an answer that was paid for
                self._report(type(track).__qualname__, problem)
                continue
            if one is not None:
                waits.append(one)
        return tuple(waits)


def begin(hooks: Sequence[Hook], begun: Begun, report: Callable[[str, Exception], None]) -> Tracks:
    """Begin a request with every hook; `report(name, problem)` is called for one that fails."""
    tracks: list[Track] = []
    for hook in hooks:
        try:
            track = hook.begin(begun)
        except Exception as problem:  # noqa: BLE001 - as above
            report(type(hook).__qualname__, problem)
            continue
        if track is not None:
            tracks.append(track)
    return Tracks(tracks, report)


def wait(waits: Sequence[Wait]) -> None:
    """Wait for all of them, each for at most 5 s."""
    for one in waits:
        with suppress(Exception, NotDone):  # a hook reports its own failures: they must not cost the answer
            one.result(_LONGEST_WAIT_S)


async def wait_async(waits: Sequence[Wait]) -> None:
    """As `wait`, for asyncio: at most 5 s for all of them."""
    if waits:
        done, _ = await asyncio.wait([asyncio.wrap_future(one) for one in waits], timeout=_LONGEST_WAIT_S)
        for one in done:
            if not one.cancelled():
                one.exception()  # retrieved, so that asyncio does not log it: a hook reports its own failures
