"""What a request that climbs may fail with, as HTTP statuses and errors of the Messages API.

    RequestError          400 invalid_request_error      UpstreamRejected    the endpoint's own status and type
    BudgetExceeded        429 rate_limit_error           DeadlineExceeded    504 timeout_error
    AllRungsFailed        529 where every rung was overloaded, 429 where all were rate limited, else 502 api_error
    anything else of ours 500 api_error

Where trying again at once would only cost money again, `x-should-retry: false` says so to the SDKs.
"""

from __future__ import annotations

import math
import re

from cascade.core.errors import (
    AllRungsFailed,
    BudgetExceeded,
    CascadeError,
    ClimbError,
    DeadlineExceeded,
    RequestError,
    UpstreamRejected,
)
from cascade.gateway.problems import Problem

__all__ = ["problem_of"]

_NO_RETRY = (b"x-should-retry", b"false")
_WAIT = re.compile(r"asks to wait ([0-9.]+) s")


def problem_of(error: CascadeError) -> Problem:
    """The error's response. Its message is the error's own, which holds no prompt, answer or key."""
    message = str(error)
    if isinstance(error, RequestError):
        return Problem(400, message)
    if isinstance(error, UpstreamRejected):
        named = [(b"request-id", error.request_id.encode("latin-1", "replace"))] if error.request_id else []
        return Problem(error.status, message, headers=named)
    if isinstance(error, BudgetExceeded):
        return Problem(429, message, headers=[_NO_RETRY])
    if isinstance(error, DeadlineExceeded):
        return Problem(504, message, headers=[_NO_RETRY])
    if isinstance(error, AllRungsFailed):
        return _of_all_rungs(error, message)
    return Problem(500, message, headers=[_NO_RETRY])


def _of_all_rungs(error: ClimbError, message: str) -> Problem:
    details = [step.verdict.detail for step in error.steps if step.verdict.kind == "failed"]
    if (
        len(details) < len(error.steps) or not details
    ):  # a rung replied: trying again would most likely be paid for nothing
        return Problem(502, message, headers=[_NO_RETRY])
    waits = [float(found.group(1)) for detail in details if (found := _WAIT.search(detail)) is not None]
    headers = [(b"retry-after", str(math.ceil(max(waits))).encode())] if waits else []
    for kind, status in (("overloaded", 529), ("rate_limited", 429)):
        if all(detail.startswith(kind) for detail in details):
            return Problem(status, message, headers=headers)
    return Problem(502, message, headers=headers)
