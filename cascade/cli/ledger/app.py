"""`cascade ledger …`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER

__all__ = ["ledger_app"]

ledger_app = typer.Typer(help="The record of every step and answer.", rich_markup_mode=None)

_SINCE = typer.Option(help="From then on: 7d, 12h, 30m, or a date or time (2026-11-21, 2026-11-21T10:00; UTC).")
_UNTIL = typer.Option(help="Before then; as --since.")


@ledger_app.command("verify")
def ledger_verify(
    ledger: Annotated[str | None, LEDGER] = None,
    heads: Annotated[
        Path | None, typer.Option(help="Heads that were written before: finds a cut tail and a writer that is gone.")
    ] = None,
    write_heads: Annotated[
        Path | None, typer.Option("--write-heads", help="Write the heads there; keep them on another machine.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Is everything on record as it was written? Exit 3 where something was changed, cut, moved or taken away."""
    from cascade.cli.ledger.command import run_verify  # noqa: PLC0415

    return run_verify(ledger, heads, write_heads, as_json=as_json)


@ledger_app.command("export")
def ledger_export(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file; .parquet: a row a step. Default: JSON lines on standard output."),
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    since: Annotated[str | None, _SINCE] = None,
    until: Annotated[str | None, _UNTIL] = None,
    content: Annotated[bool, typer.Option("--content", help="Also prompts and answers, where they are kept.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over the file where it exists.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What is on record, a request a line: what was asked, each step, how it ended. Money in nano-USD."""
    from cascade.cli.ledger.command import ExportOptions, run_export  # noqa: PLC0415

    run_export(ExportOptions(ledger, output, since, until, content, force), as_json=as_json)


@ledger_app.command("tail")
def ledger_tail(
    count: Annotated[int, typer.Option("-n", "--lines", help="So many entries.", min=0, max=100_000)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added. Ctrl-C stops it.")] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """The last entries, a line each."""
    from cascade.cli.ledger.command import run_tail  # noqa: PLC0415

    run_tail(ledger, count, goes_on=follow, as_json=as_json)


@ledger_app.command("erase")
def ledger_erase(
    where: Annotated[
        list[str],
        typer.Option(help="NAME=VALUE of the caller's metadata, or request=ID; repeated: all of them must match."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Remove prompts and answers for good; the books, and the chain that vouches for them, stay."""
    from cascade.cli.ledger.command import run_erase  # noqa: PLC0415

    run_erase(ledger, where, dry_run=dry_run, as_json=as_json)
