"""`cascade ledger prune | upgrade`."""

from __future__ import annotations

import re
from dataclasses import asdict

from cascade.cli.output import print_json, stdout
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.stores import LedgerDown
from cascade.ledger.upkeep.pruning import Pruned, prune
from cascade.ledger.upkeep.upgrading import upgrade
from cascade.ledger.utc_months import month_start

__all__ = ["run_prune", "run_upgrade"]


def run_prune(ledger: str | None, before: str, *, yes: bool, as_json: bool) -> None:
    """Drop the entries of old months, or print what would go. Raises ConfigurationError, LedgerError."""
    given = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", before.strip())
    if given is None or int(given[1]) < 1970:
        raise ConfigurationError(f"--before {before[:40]!r}: not a month (give e.g. 2026-01: what is older goes)")
    try:
        found = prune(ledger, month_start(int(given[1]), int(given[2])), dry_run=not yes)
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
    if as_json:
        print_json(
            {"ledger": found.where, "pruned": yes}
            | {name: value for name, value in asdict(found).items() if name != "where"}
        )
        return
    _print(found, done=yes)


def _print(found: Pruned, *, done: bool) -> None:
    if not found.entries and not found.texts:
        stdout.print(f"{found.where}: nothing is older than {found.before}" + _staying(found))
        return
    verb = "are gone" if done else "would go"
    stdout.print(
        f"{found.where}: {found.entries:,} entries of {found.requests:,} requests and {found.texts:,} texts from before"
        f" {found.before} {verb}; all sums stay"
    )
    if found.months:
        stdout.print(f"{'dropped' if done else 'to be dropped'} whole: {', '.join(found.months)}")
    if found.kept:
        stdout.print(_staying(found).removeprefix(", "))
    if not done:
        stdout.print("nothing was changed: --yes does it (export what you need, and run `ledger verify`, before)")


def _staying(found: Pruned) -> str:
    if not found.kept:
        return ""
    return f", {found.kept:,} older entries stay: their requests had not ended, have a call without a result, or are to be audited"


def run_upgrade(ledger: str | None, *, as_json: bool) -> None:
    """Bring the ledger's schema up to date, however long it takes. Raises LedgerError."""
    try:
        where, changed = upgrade(ledger)
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
    if as_json:
        print_json({"ledger": where, "upgraded": changed})
    else:
        stdout.print(f"{where}: {'is up to date now' if changed else 'was up to date'}")
