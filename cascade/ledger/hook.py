"""A hook of the drivers that turns each request into the ledger's records (`hooks`, `records`).

On the caller's thread nothing is encoded, hashed or summed: what was told is handed to the writer as the frozen values it
came in, and only what the caller could still change is copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.core.policy.operations import Ledger
from cascade.core.trail import Answer, Step
from cascade.hooks import Begun, Calling, Ended, Wait
from cascade.ledger.prompts import Redact, bind_redact, snapshot

__all__ = ["Asked", "Ending", "HandOver", "LedgerHook", "LedgerTrack", "Taker"]


@dataclass(slots=True)
class Asked:
    """One request, as all its hand-overs share it.

    `prompt`: system and messages, copied. `redact` None: texts are stored as they are, where `content` says so. `lost`: one
    of its hand-overs found no room, and what comes after it is not taken either. `memo` is the writer's.
    """

    begun: Begun
    metadata: dict[str, str]
    prompt: tuple[Any, Any]
    content: bool
    redact: Redact | None
    begins: bool = True
    lost: bool = False
    memo: Any = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended. `error`: the class of the error, or "cancelled"."""

    answer: Answer | None
    error: str | None
    steps: tuple[Step, ...]
    latency_s: float
    estimate: int | None


@dataclass(slots=True)
class HandOver:
    """`entries` of one request that are written together or not at all. `first`: with the request's own."""

    asked: Asked
    at: float
    entries: int
    first: bool
    steps: tuple[Step, ...]
    call: Calling | None = None
    ending: Ending | None = None
    wait: Wait | None = None


class Taker(Protocol):
    """Who takes hand-overs: the writer."""

    @property
    def commits(self) -> bool:
        """Whether each must be durable before the request goes on (`durability: commit`)."""
        ...

    def put(self, hand_over: HandOver) -> Wait | None:
        """Take it; what to wait for, if anything."""
        ...


class LedgerHook:
    """Puts every request of a driver on record. `clock` gives Unix seconds.

    PolicyError where `settings.redact` names no function.
    """

    __slots__ = ("_clock", "_content", "_redact", "_writer")

    def __init__(self, writer: Taker, settings: Ledger, *, clock: Callable[[], float] = time.time) -> None:
        self._writer, self._clock = writer, clock
        self._content = settings.content
        self._redact = bind_redact(settings.redact) if settings.redact is not None else None

    def begin(self, begun: Begun) -> LedgerTrack:
        """A request was taken up. Nothing is written yet."""
        request = begun.request
        prompt = (snapshot(request.system), snapshot(request.messages))
        asked = Asked(begun, dict(request.metadata), prompt, self._content, self._redact)
        return LedgerTrack(self._writer, asked, self._clock)


class LedgerTrack:
    """One request's: hands over each step when the next call begins, for its reason is known then, or at the end."""

    __slots__ = ("_asked", "_clock", "_told", "_writer")

    def __init__(self, writer: Taker, asked: Asked, clock: Callable[[], float]) -> None:
        self._writer, self._asked, self._clock = writer, asked, clock
        self._told = 0  # steps handed over

    def calling(self, call: Calling) -> Wait | None:
        """Before each call. With `durability: commit` also that it is about to be made, and what to wait for."""
        if self._writer.commits:
            return self._hand_over(call.steps, call=call)
        return self._hand_over(call.steps) if len(call.steps) > self._told else None

    def ended(self, end: Ended) -> Wait | None:
        """The end, whatever it was."""
        error = type(end.error).__name__ if end.error is not None else "cancelled" if end.answer is None else None
        return self._hand_over(
            end.steps, ending=Ending(end.answer, error, end.steps, end.latency_s, end.estimate)
        )  # the error itself is not kept: it holds its frames, and they hold everything

    def _hand_over(
        self, steps: tuple[Step, ...], *, call: Calling | None = None, ending: Ending | None = None
    ) -> Wait | None:
        asked = self._asked
        new = steps[self._told :] if self._told else steps
        self._told = len(steps)
        first, asked.begins = asked.begins, False
        entries = first + len(new) + (call is not None) + (ending is not None)
        return self._writer.put(HandOver(asked, self._clock(), entries, first, new, call, ending))
