"""`cascade ledger …`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["ledger_app"]

ledger_app = typer.Typer(
    help="Verify, export, move and show the ledger, erase texts from it, and drop old months.", rich_markup_mode=None
)

_SINCE = typer.Option(help="From this time on: 7d, 12h, 30m, or a date or time (2026-11-21, 2026-11-21T10:00; UTC).")
_UNTIL = typer.Option(help="Before this time; same forms as --since.")


@ledger_app.command("verify")
def ledger_verify(
    ledger: Annotated[str | None, LEDGER] = None,
    heads: Annotated[
        Path | None, typer.Option(help="Heads written earlier, to detect a truncated chain or a missing writer.")
    ] = None,
    write_heads: Annotated[
        Path | None, typer.Option("--write-heads", help="Write the heads to this file; keep it on another machine.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Check that no entry was changed, moved or removed since it was written; exit 3 if one was."""
    from cascade.cli.ledger.command import run_verify  # noqa: PLC0415

    return run_verify(ledger, heads, write_heads, as_json=as_json)


@ledger_app.command("export")
def ledger_export(  # noqa: PLR0913, PLR0917 - one for each option
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; .parquet has a row per step. Default: JSON lines on standard output.",
        ),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(
            help="A folder: a table each of requests, steps, outcomes and opens, partitioned by month. Months are written whole,"
            " and replaced."
        ),
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    since: Annotated[str | None, _SINCE] = None,
    until: Annotated[str | None, _UNTIL] = None,
    content: Annotated[bool, typer.Option("--content", help="Include prompts and answers, if they were kept.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file if it exists; with --parquet, another ledger's months.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Export the ledger, one request per line: the request, its steps and its outcome. Costs are in nano-USD."""
    from cascade.cli.ledger.command import ExportOptions, run_export  # noqa: PLC0415

    options = ExportOptions(ledger, output, since, until, content, force)
    if parquet is not None:
        from cascade.cli.ledger.months import run_export_months  # noqa: PLC0415

        run_export_months(options, parquet, as_json=as_json)
    else:
        run_export(options, as_json=as_json)


@ledger_app.command("move")
def ledger_move(
    to: Annotated[str, typer.Option("--to", help="The Postgres database: postgresql://… An empty one, at first.")],
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Move an SQLite ledger to Postgres; run again, it goes on, or moves what came since. Exit 3 if the sides differ."""
    from cascade.cli.ledger.moving import run_move  # noqa: PLC0415

    return run_move(ledger, to, as_json=as_json)


@ledger_app.command("tail")
def ledger_tail(
    count: Annotated[
        int, typer.Option("-n", "--lines", help="The number of entries to show.", min=0, max=100_000)
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new entries; Ctrl-C stops it.")] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show the latest entries, one per line."""
    from cascade.cli.ledger.command import run_tail  # noqa: PLC0415

    run_tail(ledger, count, goes_on=follow, as_json=as_json)


@ledger_app.command("erase")
def ledger_erase(
    where: Annotated[
        list[str],
        typer.Option(help="NAME=VALUE of the request's metadata, or request=ID; may be repeated, all must match."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the matches.")] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Erase prompts and answers permanently; the entries and their hash chain stay."""
    from cascade.cli.ledger.command import run_erase  # noqa: PLC0415

    run_erase(ledger, where, dry_run=dry_run, as_json=as_json)


@ledger_app.command("prune")
def ledger_prune(
    before: Annotated[
        str, typer.Option(help="A month, e.g. 2026-01 (UTC): entries and texts that are older go.", metavar="MONTH")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Otherwise it is only said what would go.")] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Drop the entries and texts of old months; sums stay, so `costs` says the same, and `verify` begins after them."""
    from cascade.cli.ledger.pruning import run_prune  # noqa: PLC0415

    run_prune(ledger, before, yes=yes, as_json=as_json)


@ledger_app.command("upgrade")
def ledger_upgrade(ledger: Annotated[str | None, LEDGER] = None, as_json: Annotated[bool, JSON] = False) -> None:
    """Bring a large ledger's schema up to date before this version's processes start; those of the version before go on writing."""
    from cascade.cli.ledger.pruning import run_upgrade  # noqa: PLC0415

    run_upgrade(ledger, as_json=as_json)
