"""`cascade costs` and `cascade mode`: the commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["money_app"]

money_app = typer.Typer(rich_markup_mode=None)


@money_app.command()
def costs(
    since: Annotated[
        str,
        typer.Option(
            help="How far back: 7d, 24h, 2w; or a date or time, UTC where it names no zone. In quarters of an hour."
        ),
    ] = "7d",
    by: Annotated[
        str, typer.Option(help="What the bars stand for: task, rung, model, workflow, policy or day.")
    ] = "task",
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="Only this one: a path, or a name. Default: all in the ledger.")
    ] = None,
    call_usd: Annotated[
        float | None,
        typer.Option(help="List requests that cost more. Default: call_usd of the policy's budget.", min=0),
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table of --by as CSV.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What was spent, on what, how often it climbed, and what that saved against the baseline. From the ledger."""
    from cascade.cli.costs.command import CostsOptions, run_costs  # noqa: PLC0415

    run_costs(CostsOptions(since, by, policy, call_usd, ledger, as_csv), as_json=as_json)


@money_app.command()
def mode(
    word: Annotated[
        str | None,
        typer.Argument(metavar="[off|observe|enforce|clear]", help="Without one: show what is in force, and why."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="Of this one only: a path, or a name. Default: of all.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Switch what runs on this machine, from the next request on. off sends every request to the baseline.

    A policy's own switch comes before the one for all, both before CASCADE_MODE, and that before the policy itself. clear
    takes a policy's own out, or the whole switch.
    """
    from cascade.cli.mode import run_mode  # noqa: PLC0415

    run_mode(word, policy, as_json=as_json)
