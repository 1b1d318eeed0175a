"""`cascade costs`: spend, escalation and savings of a period, from the ledger's sums.

Only the most expensive requests are read one by one; with --cache, the period's entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import cast

from cascade.cli.costs.output import CostsReport, report_fields, show_report, write_csv
from cascade.cli.mode.command import named_policy
from cascade.cli.output import print_json
from cascade.cli.reading import reading_behind
from cascade.core.errors import ConfigurationError, PolicyError
from cascade.core.policy import Policy, Rung
from cascade.core.prices import Rates
from cascade.costs import BYS, LONGEST_REQUEST_S, PLAN_BYS, By, Period, caches, read_costs, read_large, read_since
from cascade.costs.plans.roles import plan_costs
from cascade.costs.plans.subtasks import runs_of
from cascade.ledger.requests import gather
from cascade.ledger.stores import Reader
from cascade.policy.pricing import NoPrice, rates_of

__all__ = ["CostsOptions", "run_costs"]


@dataclass(frozen=True, slots=True)
class CostsOptions:
    """The command's arguments."""

    since: str = "7d"
    by: str = "task"
    policy: str | None = None
    call_usd: float | None = None
    ledger: str | None = None
    as_csv: bool = False
    cache: bool = False


def run_costs(options: CostsOptions, *, as_json: bool, now: Callable[[], float] = time.time) -> None:
    """Print the figures. `now` gives Unix seconds. Raises ConfigurationError, and LedgerError if the ledger cannot be read."""
    if options.by not in (*BYS, *PLAN_BYS):
        raise ConfigurationError(
            f"--by {options.by[:40]!r}: not a dimension (give one of {', '.join((*BYS, *PLAN_BYS))})"
        )
    if options.as_csv and as_json:
        raise ConfigurationError("--csv, --json: give one of them, not both")
    period = read_since(options.since, now())
    name, limit, loaded = _policy_and_limit(options)
    with reading_behind(options.ledger) as reader:
        report = _read(reader, options, period, name, limit)
        if options.cache:
            entries = reader.entries(since=period.since - LONGEST_REQUEST_S, until=period.until)
            report = replace(report, caches=caches(entries, period.since, _prices(loaded), name))
        if options.by in PLAN_BYS:
            runs = runs_of(gather(reader, period.since, period.until))
            report = replace(report, plans=plan_costs(runs, "role" if options.by == "role" else "assigned", name))
    if options.as_csv:
        write_csv(report)
    elif as_json:
        print_json(report_fields(report))
    else:
        show_report(report)


def _prices(loaded: Policy | None) -> Callable[[str, str, str], Rates | None]:
    """The prices of a (policy, rung, model): those of the policy at hand, if it is the one, else list prices."""
    own = {(loaded.name, rung.rung, rung.model): rung for rung in loaded.ladder} if loaded is not None else {}

    @cache
    def rates(policy: str, rung: str, model: str) -> Rates | None:
        try:
            return rates_of(own.get((policy, rung, model)) or Rung(rung="any", model=model, max_tokens=1))
        except (NoPrice, ValueError):
            return None

    return rates


def _policy_and_limit(options: CostsOptions) -> tuple[str | None, int | None, Policy | None]:
    """The name of the only policy to count, the cost above which requests are listed (nano-USD), and the policy at hand."""
    loaded: Policy | None = None
    try:
        name, loaded = named_policy(options.policy)
    except PolicyError:
        if options.policy is not None:
            raise
        name = ""  # needed only for its budget
    limits = [limit.call_usd for limit in loaded.budget if limit.call_usd is not None] if loaded is not None else []
    threshold = Decimal(str(options.call_usd)) if options.call_usd is not None else min(limits, default=None)
    listed_from = None if threshold is None else int(threshold * 1_000_000_000)
    return (name if options.policy is not None else None), listed_from, loaded


def _read(reader: Reader, options: CostsOptions, period: Period, policy: str | None, limit: int | None) -> CostsReport:
    by = "task" if options.by in PLAN_BYS else cast("By", options.by)
    large = None if limit is None else read_large(reader, period, limit)
    return CostsReport(read_costs(reader, period, by, policy), period, reader.where, policy, large)
