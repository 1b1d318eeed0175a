"""Requests that climb: a JSON body of the Messages API in, one message or its stream of events out.

    body ── read_parameters ──> Request ── AsyncCascade ──> Answer ── message_dict ──> JSON
                                                        └─> events ── `event: …` ───> server-sent events, and pings between them

Until the first event or ping has gone out, an error is an HTTP status; after it, an `error` event ends the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from cascade.core.arms import Arm
from cascade.core.errors import CascadeError, UpstreamRejected
from cascade.core.message_events import message_dict
from cascade.core.trail import Answer, Step
from cascade.engine import AsyncCascade
from cascade.engine.arguments import Arguments, new_id
from cascade.engine.decided import with_room
from cascade.engine.events import AsyncMessageEvents
from cascade.engine.messages import message_arguments
from cascade.gateway.answers import trail_of, trail_of_failure
from cascade.gateway.bodies import json_object
from cascade.gateway.callers import Caller
from cascade.gateway.failures import problem_of
from cascade.gateway.headers import OWN
from cascade.gateway.hub import Hub
from cascade.gateway.keys.budgets import Reservation
from cascade.gateway.policies import Loaded
from cascade.gateway.problems import Problem, problem_event, send_json, send_problem
from cascade.gateway.settings import VIRTUAL
from cascade.gateway.visits import Visit
from cascade.hooks import Ended

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Climbing"]

_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_READ_HERE = frozenset({"key", "task"})
_OF_THE_CLIENT = frozenset({"anthropic-version"})  # it is the SDK's: it reads the responses


@dataclass(slots=True)
class _Climb:
    """One request on its way.

    `end`: how it ended, as the driver says, also if it was cancelled. `error`: what it ended with, and `problem` what its
    caller was told.
    """

    loaded: Loaded
    arguments: Arguments
    policy: str
    answer: Answer | None = None
    end: Ended | None = None
    error: CascadeError | None = None
    problem: Problem | None = None

    def __post_init__(self) -> None:
        self.arguments = replace(self.arguments, on_end=self._ended)

    def _ended(self, end: Ended) -> None:
        self.end = end

    @property
    def cost(self) -> int | None:
        """What it is known to have cost, in nano-USD; None while it is not known."""
        if self.end is not None:
            return sum(step.cost_nanousd for step in self.end.steps) if self.end.is_known else None
        return 0 if self.error is not None else None  # refused before it began

    def fail(self, error: CascadeError, arm: Arm) -> Problem:
        """It has ended with an error: what its caller is told."""
        self.error = error
        cost = sum(step.cost_nanousd for step in self._steps)
        self.problem = problem_of(error).with_headers(_failure_headers(self.policy, cost, arm))
        return self.problem

    def trail(self, arm: Arm) -> Callable[[], dict[str, Any]] | None:
        """What makes its trail; None if nothing is known of its end."""
        if (answer := self.answer) is not None:
            return lambda: trail_of(answer)
        if self.problem is not None:
            message = self.problem.message
            if isinstance(self.error, UpstreamRejected):  # it may quote the request
                message = f"the endpoint refused the request itself (HTTP {self.error.status})"
            error = {"type": self.problem.kind, "message": message}
        elif self.end is not None:
            unknown = "" if self.end.is_known else "; what the last call cost is not known"
            error = {"type": "cancelled", "message": f"the caller disconnected before the end{unknown}"}
        else:
            return None
        return lambda: trail_of_failure(self.id, self.policy, arm, self._steps, error)

    @property
    def _steps(self) -> tuple[Step, ...]:
        return self.end.steps if self.end is not None else ()

    @property
    def id(self) -> str:
        return self.arguments.given.id


class Climbing:
    """Answers requests for models that climb."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def answer(self, exchange: tuple[Scope, Receive, Send], visit: Visit, loaded: Loaded, body: bytes) -> None:
        """Answer one request. Raises Problem for what is known to be wrong before anything has gone out."""
        hub, fields = self._hub, json_object(body)
        stream = fields.get("stream", False)
        if not isinstance(stream, bool):
            raise Problem(400, "stream: true or false is needed")
        try:
            climb = _Climb(loaded, self._arguments(visit, loaded, fields, streamed=stream), loaded.policy.name)
            reservation = await self._reserve(visit, climb)
        except Problem as problem:  # nothing was asked
            raise problem.with_headers(_failure_headers(loaded.policy.name, 0, "cascade")) from None
        hub.arms.expect(climb.id)
        try:
            send_answer = self._send_stream if stream else self._send_whole
            await send_answer(
                climb, loaded.enter(), Caller(exchange[0], exchange[2], hub.settings.limits.write_s), exchange[2]
            )
        finally:
            arm = self._arm(climb)
            hub.arms.forget(climb.id)
            await loaded.leave()
            if reservation is not None:
                cost = reservation.bound if climb.cost is None else climb.cost
                await asyncio.shield(hub.blocking(lambda: hub.budgets.settle(reservation, cost)))
        trail = climb.trail(arm)
        if trail is not None:
            key = visit.key.id if visit.key is not None else ""
            await hub.blocking(lambda: hub.answers.keep(climb.id, key, trail))

    def _arm(self, climb: _Climb) -> Arm:
        return self._hub.arms.of(climb.id) or "cascade"

    def _arguments(self, visit: Visit, loaded: Loaded, fields: Mapping[str, Any], *, streamed: bool) -> Arguments:
        headers = {
            name: value
            for name, value in visit.headers.forwarded
            if name.startswith("anthropic-") and name not in _OF_THE_CLIENT
        }
        metadata = visit.metadata()  # within limits
        headers |= {OWN + name: value for name, value in visit.headers.own.items() if name not in _READ_HERE}
        if visit.task is not None:
            headers[OWN + "task"] = visit.task
        try:
            arguments = message_arguments(
                {**fields, "model": VIRTUAL + loaded.policy.name}, loaded.policy, headers=headers
            )
        except CascadeError as error:
            raise problem_of(error) from None
        request = arguments.given
        request = replace(
            request,
            id=new_id(),
            metadata={**request.metadata, **metadata} if metadata else request.metadata,
            headers={**request.headers, **self._hub.upstream.forwarded_credentials(visit.headers)},
        )
        key = visit.key.id if visit.key is not None else ""
        return replace(arguments, given=request, key=key, session=visit.session, streamed=streamed)

    async def _reserve(self, visit: Visit, climb: _Climb) -> Reservation | None:
        hub, key = self._hub, visit.key
        if key is None or key.daily_usd is None:
            return None
        try:
            arguments = climb.arguments
            longest = with_room(arguments.given, climb.loaded.policy, arguments.session)
            bound = climb.loaded.most_it_may_cost(longest)
        except CascadeError as error:
            raise problem_of(error) from None
        return await hub.blocking(lambda: hub.budgets.reserve(key, bound), may_wait=True)

    async def _send_whole(self, climb: _Climb, driver: AsyncCascade, caller: Caller, send: Send) -> None:
        problem: Problem | None = None
        with caller:
            try:
                answer = climb.answer = await driver.respond(climb.arguments)
                body = to_json(message_dict(answer))
                await send_json(caller.send, 200, body, _answer_headers(answer))
            except CascadeError as error:
                problem = climb.fail(error, self._arm(climb))
        if problem is not None:
            await send_problem(send, problem, climb.id)

    async def _send_stream(self, climb: _Climb, driver: AsyncCascade, caller: Caller, send: Send) -> None:
        problem: Problem | None = None
        stream = _Stream(caller, lambda: self._stream_headers(climb))
        with caller:
            events: AsyncMessageEvents | None = None
            pinging = asyncio.create_task(stream.ping(self._hub.settings.ping_s))
            pinging.add_done_callback(_retrieve)  # a ping that is not taken in time ends this task, too: `Caller`
            try:
                events = driver.events(climb.arguments)
                async for event in events:
                    await stream.write(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), to_json(event)))
                answer = climb.answer = events.answer
                assert answer is not None, "it is there after the last event"
                await stream.end()
            except CascadeError as error:
                problem = climb.fail(error, self._arm(climb))
                if stream.has_begun:
                    await stream.write(problem_event(problem, climb.id))
                    await stream.end()
            finally:
                pinging.cancel()
                if events is not None:
                    with suppress(CascadeError):
                        await events.aclose()
        if problem is not None and not stream.has_begun:
            await send_problem(send, problem, climb.id)

    def _stream_headers(self, climb: _Climb) -> list[tuple[bytes, bytes]]:
        """They go out before the answer is known; who gives it is known by then."""
        own = (b"x-cascade-request-id", climb.id.encode()), (b"x-cascade-policy", climb.policy.encode())
        cache = self._hub.arms.cache_of(climb.id)
        status = () if cache is None else ((b"x-cascade-cache-status", cache.encode()),)
        return [*_STREAM_HEADERS, *own, *status, *_arm_header(self._arm(climb))]


class _Stream:
    """The response to a streamed request. It begins with its first event, or the first ping."""

    def __init__(self, caller: Caller, headers: Callable[[], list[tuple[bytes, bytes]]]) -> None:
        self._caller, self._headers = caller, headers
        self._lock = asyncio.Lock()  # of pings and events one goes out after the other
        self._written = 0
        self.has_begun = False

    async def write(self, data: bytes) -> None:
        """Send an event."""
        async with self._lock:
            if not self.has_begun:
                self.has_begun = True
                await self._caller.send({"type": "http.response.start", "status": 200, "headers": self._headers()})
            self._written += 1
            await self._caller.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Nothing more will come."""
        async with self._lock:
            await self._caller.send({"type": "http.response.body", "body": b""})

    async def ping(self, every_s: float) -> None:
        """Send a ping whenever nothing was sent for so long, until it is cancelled."""
        while True:
            before = self._written
            await asyncio.sleep(every_s)
            if self._written == before:
                await self.write(_PING)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of a task's error, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _answer_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    shipped = answer.shipped
    values: dict[bytes, str | None] = {
        b"x-cascade-request-id": answer.request_id,
        b"x-cascade-policy": answer.policy,
        b"x-cascade-response-cost": f"{answer.cost_usd:.9f}",
        b"x-cascade-model": answer.model,
        b"x-cascade-rung": answer.rung,
        b"x-cascade-confidence": None if answer.confidence is None else f"{answer.confidence:g}",
        b"x-cascade-escalations": str(max(0, len(answer.steps) - 1)),
        b"x-cascade-cache-status": answer.cache,
        b"x-cascade-prompt-cache-status": "hit" if shipped is not None and shipped.usage.cache_read else "miss",
        b"x-cascade-degraded": answer.degraded or answer.abstained,
        b"request-id": shipped.request_id if shipped is not None else None,
    }
    named = [(name, _header(value)) for name, value in values.items() if value is not None]
    return [*named, *_arm_header(answer.arm)]


def _failure_headers(policy: str, cost_nanousd: int, arm: Arm) -> list[tuple[bytes, bytes]]:
    cost = f"{cost_nanousd / 1e9:.9f}".encode()
    return [(b"x-cascade-policy", _header(policy)), (b"x-cascade-response-cost", cost), *_arm_header(arm)]


def _arm_header(arm: Arm) -> list[tuple[bytes, bytes]]:
    """Only where it was not the ladder that answered."""
    return [] if arm == "cascade" else [(b"x-cascade-arm", arm.encode())]


def _header(value: str) -> bytes:
    """A header's value: what comes from an endpoint or a policy must not break the line."""
    if value.isprintable():
        return value.encode("ascii", "replace")
    return "".join(one if one.isprintable() else "?" for one in value).encode("ascii", "replace")
