"""Reads from a ledger what the figures of a period are computed from: the command line and the dashboard show the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.costs.periods import Period
from cascade.costs.reckoning import Costs, costs
from cascade.costs.rows import By, PeriodSums
from cascade.ledger.stores import Reader
from cascade.ledger.whole_sums import KnownDays, whole_spend, whole_traffic

__all__ = ["MOST_LARGE", "Large", "read_costs", "read_large", "read_sums"]

MOST_LARGE = 1000
"""Requests in a list of the large ones."""


@dataclass(frozen=True, slots=True)
class Large:
    """Requests that cost more than `limit` (nano-USD), most expensive first: (id, cost). `more`: the list is cut short."""

    limit: int
    requests: tuple[tuple[str, int], ...]
    more: bool


def read_sums(
    reader: Reader,
    period: Period,
    policy: str | None = None,
    *,
    by_day: bool = False,
    by_slot: bool = True,
    known: KnownDays | None = None,
) -> PeriodSums:
    """The sums of a period, of one policy or of all. Raises LedgerDown.

    Without `by_day` they are added up over the whole period. Without `by_slot` too, they have no `slots` and no `missed`: enough to compare with.
    `known`: kept between calls, so that whole days are added up again only when something of them has changed.
    """
    if by_day:
        spend, traffic = (read(period.since, period.until) for read in (reader.spend, reader.traffic))
        return PeriodSums.of(spend, traffic, policy)
    return PeriodSums.of(
        whole_spend(reader, period.since, period.until, policy, known=known),
        whole_traffic(reader, period.since, period.until, policy, by_slot=by_slot, known=known),
    )


def read_costs(reader: Reader, period: Period, by: By, policy: str | None = None) -> Costs:
    """Everything that `cascade costs` shows but the large requests. Raises LedgerDown."""
    now = read_sums(reader, period, policy, by_day=by == "day")
    return costs(now, read_sums(reader, period.before, policy, by_slot=False), by)


def read_large(reader: Reader, period: Period, limit: int, most: int = MOST_LARGE) -> Large:
    """The requests that cost more than `limit` nano-USD, of all policies. Raises LedgerDown."""
    found = reader.large(limit, period.since, period.until, most + 1)
    return Large(limit, tuple(found[:most]), more=len(found) > most)
