"""`cascade costs`: what the ledger's sums say of a period. Reads no entry but those of the dearest requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from cascade.cli.costs.output import Account, Large, account_fields, show_account, write_csv
from cascade.cli.mode import named_policy
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


def run_costs(wish: CostsOptions, *, as_json: bool, now: Callable[[], float] = time.time) -> None:
    """Print the figures. `now` gives Unix seconds. Raises ConfigurationError, LedgerError where the ledger cannot be read."""
    if wish.by not in BYS:
        raise ConfigurationError(f"--by {wish.by[:40]!r}: not a dimension (give one of {', '.join(BYS)})")
    if wish.as_csv and as_json:
        raise ConfigurationError("--csv, --json: both were given (give one of them)")
    period = read_since(wish.since, now())
    name, limit = _asked(wish)
    with reading(wish.ledger) as reader:
        account = _read(reader, wish, period, name, limit)
    if wish.as_csv:
        write_csv(account)
    elif as_json:
        print_json(account_fields(account))
    else:
        show_account(account)


def _asked(wish: CostsOptions) -> tuple[str | None, int | None]:
    """Which policy, by its name, and what a request may cost before it is listed, in nano-USD."""
    loaded: Policy | None = None
    try:
        name, loaded = named_policy(wish.policy)
    except PolicyError:
        if wish.policy is not None:
            raise
        name = ""  # it was looked for only for its budget
    limits = [limit.call_usd for limit in loaded.budget if limit.call_usd is not None] if loaded is not None else []
    told = Decimal(str(wish.call_usd)) if wish.call_usd is not None else min(limits, default=None)
    return (name if wish.policy is not None else None), None if told is None else int(told * 1_000_000_000)


def _read(reader: Reader, wish: CostsOptions, period: Period, policy: str | None, limit: int | None) -> Account:
    earlier = period.before
    now = PeriodSums.of(reader.spend(period.since, period.until), reader.traffic(period.since, period.until), policy)
    before = PeriodSums.of(
        reader.spend(earlier.since, earlier.until), reader.traffic(earlier.since, earlier.until), policy
    )  # fmt: skip
    large = None
    if limit is not None:
        found = reader.large(limit, period.since, period.until, _MOST_LARGE + 1)
        large = Large(limit, tuple(found[:_MOST_LARGE]), more=len(found) > _MOST_LARGE)
    return Account(costs(now, before, cast("By", wish.by)), period, reader.where, policy, large)
