"""The sums: whole days from the days', the rest from the quarters of an hour, and never anything twice."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

from cascade.ledger.records import BUCKET_S, DAY_S, NO_SLOT, Batch, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteReader, SqliteStore
from cascade.ledger.sums import add_outcome, add_step

DAY = 20_400 * DAY_S


def test_a_period_of_any_ends_has_the_same_sums_from_days_and_from_quarters(tmp_path: Path) -> None:
    """Two hundred requests over four days, written in several batches; forty periods, also empty ones and the whole."""
    chance = random.Random(5)
    asked: list[tuple[float, int]] = []
    with closing(SqliteStore(tmp_path / "ledger.db", synchronous="NORMAL")) as store:
        store.open("one")
        for _ in range(5):
            batch = Batch()
            for _ in range(40):
                at, cost, arm = (
                    DAY + chance.random() * 4 * DAY_S,
                    chance.randrange(1000),
                    chance.choice(["cascade", "bypass"]),
                )
                request = RequestBody("support", "h", "p", chance.choice("ab"), arm, {"workflow": chance.choice("vw")})
                add_step(batch, at, request, StepBody(0, "haiku", "m", "answered", cost, 7, 3))
                add_outcome(batch, at, request, OutcomeBody(arm, cost, 1, 1.0, rung="haiku", slot=chance.randrange(64)))
                asked.append((at, cost))
            store.write(batch)
    periods = [(0, 1 << 40), (DAY, DAY + 4 * DAY_S), (DAY, DAY), (DAY + 900, DAY + 1800)]
    quarters = 5 * DAY_S // BUCKET_S
    while len(periods) < 40:
        first, last = sorted(chance.sample(range(quarters), 2))
        periods.append((DAY + first * BUCKET_S, DAY + last * BUCKET_S))
    with closing(SqliteReader(tmp_path / "ledger.db")) as reader:
        for since, until in periods:
            spend, traffic = sorted(reader.spend(since, until)), sorted(reader.traffic(since, until))
            assert spend == sorted(reader.spend(since, until, by_days=False))
            assert traffic == sorted(reader.traffic(since, until, by_days=False))
            within = [cost for at, cost in asked if since <= at < until]
            assert (sum(int(row[8]) for row in spend), sum(int(row[10]) for row in spend)) == (len(within), sum(within))
            whole = [row for row in traffic if row[6] == NO_SLOT]
            assert (sum(int(row[7]) for row in whole), sum(int(row[11]) for row in whole)) == (len(within), sum(within))
            climbed = sum(int(row[7]) for row in whole if row[4] == "cascade")
            assert sum(int(row[7]) for row in traffic if row[6] != NO_SLOT) == climbed
