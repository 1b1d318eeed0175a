"""A request that uses the response cache: it returns an earlier answer, waits for an equal request's, or climbs and stores its own.

    join ─> leads ─> the store has it ─> hit            (no climb: no step, no cost)
         │        └> it does not ─> climb ─> stored, and shared with those who wait
         └> waits ─> for the one that leads ─> hit; if that one fails, one of those who wait leads
                  └> for half of its own time at most ─> climbs alone

Whatever is wrong with the store, the request is answered.
"""

from __future__ import annotations

import os
from asyncio import CancelledError
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

from cascade.core.equal_requests import Asked, is_cached, key_of, needs_task
from cascade.core.messages import Usage
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments
from cascade.engine.effects import Await, Effect, WaitFor
from cascade.engine.runtime import RequestContext, Runtime
from cascade.hooks import Ended
from cascade.response_cache import AnswerCache, Entry, Flight, Landing
from cascade.response_cache.identities import identities_of
from cascade.response_cache.stores import Stored

__all__ = ["answer_once", "endpoint_of", "with_cache"]

_USUAL = "https://api.anthropic.com"

_Climb = Callable[[], Generator[Effect, Any, Answer[Any]]]


def endpoint_of(client: Any) -> str:
    """Where a driver's models are asked, as a part of keys: an emulator's answers are not for production, a beta's not for others.

    `client`: the caller's; None: one is made from the environment. A rung's own `base_url` is in the policy, and so in its hash.
    """
    if client is None:
        named, beta = os.environ.get("ANTHROPIC_BASE_URL"), os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "")
    else:
        found: Any = getattr(client, "default_headers", {})
        headers = cast("Mapping[str, object]", found if isinstance(found, Mapping) else {})  # no client: refused later
        named = getattr(client, "base_url", None)
        beta = ",".join(str(value) for name, value in headers.items() if name.lower() == "anthropic-beta")
    urls = [str(url or "").rstrip("/") for url in (named, os.environ.get("OPENAI_BASE_URL"))]
    return "\n".join((*("" if url == _USUAL else url for url in urls), beta))


def with_cache(runtime: Runtime, context: RequestContext, arguments: Arguments, endpoint: str) -> RequestContext:
    """The context of a request that uses the response cache, with its key; unchanged if it does not. `endpoint`: where models are asked.

    Where it cannot be said what equals the request, it is not cached: the answer's notes tell the caller who asked for it, and it is
    logged once otherwise.
    """
    policy, plan, request = runtime.policy, context.plan, context.request
    if runtime.cache is None or context.arm != "cascade":
        return context
    task = request.task
    if task is None and needs_task(policy, arguments.cache):
        task = plan.signals.classify(request).task
    if not is_cached(policy, arguments.cache, task):
        return context
    checks = identities_of(arguments.checks)
    key = None
    if isinstance(checks, tuple):
        asked = Asked(
            request, plan.policy.hash, plan.epoch, plan.ratchet, plan.certificate, (*runtime.functions, *checks),
            arguments.key, endpoint, arguments.is_message,
        )  # fmt: skip
        key = key_of(asked)
        why = "the request holds a value that is no JSON"
    else:
        why = f"its check {checks} is not a plain function of a module, so nobody can say what equals it"
    if key is not None:
        return replace(context, cache_key=key)
    if arguments.cache:
        return replace(context, notes=(*context.notes, f"not cached: {why}"))
    runtime.log_uncached(why)
    return context


def answer_once(
    runtime: Runtime, context: RequestContext, climb: _Climb, may_store: Callable[[Answer[Any]], bool]
) -> Generator[Effect, Any, Answer[Any]]:
    """Answer a request from the cache, or have it climb. `may_store`: whether its answer leaves nothing behind that a hit would not."""
    assert runtime.cache is not None, "a key is made where there is a cache"
    sharing = _Sharing(runtime.cache, runtime, context)
    try:
        try:
            found = yield from sharing.look()
        except BaseException as error:
            raised = None if isinstance(error, (GeneratorExit, CancelledError)) else error
            _report_end(context, Ended((), None, raised, runtime.elapsed(context)))
            raise
        if found is not None:
            entry, answer = found
            yield from _record(runtime, context, entry, answer)
            return answer
        answer = yield from climb()
        yield from sharing.store(answer, may_store=may_store(answer))
        return answer
    finally:
        sharing.end()


class _Sharing:
    """One request's part in the cache. `end` is called whatever happens: others may wait for it."""

    __slots__ = ("_cache", "_context", "_flight", "_landing", "_runtime")

    def __init__(self, cache: AnswerCache, runtime: Runtime, context: RequestContext) -> None:
        self._cache, self._runtime, self._context = cache, runtime, context
        self._flight: Flight | None = None  # that it leads
        self._landing = Landing(None, has_failed=True)

    def look(self) -> Generator[Effect, Any, tuple[Entry, Answer[Any]] | None]:
        """The earlier answer, or that of an equal request under way; None if this one is to climb."""
        key, clock = self._context.cache_key, self._runtime.options.clock
        assert key is not None
        started = clock()
        until = started + (self._context.time_out_at - started) / 2  # the other half is for a climb of its own
        while True:
            flight = self._cache.flights.join(key)
            if flight.leads:
                self._flight = flight
                value = yield from self._ask(self._cache.find(key))
                found = self._read(value)
                if found is not None:
                    self._landing = Landing(value)
                return found
            landing: Landing | None = yield WaitFor(flight.landing, max(0.0, until - clock()))
            if landing is None or not (landing.entry or landing.has_failed):
                return None
            if landing.entry is not None:
                return self._read(landing.entry)

    def store(self, answer: Answer[Any], *, may_store: bool) -> Generator[Effect, Any, None]:
        """Store the answer and share it, if it may be returned again."""
        policy, context = self._context.plan.policy, self._context
        assert policy.cache is not None
        assert context.cache_key is not None
        now = self._cache.wall()
        entry = Entry.of(answer, now + policy.cache.ttl_s, typed=context.accept is not None) if may_store else None
        value = entry.to_bytes() if entry is not None else None
        self._landing = Landing(value)
        if entry is not None and value is not None:
            yield from self._ask(self._cache.keep(Stored(context.cache_key, value, entry.request, entry.until)))

    def end(self) -> None:
        """Let those go on who wait."""
        if self._flight is not None:
            self._cache.flights.land(self._flight, self._landing)

    def _ask(self, job: Future[Any] | None) -> Generator[Effect, Any, Any]:
        if job is None:
            return None
        result = yield WaitFor(job, self._cache.wait_s)
        self._cache.give_up(job)
        return result

    def _read(self, value: object) -> tuple[Entry, Answer[Any]] | None:
        """The stored answer, as this request's own. None: it cannot be read, has expired, or is not of the caller's type."""
        entry, context = Entry.read(value), self._context
        if entry is None or entry.until <= self._cache.wall():
            return None
        data = entry.data
        if context.accept is not None:
            try:
                data = context.accept(entry.text)
            except Exception:  # noqa: BLE001 - the caller's code: what does not fit its type is asked again
                return None
        request, policy = context.request, context.plan.policy
        return entry, Answer(
            text=entry.text, data=data, rung=entry.rung, model=entry.model, confidence=entry.confidence,
            confidence_source=entry.source, steps=(), usage=Usage(), cost_nanousd=0, degraded=None, abstained=None, attempts=0,
            latency_s=self._runtime.elapsed(context), request_id=request.id, task=entry.task, flags=entry.flags,
            metadata=request.metadata, policy=policy.name, policy_hash=policy.hash, certificate=entry.certificate,
            arm="cache", notes=context.notes, cache="hit", stored=entry.message,
        )  # fmt: skip


def _record(
    runtime: Runtime, context: RequestContext, entry: Entry, answer: Answer[Any]
) -> Generator[Effect, Any, None]:
    """Notify the hooks of a request that was answered without a call. The estimate is what the spared climb had cost."""
    tracks = runtime.begin(replace(context, arm="cache"), entry.task)
    end = Ended((), answer, None, answer.latency_s, entry.cost)
    _report_end(context, end)
    waits = tracks.ended(end)
    if waits:
        yield Await(waits)


def _report_end(context: RequestContext, end: Ended) -> None:
    if context.on_end is not None:
        context.on_end(end)
