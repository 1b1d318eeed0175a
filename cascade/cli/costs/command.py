"""`cascade costs`: spend, escalation and savings of a period, from the ledger's sums.

Only the most expensive requests are read one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from cascade.cli.costs.output import CostsReport, Large, report_fields, show_report, write_csv
from cascade.cli.mode.command import named_policy
from cascade.cli.output import print_json
from cascade.core.errors import ConfigurationError, PolicyError
from cascade.core.policy import Policy
from cascade.costs import BYS, By, Period, PeriodSums, costs, read_since
from cascade.ledger.reading import reading
from cascade.ledger.stores import Reader

__all__ = ["CostsOptions", "run_costs"]

_MOST_LARGE = 1000


@dataclass(frozen=True, slots=True)
class CostsOptions:
    """The command's arguments."""

    since: str = "7d"
    by: str = "task"
    policy: str | None = None
    call_usd: float | None = None
    ledger: str | None = None
    as_csv: bool = False


def run_costs(options: CostsOptions, *, as_json: bool, now: Callable[[], float] = time.time) -> None:
    """Print the figures. `now` gives Unix seconds. Raises ConfigurationError, and LedgerError if the ledger cannot be read."""
    if options.by not in BYS:
        raise ConfigurationError(f"--by {options.by[:40]!r}: not a dimension (give one of {', '.join(BYS)})")
    if options.as_csv and as_json:
        raise ConfigurationError("--csv, --json: give one of them, not both")
    period = read_since(options.since, now())
    name, limit = _policy_and_limit(options)
    with reading(options.ledger) as reader:
        report = _read(reader, options, period, name, limit)
    if options.as_csv:
        write_csv(report)
    elif as_json:
        print_json(report_fields(report))
    else:
        show_report(report)


def _policy_and_limit(options: CostsOptions) -> tuple[str | None, int | None]:
    """The name of the only policy to count, and the cost above which requests are listed, in nano-USD."""
    loaded: Policy | None = None
    try:
        name, loaded = named_policy(options.policy)
    except PolicyError:
        if options.policy is not None:
            raise
        name = ""  # needed only for its budget
    limits = [limit.call_usd for limit in loaded.budget if limit.call_usd is not None] if loaded is not None else []
    threshold = Decimal(str(options.call_usd)) if options.call_usd is not None else min(limits, default=None)
    return (name if options.policy is not None else None), None if threshold is None else int(threshold * 1_000_000_000)


def _read(reader: Reader, options: CostsOptions, period: Period, policy: str | None, limit: int | None) -> CostsReport:
    earlier = period.before
    now = PeriodSums.of(reader.spend(period.since, period.until), reader.traffic(period.since, period.until), policy)
    before = PeriodSums.of(
        reader.spend(earlier.since, earlier.until), reader.traffic(earlier.since, earlier.until), policy
    )  # fmt: skip
    large = None
    if limit is not None:
        found = reader.large(limit, period.since, period.until, _MOST_LARGE + 1)
        large = Large(limit, tuple(found[:_MOST_LARGE]), more=len(found) > _MOST_LARGE)
    return CostsReport(costs(now, before, cast("By", options.by)), period, reader.where, policy, large)
