"""`cascade serve` and `cascade serve keys …`: the commands and their options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["serve_app"]

serve_app = typer.Typer(
    help="Serve the Messages API: requests for claude-cascade-* climb, all others are passed through.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
_keys_app = typer.Typer(help="Make, list and revoke the gateway's keys.", rich_markup_mode=None)
serve_app.add_typer(_keys_app, name="keys")

_POLICIES = typer.Option(
    "--policy",
    "-p",
    help="A policy file, or a shipped policy's name; may be repeated. Default: CASCADE_POLICY, else `default`.",
)
_ROUTE = typer.Option(
    help="PATTERN=POLICY: requests for models of this pattern climb, such as 'claude-opus-*=default'; may be repeated."
)
_STATE = typer.Option(help="The state that workers and gateways share: redis://… Default: CASCADE_STATE, else memory.")
_UPSTREAM = typer.Option(help="The endpoint, without /v1. Default: CASCADE_UPSTREAM, else https://api.anthropic.com.")
_AUTH = typer.Option(help="Whose key goes upstream: key, ANTHROPIC_API_KEY; forward, the caller's own.")


@serve_app.callback()
def serve(  # noqa: PLR0913, PLR0917 - options
    context: typer.Context,
    policy: Annotated[list[str] | None, _POLICIES] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 8484,
    workers: Annotated[int, typer.Option(help="Processes. More than one need a shared --state.", min=1, max=256)] = 1,
    route: Annotated[list[str] | None, _ROUTE] = None,
    upstream: Annotated[str | None, _UPSTREAM] = None,
    auth: Annotated[Literal["key", "forward"], _AUTH] = "key",
    state: Annotated[str | None, _STATE] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    max_body: Annotated[int, typer.Option(help="The largest body of a request, in bytes.", min=1)] = 32 * 1024 * 1024,
    max_concurrency: Annotated[
        int, typer.Option(help="Requests at a time in one process; beyond it callers get 529.", min=1)
    ] = 1_000,
    ping: Annotated[float, typer.Option(help="Seconds between two pings on a silent stream.", min=0.01)] = 5.0,
    grace: Annotated[float, typer.Option(help="Seconds that running requests get at SIGTERM.", min=0)] = 30.0,
    dashboard: Annotated[bool, typer.Option("--dashboard/--no-dashboard", help="Serve the dashboard at /.")] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Serve the Messages API: requests for claude-cascade-* climb, all others are passed through. Ctrl-C stops it."""
    if context.invoked_subcommand is not None:
        return
    from cascade.cli.serve.command import ServeOptions, run_serve  # noqa: PLC0415

    options = ServeOptions(
        policies=tuple(policy or ()), host=host, port=port, workers=workers, routes=tuple(route or ()),
        upstream=upstream, auth=auth, state=state, ledger=ledger, max_body=max_body, max_concurrency=max_concurrency,
        ping_s=ping, grace_s=grace, dashboard=dashboard,
    )  # fmt: skip
    run_serve(options, as_json=as_json)


@_keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Whose key it is.")] = "unnamed",
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="All requests of this key climb by this policy (its name).")
    ] = None,
    daily_usd: Annotated[str | None, typer.Option("--daily-usd", help="What it may spend a day (UTC), in USD.")] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make a key and print it, this once. Where there is a key, the gateway admits nobody without one."""
    from cascade.cli.serve.keys import run_create  # noqa: PLC0415

    run_create(name, policy, daily_usd, ledger, as_json=as_json)


@_keys_app.command("list")
def keys_list(ledger: Annotated[str | None, LEDGER] = None, as_json: Annotated[bool, JSON] = False) -> None:
    """List the keys: never the keys themselves, of which only a hash is stored."""
    from cascade.cli.serve.keys import run_list  # noqa: PLC0415

    run_list(ledger, as_json=as_json)


@_keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or its name.")],
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Revoke a key: within a second no gateway with this ledger admits it."""
    from cascade.cli.serve.keys import run_revoke  # noqa: PLC0415

    run_revoke(key, ledger, as_json=as_json)
