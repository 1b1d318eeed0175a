"""Serves the dashboard of a ledger without a gateway: read-only, on loopback, for `cascade dashboard`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from cascade.core.errors import ConfigurationError
from cascade.dashboard.app import Dashboard, Settings
from cascade.gateway.dashboard import DashboardEndpoint, OpenDoor
from cascade.gateway.hosts import is_loopback
from cascade.gateway.middleware.authentication import check_host, refuse_pages
from cascade.gateway.middleware.paths import PathsMiddleware
from cascade.gateway.middleware.problems import ProblemsMiddleware
from cascade.gateway.server import GatewayServer, bind, server_config
from cascade.gateway.settings import GatewaySettings, Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from cascade.dashboard.source import Source

__all__ = ["listen", "run_dashboard", "serve_dashboard"]

_GRACE_S = 3.0


class _LoopbackOnly:
    """As the gateway without keys: nothing that a web page of another site sends, and no name but this machine's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            refuse_pages(scope, check_host(scope))
        await self._app(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """The socket to listen on. Raises ConfigurationError for an address that is not loopback's, or cannot be used."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"--host {host}: these pages have no login, so they are served on loopback alone (from elsewhere: ssh -L 8486:127.0.0.1:8486"
            " THIS-MACHINE, or `cascade serve`, whose dashboard takes its keys)"
        )
    return bind(GatewaySettings(host=host, port=port))


def run_dashboard(source: Source, settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `ready` is called once it answers."""
    served = GatewaySettings(limits=Limits(grace_s=_GRACE_S))
    with asyncio.Runner(loop_factory=server_config(None, served).get_loop_factory()) as runner:
        runner.run(serve_dashboard(source, settings, listening, ready=lambda _: ready()))


async def serve_dashboard(
    source: Source, settings: Settings, listening: socket.socket, *, ready: Callable[[GatewayServer], None]
) -> None:
    """Serve until the server's `should_exit` is set, or a signal arrives; `ready` gets the server."""
    pages = DashboardEndpoint(
        lambda: Dashboard(source, OpenDoor(), settings), "these are the dashboard's pages (open / in a browser)"
    )
    app = ProblemsMiddleware(PathsMiddleware(_LoopbackOnly(pages)))
    server = GatewayServer(server_config(app, GatewaySettings(limits=Limits(grace_s=_GRACE_S)), lifespan="off"))
    ready(server)
    try:
        await server.serve(sockets=[listening])
    finally:
        pages.close()
