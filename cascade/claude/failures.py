"""The SDK's errors → Failure, in one place. A test holds the map complete."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import gaierror
from ssl import SSLError
from typing import TYPE_CHECKING, Any, cast

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure, FailureKind

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["NO_KEY", "OutOfTime", "Unreadable", "failure_of", "failure_of_body", "read_date"]

_LONGEST_MESSAGE = 500  # characters of what the endpoint says
_SPEND_CAPS = frozenset({"contract_spend_limit_reached", "enforced_spend_limit_reached"})
_TOO_LONG = re.compile(
    r"(?:prompt|input) (?:is )?too long"  # Anthropic, Vertex (as HTTP 413), Bedrock
    r"|too many total text bytes"  # Bedrock
    r"|context[ _]?(?:window|limit|length|size)|maximum (?:context|model length|prompt length)"  # proxies, OpenRouter, vLLM, xAI
    r"|input token count.{0,40}exceeds the maximum|exceeded model token limit"  # Google, Moonshot
    r"|reduce the length of the messages",  # Groq
    re.IGNORECASE,
)
"""How endpoints word that a prompt does not fit the context window; the API has no code for it."""

NO_KEY = "no API key: set ANTHROPIC_API_KEY (or pass client=…); `cascade doctor` checks it, `cascade demo` needs none"


class OutOfTime(Exception):
    """The time of an attempt ran out while its body was being read."""


class Unreadable(Exception):
    """HTTP 200, but not a message."""


_HTTP_ERROR = re.compile("[45][0-9][0-9]")

_KIND_BY_CLASS: dict[str, FailureKind] = {
    "APITimeoutError": "timeout",
    "APIConnectionError": "connection",
    "APIResponseValidationError": "unreadable",
    "RetryableError": "server",
    "APIError": "unreadable",  # the base of those above; by itself it says nothing specific
}
"""The SDK's errors without an HTTP status, by class."""

_KIND_BY_STATUS: dict[int, FailureKind] = {
    408: "timeout",
    409: "conflict",
    429: "rate_limited",
    504: "timeout",
    529: "overloaded",
}

_STATUS_BY_TYPE: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "memory_path_conflict_error": 409,
    "memory_precondition_failed_error": 412,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Bedrock's, which the SDK turns into error events:
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "throttlingexception": 429,
    "internalserverexception": 500,
    "modelstreamerrorexception": 500,
    "serviceunavailableexception": 503,
}
"""The status that an error inside an HTTP 200 would have had, by its type in lower case."""


def failure_of(error: Exception) -> Failure | None:
    """An SDK error as a Failure of one attempt; None for an error that is not about the call (a bug, Ctrl-C …).

    Raises MissingKey if the SDK found no credentials, ConfigurationError if it cannot make the call at all.
    """
    import anthropic  # noqa: PLC0415 - it takes a second to import
    import httpx2  # noqa: PLC0415 - it takes a second to import

    if isinstance(error, OutOfTime):
        return Failure("timeout", "the reply took longer than the time it had")
    if (why := _no_connection(error)) is not None:
        return Failure("unreachable", why)
    if isinstance(error, Unreadable):
        return Failure("unreadable", f"HTTP 200, but {error}", status=200)
    if isinstance(error, anthropic.APIStatusError):
        return _failure_of_status(error)
    for kind in type(error).__mro__:
        if kind.__name__ in _KIND_BY_CLASS and issubclass(kind, anthropic.AnthropicError):
            return Failure(_KIND_BY_CLASS[kind.__name__], _first_line(error))
    if isinstance(error, (httpx2.RequestError, httpx2.StreamError)):
        return _failure_of_transport(error)
    if isinstance(error, anthropic.CredentialsError) or _is_missing_key(error):
        raise MissingKey(NO_KEY) from None
    if isinstance(
        error, (anthropic.AnthropicError, ImportError)
    ):  # e.g. a platform's package is missing, a token expired
        raise ConfigurationError(f"client: the anthropic SDK cannot make the call: {_first_line(error)}") from error
    return None


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


def _failure_of_transport(error: httpx2.RequestError | httpx2.StreamError) -> Failure:
    # While a body is read, the transport's errors arrive unwrapped: the SDK wraps only those before the headers.
    import httpx2  # noqa: PLC0415 - it takes a second to import

    if isinstance(error, httpx2.TimeoutException):
        return Failure("timeout", "the connection timed out")
    if isinstance(error, httpx2.DecodingError):
        return Failure("unreadable", "the body is not encoded as its headers say")
    return Failure("connection", f"the connection broke ({type(error).__name__})")


def _failure_of_status(error: anthropic.APIStatusError) -> Failure:
    return failure_of_body(error.body, error.status_code, error.response.headers, _first_line(error))


def failure_of_body(body: object, status: int, headers: Mapping[str, str], otherwise: str = "") -> Failure:
    """The Failure for an error's body; `otherwise` is its message if the body has none.

    `status` below 400: the error came inside a stream, or as the body of a 200. The status then follows from its type, and
    the headers, which were sent before it, are ignored.
    """
    problem = _object(_object(body).get("error"))
    category = str(problem.get("type") or "").lower()
    is_late = status < 400
    if is_late:
        code = str(problem.get("code"))  # some proxies put the status there, as a number or text
        status = _STATUS_BY_TYPE.get(category, int(code) if _HTTP_ERROR.fullmatch(code) else status)
    text = " ".join(str(problem.get("message") or otherwise).split())
    should_retry = None if is_late else {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    kind: FailureKind
    if category == "overloaded_error":
        kind = "overloaded"
    elif status == 429:
        # Anthropic's rate limits say when to retry, its spend caps do not. Other platforms never say.
        says_when = should_retry or "retry-after" in headers or "retry-after-ms" in headers
        is_silent = not is_late and "request-id" in headers and not says_when
        code = _object(problem.get("details")).get("error_code")
        kind = "spend_cap" if code in _SPEND_CAPS or is_silent else "rate_limited"
    elif status in (400, 413, 422) and _TOO_LONG.search(f"{text} {problem.get('code')}"):
        kind = "overflow"
    elif status in _KIND_BY_STATUS:
        kind = _KIND_BY_STATUS[status]
    elif status >= 500 or status < 400:
        kind = "server"
    else:
        kind = "rejected"
    return Failure(
        kind,
        text[:_LONGEST_MESSAGE],
        status=status,
        request_id=headers.get("request-id"),
        retry_after_s=None if is_late else _wait_of(headers),
        should_retry=should_retry,
    )


def _wait_of(headers: Mapping[str, str]) -> float | None:
    """The wait that the endpoint asks for, in seconds. Milliseconds come first, then seconds, then a date, as in the SDK."""
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


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_missing_key(error: Exception) -> bool:
    return isinstance(error, TypeError) and "authentication method" in str(error)
