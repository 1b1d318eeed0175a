"""Reads a request's body, within limits, and the field of it that decides where it goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic_core import from_json

from cascade.gateway.callers import CONNECTION, Connection
from cascade.gateway.problems import Problem
from cascade.gateway.settings import Limits

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

__all__ = ["CallerGone", "Head", "json_object", "read_body", "read_head"]


class CallerGone(Exception):
    """The caller disconnected before its request was complete."""


class Head(msgspec.Struct, gc=False):
    """What decides where a request goes. Everything else in the body is skipped, not built."""

    model: str


_decode_head = msgspec.json.Decoder(Head).decode


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body. Raises Problem (413, 408, 415), and CallerGone."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise _encoded()
        if name == b"content-length" and int(value) > limits.body:  # the parser has checked that it is a number
            raise _too_large(limits, leaves_body=True)
    connection: Connection = scope["extensions"][CONNECTION]
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive() if connection.has_body else await _wait(receive, limits.body_s)
        if message["type"] == "http.disconnect":
            raise CallerGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limits.body:
            raise _too_large(limits, leaves_body=message.get("more_body", False))
        if not message.get("more_body", False):
            if not pieces:
                return piece
            pieces.append(piece)
            return b"".join(pieces)
        pieces.append(piece)


async def _wait(receive: Receive, seconds: float) -> Message:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        message = f"no piece of the body has arrived for {seconds:g} s"
        raise Problem(408, message, headers=[(b"connection", b"close")]) from None


def _encoded() -> Problem:
    problem = Problem(
        415,
        "content-encoding: a request's body is read as it is (send it uncompressed)",
        headers=[(b"connection", b"close")],
    )
    problem.leaves_body = True
    return problem


def _too_large(limits: Limits, *, leaves_body: bool) -> Problem:
    message = f"the body is larger than {limits.body} bytes (send less, or raise --max-body)"
    problem = Problem(413, message, headers=[(b"connection", b"close")])
    problem.leaves_body = leaves_body
    return problem


def read_head(body: bytes) -> Head:
    """The model. Raises Problem if the body is not such a request."""
    try:
        return _decode_head(body)
    except msgspec.ValidationError as problem:
        raise Problem(400, f"body: {problem}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Problem(400, "body: it is not valid JSON, or nested too deeply") from None


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Problem if it is something else."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise Problem(400, "body: it is not valid JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise Problem(400, "body: a JSON object is needed")
    return value  # pyright: ignore[reportUnknownVariableType]
