"""One connection: requests are answered one after the other (also pipelined ones), with faults injected."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic_core import from_json

from cascade.core.errors import MissingExtra
from cascade.emulator.api import check_headers, read_count, read_request
from cascade.emulator.catalogue import describe_model, list_models
from cascade.emulator.faults import BREAKS_OFF, Fault
from cascade.emulator.messages import (
    encode,
    error_event,
    error_json,
    make_reply,
    message_json,
    stream_events,
)
from cascade.emulator.requests import ApiError

try:
    import h11
except ModuleNotFoundError as error:  # pragma: no cover - the SDK's own HTTP stack brings it
    raise MissingExtra("the emulator", "emulator") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cascade.core.messages import Usage
    from cascade.emulator.answers import Answers
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.messages import EmulatedReply
    from cascade.emulator.requests import ApiRequest

__all__ = ["Connection", "Host", "SeenRequest"]

_MAX_BODY = 32 * 1024 * 1024  # the API's own limit
_READ = 1 << 16
_TIMEOUT_S = 60.0
_TRICKLE_S = 0.05
_TRICKLE_BYTES = 16
_SECRETS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
_CLOSE_S = 5.0
_TOO_MANY = 429
_MESSAGES, _MODELS = "/v1/messages", "/v1/models"
_POSTED = (_MESSAGES, _MESSAGES + "/count_tokens")
_UNREADABLE = object()
_LIMITS: Final = {"requests": 4_000, "input-tokens": 2_000_000, "output-tokens": 400_000, "tokens": 2_400_000}
_DATES: Final[dict[str, Callable[[int], str]]] = {
    "date": lambda seconds: formatdate(seconds, usegmt=True),
    "rfc850": lambda seconds: time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(seconds)),
    "asctime": lambda seconds: time.asctime(time.gmtime(seconds)),
}
_ERRORS: Final[dict[FaultKind, tuple[int, str, str]]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "spend_cap": (429, "rate_limit_error", "You have reached your organization's monthly API usage threshold."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "stream_overloaded": (529, "overloaded_error", "Overloaded"),
    "stream_unauthorized": (401, "authentication_error", "invalid bearer token"),
    "server_error": (500, "api_error", "Internal server error"),
    "unavailable": (503, "api_error", "Service unavailable"),
    "context_overflow_400": (400, "invalid_request_error", "prompt is too long: 1000001 tokens > 1000000 maximum"),
}


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A received request without credentials. `body`: its JSON; None if there was none or it was invalid."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class _Closed(Exception):
    """The connection is closed: by the client, or by a fault."""


class Host(Protocol):
    """What a connection needs from its server."""

    answers: Answers
    seed: int
    token_latency_s: float

    def note(self, request: SeenRequest) -> None:
        """Record a received request."""
        ...

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Bill a reply. `whole` is false if it broke off."""
        ...

    def next_id(self) -> int:
        """A number that is unique to a request."""
        ...

    def choose_fault(self, model: str) -> Fault | None:
        """The fault of the next request to `model`, if any."""
        ...


class Connection:
    """One client's connection to an emulator."""

    def __init__(self, emulator: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._emulator, self._reader, self._writer = emulator, reader, writer
        self._http = h11.Connection(h11.SERVER)
        self._request_id = ""
        self._pace: float | None = None  # seconds between two pieces of a trickling reply
        # asyncio sets this only if the listener names its protocol. Without it each reply waits 40 ms for an ACK.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Serve until the connection is closed."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (_Closed, ConnectionError):
            pass
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        finally:
            self._writer.close()
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._writer.wait_closed()
            except (OSError, TimeoutError):
                self._writer.transport.abort()

    async def _serve_one(self) -> bool:
        """Answer one request. True if the connection can take another."""
        self._request_id, self._pace = f"req_{self._emulator.next_id():024x}", None
        try:
            request, body = await self._receive()
            await self._answer(request, body)
        except ApiError as error:
            await self._send_error(error)
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send_error(ApiError(400, "invalid_request_error", f"not HTTP: {error}"))
            return False
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _receive(self) -> tuple[h11.Request, bytes]:
        request: h11.Request | None = None
        pieces: list[bytes] = []
        size = 0
        while True:
            match event := self._http.next_event():
                case h11.Request():
                    request = event
                case h11.Data():
                    size += len(event.data)
                    if size <= _MAX_BODY:  # the rest is read and dropped, or the client would not read the answer
                        pieces.append(bytes(event.data))
                case h11.EndOfMessage() if request is not None:
                    if size > _MAX_BODY:
                        raise ApiError(
                            413, "request_too_large", f"Request exceeds the maximum size of {_MAX_BODY} bytes"
                        )
                    return request, b"".join(pieces)
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._http.receive_data(await self._reader.read(_READ))
                case _:
                    raise _Closed

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        method, target = request.method.decode(), request.target.decode("latin-1")
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        parsed = _parse(body)
        kept = {name: value for name, value in headers.items() if name not in _SECRETS}
        self._emulator.note(SeenRequest(method, target, kept, None if parsed is _UNREADABLE else parsed))
        url = urlsplit(target)
        route, query = unquote(url.path).rstrip("/"), parse_qs(url.query)
        if route not in _POSTED and route != _MODELS and not route.startswith(_MODELS + "/"):
            raise ApiError(404, "not_found_error", f"{method} {route[:80]} is not emulated")
        if method != ("POST" if route in _POSTED else "GET"):
            raise ApiError(405, "invalid_request_error", f"{method} is not allowed on {route}")
        check_headers(headers)
        if route == _MODELS:
            await self._send_json(200, list_models(self._emulator.answers.models, query))
        elif route not in _POSTED:
            model = route.removeprefix(_MODELS + "/")
            self._emulator.answers.check_model(model)
            await self._send_json(200, describe_model(model))
        elif parsed is _UNREADABLE:
            raise ApiError(400, "invalid_request_error", "The request body is not valid JSON")
        else:
            beta = query.get("beta") == ["true"] or "anthropic-beta" in headers
            if route == _MESSAGES:
                await self._create(read_request(parsed, beta=beta, names=self._emulator.answers.names))
            else:
                await self._send_json(200, {"input_tokens": read_count(parsed, beta=beta)})

    async def _create(self, request: ApiRequest) -> None:
        emulator = self._emulator
        emulator.answers.check_model(request.model)
        fault = emulator.choose_fault(request.model)
        if fault is not None:
            await self._inject(fault, request)
        kind = fault.kind if fault else None
        recorded = emulator.answers.find(request, advance=kind not in BREAKS_OFF)
        reply = make_reply(request, recorded, kind, emulator.seed)
        if request.stream:
            await self._stream(request, reply, kind)
            return
        await self._pause(reply.usage.output_tokens * emulator.token_latency_s)
        body = encode(message_json(request, reply, self._message_id))
        if kind == "cut":
            await self._send(self._head(200, length=len(body)), h11.Data(data=body[: len(body) // 2]))
            raise _Closed
        emulator.bill(request.model, reply.usage, whole=True)
        await self._send_body(200, body)

    async def _stream(self, request: ApiRequest, reply: EmulatedReply, kind: FaultKind | None) -> None:
        events = list(stream_events(request, reply, self._message_id))
        if kind in BREAKS_OFF:
            events = events[: len(events) // 2]
        whole = False
        await self._send(self._head(200))
        try:
            await self._send_events(events)
            whole = kind not in BREAKS_OFF
        finally:
            usage = reply.usage if whole else replace(reply.usage, output_tokens=min(1, reply.usage.output_tokens))
            self._emulator.bill(request.model, usage, whole=whole)
        if kind == "cut":
            raise _Closed
        if kind in BREAKS_OFF:
            await self._send(h11.Data(data=error_event(_error(Fault(kind)), self._request_id)))
        await self._send(h11.EndOfMessage())

    async def _send_events(self, events: list[tuple[bytes, int]]) -> None:
        latency = self._emulator.token_latency_s
        if not latency:
            await self._send(h11.Data(data=b"".join(event for event, _ in events)))
            return
        clock = asyncio.get_running_loop().time
        due = clock()
        for event, tokens in events:
            due += tokens * latency  # on a schedule, so that the errors of many short waits do not add up
            await self._pause(due - clock())
            await self._send(h11.Data(data=event))

    async def _inject(self, fault: Fault, request: ApiRequest) -> None:
        """Do what `fault` does before the reply. Returns if there is to be a reply, else raises."""
        if fault.kind == "trickle":
            self._pace = _TRICKLE_S if fault.delay_s is None else fault.delay_s
            return
        if fault.kind == "timeout":
            await self._pause(_TIMEOUT_S if fault.delay_s is None else fault.delay_s)
            raise _Closed
        await self._pause(fault.delay_s or 0.0)
        if fault.kind == "reset":
            # Closing with a linger of zero seconds makes the kernel send RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
            raise _Closed
        if fault.kind in _ERRORS and not (fault.kind in BREAKS_OFF and request.stream):
            raise _error(fault)

    async def _pause(self, seconds: float) -> None:
        """Wait, and end if the client disconnects: its reply is then neither sent nor billed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    data = await self._reader.read(_READ)
            except TimeoutError:
                return
            if not data:
                raise _Closed
            self._http.receive_data(data)  # a pipelined request, answered later

    @property
    def _message_id(self) -> str:
        return self._request_id.replace("req_", "msg_")

    async def _send_error(self, error: ApiError) -> None:
        await self._send_json(error.status, error_json(error, self._request_id), error)

    async def _send_json(self, status: int, value: object, error: ApiError | None = None) -> None:
        await self._send_body(status, encode(value), error)

    async def _send_body(self, status: int, body: bytes, error: ApiError | None = None) -> None:
        await self._send(self._head(status, length=len(body), error=error), h11.Data(data=body), h11.EndOfMessage())

    def _head(self, status: int, *, length: int | None = None, error: ApiError | None = None) -> h11.Response:
        """The status line and headers; without `length` those of a stream."""
        stream, now = length is None, int(time.time())
        headers = [
            ("content-type", "text/event-stream; charset=utf-8" if stream else "application/json"),
            ("cache-control", "no-cache") if stream else ("content-length", str(length)),
            ("date", formatdate(now, usegmt=True)),
            ("request-id", self._request_id),
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
            *_rate_limits(exhausted=status == _TOO_MANY),
        ]
        if error is not None and error.retry is not None:
            headers += _retry_headers(error.retry, now)
        return h11.Response(status_code=status, headers=headers)

    async def _send(self, *events: h11.Event) -> None:
        pieces = [(event, self._http.send(event) or b"") for event in events]
        if self._pace is None:
            self._writer.write(b"".join(data for _, data in pieces))
            await self._writer.drain()
            return
        for event, data in pieces:  # only bodies trickle
            step = len(data) if isinstance(event, h11.Response) else _TRICKLE_BYTES
            for at in range(0, len(data), step or 1):
                await self._pause(self._pace)
                self._writer.write(data[at : at + step])
                await self._writer.drain()


def _error(fault: Fault) -> ApiError:
    status, category, message = _ERRORS[fault.kind]
    if fault.kind == "rate_limit" and fault.retry_after is None:
        fault = replace(fault, retry_after=1.0)
    if fault.kind == "spend_cap":
        fault = replace(fault, retry_after=None)
        return ApiError(status, category, message, details="enforced_spend_limit_reached", retry=fault)
    return ApiError(status, category, message, retry=fault)


def _retry_headers(fault: Fault, now: int) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    if fault.should_retry is not None:
        headers.append(("x-should-retry", str(fault.should_retry).lower()))
    if fault.retry_after is None:
        return headers
    if fault.retry_after_as in _DATES:
        return [*headers, ("retry-after", _DATES[fault.retry_after_as](now + math.ceil(fault.retry_after)))]
    if fault.retry_after_as == "ms":
        return [*headers, ("retry-after-ms", f"{fault.retry_after * 1e3:g}")]
    return [*headers, ("retry-after", f"{fault.retry_after:g}")]


def _rate_limits(*, exhausted: bool) -> list[tuple[str, str]]:
    reset = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        header
        for name, limit in _LIMITS.items()
        for header in (
            (f"anthropic-ratelimit-{name}-limit", str(limit)),
            (f"anthropic-ratelimit-{name}-remaining", "0" if exhausted else str(limit - 1)),
            (f"anthropic-ratelimit-{name}-reset", reset),
        )
    ]


def _parse(body: bytes) -> object:
    try:
        return from_json(body, allow_inf_nan=False) if body else _UNREADABLE
    except ValueError:
        return _UNREADABLE
