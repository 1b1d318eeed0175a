"""A fast Messages API for the gateway's benchmark: `python gateway_upstream.py [--token-ms MS] [--hold-s S]`; prints its address.

It reads of a request only its length, whether it streams, and whether it asks for the triage envelope; the replies are fixed
bytes. With `--token-ms` each token of a stream comes that long after the one before. With `--hold-s` a stream falls silent for
so long after its first event. It is a process of its own and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import threading
from typing import Any, cast

import uvloop

TOKENS = 24  # of an answer
ANSWER = "It left our warehouse this morning. "[:32] * (TOKENS * 4 // 32)
CONFIDENCE = 0.95
ENVELOPE = json.dumps({"confidence": CONFIDENCE, "answer": ANSWER})
_USAGE = {"input_tokens": 300, "output_tokens": 40, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def tokens_of(text: str) -> tuple[str, ...]:
    """A text in pieces of four characters, each of which we call a token."""
    return tuple(text[at : at + 4] for at in range(0, len(text), 4))


def tokens_before_answer() -> int:
    """How many tokens of the envelope hold nothing of its answer."""
    return ENVELOPE.index(ANSWER) // 4


def _message(content: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "content": content,
        "stop_reason": stop_reason, "stop_sequence": None, "usage": _USAGE,
    }  # fmt: skip


def _whole(text: str) -> bytes:
    body = json.dumps(_message([{"type": "text", "text": text}], "end_turn")).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_01\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(*events: dict[str, Any]) -> bytes:
    data = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _stream(text: str) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """The head with the first events, a chunk for each token, and the end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_01\r\ntransfer-encoding: chunked\r\n\r\n"
    start = _chunk(
        {"type": "message_start", "message": _message([], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    )
    deltas = tuple(
        _chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}})
        for token in tokens_of(text)
    )
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _USAGE}
    end = _chunk({"type": "content_block_stop", "index": 0}, stop, {"type": "message_stop"})
    return head + start, deltas, end + b"0\r\n\r\n"


_WHOLE = {envelope: _whole(ENVELOPE if envelope else ANSWER) for envelope in (True, False)}
_STREAM = {envelope: _stream(ENVELOPE if envelope else ANSWER) for envelope in (True, False)}


class Connection(asyncio.Protocol):
    """One keep-alive connection; a request is answered when its last byte is here."""

    def __init__(self, token_s: float, hold_s: float) -> None:
        self._token_s, self._hold_s = token_s, hold_s
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, head + 2)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._received) < end:
                return
            body = bytes(self._received[head + 4 : end])
            del self._received[:end]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        envelope = b"confidence" in body
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(_WHOLE[envelope])
            return
        start, deltas, end = _STREAM[envelope]
        if not self._token_s and not self._hold_s:
            self._transport.write(start + b"".join(deltas) + end)
            return
        self._transport.write(start)
        began = self._loop.time() + self._hold_s
        for number, delta in enumerate(deltas, 1):
            self._loop.call_at(began + number * self._token_s, self._write, delta)
        self._loop.call_at(began + (len(deltas) + 0.5) * self._token_s, self._write, end)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def _serve(token_s: float, hold_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(token_s, hold_s), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--token-ms", type=float, default=0.0, help="time between two tokens of a stream")
    parser.add_argument("--hold-s", type=float, default=0.0, help="silence after a stream's first event")
    options = parser.parse_args()
    uvloop.run(_serve(options.token_ms / 1000, options.hold_s))


if __name__ == "__main__":
    main()
