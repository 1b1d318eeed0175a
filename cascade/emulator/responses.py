"""The head of an HTTP response: its headers, and the errors that faults bring."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from cascade.emulator.requests import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.emulator.faults import Fault, FaultKind

__all__ = ["ERRORS", "fault_error", "headers_of"]

ERRORS: Final[dict[FaultKind, tuple[int, str, str]]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "spend_cap": (429, "rate_limit_error", "You have reached your organization's monthly API usage threshold."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "stream_overloaded": (529, "overloaded_error", "Overloaded"),
    "stream_unauthorized": (401, "authentication_error", "invalid bearer token"),
    "server_error": (500, "api_error", "Internal server error"),
    "unavailable": (503, "api_error", "Service unavailable"),
    "invalid_request": (400, "invalid_request_error", "emulator: this request of the batch is refused by a fault"),
    "context_overflow_400": (400, "invalid_request_error", "prompt is too long: 1000001 tokens > 1000000 maximum"),
}
"""Status, type and message of the faults that are errors."""
_TOO_MANY = 429
_LIMITS: Final = {"requests": 4_000, "input-tokens": 2_000_000, "output-tokens": 400_000, "tokens": 2_400_000}
_DATES: Final[dict[str, Callable[[int], str]]] = {
    "date": lambda seconds: formatdate(seconds, usegmt=True),
    "rfc850": lambda seconds: time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(seconds)),
    "asctime": lambda seconds: time.asctime(time.gmtime(seconds)),
}


def fault_error(fault: Fault) -> ApiError:
    """The error of a fault that is in `ERRORS`."""
    status, category, message = ERRORS[fault.kind]
    if fault.kind == "rate_limit" and fault.retry_after is None:
        fault = replace(fault, retry_after=1.0)
    if fault.kind == "spend_cap":
        fault = replace(fault, retry_after=None)
        return ApiError(status, category, message, details="enforced_spend_limit_reached", retry=fault)
    return ApiError(status, category, message, retry=fault)


def headers_of(
    status: int,
    request_id: str,
    *,
    length: int | None = None,
    error: ApiError | None = None,
    lines: bool = False,
    chat: bool = False,
) -> list[tuple[str, str]]:
    """The headers of a response; without `length` (bytes) those of a stream, of JSON lines if `lines`.

    `chat`: of the chat completions API.
    """
    stream, now = length is None, int(time.time())
    streamed = "application/x-jsonl" if lines else "text/event-stream; charset=utf-8"
    headers = [
        ("content-type", streamed if stream else "application/json"),
        ("cache-control", "no-cache") if stream else ("content-length", str(length)),
        ("date", formatdate(now, usegmt=True)),
        *(_of_chat(request_id) if chat else _of_messages(request_id, exhausted=status == _TOO_MANY)),
    ]
    if error is not None and error.retry is not None:
        headers += _retry_headers(error.retry, now)
    return headers


def _of_messages(request_id: str, *, exhausted: bool) -> list[tuple[str, str]]:
    organization = ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")
    return [("request-id", request_id), organization, *_rate_limits(exhausted=exhausted)]


def _of_chat(request_id: str) -> list[tuple[str, str]]:
    return [("x-request-id", request_id), ("openai-processing-ms", "1"), ("openai-version", "2020-10-01")]


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
