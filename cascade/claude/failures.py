"""The SDK's errors → Failure, in one place. A test holds the map complete."""

from __future__ import annotations

import os
from socket import gaierror
from ssl import SSLError
from typing import TYPE_CHECKING, cast

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure, FailureKind

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["NO_KEY", "OutOfTime", "Unreadable", "failure_of"]

_LONGEST_MESSAGE = 500  # characters of what the endpoint says
_SPEND_CAPS = frozenset({"contract_spend_limit_reached", "enforced_spend_limit_reached"})
_CONTEXT_WORDS = ("prompt is too long", "context window", "context limit", "maximum context length")

NO_KEY = "no API key: set ANTHROPIC_API_KEY (or pass client=…); `cascade doctor` checks it, `cascade demo` needs none"


class OutOfTime(Exception):
    """The time of an attempt ran out while its body was being read."""


class Unreadable(Exception):
    """HTTP 200, but not a message."""


_KIND_BY_CLASS: dict[str, FailureKind] = {
    "APITimeoutError": "timeout",
    "APIConnectionError": "connection",
    "APIResponseValidationError": "unreadable",
    "RetryableError": "server",
    "APIError": "unreadable",  # the root of those above: one that is none of them says nothing we could go by
}
"""The SDK's errors that have no HTTP status, by class; those that have one are told apart by it."""

_KIND_BY_STATUS: dict[int, FailureKind] = {
    408: "timeout",
    409: "conflict",
    429: "rate_limited",
    504: "timeout",
    529: "overloaded",
}


def failure_of(error: Exception) -> Failure | None:
    """A vendor's error as a Failure of one attempt; None for an error that is not about the call (a bug, Ctrl-C …).

    Raises MissingKey where the SDK found no credentials, ConfigurationError where it cannot even make the call.
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
    if isinstance(error, (anthropic.AnthropicError, ImportError)):  # a platform's package is missing, a token expired …
        raise ConfigurationError(f"client: the anthropic SDK cannot make the call: {_first_line(error)}") from error
    return None


def _no_connection(error: Exception) -> str | None:
    """Why no connection could be made; None where one was, or the error is another."""
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
    # Reading a body chunk by chunk meets the transport's errors bare: the SDK wraps only those before the headers.
    import httpx2  # noqa: PLC0415 - it takes a second to import

    if isinstance(error, httpx2.TimeoutException):
        return Failure("timeout", "the connection timed out")
    if isinstance(error, httpx2.DecodingError):
        return Failure("unreadable", "the body is not encoded as its headers say")
    return Failure("connection", f"the connection broke ({type(error).__name__})")


def _failure_of_status(error: anthropic.APIStatusError) -> Failure:
    status = error.status_code
    message = " ".join(str(error.api_message or _first_line(error)).split())[:_LONGEST_MESSAGE]
    kind: FailureKind
    if error.type == "overloaded_error":  # inside a stream it comes with status 200
        kind = "overloaded"
    elif status == 429:
        # Anthropic's own limits say when to come back; other platforms' throttling says nothing either way.
        headers = error.response.headers
        capped = error.error_code in _SPEND_CAPS or ("retry-after" not in headers and "request-id" in headers)
        kind = "spend_cap" if capped else "rate_limited"
    elif status == 400 and any(words in message.lower() for words in _CONTEXT_WORDS):
        kind = "overflow"
    elif status in _KIND_BY_STATUS:
        kind = _KIND_BY_STATUS[status]
    elif status >= 500 or status < 400:
        kind = "server"
    else:
        kind = "rejected"
    return Failure(kind, message, status=status, request_id=error.request_id)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_missing_key(error: Exception) -> bool:
    return isinstance(error, TypeError) and "authentication method" in str(error)
