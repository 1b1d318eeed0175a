"""A gateway on a real socket, and an endpoint behind it that does exactly what a test scripts."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import uvloop

from cascade.gateway.server import GatewayServer, bind, serve
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.opening import open_reader
from cascade.ledger.requests import RequestRecord, gather

__all__ = ["Endpoint", "Exchange", "Gateway", "json_response", "sse_response"]

_WAIT_S = 30.0


class Gateway:
    """A gateway in a thread of this process. A context manager."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self._listening = bind(settings)
        self.port: int = self._listening.getsockname()[1]
        self._server: GatewayServer | None = None
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    @property
    def base_url(self) -> str:
        """Its address, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(_WAIT_S)
        if self._problem is not None:
            raise self._problem
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """What SIGTERM does."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_WAIT_S)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def _run(self) -> None:
        def ready(server: GatewayServer) -> None:
            self._server = server
            self._ready.set()

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(self.settings, self._listening, ready=ready))
        except BaseException as problem:  # noqa: BLE001 - raised where the gateway was started
            self._problem = problem
        finally:
            self._listening.close()
            self._ready.set()

    def records(self) -> list[RequestRecord]:
        """What is on its ledger, once it has stopped."""
        reader = open_reader(self.settings.ledger)
        try:
            return list(gather(reader))
        finally:
            reader.close()

    def send(self, data: bytes, *, read: bool = True) -> bytes:
        """Send bytes on a connection of their own; returns what comes back until the server closes, or 5 s pass."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(data)
            return received(connection) if read else b""


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes, or the socket's timeout."""
    found = b""
    with suppress(TimeoutError, ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    return found


@dataclass
class Exchange:
    """One request that an Endpoint has received, and its connection. `gone` is set when the other side closes it."""

    head: bytes
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers in their order, names as they came."""
        lines = self.head.decode().split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    def header(self, wanted: str) -> str | None:
        """A header by its name."""
        return next((value for name, value in self.headers if name.lower() == wanted), None)

    @property
    def target(self) -> str:
        """The request's path and query."""
        return self.head.decode().split(" ")[1]


Piece = bytes | Callable[[], Any] | None
"""Bytes to send; or a function to wait for, such as an event's `wait`, in a thread; or None: the connection is reset."""


class Endpoint:
    """An HTTP server on loopback that keeps the bytes it receives, and answers with the pieces that it is given."""

    def __init__(self, *pieces: Piece) -> None:
        self.pieces: Sequence[Piece] = pieces
        self.exchanges: list[Exchange] = []
        self.arrived = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    @property
    def base_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_WAIT_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange: Exchange | None = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head, b"")
                length = int(exchange.header("content-length") or 0)
                exchange.body = await reader.readexactly(length)
                self.exchanges.append(exchange)
                self.arrived.release()
                watching = asyncio.create_task(self._watch(reader, exchange))
                for piece in self.pieces:
                    if piece is None:
                        writer.transport.abort()
                    elif isinstance(piece, bytes):
                        writer.write(piece)
                        await writer.drain()
                    else:
                        await asyncio.to_thread(piece)
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                if exchange.gone.is_set():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            if exchange is not None:
                exchange.gone.set()
        finally:
            writer.close()

    @staticmethod
    async def _watch(reader: asyncio.StreamReader, exchange: Exchange) -> None:
        """Only a closed connection ends this: the next request comes after the response."""
        try:
            while not reader.at_eof():  # noqa: ASYNC110 - a stream has no event for its end
                await asyncio.sleep(0.005)
        finally:
            if reader.at_eof():
                exchange.gone.set()


def json_response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A response with a length."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sse_response(*events: bytes) -> list[bytes]:
    """The pieces of a stream: its head, a chunk for each event, and its end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(chunk(event) for event in events), b"0\r\n\r\n"]


def chunk(event: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(event), event)


def policy_file(folder: Path, name: str = "small", threshold: float = 0.8) -> Path:
    """A policy of two rungs."""
    path = folder / f"{name}.yaml"
    path.write_text(
        f"version: 1\nname: {name}\nladder:\n"
        f"  - {{rung: haiku, model: claude-haiku-5-5, threshold: {threshold}, max_tokens: 256, thinking: disabled}}\n"
        "  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 512}\n"
    )
    return path
