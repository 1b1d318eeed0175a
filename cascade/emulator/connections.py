"""One connection: requests are answered one after the other (also pipelined ones), with faults injected."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from cascade.core.errors import MissingExtra
from cascade.emulator.api import check_headers, read_count, read_request
from cascade.emulator.batch_routes import BATCHES, BatchVisit, answer_visit, kept_body, pieces_of, read_visit
from cascade.emulator.batches import MAX_BATCH_BYTES
from cascade.emulator.catalogue import describe_model, list_models
from cascade.emulator.chat import check_bearer, read_chat
from cascade.emulator.completions import chat_error, chat_models, completion_json, describe_chat_model
from cascade.emulator.content import UNREADABLE, encode, parse_body
from cascade.emulator.faults import BREAKS_OFF, Fault
from cascade.emulator.messages import error_event, error_json, message_json, stream_events
from cascade.emulator.records import RawRequest, SeenRequest
from cascade.emulator.requests import ApiError
from cascade.emulator.responses import ERRORS, fault_error, headers_of

try:
    import h11
except ModuleNotFoundError as error:  # pragma: no cover - the SDK's own HTTP stack brings it
    raise MissingExtra("the emulator", "emulator") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.core.messages import Usage
    from cascade.emulator.answers import Answers
    from cascade.emulator.batches import Batches
    from cascade.emulator.faults import FaultKind, Place
    from cascade.emulator.messages import EmulatedReply
    from cascade.emulator.records import Records
    from cascade.emulator.replies import Replies
    from cascade.emulator.requests import ApiRequest

__all__ = ["Connection", "Host"]

_MAX_BODY = 32 * 1024 * 1024  # the API's own limit
_READ = 1 << 16
_TIMEOUT_S = 60.0
_TRICKLE_S = 0.05
_TRICKLE_BYTES = 16
_SLOW_S = 1.0
_BEGUN = 2  # message_start and ping: what a stream begins with before the model has written anything
_SECRETS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
_CLOSE_S = 5.0
_MESSAGES, _MODELS, _CHAT = "/v1/messages", "/v1/models", "/v1/chat/completions"
_POSTED = (_MESSAGES, _MESSAGES + "/count_tokens", _CHAT)


class _Closed(Exception):
    """The connection is closed: by the client, or by a fault."""


@dataclass(slots=True)
class _Written:
    """The output tokens of a stream that have been written so far."""

    tokens: int = 0


class Host(Protocol):
    """What a connection needs from its server."""

    answers: Answers
    replies: Replies
    records: Records
    batches: Batches
    token_latency_s: float
    prefix_check: bool

    def note(self, request: SeenRequest) -> None:
        """Record a received request."""
        ...

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Bill a reply. `whole` is false if it broke off."""
        ...

    def next_id(self) -> int:
        """A number that is unique to a request."""
        ...

    def choose_fault(self, model: str, place: Place = "messages") -> Fault | None:
        """The fault of the next request to `model` there, if any."""
        ...


class Connection:
    """One client's connection to an emulator."""

    def __init__(self, emulator: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._emulator, self._reader, self._writer = emulator, reader, writer
        self._http = h11.Connection(h11.SERVER)
        self._number, self._request_id, self._is_chat = 0, "", False
        self._pace: float | None = None  # seconds between two pieces of a trickling reply
        self._slow_s: float | None = None  # seconds before the content of a stream that starts slowly
        # asyncio sets this only if the listener names its protocol. Without it each reply waits 40 ms for an ACK.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Serve until the connection is closed."""
        try:
            with self._emulator.records.opened("connection"):
                await self._serve()
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

    async def _serve(self) -> None:
        while await self._serve_one():
            self._http.start_next_cycle()

    async def _serve_one(self) -> bool:
        """Answer one request. True if the connection can take another."""
        self._number, self._pace, self._slow_s, self._is_chat = self._emulator.next_id(), None, None, False
        self._request_id = f"req_{self._number:024x}"
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
        size, most = 0, _MAX_BODY
        while True:
            match event := self._http.next_event():
                case h11.Request():
                    request = event
                    if request.target.split(b"?")[0].rstrip(b"/") == BATCHES.encode():
                        most = MAX_BATCH_BYTES
                case h11.Data():
                    size += len(event.data)
                    if size <= most:  # the rest is read and dropped, or the client would not read the answer
                        pieces.append(bytes(event.data))
                case h11.EndOfMessage() if request is not None:
                    if size > most:
                        raise ApiError(413, "request_too_large", f"Request exceeds the maximum size of {most} bytes")
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
        parsed = parse_body(body)
        kept = {name: value for name, value in headers.items() if name not in _SECRETS}
        records = self._emulator.records
        self._emulator.note(SeenRequest(method, target, kept, None if parsed is UNREADABLE else kept_body(parsed)))
        if records.keeps_raw:
            records.note_raw(RawRequest(request.method, request.target, tuple(request.headers.raw_items()), body))
        url = urlsplit(target)
        route, query = unquote(url.path).rstrip("/"), parse_qs(url.query)
        if (visit := read_visit(method, route, query, headers, parsed)) is not None:
            check_headers(headers)
            await self._answer_batches(visit)
            return
        if route not in _POSTED and route != _MODELS and not route.startswith(_MODELS + "/"):
            raise ApiError(404, "not_found_error", f"{method} {route[:80]} is not emulated")
        if method != ("POST" if route in _POSTED else "GET"):
            raise ApiError(405, "invalid_request_error", f"{method} is not allowed on {route}")
        # Both APIs list models at one address; only the Messages API's clients send a version.
        self._is_chat = route == _CHAT or (route not in _POSTED and "anthropic-version" not in headers)
        if self._is_chat:
            check_bearer(headers)
        else:
            check_headers(headers)
        if route not in _POSTED:
            await self._answer_models(route.removeprefix(_MODELS).lstrip("/"), query)
        elif parsed is UNREADABLE:
            raise ApiError(400, "invalid_request_error", "The request body is not valid JSON")
        else:
            await self._answer_posted(route, query, headers, parsed)

    async def _answer_posted(
        self, route: str, query: dict[str, list[str]], headers: dict[str, str], parsed: object
    ) -> None:
        """Answer a request for a reply, of either API, or for a count of tokens."""
        answers, records = self._emulator.answers, self._emulator.records
        if route == _CHAT:
            asked = read_chat(parsed, names=answers.names)
            with records.opened("reply"):
                await self._create(asked, headers)
            return
        beta = query.get("beta") == ["true"] or "anthropic-beta" in headers
        if route != _MESSAGES:
            await self._send_json(200, {"input_tokens": read_count(parsed, beta=beta)})
            return
        signed, prefix = self._emulator.replies.signed, self._emulator.prefix_check
        checked = read_request(parsed, beta=beta, names=answers.names, signed=signed, prefix_check=prefix)
        with records.opened("reply"):
            await self._create(checked, headers)

    async def _answer_models(self, model: str, query: Mapping[str, list[str]]) -> None:
        """Describe a model; without a name, list them."""
        known, is_chat = self._emulator.answers.models, self._is_chat
        if not model:
            return await self._send_json(200, chat_models(known) if is_chat else list_models(known, query))
        self._emulator.answers.check_model(model)
        return await self._send_json(200, describe_chat_model(model) if is_chat else describe_model(model))

    async def _answer_batches(self, visit: BatchVisit) -> None:
        """Answer a request to the batch endpoints."""
        fault = self._emulator.choose_fault("", visit.place)
        kind = fault.kind if fault else None
        if fault is not None and kind not in ("slow_end", "lost"):
            await self._inject(fault, stream=False)
        if visit.place == "results":
            await self._send_results(list(self._emulator.batches.results(visit.batch_id)), kind)
            return
        if visit.place == "create" and visit.body is UNREADABLE:
            raise ApiError(400, "invalid_request_error", "The request body is not valid JSON")
        data = encode(await answer_visit(self._emulator.batches, visit, fault))
        if kind == "lost":
            raise _Closed
        if kind == "cut":
            await self._send(self._head(200, length=len(data)), h11.Data(data=data[: len(data) // 2]))
            raise _Closed
        await self._send_body(200, data)

    async def _send_results(self, lines: list[bytes], kind: FaultKind | None) -> None:
        await self._send(self._head(200, lines=True))
        for piece in pieces_of(lines, cut=kind == "cut"):
            await self._send(h11.Data(data=piece))
        if kind == "cut":
            raise _Closed
        await self._send(h11.EndOfMessage())

    async def _create(self, request: ApiRequest, headers: Mapping[str, str]) -> None:
        emulator = self._emulator
        emulator.replies.check_model(emulator.answers, request.model)
        emulator.records.count(request.model)
        fault = emulator.choose_fault(request.model)
        if fault is not None:
            await self._inject(fault, stream=request.stream)
        kind = fault.kind if fault else None
        reply = await emulator.replies.choose(emulator.answers, request, headers, kind, self._number)
        if request.stream:
            with emulator.records.opened("stream"):
                await self._stream(request, reply, kind)
            return
        await self._pause(reply.usage.output_tokens * emulator.token_latency_s)
        whole = completion_json if self._is_chat else message_json
        body = encode(whole(request, reply, self._message_id))
        if kind == "cut":
            await self._send(self._head(200, length=len(body)), h11.Data(data=body[: len(body) // 2]))
            raise _Closed
        emulator.bill(request.model, reply.usage, whole=True)
        await self._send_body(200, body)

    async def _stream(self, request: ApiRequest, reply: EmulatedReply, kind: FaultKind | None) -> None:
        events = list(stream_events(request, reply, self._message_id))
        if kind in BREAKS_OFF:
            events = events[: len(events) // 2]
        written = _Written()
        whole = False
        try:
            await self._send(self._head(200))
            if self._slow_s is not None:
                begun, events = events[:_BEGUN], events[_BEGUN:]
                await self._send_events(begun, written)
                await self._pause(self._slow_s)
            await self._send_events(events, written)
            whole = kind not in BREAKS_OFF
        except (_Closed, ConnectionError):
            self._emulator.records.note_closed(request.model, written.tokens)
            raise
        finally:
            usage = reply.usage
            if kind in BREAKS_OFF:  # what message_start told
                usage = replace(usage, output_tokens=min(1, usage.output_tokens), thinking_tokens=0)
            elif not whole:
                told = min(max(1, written.tokens), usage.output_tokens)
                usage = replace(usage, output_tokens=told, thinking_tokens=min(told, usage.thinking_tokens))
            self._emulator.bill(request.model, usage, whole=whole)
        if kind == "cut":
            raise _Closed
        if kind in BREAKS_OFF:
            await self._send(h11.Data(data=error_event(fault_error(Fault(kind)), self._request_id)))
        await self._send(h11.EndOfMessage())

    async def _send_events(self, events: list[tuple[bytes, int]], written: _Written) -> None:
        latency = self._emulator.token_latency_s
        if not latency:
            await self._send(h11.Data(data=b"".join(event for event, _ in events)))
            return
        clock = asyncio.get_running_loop().time
        due = clock()
        for event, tokens in events:
            due += tokens * latency  # on a schedule, so that the errors of many short waits do not add up
            await self._pause(due - clock())
            if self._reader.at_eof():
                raise _Closed
            await self._send(h11.Data(data=event))
            written.tokens += tokens

    async def _inject(self, fault: Fault, *, stream: bool) -> None:
        """Do what `fault` does before the reply. Returns if there is to be a reply, else raises."""
        if fault.kind == "trickle":
            self._pace = _TRICKLE_S if fault.delay_s is None else fault.delay_s
            return
        if fault.kind == "slow_start":
            self._slow_s = _SLOW_S if fault.delay_s is None else fault.delay_s
            if not stream:
                await self._pause(self._slow_s)
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
        if fault.kind in ERRORS and not (fault.kind in BREAKS_OFF and stream):
            raise fault_error(fault)

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
        status, body = chat_error(error) if self._is_chat else (error.status, error_json(error, self._request_id))
        await self._send_json(status, body, error)

    async def _send_json(self, status: int, value: object, error: ApiError | None = None) -> None:
        await self._send_body(status, encode(value), error)

    async def _send_body(self, status: int, body: bytes, error: ApiError | None = None) -> None:
        await self._send(self._head(status, length=len(body), error=error), h11.Data(data=body), h11.EndOfMessage())

    def _head(
        self, status: int, *, length: int | None = None, error: ApiError | None = None, lines: bool = False
    ) -> h11.Response:
        """The status line and headers; without `length` those of a stream."""
        more: Any = {"length": length, "error": error, "lines": lines, "chat": self._is_chat}
        return h11.Response(status_code=status, headers=headers_of(status, self._request_id, **more))

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
