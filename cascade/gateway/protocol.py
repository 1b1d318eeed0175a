"""HTTP/1.1 by uvicorn and httptools, with what they leave open: limits on a request's head, and errors in the API's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cascade.gateway.callers import CONNECTION
from cascade.gateway.problems import Problem, problem_body
from cascade.gateway.settings import Limits

__all__ = ["GatewayConfig", "GatewayProtocol"]


class _HeadTooLarge(Exception):
    """Raised in a callback of the parser, which then reads no further."""


class GatewayConfig(uvicorn.Config):
    """uvicorn's configuration, and the limits of the protocol. It goes to workers as it is: all of it can be pickled."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        super().__init__(app, http=GatewayProtocol, **options)
        self.limits = limits


class GatewayProtocol(HttpToolsProtocol):
    """One connection. A head that is too large, or too slow, closes it; so does whatever is not HTTP."""

    config: GatewayConfig

    def __init__(self, config: GatewayConfig, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.limits = config.limits
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        self.on_shutdown: Callable[[], None] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: Problem | None = None

    def connection_made(self, transport: Any) -> None:
        """A caller has connected: its first head must arrive in time."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        self._stop_timer()
        self.is_lost = True
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def shutdown(self) -> None:
        """The server ends: what has no end of its own is told."""
        super().shutdown()
        if self.on_shutdown is not None:
            self.on_shutdown()

    @property
    def is_full(self) -> bool:
        """As `Connection.is_full`."""
        return self.flow.write_paused

    @property
    def has_body(self) -> bool:
        """As `Connection.has_body`."""
        return self.cycle.message_event.is_set()

    def abort(self) -> None:
        """As `Connection.abort`."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._start_timer()
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.headers and not self.transport.is_closing():
            self._refusal = self._too_large()
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """A request's head is complete."""
        self._in_head = False
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits.headers:
            self._refusal = self._too_large()
            raise _HeadTooLarge
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[typeddict-item]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is complete, and the next one's head may follow."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn
        """Refuse what cannot be read, and close."""
        self._stop_timer()
        problem = self._refusal or Problem(400, "this is not a valid HTTP/1.1 request")
        body = problem_body(problem, "")
        head = (
            b"content-type: application/json\r\n",
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
        )
        self.transport.write(b"".join((STATUS_LINE[problem.status], *head, body)))
        self.transport.close()

    def _too_large(self) -> Problem:
        return Problem(431, f"the request's head is larger than {self.limits.headers} bytes")

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_s, self._time_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refusal = Problem(408, f"the request's head did not arrive in {self.limits.head_s:g} s")
            self.send_400_response("")
