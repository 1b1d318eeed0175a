"""`cascade plan`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER, POLICY

__all__ = ["plan_app"]

plan_app = typer.Typer(
    name="plan", help="How the rungs that planners assign have fared, and hints for them.", no_args_is_help=True
)

_SINCE = typer.Option(help="The start of the period: 30d, 24h, 2w, or a date or time (UTC without a zone).")
_LIMIT = typer.Option(
    help="The rate of failures at the assigned rung above which that rung is too low for a kind of work. Default: 0.25.",
    min=0,
    max=1,
)


@plan_app.command("report")
def report(
    since: Annotated[str, _SINCE] = "30d",
    policy: Annotated[str | None, POLICY] = None,
    limit: Annotated[float | None, _LIMIT] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Report failures and costs by kind of work and assigned rung, and name the kinds whose rung is too low, beyond chance."""
    from cascade.cli.plan.report import ReportOptions, run_report  # noqa: PLC0415

    run_report(ReportOptions(policy, since, limit, ledger), as_json=as_json)


@plan_app.command("hints")
def hints(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, beside the policy: `plan: {hints: FILE}` reads it. Default: standard output.",
        ),
    ] = None,
    since: Annotated[str, _SINCE] = "30d",
    policy: Annotated[str | None, POLICY] = None,
    limit: Annotated[float | None, _LIMIT] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write what the report shows beyond chance as hints for the planner (YAML). Rows of the policy's present hints stay where nothing newer is shown."""
    from cascade.cli.plan.hints import run_hints  # noqa: PLC0415
    from cascade.cli.plan.report import ReportOptions  # noqa: PLC0415

    run_hints(ReportOptions(policy, since, limit, ledger), output, as_json=as_json)
