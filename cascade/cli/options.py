"""Options that several commands share."""

from __future__ import annotations

import typer

__all__ = ["JSON", "LEDGER", "LOOKS", "POLICY", "SEED", "SKIP", "TUNE"]

JSON = typer.Option("--json", help="Print the result as JSON.")
LEDGER = typer.Option(
    "--ledger", help="A path or postgresql://… Default: CASCADE_LEDGER, else ledger.db in CASCADE_HOME."
)
TUNE = typer.Option(help="The share of the groups that tunes, where the items do not say.")
SEED = typer.Option(help="Another seed parts the groups another way.")
SKIP = typer.Option("--skip-bad", help="Pass over bad lines and ungraded or unpriced items, and count them.")
LOOKS = typer.Option("--policy", "-p", help="A path, or a shipped name. Default: the corpus's own ladder.")
POLICY = typer.Option(
    "--policy", "-p", help="A path, or a shipped policy's name. Default: CASCADE_POLICY, else default."
)
