"""The SDK's errors → Failure, in one place. A test holds the map complete."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure, FailureKind
from cascade.transport.failures import (
    KIND_BY_STATUS,
    LONGEST_MESSAGE,
    TOO_LONG,
    failure_of_transport,
    first_line,
    object_of,
    wait_of,
)

__all__ = ["failure_of", "failure_of_body", "is_refusal"]

_KIND_BY_CLASS: dict[str, FailureKind] = {
    "APITimeoutError": "timeout",
    "APIConnectionError": "connection",
    "APIResponseValidationError": "unreadable",
    "APIError": "unreadable",  # the base of those above; by itself it says nothing specific
}
"""The SDK's errors without an HTTP status, by class."""
_KIND_BY_CODE: dict[str, FailureKind] = {
    "context_length_exceeded": "overflow",
    "string_above_max_length": "overflow",
    "insufficient_quota": "spend_cap",
    "billing_hard_limit_reached": "spend_cap",
    "billing_not_active": "spend_cap",
    "rate_limit_exceeded": "rate_limited",
    "slow_down": "overloaded",
    "server_overloaded": "overloaded",
}
"""By the error's `code` or `type`, whatever the status is."""
_REFUSALS = frozenset({"content_filter", "content_policy_violation"})
_FLAGGED = re.compile("usage policy|content management policy|safety", re.IGNORECASE)

_STATUS_BY_TYPE: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "timeout": 504,
}
"""The status that an error inside an HTTP 200 would have had, by its type or code."""

_HTTP_ERROR = re.compile("[45][0-9][0-9]")
_NEVER_FITS = re.compile("request too large for", re.IGNORECASE)  # more tokens than the account may send in a minute
_OVERLOADED = re.compile("overloaded", re.IGNORECASE)
_LONGEST_WAIT_S = 120.0  # the SDK does not retry where it is asked to wait longer


def failure_of(error: Exception) -> Failure | None:
    """An SDK error as a Failure of one attempt; None for an error that is not about the call (a bug, Ctrl-C …).

    Raises MissingKey if the SDK found no credentials, ConfigurationError if it cannot make the call at all.
    """
    import openai  # noqa: PLC0415 - an extra, which takes a second to import

    if (failure := failure_of_transport(error)) is not None:
        return failure
    if isinstance(error, openai.APIStatusError):
        return failure_of_body(error.body, error.status_code, error.response.headers, first_line(error))
    for kind in type(error).__mro__:
        if kind.__name__ in _KIND_BY_CLASS and issubclass(kind, openai.OpenAIError):
            return Failure(_KIND_BY_CLASS[kind.__name__], first_line(error)[:LONGEST_MESSAGE])
    if isinstance(error, openai.OpenAIError) and "Missing credentials" in str(error):
        raise MissingKey("no API key: set OPENAI_API_KEY; `cascade doctor` checks it") from None
    if isinstance(error, (openai.OpenAIError, ImportError)):  # e.g. a package is missing, a token expired
        raise ConfigurationError(f"the openai SDK cannot make the call: {first_line(error)}") from error
    return None


def is_refusal(error: Exception) -> bool:
    """Whether the endpoint's filter refused the prompt: an error by its form, and the model's "refusal" by what it means."""
    import openai  # noqa: PLC0415 - an extra, which takes a second to import

    if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 403, 422):
        return False
    problem = object_of(error.body)
    problem = object_of(problem["error"]) if isinstance(problem.get("error"), Mapping) else problem
    code = str(problem.get("code") or "").lower()
    return code in _REFUSALS or (code == "invalid_prompt" and bool(_FLAGGED.search(str(problem.get("message")))))


def failure_of_body(body: object, status: int, headers: Mapping[str, str], otherwise: str = "") -> Failure:
    """The Failure for an error's body; `otherwise` is its message if the body has none.

    The SDK takes the error out of its body; a proxy's may still be in it. `status` below 400: the body of a 200, as proxies
    send it. The status then follows from its type or code, and the headers' hints are not about it.
    """
    problem = object_of(body)
    problem = object_of(problem["error"]) if isinstance(problem.get("error"), Mapping) else problem
    said = problem.get("message") or (problem["error"] if isinstance(problem.get("error"), str) else None)
    words = [str(problem.get(key) or "").lower() for key in ("code", "type")]
    is_late = status < 400
    if is_late:
        known = [_STATUS_BY_TYPE[word] for word in words if word in _STATUS_BY_TYPE]
        status = int(words[0]) if _HTTP_ERROR.fullmatch(words[0]) else known[0] if known else status
    text = " ".join(str(said or otherwise).split())
    wait = None if is_late else wait_of(headers)
    kind = _kind_of(words, status, text)
    should_retry = None if is_late else {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    if (kind == "rate_limited" and _NEVER_FITS.match(text)) or (wait or 0.0) > _LONGEST_WAIT_S:
        should_retry = False
    return Failure(
        kind,
        text[:LONGEST_MESSAGE],
        status=status,
        request_id=headers.get("x-request-id"),
        retry_after_s=wait,
        should_retry=should_retry,
    )


def _kind_of(words: list[str], status: int, text: str) -> FailureKind:
    for word in words:
        if word in _KIND_BY_CODE:
            return _KIND_BY_CODE[word]
    if status in (400, 413, 422) and TOO_LONG.search(text):
        return "overflow"
    if status in KIND_BY_STATUS:
        return KIND_BY_STATUS[status]
    if status >= 500 or status < 400:
        return "overloaded" if _OVERLOADED.search(text) else "server"
    return "rejected"
