"""`cascade dashboard`: check what it is started with, say where it listens, and serve."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from cascade.cli.output import stderr
from cascade.core.errors import CascadeError, MissingExtra
from cascade.core.policy import Policy
from cascade.costs import read_since
from cascade.engine import default_policy
from cascade.policy.loading import load_policy

__all__ = ["DashboardOptions", "run_command"]

_EXTRA = ("starlette", "uvicorn", "aiohttp", "httptools", "uvloop", "yarl", "multidict", "jinja2")


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """The command's arguments."""

    ledger: str | None
    since: str
    policies: tuple[str, ...]
    host: str
    port: int


def run_command(options: DashboardOptions, *, as_json: bool) -> None:
    """Serve until SIGTERM or Ctrl-C; stdout gets only the line with the address. Raises CascadeError for what cannot be used."""
    try:
        import jinja2  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - an extra

        from cascade.dashboard.app import Settings  # noqa: PLC0415
        from cascade.dashboard.figures import LedgerSource  # noqa: PLC0415
        from cascade.gateway.dashboard_server import listen, run_dashboard  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise MissingExtra("the dashboard", "gateway") from None
    read_since(options.since, time.time())  # an unreadable period is refused at once
    policies = _policies(options)
    source = LedgerSource(options.ledger, lambda: policies)
    listening = listen(options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    base_url = f"http://{host}:{listening.getsockname()[1]}"
    why_not = "These pages have no login, so they are read-only: modes are switched by the command, or at the gateway's own dashboard."

    def ready() -> None:
        if as_json:
            sys.stdout.write(json.dumps({"base_url": base_url, "ledger": source.where}) + "\n")
        else:
            sys.stdout.write(f"{base_url}\n")
        sys.stdout.flush()
        stderr.print(f"The dashboard of {source.where}, for this machine alone. Ctrl-C stops it.")

    with listening:
        run_dashboard(source, Settings(default=options.since, why_not=why_not), listening, ready)


def _policies(options: DashboardOptions) -> tuple[Policy, ...]:
    """The policies that were named; of the default one a problem is only told."""
    if options.policies:
        return tuple(load_policy(one) for one in options.policies)
    try:
        return (load_policy(default_policy()),)
    except CascadeError as problem:
        stderr.print(f"note: {problem}")
        return ()
