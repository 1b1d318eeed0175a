"""The vendor's errors are mapped once, and completely."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, get_args

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


def failed_by(
    category: str, message: str, *, status: int, headers: dict[str, str] | None = None, **more: Any
) -> Failure:
    """What becomes of an error of this type and status; 200: one inside a stream."""
    body = {"type": "error", "error": {"type": category, "message": message, **more}}
    made = CLIENT._make_status_error(message, body=body, response=response(status, **(headers or {})))
    failure = failure_of(made)
    assert failure is not None
    return failure


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
        "Input is too long for requested model.",  # Bedrock
        "The model returned the following errors: Input is too long for requested model.",
        "too many total text bytes: 1073741825 > 25000000",
        "Prompt is too long",  # Vertex
        "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
        '{"type":"error","error":{"type":"invalid_request_error","message":"Prompt is too long"}}',  # a proxy's nesting
        "litellm.ContextWindowExceededError: BedrockException: Context Window Error - Input is too long",
        "This endpoint's maximum context length is 32768 tokens. However, you requested about 42832 tokens",  # OpenRouter
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "the request exceeds the available context size, try increasing it",  # llama.cpp
        "Trying to keep the first 9000 tokens when the model is loaded with context length of only 4096 tokens",
        "Please reduce the length of the messages or completion.",  # Groq
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",  # xAI
        "The prompt (total length 9000) is longer than the maximum model length of 8192",  # vLLM
        "Your request exceeded model token limit: 262144",  # Moonshot
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 200])
def test_a_prompt_that_does_not_fit_is_an_overflow(message: str, status: int) -> None:
    """A larger model may cure it: in the words of several platforms, by HTTP status (Vertex: 413) or inside a stream."""
    failure = failed_by("invalid_request_error", message, status=status)
    assert failure.kind == "overflow"


@pytest.mark.parametrize(
    "body", [{"message": "Input is too long for requested model."}, {"error": {"code": "context_length_exceeded"}}]
)
def test_an_overflow_is_known_in_bodies_of_another_shape(body: dict[str, Any]) -> None:
    """Bedrock's bare message, and a code without any words."""
    failure = failure_of(CLIENT._make_status_error(f"Error code: 400 - {body}", body=body, response=response(400)))
    assert failure is not None
    assert failure.kind == "overflow"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "max_tokens: 300000 > 128000, which is the maximum allowed number of output tokens"),
        (400, "messages: text content blocks must be non-empty"),
        (400, "metadata.user_id: String is too long"),
        (413, "Request exceeds the maximum size of 33554432 bytes"),
    ],
)
def test_what_a_larger_window_does_not_cure_is_no_overflow(status: int, message: str) -> None:
    """Other limits are the caller's fault."""
    assert failed_by("invalid_request_error", message, status=status).kind == "rejected"


IN_STREAM = [
    ("invalid_request_error", "rejected", 400),
    ("authentication_error", "rejected", 401),
    ("billing_error", "rejected", 402),
    ("permission_error", "rejected", 403),
    ("not_found_error", "rejected", 404),
    ("request_too_large", "rejected", 413),
    ("conflict_error", "conflict", 409),
    ("rate_limit_error", "rate_limited", 429),
    ("api_error", "server", 500),
    ("timeout_error", "timeout", 504),
    ("overloaded_error", "overloaded", 529),
    ("validationException", "rejected", 400),  # Bedrock's, as its decoder makes them error events
    ("accessDeniedException", "rejected", 403),
    ("throttlingException", "rate_limited", 429),
    ("modelStreamErrorException", "server", 500),
    ("serviceUnavailableException", "server", 503),
    ("an_error_of_the_future", "server", 200),
]


@pytest.mark.parametrize(("category", "kind", "status"), IN_STREAM)
def test_an_error_inside_a_stream_is_known_by_its_type(category: str, kind: str, status: int) -> None:
    """It comes with HTTP 200, and means what its type means as an HTTP status."""
    failure = failed_by(category, "no", status=200)
    assert (failure.kind, failure.status) == (kind, status)


@pytest.mark.parametrize("code", [401, "401"])
def test_an_error_inside_a_stream_may_have_its_status_as_a_code(code: object) -> None:
    """As some proxies have it, whose type says nothing."""
    failure = failed_by("None", "no", status=200, code=code)
    assert (failure.kind, failure.status) == ("rejected", 401)


def test_every_error_type_of_the_sdk_has_a_status() -> None:
    """None that the SDK names is taken for one of the future."""
    for category in get_args(anthropic.types.ErrorType):
        assert failed_by(category, "no", status=200).status != 200


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_cap_inside_a_stream_is_known_by_its_code(code: str) -> None:
    """The headers came before it, so that they name no wait says nothing."""
    failure = failed_by("rate_limit_error", "no", status=200, details={"error_code": code})
    assert failure.kind == "spend_cap"


NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "600"}, 600),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),  # the more precise one, as the SDK has it
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1),
        ({"retry-after": "Sun, 06 Nov 1994 12:10:00 GMT", "date": NOON}, 600),
        ({"retry-after": "Sunday, 06-Nov-94 12:10:00 GMT", "date": NOON}, 600),  # RFC 850
        ({"retry-after": "Sun Nov  6 12:10:00 1994", "date": NOON}, 600),  # asctime, always GMT
        ({"retry-after": "Sun, 06 Nov 1994 11:00:00 GMT", "date": NOON}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 12:10:00 GMT"}, 0),  # past by our own clock
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_an_endpoint_asks_for_is_read(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    """In each form there is; a date counts from the response's own, so that no clock need be right."""
    failure = failed_by("api_error", "no", status=status, headers=headers)
    assert failure.retry_after_s == seconds


def test_a_date_without_another_counts_from_our_clock() -> None:
    """A response need not say when it was sent."""
    headers = {"retry-after": formatdate(time.time() + 3600, usegmt=True)}
    wait = failed_by("api_error", "no", status=503, headers=headers).retry_after_s
    assert wait is not None
    assert 3500 < wait <= 3600


@pytest.mark.parametrize("headers", [{"retry-after-ms": "100"}, {"retry-after": "soon"}, {"x-should-retry": "true"}])
def test_a_limit_that_may_be_waited_for_is_no_spend_cap(headers: dict[str, str]) -> None:
    """Anthropic's own 429 that says anything of coming again."""
    assert failed_by("rate_limit_error", "no", status=429, headers=headers).kind == "rate_limited"


@pytest.mark.parametrize(
    ("status", "said", "should_retry"),
    [(529, "false", False), (400, "true", True), (500, "yes", None), (500, None, None), (200, "false", None)],
)
def test_what_an_endpoint_says_of_trying_again_is_read(
    status: int, said: str | None, should_retry: bool | None
) -> None:
    """`x-should-retry`, of an error's own response: inside a stream the headers came before the error."""
    headers = {} if said is None else {"x-should-retry": said}
    assert failed_by("api_error", "no", status=status, headers=headers).should_retry is should_retry


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
