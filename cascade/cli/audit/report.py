"""`cascade audit report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ReportOptions", "run_report"]


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The command's options."""

    policy: str | None
    since: str
    html: Path | None
    ledger: str | None


def run_report(options: ReportOptions, *, as_json: bool) -> None:
    """Print the report."""
    raise NotImplementedError
