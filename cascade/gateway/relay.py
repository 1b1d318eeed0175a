"""Passes a request for a real model on, and its response back: the bytes as they are, outside the SDK.

    caller ── body, headers ──> endpoint        credentials replaced, or the caller's own (`auth: forward`)
    caller <── body, headers ── endpoint        as it comes; then the usage is read from it, and recorded

A caller that disconnects ends the call to the endpoint at once. Nothing is tried again here: the caller's SDK does that, and
an attempt of ours might be billed twice.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic_core import from_json

from cascade.core.messages import Usage
from cascade.engine.relaying import Relayed, RelayEnd, RelayRecorder
from cascade.gateway.callers import Caller
from cascade.gateway.connections import Upstream
from cascade.gateway.headers import Incoming, response_headers
from cascade.gateway.problems import Problem, send_problem
from cascade.gateway.settings import Limits
from cascade.gateway.tee import BodyTee, Tee, estimated_input, make_tee
from cascade.hooks import wait_async

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Relay", "header_of", "relay_response", "upstream_problem"]

_WHOLE = 256 * 1024  # a body up to this size is read whole and sent in one piece


class Relay:
    """Relays requests to `upstream`, and records them."""

    def __init__(self, upstream: Upstream, recorder: RelayRecorder, limits: Limits) -> None:
        self._upstream, self._recorder, self._limits = upstream, recorder, limits

    async def messages(
        self, exchange: tuple[Scope, Receive, Send], headers: Incoming, body: bytes, relayed: Relayed
    ) -> RelayEnd:
        """Relay POST /v1/messages, and record it. Returns how it ended."""
        if self._recorder.commits:
            relayed.body = _read(body)
            await wait_async(relayed.before_call())
        call = _Call(Caller(exchange[0], exchange[2], self._limits.write_s))
        try:
            await self._run(call, exchange, headers, body, relayed)
        except asyncio.CancelledError:  # the server is shutting down
            call.is_cancelled = True
            raise
        finally:
            end = call.end(body)
            if not self._recorder.commits:
                relayed.body = _read(body)
            relayed.ended(end)
        return end

    async def _run(
        self, call: _Call, exchange: tuple[Scope, Receive, Send], headers: Incoming, body: bytes, relayed: Relayed
    ) -> None:
        scope, _, send = exchange
        caller = call.caller
        with caller:
            try:
                response = call.response = await self._upstream.send(
                    "POST", scope["path"], scope["query_string"], headers, body
                )
                call.tee = make_tee(header_of(response, b"content-type"), header_of(response, b"content-encoding"))
                await relay_response(response, caller, call.tee, (b"x-cascade-request-id", relayed.id.encode()))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if caller.gone:
                    raise
                call.problem = upstream_problem(error, sent=call.response is not None)
            finally:
                if call.response is not None:
                    call.response.close()
        if call.problem is not None:
            if caller.started:
                caller.abort()  # the rest is missing: a response that seems to end well would hide it
            else:
                await send_problem(send, call.problem, relayed.id)

    async def unrecorded(
        self, exchange: tuple[Scope, Send], method: str, headers: Incoming, body: bytes | None = None
    ) -> None:
        """Relay a request that costs nothing. Raises Problem if it fails before anything has gone out."""
        scope, send = exchange
        response: aiohttp.ClientResponse | None = None
        problem: Problem | None = None
        with Caller(scope, send, self._limits.write_s) as caller:
            try:
                response = await self._upstream.send(method, scope["path"], scope["query_string"], headers, body)
                await relay_response(response, caller, None)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if caller.started or caller.gone:
                    caller.abort()
                    raise
                problem = upstream_problem(error, sent=response is not None)
            finally:
                if response is not None:
                    response.close()
        if problem is not None:
            raise problem


@dataclass(slots=True)
class _Call:
    """One call to the endpoint, as far as it has got."""

    caller: Caller
    response: aiohttp.ClientResponse | None = None
    tee: Tee = field(default_factory=BodyTee)
    problem: Problem | None = None
    is_cancelled: bool = False

    def end(self, body: bytes) -> RelayEnd:
        """How it ended, for the record."""
        caller, problem, response = self.caller, self.problem, self.response
        cancelled = caller.gone or self.is_cancelled
        if response is None:
            is_free = problem is not None and problem.status != 504  # a call that timed out may have been billed
            usage = Usage() if is_free else estimated_input(body)
            return RelayEnd(None, usage, detail=problem.message if problem else _why(self), cancelled=cancelled)
        upstream_id = header_of(response, b"request-id").decode("latin-1") or None
        if response.status >= 400:
            return RelayEnd(response.status, detail=f"HTTP {response.status}", upstream_id=upstream_id)
        usage = self.tee.usage(body)
        if cancelled:
            return RelayEnd(response.status, usage, upstream_id=upstream_id, detail=_why(self), cancelled=True)
        detail = problem.message if problem is not None else "an error inside the stream" if self.tee.is_error else ""
        return RelayEnd(response.status, usage, self.tee.stop_reason, upstream_id, detail)


def _why(call: _Call) -> str:
    if call.caller.is_slow:
        return "the caller read too slowly"
    return "the caller disconnected" if call.caller.gone else "the gateway was shut down"


async def relay_response(
    response: aiohttp.ClientResponse, caller: Caller, tee: Tee | None, *own: tuple[bytes, bytes]
) -> None:
    """Pass a response on as it comes. `tee` is fed each piece after it went out."""
    start = {
        "type": "http.response.start",
        "status": response.status,
        "headers": response_headers(response.raw_headers, *own),
    }
    length = response.content_length
    if length is not None and length <= _WHOLE:
        whole = await response.read()
        await caller.send(start)
        await caller.send({"type": "http.response.body", "body": whole})
        if tee is not None:
            tee.feed(whole)
        return
    await caller.send(start)
    content = response.content
    while piece := await content.readany():
        await caller.send({"type": "http.response.body", "body": piece, "more_body": True})
        if tee is not None:
            tee.feed(piece)
    await caller.send({"type": "http.response.body", "body": b""})


def upstream_problem(error: Exception, *, sent: bool) -> Problem:
    """What the caller is told of a connection that failed. The endpoint's address holds no credentials."""
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):  # a time-out while connecting is none of these
        why = _why_not_connected(error)
        return Problem(
            502,
            f"the endpoint {error.host}:{error.port} cannot be reached: {why}"
            " (check the gateway's --upstream and its network, then try again)",
        )
    if isinstance(error, TimeoutError):
        return Problem(504, f"the endpoint did not answer in time ({kind})")
    if sent:
        return Problem(502, f"the endpoint's response broke off ({kind})")
    return Problem(502, f"the endpoint cannot be reached, or closed the connection ({kind})")


def _why_not_connected(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS connection"
    return os.strerror(error.errno).lower() if error.errno else "no connection"


def header_of(response: aiohttp.ClientResponse, name: bytes) -> bytes:
    """A response's header, by its lower-case name; empty if there is none."""
    for key, value in response.raw_headers:
        if key.lower() == name:
            return value
    return b""


def _read(body: bytes) -> dict[str, Any]:
    """The body, for the hash of its prompt. The endpoint has judged it already: whatever it is, this does not fail."""
    try:
        value: object = from_json(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
