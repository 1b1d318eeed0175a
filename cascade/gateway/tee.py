"""Reads the usage out of a response whose bytes have been passed on: a JSON body, or a stream's events.

Nothing of the answer's text is kept: of a stream only `message_start` and `message_delta` are parsed, the others are counted.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from cascade.core.messages import Usage

__all__ = ["BodyTee", "StreamTee", "Tee", "estimated_input", "make_tee"]

_DELTA_FRAME = len(
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}'
)
_CHARACTERS_PER_TOKEN = 4
_LONGEST_EVENT = 8 * 1024 * 1024  # one that never ends must not fill the memory
_LONGEST_BODY = 64 * 1024 * 1024


class _Body(msgspec.Struct, gc=False):
    usage: dict[str, Any] | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    usage: dict[str, Any] | None = None


class _Delta(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    message: _Message | None = None
    usage: dict[str, Any] | None = None
    delta: _Delta | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_event = msgspec.json.Decoder(_Event).decode


class Tee(Protocol):
    """Is fed what was passed on, and knows the usage at the end."""

    @property
    def stop_reason(self) -> str:
        """Why the model stopped; "" if it is not known."""
        ...

    @property
    def is_error(self) -> bool:
        """Whether the stream ended with an error event."""
        ...

    def feed(self, piece: bytes) -> None:
        """A piece of the body, in its order."""
        ...

    def usage(self, body: bytes) -> Usage:
        """What was billed, an estimate where it is not known. `body`: the request's, whose length the estimate goes by."""
        ...


def make_tee(content_type: bytes, encoding: bytes) -> Tee:
    """The reader for a response with these headers."""
    tee = StreamTee() if content_type.startswith(b"text/event-stream") else BodyTee()
    coding = encoding.strip().lower()
    return tee if coding in (b"", b"identity") else _Inflating(tee, coding)


class BodyTee:
    """Reads a JSON body."""

    __slots__ = ("_pieces", "_size", "is_error", "stop_reason")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.stop_reason, self.is_error = "", False

    def feed(self, piece: bytes) -> None:
        """As `Tee.feed`."""
        self._size += len(piece)
        if self._size <= _LONGEST_BODY:
            self._pieces.append(piece)

    def usage(self, body: bytes) -> Usage:
        """As `Tee.usage`."""
        try:
            read = _decode_body(b"".join(self._pieces))
            self.stop_reason = read.stop_reason or ""
            if read.usage is not None:
                return Usage.from_api(read.usage)
        except (ValueError, RecursionError):
            pass
        return replace(estimated_input(body), output_tokens=math.ceil(self._size / _CHARACTERS_PER_TOKEN))


class StreamTee:
    """Reads a stream's events as they come."""

    __slots__ = ("_characters", "_counts", "_left", "_open", "_usage", "is_error", "stop_reason")

    def __init__(self) -> None:
        self._left = b""
        self._usage: dict[str, Any] = {}
        self._counts = False  # message_delta has told the output: message_start tells its first tokens only
        self._characters = 0
        self._open = True
        self.stop_reason, self.is_error = "", False

    def feed(self, piece: bytes) -> None:
        """As `Tee.feed`."""
        if not self._open:
            return
        data = self._left + piece if self._left else piece
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._left = data.split(b"\n\n")
        for event in events:
            if b"message_start" in event or b"message_delta" in event or event.startswith(b"event: error"):
                self._read(event)
            elif b"content_block_delta" in event:
                self._characters += max(0, len(event) - _DELTA_FRAME)
        if len(self._left) > _LONGEST_EVENT:
            self._left, self._open = b"", False

    def _read(self, event: bytes) -> None:
        data = b"".join(line[5:] for line in event.split(b"\n") if line.startswith(b"data:"))
        try:
            read = _decode_event(data)
        except (ValueError, RecursionError):
            return
        if read.type == "message_start" and read.message is not None:
            self._usage = read.message.usage or {}
        elif read.type == "message_delta":
            counts = read.usage or {}
            self._usage = {**self._usage, **{key: value for key, value in counts.items() if value is not None}}
            self._counts = self._counts or "output_tokens" in counts
            if read.delta is not None and read.delta.stop_reason:
                self.stop_reason = read.delta.stop_reason
        elif read.type == "error":
            self.is_error = True
        elif read.type == "content_block_delta":
            self._characters += max(0, len(event) - _DELTA_FRAME)

    def usage(self, body: bytes) -> Usage:
        """As `Tee.usage`."""
        try:
            known = Usage.from_api(self._usage)
        except ValueError:
            known = Usage()
        if self._counts and known.prompt_tokens:
            return known
        if not known.prompt_tokens:
            known = replace(estimated_input(body), output_tokens=known.output_tokens)
        seen = math.ceil(self._characters / _CHARACTERS_PER_TOKEN)
        return replace(known, output_tokens=max(known.output_tokens, seen), is_estimate=True)


def estimated_input(body: bytes) -> Usage:
    """A request's input, by its length."""
    return Usage(input_tokens=math.ceil(len(body) / _CHARACTERS_PER_TOKEN), is_estimate=True)


class _Inflating:
    """Feeds another tee with what it decompresses."""

    __slots__ = ("_inflate", "_is_readable", "_tee")

    def __init__(self, tee: Tee, coding: bytes) -> None:
        self._tee = tee
        self._is_readable = coding in (b"gzip", b"x-gzip", b"deflate")
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its head

    @property
    def stop_reason(self) -> str:
        return self._tee.stop_reason

    @property
    def is_error(self) -> bool:
        return self._tee.is_error

    def feed(self, piece: bytes) -> None:
        if not self._is_readable:
            return
        try:
            for part in self._parts(piece):
                self._tee.feed(part)
        except zlib.error:
            self._is_readable = False

    def _parts(self, piece: bytes) -> Iterable[bytes]:
        """In pieces of bounded size: a few bytes may inflate to gigabytes."""
        while piece:
            yield self._inflate.decompress(piece, _LONGEST_EVENT)
            piece = self._inflate.unconsumed_tail

    def usage(self, body: bytes) -> Usage:
        return self._tee.usage(body)
