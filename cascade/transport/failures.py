"""What the vendors' SDKs share of failing: httpx2's errors, the wait that an endpoint asks for, and a prompt that is too long."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import gaierror
from ssl import SSLError
from typing import Any, cast

from cascade.core.messages import Failure, FailureKind

__all__ = [
    "KIND_BY_STATUS", "LONGEST_MESSAGE", "TOO_LONG", "OutOfTime", "Unreadable", "failure_of_transport", "first_line", "object_of", "read_date", "wait_of",
]  # fmt: skip

KIND_BY_STATUS: dict[int, FailureKind] = {
    408: "timeout",
    409: "conflict",
    429: "rate_limited",
    504: "timeout",
    529: "overloaded",
}
"""Statuses whose kind does not depend on the body."""

LONGEST_MESSAGE = 500
"""Characters of what an endpoint says that are kept."""
TOO_LONG = re.compile(
    r"(?:prompt|input) (?:is )?too long"  # Anthropic, Vertex (as HTTP 413), Bedrock
    r"|too many total text bytes"  # Bedrock
    r"|context[ _]?(?:window|limit|length|size)|maximum (?:context|model length|prompt length)"  # proxies, OpenRouter, vLLM, xAI
    r"|input token count.{0,40}exceeds the maximum|exceeded model token limit"  # Google, Moonshot
    r"|reduce the length of the messages",  # Groq
    re.IGNORECASE,
)
"""How endpoints word that a prompt does not fit the context window; the API has no code for it."""


class OutOfTime(Exception):
    """The time of an attempt ran out while its body was being read."""


class Unreadable(Exception):
    """HTTP 200, but not a message."""


def failure_of_transport(error: Exception) -> Failure | None:
    """The Failure for an error that both SDKs let through as it is, or hide in one of theirs; None for any other.

    No connection is an error of the SDK that has httpx2's as its cause. While a body is read, the transport's errors arrive
    unwrapped: the SDKs wrap only those before the headers.
    """
    import httpx2  # noqa: PLC0415 - it takes a second to import

    if isinstance(error, OutOfTime):
        return Failure("timeout", "the reply took longer than the time it had")
    if (why := _no_connection(error)) is not None:
        return Failure("unreachable", why)
    if isinstance(error, Unreadable):
        return Failure("unreadable", f"HTTP 200, but {error}", status=200)
    if not isinstance(error, (httpx2.RequestError, httpx2.StreamError)):
        return None
    if isinstance(error, httpx2.TimeoutException):
        return Failure("timeout", "the connection timed out")
    if isinstance(error, httpx2.DecodingError):
        return Failure("unreadable", "the body is not encoded as its headers say")
    return Failure("connection", f"the connection broke ({type(error).__name__})")


def _no_connection(error: Exception) -> str | None:
    """Why no connection could be made; None for any other error."""
    import httpx2  # noqa: PLC0415 - it takes a second to import

    found: BaseException | None = error
    is_connect = False
    while found is not None:
        is_connect = is_connect or isinstance(found, httpx2.ConnectError)
        if is_connect and isinstance(found, OSError) and found.errno is not None:
            if isinstance(found, gaierror):
                return "the name does not resolve"
            if isinstance(found, SSLError):
                return f"no TLS connection ({type(found).__name__})"
            return os.strerror(found.errno).lower()
        found = found.__cause__ or found.__context__
        if isinstance(found, BaseExceptionGroup):  # one for each address of the name
            found = cast("BaseException", found.exceptions[0])  # pyright: ignore[reportUnknownMemberType]
    return "no connection" if is_connect else None


def wait_of(headers: Mapping[str, str]) -> float | None:
    """The wait that the endpoint asks for, in seconds. Milliseconds come first, then seconds, then a date, as in the SDKs."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until = read_date(headers.get("retry-after"))
    if until is None:
        return None
    return max(0.0, (until - (read_date(headers.get("date")) or datetime.now(UTC))).total_seconds())


def read_date(date: str | None) -> datetime | None:
    """An HTTP date, in any of its three forms; None if invalid."""
    try:
        read = parsedate_to_datetime(date) if date else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (
        read.replace(tzinfo=UTC) if read is not None and read.tzinfo is None else read
    )  # the asctime form has no zone


def object_of(value: object) -> Mapping[str, Any]:
    """The value, if it is an object; else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
