"""`cascade plan hints`: the report as a file that the policy feeds to its planner."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cascade.cli.output import print_json, stderr
from cascade.cli.plan.report import ReportOptions, read_report
from cascade.core.planning.hints import Hints, read_hints
from cascade.core.policy import Policy
from cascade.costs.plans.hints import hints_of
from cascade.policy.loading import dump
from cascade.policy.writing import write_policy

__all__ = ["run_hints"]


def run_hints(
    options: ReportOptions, output: Path | None, *, as_json: bool, now: Callable[[], float] = time.time
) -> None:
    """Write the hints to `output`, else print them. Raises ConfigurationError, PolicyError, LedgerError."""
    at = now()
    read = read_report(options, at)
    hints = hints_of(read.report, datetime.fromtimestamp(at, UTC).date().isoformat(), _present(read.policy))
    text = dump(hints.to_dict()) + "\n"
    if output is not None:
        write_policy(output, text)
        stderr.print(_written(hints, output, read.policy))
    if as_json:
        print_json(hints.to_dict())
    elif output is None:
        sys.stdout.write(text)


def _present(policy: Policy) -> Hints | None:
    """The hints that the policy names now."""
    return read_hints(policy.plan.hints) if policy.plan is not None and policy.plan.hints is not None else None


def _written(hints: Hints, output: Path, policy: Policy) -> str:
    said = f"written: {output}, {len(hints.rows)} rows"
    if not hints.rows:
        return f"{said}: nothing is shown beyond chance yet"
    if policy.plan is None or policy.plan.hints is None:
        return f"{said} (add plan: {{hints: {output.name}}} to the policy, and keep the file beside it)"
    return said
