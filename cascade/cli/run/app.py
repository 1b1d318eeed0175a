"""`cascade run`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["run"]


def run(  # noqa: PLR0913, PLR0917 - options
    goal: Annotated[
        str | None,
        typer.Argument(
            metavar="GOAL", help="What is to be done. Left out where --plan or --run says it; - reads standard input."
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="[NAME=]FILE",
            help="A text that the work is about; its name is the file's, without the ending. May be repeated.",
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Run this plan (YAML) instead of planning a goal.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy file, or a shipped policy's name. Default: CASCADE_POLICY, else `planning`.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--run", help="A name under which the run is kept; if there is one of this name, it is taken up again."
        ),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="What the whole run may spend. Each call counts at the most that it may cost until its reply is there."
        ),
    ] = None,
    deadline_s: Annotated[
        float | None, typer.Option("--deadline", help="Seconds for the whole run. Default: none.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Plan, show the plan and what it may cost, and run nothing. Planning costs money."
        ),
    ] = False,
    save_plan: Annotated[
        Path | None,
        typer.Option("--save-plan", help="Write the plan to this file (YAML), to be edited and run with --plan."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write what became of it as an HTML page, with the graph; of --dry-run, the plan."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, recorded in the ledger with every request; may be repeated.")
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Plan a goal, run its subtasks on the cheapest rungs that can do them, and have the results reviewed.

    Exit code 0 if every result was accepted, 3 if one is not settled, failed or was skipped, or the reviewer is not believed; 4 if the
    deadline, 5 if --max-usd ended the run before.
    """
    from cascade.cli.run.command import RunCommand, run_plan  # noqa: PLC0415

    return run_plan(
        RunCommand(
            goal, tuple(inputs or ()), plan, policy, name, max_usd, deadline_s, dry_run, save_plan, tuple(metadata or ()), ledger,
            html,
        ),
        as_json=as_json,
    )  # fmt: skip
