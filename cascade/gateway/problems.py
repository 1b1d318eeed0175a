"""Errors as the Messages API words them: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pydantic_core import to_json

if TYPE_CHECKING:
    from starlette.types import Message, Send

__all__ = ["KINDS", "Problem", "problem_body", "problem_event", "send_json", "send_problem"]

KINDS: Mapping[int, str] = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error",
    413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error", 431: "invalid_request_error", 500: "api_error",
    502: "api_error", 503: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
"""The API's error types, by HTTP status."""

Headers = Sequence[tuple[bytes, bytes]]


class Problem(Exception):
    """What a caller gets instead of a response. `message` holds nothing of the request but names that it needs to name.

    `leaves_body`: the rest of the request's body is still to come.
    """

    leaves_body = False

    def __init__(self, status: int, message: str, *, kind: str | None = None, headers: Headers = ()) -> None:
        self.status, self.message, self.headers = status, message, tuple(headers)
        self.kind = kind or KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        super().__init__(message)

    def with_headers(self, headers: Headers) -> Self:
        """The same problem, with more headers."""
        self.headers = (*self.headers, *headers)
        return self


def problem_body(problem: Problem, request_id: str) -> bytes:
    """The body of the error's response."""
    error = {"type": problem.kind, "message": problem.message}
    return to_json({"type": "error", "error": error, "request_id": request_id})


def problem_event(problem: Problem, request_id: str) -> bytes:
    """The error as an event of a stream that has begun."""
    return b"event: error\ndata: " + problem_body(problem, request_id) + b"\n\n"


async def send_problem(send: Send, problem: Problem, request_id: str = "") -> None:
    """Respond with the error. `request_id`: ours; by default a new one."""
    request_id = request_id or f"casc_{uuid.uuid4().hex}"
    named = (b"x-cascade-request-id", request_id.encode())
    await send_json(send, problem.status, problem_body(problem, request_id), (named, *problem.headers))


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Respond with JSON."""
    length = (b"content-length", str(len(body)).encode())
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", b"application/json"), length, *headers],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
