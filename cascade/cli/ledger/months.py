"""`cascade ledger export --parquet FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from cascade.cli.ledger.command import ExportOptions
from cascade.cli.output import print_json, stderr
from cascade.cli.reading import reading_behind
from cascade.core.errors import ConfigurationError
from cascade.ledger.exporting.months import export_months

__all__ = ["run_export_months"]


def run_export_months(options: ExportOptions, folder: Path, *, as_json: bool) -> None:
    """Write the months, and print how many rows of each table."""
    if options.output is not None:
        raise ConfigurationError("--output, --parquet: give one of them, not both")
    since, until = options.period()
    with reading_behind(options.ledger) as reader, reader.snapshot():
        written = export_months(reader, folder, since, until, content=options.content, force=options.force)
    if written.unplaced:
        stderr.print(
            f"rows of requests that began more than a week before: {written.unplaced:,} (their policy, task and workflow are empty)"
        )
    if written.left:
        stderr.print(f"left as they were exported, because they are pruned: {', '.join(written.left)}")
    if as_json:
        print_json({"folder": str(folder), **asdict(written)})
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in written.rows.items() if count) or "nothing"
    months = written.months
    when = f" of {months[0]}" if len(months) == 1 else f" of {months[0]} to {months[-1]}" if months else ""
    sys.stdout.write(f"{folder}: {rows}{when}\n")
