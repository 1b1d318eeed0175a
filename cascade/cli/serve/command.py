"""`cascade serve`: check what it is started with, say where it listens, and serve."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace

from cascade.cli.output import stderr
from cascade.core.errors import ConfigurationError, MissingExtra
from cascade.engine import default_policy

__all__ = ["ServeOptions", "run_serve"]

_LARGEST_BODY = 1 << 31


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command's arguments."""

    policies: tuple[str, ...]
    host: str
    port: int
    workers: int
    routes: tuple[str, ...]
    upstream: str | None
    auth: str
    state: str | None
    ledger: str | None
    max_body: int
    max_concurrency: int
    ping_s: float
    grace_s: float
    dashboard: bool = True


def run_serve(options: ServeOptions, *, as_json: bool) -> None:
    """Serve until SIGTERM or Ctrl-C; stdout gets only the line with the address."""
    try:
        from cascade.gateway.server import bind, check_settings, run_gateway  # noqa: PLC0415 - an extra
        from cascade.gateway.settings import GatewaySettings, Limits, parse_route, upstream_of  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in (
            "starlette",
            "uvicorn",
            "aiohttp",
            "httptools",
            "uvloop",
            "yarl",
            "multidict",
        ):
            raise
        raise MissingExtra("the gateway", "gateway") from None
    if options.max_body > _LARGEST_BODY:
        raise ConfigurationError(f"--max-body {options.max_body}: at most {_LARGEST_BODY} bytes")
    limits = Limits(body=options.max_body, concurrency=options.max_concurrency, grace_s=options.grace_s)
    settings = GatewaySettings(
        policies=options.policies or (default_policy(),),
        routes=tuple(parse_route(text) for text in options.routes),
        host=options.host,
        port=options.port,
        workers=options.workers,
        upstream=upstream_of(options.upstream),
        auth="forward" if options.auth == "forward" else "key",
        ledger=options.ledger,
        state=options.state,
        ping_s=options.ping_s,
        limits=limits,
        dashboard=options.dashboard,
    )
    check_settings(settings)
    listening = bind(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base_url = f"http://{host}:{settings.port}"

    def ready(models: tuple[str, ...]) -> None:
        if as_json:
            fields = {"base_url": base_url, "models": list(models), "upstream": settings.upstream}
            sys.stdout.write(json.dumps(fields) + "\n")
        else:
            sys.stdout.write(f"export ANTHROPIC_BASE_URL={base_url}\n")
        sys.stdout.flush()
        stderr.print(
            f"Requests for {', '.join(models)} climb; those for other models go to {settings.upstream} as they are."
        )
        if settings.dashboard:
            stderr.print(f"The dashboard: {base_url}/")
        stderr.print("Ctrl-C stops it.")

    with listening:
        run_gateway(settings, listening, ready)
