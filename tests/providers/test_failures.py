"""The other vendor's errors are mapped once, and completely."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from cascade.core.errors import CascadeError, ConfigurationError, MissingKey
from cascade.core.messages import Failure
from cascade.openai.failures import failure_of, failure_of_body
from cascade.transport.failures import OutOfTime, Unreadable

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
CLIENT = openai.OpenAI(api_key="test")  # never asked: it makes errors as it would of a response
RETRIED = {408: "timeout", 409: "conflict", 429: "rate_limited", 504: "timeout", 529: "overloaded"}


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    """Every class below, and the root itself."""
    yield root
    for kind in root.__subclasses__():
        yield from subclasses(kind)


def exported() -> list[type[Exception]]:
    """All errors that the SDK has, whether its front door names them or not."""
    for name in openai.__all__:
        getattr(openai, name)  # some are imported when they are first used
    return sorted(set(subclasses(openai.OpenAIError)), key=lambda kind: kind.__qualname__)


def response(status: int, **headers: str) -> httpx2.Response:
    """A response of the endpoint, with a request id."""
    return httpx2.Response(status, request=REQUEST, headers={"x-request-id": "req_1", **headers})


def raised(kind: type[Exception]) -> Exception:
    """One of this class, made as the SDK makes it."""
    if issubclass(kind, openai.APIStatusError):
        return kind(
            *(() if kind is openai.OAuthError else ("no",)),
            response=response(getattr(kind, "status_code", 500)),
            body=None,
        )
    if issubclass(kind, openai.APIResponseValidationError):
        return kind(response(200), None)
    if issubclass(kind, openai.APITimeoutError):
        return kind(REQUEST)
    if issubclass(kind, openai.APIConnectionError):
        return kind(request=REQUEST)
    if issubclass(kind, openai.APIError):
        return kind("no", REQUEST, body=None)
    made = kind.__new__(kind)
    if kind.__init__ is Exception.__init__:
        return kind("no")
    needed = [one for one in inspect.signature(kind.__init__).parameters.values() if one.default is one.empty][1:]
    Exception.__init__(made, *["no" for one in needed if one.kind is one.POSITIONAL_OR_KEYWORD])
    return made


def mapped(error: Exception) -> Failure | CascadeError | None:
    """What becomes of an error: a failure, or the error of ours that it is raised as."""
    try:
        return failure_of(error)
    except CascadeError as ours:
        return ours


def failed_by(status: int, body: object, **headers: str) -> Failure:
    """What becomes of a response with this body."""
    made = mapped(CLIENT._make_status_error("no", body=body, response=response(status, **headers)))
    assert isinstance(made, Failure)
    return made


@pytest.mark.parametrize("kind", exported(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_has_a_meaning(kind: type[Exception]) -> None:
    """Each class is a Failure of the rung or an error of our own; none goes through as the vendor's."""
    assert isinstance(mapped(raised(kind)), (Failure, ConfigurationError))


def test_the_walk_finds_what_it_walks_for() -> None:
    """Guards the test above against finding nothing."""
    names = {kind.__name__ for kind in exported()}
    assert {"APIStatusError", "RateLimitError", "APITimeoutError", "OAuthError", "LengthFinishReasonError"} <= names
    assert len(names) > 15


@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_has_a_meaning(status: int) -> None:
    """With and without a readable body, also where the error is not an object."""
    for body in (
        {"error": {"message": "no", "type": "x", "param": None, "code": None}},
        {"error": "no"},
        "<html>",
        None,
    ):
        failure = failed_by(status, body)
        expected = RETRIED.get(status, "rejected" if status < 500 else "server")
        assert (failure.kind, failure.status, failure.request_id) == (expected, status, "req_1")


@pytest.mark.parametrize(
    ("status", "kind", "code", "message", "expected"),
    [
        (400, "invalid_request_error", "context_length_exceeded", "too many", "overflow"),
        (400, "invalid_request_error", None, "This model's maximum context length is 8192 tokens.", "overflow"),
        (413, "invalid_request_error", None, "Request too large", "rejected"),
        (400, "invalid_request_error", "invalid_value", "no", "rejected"),
        (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota", "spend_cap"),
        (400, "invalid_request_error", "billing_hard_limit_reached", "no", "spend_cap"),
        (429, "requests", "rate_limit_exceeded", "Rate limit reached for gpt-6-luna", "rate_limited"),
        (503, "server_error", None, "The server is currently overloaded with other requests.", "overloaded"),
        (503, "server_error", "slow_down", "no", "overloaded"),
        (500, "server_error", None, "The server had an error", "server"),
        (401, "invalid_request_error", "invalid_api_key", "Incorrect API key", "rejected"),
        (404, "invalid_request_error", "model_not_found", "no such model", "rejected"),
    ],
)
def test_codes_say_more_than_statuses(status: int, kind: str, code: str | None, message: str, expected: str) -> None:
    """A full context climbs, an empty account is not retried, an overloaded server is."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    assert failed_by(status, body).kind == expected


def test_the_endpoints_hints_for_retrying_are_read() -> None:
    """Milliseconds before seconds, `x-should-retry`, and the SDK's own limit: nobody waits longer than two minutes."""
    body = {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}
    assert failed_by(429, body, **{"retry-after": "7", "retry-after-ms": "1500"}).retry_after_s == 1.5
    assert failed_by(429, body, **{"x-should-retry": "false"}).should_retry is False
    assert failed_by(400, body, **{"x-should-retry": "true"}).should_retry is True
    assert failed_by(429, body, **{"retry-after": "120"}).should_retry is None
    assert failed_by(429, body, **{"retry-after": "121"}).should_retry is False


def test_a_prompt_above_the_accounts_limit_of_a_minute_is_not_sent_again() -> None:
    """It is a 429 like any other by its status, and would be one at every retry."""
    text = (
        "Request too large for gpt-6-luna in organization org-1 on tokens per min (TPM): Limit 30000, Requested 40000."
    )
    failure = failed_by(429, {"error": {"message": text, "type": "tokens", "code": "rate_limit_exceeded"}})
    assert (failure.kind, failure.should_retry) == ("rate_limited", False)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"message": "no", "code": 429}}, "rate_limited", 429),
        ({"error": {"message": "no", "type": "server_error"}}, "server", 500),
        ({"error": {"message": "no", "code": "insufficient_quota"}}, "spend_cap", 429),
        ({"error": {"message": "no"}}, "server", 200),
        ({"error": {"message": "no", "code": 401}}, "rejected", 401),
    ],
)
def test_an_error_in_a_200_is_read_by_what_it_says(body: dict[str, Any], kind: str, status: int) -> None:
    """As proxies send them; the headers' hints are not about it."""
    failure = failure_of_body(body, 200, {"retry-after": "9", "x-should-retry": "true", "x-request-id": "r"})
    assert (failure.kind, failure.status) == (kind, status)
    assert (failure.retry_after_s, failure.should_retry) == (None, None)


def test_a_missing_key_is_ours_to_tell() -> None:
    """The SDK's own error of it is not passed on."""
    assert isinstance(mapped(openai.OpenAIError("Missing credentials. Please pass an `api_key`")), MissingKey)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfTime(), "timeout"),
        (Unreadable("not it"), "unreadable"),
        (httpx2.ReadTimeout("no", request=REQUEST), "timeout"),
        (httpx2.RemoteProtocolError("no", request=REQUEST), "connection"),
        (httpx2.DecodingError("no", request=REQUEST), "unreadable"),
        (httpx2.ConnectError("no", request=REQUEST), "unreachable"),
    ],
)
def test_the_transports_errors_are_read_as_claudes_are(error: Exception, kind: str) -> None:
    """While a body is read they arrive unwrapped."""
    failure = failure_of(error)
    assert failure is not None
    assert failure.kind == kind


def test_an_error_that_is_not_about_the_call_stays_one() -> None:
    """A bug is not a failure of the rung."""
    assert failure_of(ZeroDivisionError("bug")) is None
