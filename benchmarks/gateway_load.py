"""The load of the gateway's benchmark, on raw sockets so that the client costs little: a process of its own.

`python gateway_load.py` reads one JSON object a line on standard input, does what it says, and answers with one line:

    {"do": "load", "url": …, "path": …, "headers": {…}, "body": {…}, "connections": N, "seconds": S}  → requests/s, p50, p99, statuses
    {"do": "first_token", "url": …, …, "times": N, "marker": "…"}  → the seconds to the marker's first occurrence, each
    {"do": "open", "url": …, …, "connections": N}  → opens N streams and keeps them; how many have begun
    {"do": "close"}  → closes them; how many bytes they had received, and how many were closed by the other side
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _request(job: Mapping[str, Any]) -> bytes:
    body = json.dumps(job["body"]).encode()
    headers = {"host": urlsplit(job["url"]).netloc, "content-type": "application/json", **job["headers"]}
    lines = [f"POST {job['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + f"\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


class Client(asyncio.Protocol):
    """One keep-alive connection that sends a request when the reply before it is whole."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self._reply: asyncio.Future[bytes] | None = None
        self.count, self.lost, self.begun = 0, False, asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def connection_lost(self, exc: Exception | None) -> None:
        """A reply that is not whole will not come."""
        self.lost = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionResetError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        """End the wait when the reply is whole."""
        self.count += len(data)
        self.begun.set()
        if self._reply is None:
            return
        self._received += data
        if self._is_whole():
            reply, self._reply = self._reply, None
            reply.set_result(bytes(self._received[:16]))
            self._received.clear()

    def _is_whole(self) -> bool:
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return False
        if length := _LENGTH.search(self._received, 0, head + 2):
            return len(self._received) >= head + 4 + int(length[1])
        return self._received.endswith(b"0\r\n\r\n")

    async def call(self) -> int:
        """Send the request, await the reply; its status."""
        self._reply = waiting = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        return int((await waiting).split()[1])

    def send(self) -> None:
        """Send the request, and do not wait."""
        self.transport.write(self._request)


async def _connect(job: Mapping[str, Any]) -> Client:
    address = urlsplit(job["url"])
    request = _request(job)
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(request), address.hostname, address.port
    )
    return client


async def load(job: Mapping[str, Any]) -> dict[str, Any]:
    """Each connection sends one request after the other, for the given seconds."""
    clients = [await _connect(job) for _ in range(job["connections"])]
    times: list[float] = []
    statuses: Counter[str] = Counter()
    until = time.perf_counter() + job["seconds"]

    async def run(client: Client) -> None:
        while (began := time.perf_counter()) < until:
            try:
                status = str(await asyncio.wait_for(client.call(), 60))
            except (OSError, TimeoutError) as error:
                statuses[type(error).__name__] += 1
                return
            statuses[status] += 1
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(run, clients))
    took = time.perf_counter() - began
    for client in clients:
        client.transport.close()
    times.sort()
    return {
        "per_s": statuses["200"] / took,
        "requests": statuses.total(),
        "statuses": dict(statuses),
        "p50_ms": times[len(times) // 2] * 1e3 if times else None,
        "p99_ms": times[len(times) * 99 // 100] * 1e3 if times else None,
    }


async def first_token(job: Mapping[str, Any]) -> list[float]:
    """Seconds from a request to the marker in its stream, one request after the other on one connection."""
    address = urlsplit(job["url"])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    request, marker = _request(job), job["marker"].encode()
    times: list[float] = []
    for _ in range(job["times"]):
        received, seen = b"", 0.0
        began = time.perf_counter()
        writer.write(request)
        while not received.endswith(b"0\r\n\r\n"):
            data = await asyncio.wait_for(reader.read(65536), 60)
            if not data:
                raise ConnectionResetError(received[-300:])
            received += data
            if not seen and marker in received:
                seen = time.perf_counter() - began
        if not seen:
            raise ValueError(f"no {marker!r} in {received[:600]!r}")
        times.append(seen)
    writer.close()
    return times


async def _jobs() -> None:
    kept: list[Client] = []
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        job = json.loads(line)
        result: Any
        if job["do"] == "load":
            result = await load(job)
        elif job["do"] == "first_token":
            result = await first_token(job)
        elif job["do"] == "open":
            kept += [await _connect(job) for _ in range(job["connections"])]
            for client in kept:
                client.send()
            await asyncio.wait([asyncio.ensure_future(client.begun.wait()) for client in kept], timeout=60)
            result = {"begun": sum(client.begun.is_set() for client in kept)}
        else:
            result = {"bytes": sum(client.count for client in kept), "lost": sum(client.lost for client in kept)}
            for client in kept:
                client.transport.close()
            kept.clear()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(_jobs())
