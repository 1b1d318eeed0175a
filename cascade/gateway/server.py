"""Serves the application: uvicorn, on uvloop where there is one, in this process or in several, until SIGTERM or Ctrl-C.

At SIGTERM nothing new is accepted, running requests get `grace_s` to end, and are then cancelled, and recorded.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from cascade.core.errors import CascadeError, ConfigurationError
from cascade.gateway.app import make_app
from cascade.gateway.hosts import is_loopback
from cascade.gateway.hub import Clocks, Hub
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.protocol import GatewayConfig
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.gateway import GatewayTables
from cascade.logs import log_event

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["GatewayServer", "bind", "check_settings", "run_gateway", "server_config", "worker_app"]

_SETTINGS = "CASCADE_GATEWAY_SETTINGS"
_CANCEL_S = 5.0
_BACKLOG = 2048


class GatewayServer(uvicorn.Server):
    """A server that leaves the process alive when it ends: uvicorn's own raises the signal that ended it once more."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """End at SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        caught: list[signal.Signals] = []
        for one in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError, NotImplementedError):  # not in the main thread
                loop.add_signal_handler(one, self.handle_exit, one, None)
                caught.append(one)
        try:
            yield
        finally:
            for one in caught:
                loop.remove_signal_handler(one)


def check_settings(settings: GatewaySettings) -> None:
    """Raise ConfigurationError for settings that are not safe, or cannot work; LedgerError if the keys cannot be read."""
    keys = KeyRing(GatewayTables(None if settings.ledger == "off" else settings.ledger))
    keys.read()
    if keys.is_empty and not is_loopback(settings.host):
        raise ConfigurationError(
            f"--host {settings.host}: without keys anybody could spend your money, so the gateway listens on loopback alone"
            " (make a key first: cascade serve keys create)"
        )
    if settings.workers > 1 and not (settings.state or os.environ.get("CASCADE_STATE", "")).startswith(
        ("redis", "unix")
    ):
        raise ConfigurationError(
            f"--workers {settings.workers}: workers share budgets, the storm guard and tool loops, which needs a shared state"
            " (give --state redis://…, or one worker)"
        )


def bind(settings: GatewaySettings) -> socket.socket:
    """The socket to listen on. Raises ConfigurationError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {reason} (stop what listens there, or give another --port)"
        ) from None


@asynccontextmanager
async def _open_app(settings: GatewaySettings, clocks: Clocks | None) -> AsyncGenerator[tuple[Starlette, Hub]]:
    hub = await Hub.open(settings, clocks)
    watching = [
        asyncio.create_task(one)
        for one in (hub.policies.watch(settings.reload_s), hub.watch_keys(), hub.watching.watch())
    ]
    try:
        yield make_app(hub), hub
    finally:
        for one in watching:
            one.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_S):  # those that were cancelled have their last records to write
                await hub.idle.wait()
        await hub.close()


def _collect_rarely() -> None:
    """What is loaded by now stays: searching it for garbage again and again would stop every request for a third of a second.

    For a process of the gateway's own.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def server_config(app: Any, settings: GatewaySettings, **options: Any) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return GatewayConfig(
        app,
        settings.limits,
        loop="auto",  # uvloop, where there is one
        ws="none",
        log_config=None,
        log_level="critical",  # what goes wrong in a request is logged by `middleware.problems`
        access_log=False,
        server_header=False,
        date_header=False,  # the endpoint's own comes back with its response
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.limits.grace_s,  # pyright: ignore[reportArgumentType] - any number of seconds
        **options,
    )


async def serve(
    settings: GatewaySettings,
    listening: socket.socket,
    *,
    ready: Callable[[GatewayServer], None] | None = None,
    models: Callable[[tuple[str, ...]], None] | None = None,
    clocks: Clocks | None = None,
) -> None:
    """Serve until the server's `should_exit` is set, or a signal arrives.

    `ready` gets the server, `models` the names of the models that climb, once everything is loaded.
    """
    async with _open_app(settings, clocks) as (app, hub):
        server = GatewayServer(server_config(app, settings, lifespan="off"))
        if models is not None:
            models(hub.policies.models)
        if ready is not None:
            ready(server)
        await server.serve(sockets=[listening])


def run_gateway(settings: GatewaySettings, listening: socket.socket, ready: Callable[[tuple[str, ...]], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, with `settings.workers` processes. Raises CascadeError for what cannot be used.

    `ready` gets the names of the models that climb, once everything is loaded.
    """
    if settings.workers == 1:
        loop_factory = server_config(None, settings).get_loop_factory()

        def loaded(models: tuple[str, ...]) -> None:
            _collect_rarely()
            ready(models)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings, listening, models=loaded))
        return
    ready(asyncio.run(_try_out(settings)))
    os.environ[_SETTINGS] = json.dumps(settings.to_dict())
    with ExitStack() as stack:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # where the workers' metrics are added up
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(TemporaryDirectory(prefix="cascade-metrics-"))
        _run_workers(settings, listening)


async def _try_out(settings: GatewaySettings) -> tuple[str, ...]:
    """Open everything as a worker will, and close it; the names of the models that climb. Raises CascadeError."""
    hub = await Hub.open(settings)
    try:
        return hub.policies.models
    finally:
        await hub.close()


def _run_workers(settings: GatewaySettings, listening: socket.socket) -> None:
    config = server_config(
        "cascade.gateway.server:worker_app", settings, factory=True, lifespan="on", workers=settings.workers
    )
    workers = Multiprocess(config, sockets=[listening])
    workers.run()
    if any(one.exitcode == STARTUP_FAILURE for one in workers.processes):
        raise ConfigurationError("a worker could not start, so all were ended (its own log line says why)")


def worker_app() -> Any:
    """The application of one worker, made by uvicorn in each of them."""
    return _Worker(GatewaySettings.from_dict(json.loads(os.environ[_SETTINGS])))


class _Worker:
    """An application that is opened when its worker's event loop runs."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        try:
            async with _open_app(self._settings, None) as (self._app, _):
                _collect_rarely()
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except CascadeError as problem:
            log_event("error", "gateway_not_started", problem=str(problem))
            await send({"type": "lifespan.startup.failed", "message": str(problem)})
            return
        await send({"type": "lifespan.shutdown.complete"})
