"""The ledger's hook (`cascade.hooks`): turns each request into pending entries for the writer.

Nothing is encoded, hashed or summed on the caller's thread: frozen values are passed on as they are, and only what the caller
could still change is copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.core.arms import AUDITED_ARMS
from cascade.core.auditing import LowestConfidence, Sampled, lowest_draw, why_sampled
from cascade.core.messages import Request
from cascade.core.policy.operations import Ledger
from cascade.core.step_calls import calls_of
from cascade.core.trail import Answer, Sample, Step
from cascade.forks import renew_in_children
from cascade.hooks import Begun, Calling, Ended, Wait, unplaced_calls
from cascade.ledger.prompts import Redact, bind_redact, snapshot

__all__ = [
    "EntrySink",
    "LedgerHook",
    "LedgerTrack",
    "PendingEntries",
    "RequestContext",
    "RequestEnd",
    "UnfinishedVote",
]


@dataclass(slots=True)
class RequestContext:
    """What all pending entries of one request share.

    `prompt`: a copy of system and messages. `redact` None: texts are stored unchanged, if `content`. `lost`: some of its entries
    were dropped, so later ones are dropped too. `body` is set by the writer.
    """

    begun: Begun
    metadata: dict[str, str]
    prompt: tuple[Any, Any]
    content: bool
    redact: Redact | None
    is_first: bool = True
    lost: bool = False
    body: Any = None


@dataclass(frozen=True, slots=True)
class UnfinishedVote:
    """Calls whose step is not complete: samples, or calls beside the rung's own. `first`: the first one's number among them."""

    index: int
    first: int
    calls: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How a request ended. `error`: the name of the error's class, or "cancelled".

    `unfinished`: calls of a step that was not completed, because the request was cut off in the middle of a vote. `sampled`: it
    will be audited; `asked`: what its grading needs of the request beside the prompt, if content is kept.
    """

    answer: Answer | None
    error: str | None
    steps: tuple[Step, ...]
    latency_s: float
    estimate: int | None
    unfinished: tuple[Sample, ...] = ()
    sampled: Sampled | None = None
    asked: dict[str, Any] | None = None


@dataclass(slots=True)
class PendingEntries:
    """Entries of one request that are written together or not at all. `entries`: how many; `first`: including the request's own.

    `passed`: how many calls of the first of `steps` were passed on before, as an `unfinished` vote; `passed_beside`: how many of its
    auxiliary calls were, as `beside`.
    """

    context: RequestContext
    at: float
    entries: int
    first: bool
    steps: tuple[Step, ...]
    call: Calling | None = None
    end: RequestEnd | None = None
    wait: Wait | None = None
    passed: int = 0
    unfinished: UnfinishedVote | None = None
    passed_beside: int = 0
    beside: UnfinishedVote | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether it must be durable before the request continues, whatever the durability: what is audited rests on it."""
        return self.end is not None and self.end.sampled is not None


class EntrySink(Protocol):
    """The writer, as the hook sees it."""

    @property
    def commits(self) -> bool:
        """Whether entries must be durable before the request continues (`durability: commit`)."""
        ...

    def put(self, pending: PendingEntries) -> Wait | None:
        """Accept entries; returns what to wait for, if anything."""
        ...


class LedgerHook:
    """Records every request of a driver. `clock` returns Unix seconds.

    Raises PolicyError if `settings.redact` does not name a function.
    """

    __slots__ = ("__weakref__", "_clock", "_content", "_lock", "_lowest", "_redact", "_writer")

    def __init__(self, writer: EntrySink, settings: Ledger, *, clock: Callable[[], float] = time.time) -> None:
        self._writer, self._clock = writer, clock
        self._content = settings.content
        self._redact = bind_redact(settings.redact) if settings.redact is not None else None
        self._lowest = LowestConfidence()
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Called by `forks` in a child process."""
        self._lock = threading.Lock()

    def begin(self, begun: Begun) -> LedgerTrack:
        """A request starts. Nothing is written yet."""
        request = begun.request
        prompt = (snapshot(request.system), snapshot(request.messages))
        context = RequestContext(begun, dict(request.metadata), prompt, self._content, self._redact)
        return LedgerTrack(self._writer, context, self._clock, self._sampled)

    def _sampled(self, begun: Begun, answer: Answer | None) -> Sampled | None:
        """Whether the request will be audited: only what the ladder answered, or could not answer, is.

        Of a request whose rungs are told more than it says, the words are not kept: the
        top rung could not be asked the same.
        """
        audit = begun.plan.policy.audit
        if audit is None or answer is None or begun.arm not in AUDITED_ARMS:
            return None
        if begun.request.handoff:
            return None
        request, is_lowest = begun.request.id, False
        if audit.lowest_confidence and answer.confidence is not None:
            group = answer.rung or "", answer.confidence_source or ""
            draw = lowest_draw(request)
            with self._lock:
                is_lowest = self._lowest.add(group, answer.confidence, draw, audit.lowest_confidence)
        why = why_sampled(request, audit.sample, is_lowest)
        return None if why is None else Sampled(why, begun.plan.epoch)


class LedgerTrack:
    """Records one request. A step is passed on when the next call begins (its reason is known only then), or at the end.

    A rung that is asked more than once has an entry for each call, passed on when the next one begins, so that a crash loses at
    most the calls in flight. The last of them goes with its step.
    """

    __slots__ = ("_beside", "_clock", "_context", "_index", "_recorded", "_sampled", "_taken", "_writer")

    def __init__(
        self,
        writer: EntrySink,
        context: RequestContext,
        clock: Callable[[], float],
        sampled: Callable[[Begun, Answer | None], Sampled | None],
    ) -> None:
        self._writer, self._context, self._clock, self._sampled = writer, context, clock, sampled
        self._recorded = 0  # steps passed on
        self._taken: tuple[Sample, ...] = ()  # calls passed on of the step after them
        self._beside = 0  # auxiliary calls passed on of that step
        self._index = 0  # of the rung that was called last

    def calling(self, call: Calling) -> Wait | None:
        """Before each call. With `durability: commit` the call is announced, and what to wait for is returned."""
        self._index = call.index
        is_new = (
            len(call.steps) > self._recorded or len(call.taken) > len(self._taken) or len(call.beside) > self._beside
        )
        return self._record(call.steps, call=call) if is_new or self._writer.commits else None

    def ended(self, end: Ended) -> Wait | None:
        """The request ended: an answer, an error or a cancellation. What will be audited is to be waited for."""
        begun = self._context.begun
        sampled = self._sampled(begun, end.answer)
        asked = _asked(begun.request) if sampled is not None and self._context.content else None
        error = type(end.error).__name__ if end.error is not None else "cancelled" if end.answer is None else None
        unfinished = end.taken or (self._taken if len(end.steps) == self._recorded else ())
        unfinished = (*unfinished, *unplaced_calls(end)) if end.beside else unfinished
        return self._record(
            end.steps,
            end=RequestEnd(end.answer, error, end.steps, end.latency_s, end.estimate, unfinished, sampled, asked),
            beside=end.beside,
            taken=end.taken,
        )  # not the error itself: it keeps its frames, and they keep everything, alive

    def _record(
        self,
        steps: tuple[Step, ...],
        *,
        call: Calling | None = None,
        end: RequestEnd | None = None,
        beside: tuple[Sample, ...] = (),
        taken: tuple[Sample, ...] = (),
    ) -> Wait | None:
        context, passed, passed_beside, unfinished = self._context, 0, 0, None
        new = steps[self._recorded :] if self._recorded else steps
        self._recorded = len(steps)
        first, context.is_first = context.is_first, False
        entries = first + (end is not None)
        if new:
            passed, self._taken = len(self._taken), ()
            passed_beside, self._beside = self._beside, 0
            entries += len(new) - passed
            for step in new:
                if step.samples or step.review is not None or step.auxiliaries:
                    entries += len(calls_of(step)) - 1
            entries -= passed_beside
        taken = call.taken if call is not None else taken
        if len(taken) > len(self._taken):
            unfinished = UnfinishedVote(self._index, len(self._taken), taken[len(self._taken) :])
            self._taken = taken
            entries += len(unfinished.calls)
        beside = (call.beside if call is not None else beside)[self._beside :]
        further = UnfinishedVote(self._index, self._beside, beside) if beside else None
        self._beside += len(beside)
        entries += len(beside)
        announced = call if self._writer.commits else None
        entries += announced is not None
        at = self._clock()
        return self._writer.put(
            PendingEntries(
                context, at, entries, first, new, announced, end, None, passed, unfinished, passed_beside, further
            )
        )


_ASKED = ("schema", "prompt_schema", "max_tokens", "tools", "tool_choice", "stop_sequences")
_EXTRA = ("thinking", "output_config", "temperature", "top_p", "top_k")
"""Of the parameters that are passed on unchanged: others may hold what is secret, such as a token for another server."""


def _asked(request: Request) -> dict[str, Any] | None:
    """What the top rung is asked beside the prompt, as far as the caller set it; None if nothing."""
    found = {name: snapshot(value) for name in _ASKED if (value := getattr(request, name))}
    for part in ("extra", "top_extra"):
        more = {name: snapshot(value) for name, value in getattr(request, part).items() if name in _EXTRA}
        if more:
            found[part] = more
    return found or None
