"""The vendor's errors are mapped once, and completely."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import anthropic
import httpx2
import pytest

from cascade.claude.failures import OutOfTime, Unreadable, failure_of
from cascade.core.errors import CascadeError, ConfigurationError, MissingKey
from cascade.core.messages import Failure

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/messages")
CLIENT = anthropic.Anthropic(api_key="test")  # never asked: it makes errors as it would of a response
REJECTED = {400, 401, 402, 403, 404, 413}
RETRIED = {
    408: "timeout",
    409: "conflict",
    429: "rate_limited",
    500: "server",
    502: "server",
    503: "server",
    504: "timeout",
    529: "overloaded",
}


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    """Every class below, and the root itself."""
    yield root
    for kind in root.__subclasses__():
        yield from subclasses(kind)


def exported() -> list[type[Exception]]:
    """All errors that the SDK has, whether its front door names them or not."""
    for name in anthropic.__all__:
        getattr(anthropic, name)  # some are imported when they are first used
    return sorted(set(subclasses(anthropic.AnthropicError)), key=lambda kind: kind.__qualname__)


def raised(kind: type[Exception]) -> Exception:
    """One of this class, made as the SDK makes it."""
    if issubclass(kind, anthropic.APIStatusError):
        status = getattr(kind, "status_code", 500)
        return kind("no", response=response(status), body={"error": {"type": "api_error", "message": "no"}})
    if issubclass(kind, anthropic.APIResponseValidationError):
        return kind(response(200), None)
    if issubclass(kind, anthropic.APITimeoutError):
        return kind(REQUEST)
    if issubclass(kind, anthropic.APIConnectionError):
        return kind(request=REQUEST)
    if issubclass(kind, anthropic.APIError):
        return kind("no", REQUEST, body=None)
    needed = [one for one in inspect.signature(kind.__init__).parameters.values() if one.default is one.empty][1:]
    named = {one.name: "no" for one in needed if one.kind is one.KEYWORD_ONLY}
    return kind(*["no" for one in needed if one.kind is one.POSITIONAL_OR_KEYWORD], **named)


def response(status: int, **headers: str) -> httpx2.Response:
    """A response of the endpoint, with a request id."""
    return httpx2.Response(status, request=REQUEST, headers={"request-id": "req_1", **headers})


def mapped(error: Exception) -> Failure | CascadeError | None:
    """What becomes of an error: a failure, or the error of ours that it is raised as."""
    try:
        return failure_of(error)
    except CascadeError as ours:
        return ours


@pytest.mark.parametrize("kind", exported(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_has_a_meaning(kind: type[Exception]) -> None:
    """Each class is a Failure of the rung or an error of our own; none goes through as the vendor's."""
    assert isinstance(mapped(raised(kind)), (Failure, ConfigurationError))


@pytest.mark.parametrize("error", [ImportError("No module named 'botocore'"), anthropic.AnthropicError("\n\nno\nmore")])
def test_what_keeps_the_sdk_from_calling_at_all_is_told_in_one_line(error: Exception) -> None:
    """A platform's package that is not installed, and what else it raises before a byte is sent."""
    with pytest.raises(
        ConfigurationError, match=r"^client: the anthropic SDK cannot make the call: [^\n]*no[^\n]*$|botocore"
    ):
        failure_of(error)


def test_the_walk_finds_what_it_walks_for() -> None:
    """Guards the test above against finding nothing: the classes that FACTS names are among them."""
    names = {kind.__name__ for kind in exported()}
    assert {"APIStatusError", "OverloadedError", "APITimeoutError", "CredentialsError", "RetryableError"} <= names
    assert len(names) > 50


@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_has_a_meaning(status: int) -> None:
    """Made as the SDK makes it, with and without a readable body."""
    for body in ({"type": "error", "error": {"type": "api_error", "message": "no"}}, "<html>", None):
        error = CLIENT._make_status_error("no", body=body, response=response(status, **{"retry-after": "1"}))
        failure = failure_of(error)
        assert failure is not None
        expected = RETRIED.get(status, "rejected" if status < 500 else "server")
        assert (failure.kind, failure.status, failure.request_id) == (expected, status, "req_1")


def test_what_is_the_callers_fault_is_never_retried() -> None:
    """The six statuses of the contract, and the overflow apart."""
    for status in REJECTED:
        failure = failure_of(CLIENT._make_status_error("no", body=None, response=response(status)))
        assert failure is not None
        assert failure.kind == "rejected"


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 1000001 tokens > 1000000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
        "This model's maximum context length is 8192 tokens",
    ],
)
def test_a_prompt_that_does_not_fit_is_an_overflow(message: str) -> None:
    """The 400 that a larger model may cure, in the words of several endpoints."""
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    error = anthropic.BadRequestError(message, response=response(400), body=body)
    failure = failure_of(error)
    assert failure is not None
    assert failure.kind == "overflow"


def test_an_overload_is_known_by_its_type_not_its_status() -> None:
    """Inside a stream it comes with HTTP 200."""
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    failure = failure_of(anthropic.APIStatusError("Overloaded", response=response(200), body=body))
    assert failure is not None
    assert (failure.kind, failure.status) == ("overloaded", 200)


@pytest.mark.parametrize("kind", [*subclasses(httpx2.RequestError), *subclasses(httpx2.StreamError)])
def test_every_error_of_the_transport_has_a_meaning(kind: type[Exception]) -> None:
    """While a body is read the SDK does not wrap them."""
    takes = inspect.signature(kind.__init__).parameters
    failure = failure_of(kind("broken") if "message" in takes else kind())
    assert failure is not None
    special = {
        httpx2.TimeoutException: "timeout",
        httpx2.DecodingError: "unreadable",
        httpx2.ConnectError: "unreachable",
    }
    assert failure.kind == next((name for root, name in special.items() if issubclass(kind, root)), "connection")


def test_our_own_two_are_in_the_map() -> None:
    """Out of time is a time-out; what is no message is unreadable."""
    assert [mapped(error).kind for error in (OutOfTime(), Unreadable("not JSON"))] == ["timeout", "unreadable"]  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), TypeError("bug"), ValueError("bug"), KeyError("bug")])
def test_a_bug_is_not_taken_for_a_failure(error: Exception) -> None:
    """What is not about the call goes through as it is."""
    assert failure_of(error) is None


def test_missing_credentials_are_told_in_one_line() -> None:
    """Whichever of its errors the SDK raises for them."""
    for error in (anthropic.CredentialsError("long\ntext"), TypeError("Could not resolve authentication method.")):
        with pytest.raises(MissingKey) as caught:
            failure_of(error)
        assert "\n" not in str(caught.value)
