"""`cascade costs`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["costs"]


def costs(  # noqa: PLR0913, PLR0917 - one for each option
    since: Annotated[
        str,
        typer.Option(
            help="The start of the period: 7d, 24h, 2w, or a date or time (UTC without a zone), to the quarter hour."
        ),
    ] = "7d",
    by: Annotated[
        str,
        typer.Option(
            help="The dimension to group by: task, rung, model, workflow, policy or day; of runs of plans, assigned (rung) or role, which"
            " reads every entry of the period: slower."
        ),
    ] = "task",
    policy: Annotated[
        str | None,
        typer.Option("--policy", "-p", help="Only this policy: a file or a name. Default: all in the ledger."),
    ] = None,
    call_usd: Annotated[
        float | None,
        typer.Option(help="List requests that cost more. Default: call_usd of the policy's budget.", min=0),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option("--cache", help="Also what prompt caches cost, by rung. Reads every entry of the period: slower."),
    ] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table of --by as CSV.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Report spend, escalation rates and savings against the baseline, from the ledger."""
    from cascade.cli.costs.command import CostsOptions, run_costs  # noqa: PLC0415

    run_costs(CostsOptions(since, by, policy, call_usd, ledger, as_csv, cache), as_json=as_json)
