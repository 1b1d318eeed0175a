"""`cascade ledger move`: from the file to a server, and what is left to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.output import print_json, stderr, stdout
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.moving.running import Moved, move
from cascade.ledger.opening import address_of, display_address, is_postgres
from cascade.ledger.stores import LedgerDown

__all__ = ["run_move"]

_SHOWN = 20  # differences that are printed; --json has them all


def run_move(ledger: str | None, to: str, *, as_json: bool) -> int:
    """Move, and print what was moved; returns 3 if counts or sums differ."""
    source, target = address_of(ledger), address_of(to)
    if is_postgres(source):
        raise ConfigurationError(
            f"{display_address(source)}: is on a server already (name the SQLite file with --ledger;"
            " pg_dump moves a ledger between servers)"
        )
    if not is_postgres(target):
        raise ConfigurationError(f"--to: {target}: is not a Postgres address (write postgresql://user@host:5432/name)")
    bar = Progress(
        BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f} entries"), TimeRemainingColumn(),
        console=stderr, transient=True, disable=not stderr.is_terminal,
    )  # fmt: skip
    try:
        with bar:
            moving = bar.add_task("", total=1)
            moved = move(
                Path(source), target, progress=lambda done, found: bar.update(moving, completed=done, total=found)
            )
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
    if as_json:
        print_json({**asdict(moved), "equal": moved.is_equal})
    else:
        _print(moved)
    return 0 if moved.is_equal else 3


def _print(moved: Moved) -> None:
    held = f"{moved.entries:,} entries of {moved.writers:,} writers, {moved.texts:,} texts"
    stdout.print(f"{moved.source} -> {moved.target}: {moved.moved:,} entries moved now; it holds {held}")
    if not moved.is_equal:
        for one in moved.differences[:_SHOWN]:
            stdout.print(one)
        stdout.print(
            "NOT EQUAL: sums and small tables were not moved (`cascade ledger verify` tells of each side what was changed or pruned)"
        )
        return
    stdout.print("counts and sums are equal on both sides")
    if moved.behind:
        stdout.print(f"{moved.behind:,} entries came meanwhile: stop what writes to the file, and run this again")
    else:
        stdout.print("if nothing writes to the file any more, set CASCADE_LEDGER to the new address")
