"""Which period and policy a page's address asks for."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.core.errors import ConfigurationError
from cascade.costs import Period, read_moment, read_since
from cascade.dashboard.pages.frame import Choice
from cascade.ledger.records import BUCKET_S

__all__ = ["read_choice"]

_LONGEST_NAME = 512


def read_choice(query: Mapping[str, str], now: float, default: str = "24h") -> tuple[Choice, Period]:
    """`?since=7d`, or `?from=…&to=…` (times in UTC; to the end of this quarter of an hour without `to`, or where that is later), and `&policy=…`.

    Raises ConfigurationError for what is no period.
    """
    policy = query.get("policy", "")[:_LONGEST_NAME]
    start = query.get("from", "").strip()
    if not start:
        since = query.get("since", "").strip() or default
        return Choice(since, policy=policy), read_since(since, now, "since")
    end = query.get("to", "").strip()
    since_at = read_moment(start, now, "from")
    until_at = read_moment(end, now, "to") if end else now
    first = int(since_at // BUCKET_S) * BUCKET_S
    last = (
        min(int(-(-until_at // BUCKET_S)), int(now // BUCKET_S) + 1) * BUCKET_S
    )  # of what is yet to come there is nothing to show
    if not 0 <= first < last:
        raise ConfigurationError(
            f"from {start[:40]} to {end[:40] or 'now'}: the period must begin before it ends, before now, and after 1970"
        )
    return Choice("", start, end, policy), Period(first, last)
