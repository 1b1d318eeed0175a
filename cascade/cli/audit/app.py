"""`cascade audit`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER, POLICY

__all__ = ["audit_app"]

audit_app = typer.Typer(
    name="audit", help="Grade a sample of what was shipped, and notice when it gets worse.", no_args_is_help=True
)


@audit_app.command("run")
def run(  # noqa: PLR0913, PLR0917 - one for each option
    policy: Annotated[str | None, POLICY] = None,
    once: Annotated[bool, typer.Option("--once", help="Grade what is open, and end (the default).")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and grade what is sampled from now on.")] = False,
    max_usd: Annotated[
        float | None,
        typer.Option(help="Spend at most so much in this run, beside the policy's audit.daily_usd.", min=0),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Ask through the Message Batches API, at half the price: shadow answers in one round, judgements in the next."
            " Control items are asked live. After a stop the same command collects what is under way.",
        ),
    ] = False,
    poll_s: Annotated[
        float, typer.Option(help="With --batch: seconds between two looks at the batches.", min=0.01)
    ] = 30.0,
    workers: Annotated[int, typer.Option(help="How many processes grade (extra dask).", min=1, max=512)] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Dask scheduler (tcp://host:8786) whose workers grade; needs a ledger in Postgres. Default: processes of this machine.",
        ),
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Ask the top rung for shadow answers, grade the sampled requests, and look for drift."""
    from cascade.cli.audit.run import RunOptions, run_audit  # noqa: PLC0415

    if watch and (once or batch):
        raise typer.BadParameter("--watch goes neither with --once nor with --batch (run --batch by a timer)")
    options = RunOptions(policy, watch, max_usd, ledger, poll_s if batch else None, workers, scheduler)
    return run_audit(options, as_json=as_json)


@audit_app.command("report")
def report(
    policy: Annotated[str | None, POLICY] = None,
    since: Annotated[
        str, typer.Option(help="The start of the period: 7d, 24h, 2w, or a date or time (UTC without a zone).")
    ] = "30d",
    html: Annotated[Path | None, typer.Option(help="Also write the report as an HTML page.")] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Report what the audit found: rates by task and rung, drift, routing, profit and loss."""
    from cascade.cli.audit.report import ReportOptions, run_report  # noqa: PLC0415

    run_report(ReportOptions(policy, since, html, ledger), as_json=as_json)


@audit_app.command("reset")
def reset(
    policy: Annotated[str | None, POLICY] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Undo the ratchet of a policy, and start the drift detectors anew."""
    from cascade.cli.audit.reset import run_reset  # noqa: PLC0415

    run_reset(policy, ledger, as_json=as_json)


@audit_app.command("outcome")
def outcome(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The answer's request id, casc_….")],
    right: Annotated[
        str, typer.Argument(metavar="RIGHT", help="right, wrong, or a number from 0 (wrong) to 1 (right).")
    ],
    note: Annotated[
        str | None, typer.Option(help="Why, in words; kept only where the ledger holds the request's texts.")
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Report whether an answer was right, as it turned out. The audit believes it before any grader."""
    from cascade.cli.audit.outcome import run_outcome  # noqa: PLC0415

    run_outcome(request_id, right, note, ledger, as_json=as_json)
