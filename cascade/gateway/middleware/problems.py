"""Errors become the API's error responses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from cascade.gateway.problems import Problem, send_problem
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DISCARDED = 64 * 1024 * 1024
_DISCARDING_S = 10.0

__all__ = ["ProblemsMiddleware"]


class ProblemsMiddleware:
    """Responds with a Problem that is raised, and with 500 for anything else, which is logged by its type alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Problem as problem:
            if started:
                raise
            if problem.leaves_body:
                await _send_and_discard(problem, receive, send)
            else:
                await send_problem(send, problem)
        except Exception as error:
            log_event(
                "error", "gateway_failed", error=type(error).__name__, path=scope["path"][:80], hint=_where(error)
            )
            if started:
                raise
            await send_problem(send, Problem(500, "the gateway failed (its log names the error)"))


async def _send_and_discard(problem: Problem, receive: Receive, send: Send) -> None:
    """Respond, and read on for a while: a caller reads the response only once its body is sent, unless it is reset before."""

    async def holding(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    await send_problem(holding, problem)
    left = _DISCARDED
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDING_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b""})


def _where(error: BaseException) -> str:
    """The line that raised it: values stay out of the log."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
