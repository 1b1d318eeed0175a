"""`cascade dashboard`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["dashboard"]

_POLICIES = typer.Option(
    "--policy",
    "-p",
    help="A policy whose budgets, audit and mode are shown: a file or a shipped name; may be repeated. Default: CASCADE_POLICY, else"
    " `default`.",
)


def dashboard(
    ledger: Annotated[str | None, LEDGER] = None,
    since: Annotated[
        str, typer.Option(help="The period that is shown first: 24h, 7d, 2w, or a date or time (UTC without a zone).")
    ] = "24h",
    policy: Annotated[list[str] | None, _POLICIES] = None,
    host: Annotated[str, typer.Option(help="The address to listen on: loopback's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 8486,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show a ledger as live pages on loopback: spend, savings, escalations, audit, budgets, requests. Ctrl-C stops it."""
    from cascade.cli.dashboard.command import DashboardOptions, run_command  # noqa: PLC0415

    options = DashboardOptions(ledger=ledger, since=since, policies=tuple(policy or ()), host=host, port=port)
    run_command(options, as_json=as_json)
