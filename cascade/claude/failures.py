"""The SDK's errors → Failure, in one place. A test holds the map complete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure, FailureKind
from cascade.transport.failures import (
    KIND_BY_STATUS,
    LONGEST_MESSAGE,
    TOO_LONG,
    OutOfTime,
    Unreadable,
    failure_of_transport,
    first_line,
    object_of,
    read_date,
    wait_of,
)

if TYPE_CHECKING:
    import anthropic

__all__ = ["NO_KEY", "OutOfTime", "Unreadable", "failure_of", "failure_of_body", "read_date"]

_SPEND_CAPS = frozenset({"contract_spend_limit_reached", "enforced_spend_limit_reached"})
NO_KEY = "no API key: set ANTHROPIC_API_KEY (or pass client=…); `cascade doctor` checks it, `cascade demo` needs none"


_HTTP_ERROR = re.compile("[45][0-9][0-9]")

_KIND_BY_CLASS: dict[str, FailureKind] = {
    "APITimeoutError": "timeout",
    "APIConnectionError": "connection",
    "APIResponseValidationError": "unreadable",
    "RetryableError": "server",
    "APIError": "unreadable",  # the base of those above; by itself it says nothing specific
}
"""The SDK's errors without an HTTP status, by class."""

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

    if (failure := failure_of_transport(error)) is not None:
        return failure
    if isinstance(error, anthropic.APIStatusError):
        return _failure_of_status(error)
    for kind in type(error).__mro__:
        if kind.__name__ in _KIND_BY_CLASS and issubclass(kind, anthropic.AnthropicError):
            return Failure(_KIND_BY_CLASS[kind.__name__], first_line(error))
    if isinstance(error, anthropic.CredentialsError) or _is_missing_key(error):
        raise MissingKey(NO_KEY) from None
    if isinstance(
        error, (anthropic.AnthropicError, ImportError)
    ):  # e.g. a platform's package is missing, a token expired
        raise ConfigurationError(f"client: the anthropic SDK cannot make the call: {first_line(error)}") from error
    return None


def _failure_of_status(error: anthropic.APIStatusError) -> Failure:
    return failure_of_body(error.body, error.status_code, error.response.headers, first_line(error))


def failure_of_body(body: object, status: int, headers: Mapping[str, str], otherwise: str = "") -> Failure:
    """The Failure for an error's body; `otherwise` is its message if the body has none.

    `status` below 400: the error came inside a stream, or as the body of a 200. The status then follows from its type, and
    the headers, which were sent before it, are ignored.
    """
    problem = object_of(object_of(body).get("error"))
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
        code = object_of(problem.get("details")).get("error_code")
        kind = "spend_cap" if code in _SPEND_CAPS or is_silent else "rate_limited"
    elif status in (400, 413, 422) and TOO_LONG.search(f"{text} {problem.get('code')}"):
        kind = "overflow"
    elif status in KIND_BY_STATUS:
        kind = KIND_BY_STATUS[status]
    elif status >= 500 or status < 400:
        kind = "server"
    else:
        kind = "rejected"
    return Failure(
        kind,
        text[:LONGEST_MESSAGE],
        status=status,
        request_id=headers.get("request-id"),
        retry_after_s=None if is_late else wait_of(headers),
        should_retry=should_retry,
    )


def _is_missing_key(error: Exception) -> bool:
    return isinstance(error, TypeError) and "authentication method" in str(error)
