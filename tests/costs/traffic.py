"""Synthetic traffic of a rollout: customers of very unequal size, alike within, in arms and slots by the real hashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.core.modes import SLOTS, arm_of, slot_of
from cascade.core.policy.operations import Rollout
from cascade.costs import TrafficRow

NANO = 1_000_000


@dataclass(frozen=True)
class Rolled:
    """One period of it. `true`: what the ladder's own requests saved, in nano-USD; `expected`: what so many save on average.

    `naive`: half of an interval's width, if every request were by itself.
    """

    rows: list[TrafficRow]
    true: float
    expected: float
    naive: float
    difference: float


def traffic(arm: str, slot: int = 0, requests: int = 1, cost: int = 0, **more: object) -> TrafficRow:
    """A row with some of its columns."""
    columns = {
        "day": 20_000, "policy": "support", "task": "refund", "workflow": "", "arm": arm, "rung": "haiku", "slot": slot,
        "requests": requests, "answers": requests, "resolved": requests, "escalated": 0, "cost": cost,
        "cost_squared": 0.0, "estimate": 0, "estimated": 0,
    }  # fmt: skip
    return TrafficRow(**{**columns, **more})  # type: ignore[arg-type]


def roll(seed: int, customers: int, percent: float, spread: float = 1.0) -> Rolled:
    """Customers with lognormal counts of requests; the baseline's cost of each request, and the ladder's, are gamma."""
    chance = np.random.default_rng(seed)
    sizes = np.maximum(1, np.round(np.exp(chance.normal(2.5, spread, customers)))).astype(int)
    level = np.exp(chance.normal(0, 0.5, customers)) * NANO
    share = np.clip(chance.normal(0.4, 0.15, customers), 0.05, 1.2)
    names = [f"{seed}-{number}" for number in range(customers)]
    rollout = Rollout(percent=percent, by="customer")
    climbs = np.array([arm_of("enforce", rollout, "support", name) == "cascade" for name in names])
    slots = np.array([slot_of(rollout, "support", name) for name in names])
    of = np.repeat(np.arange(customers), sizes)
    baseline = np.round(level[of] * chance.gamma(2, 0.5, len(of)))
    ladder = np.round(level[of] * share[of] * chance.gamma(0.6, 1 / 0.6, len(of)))
    up, slot = climbs[of], slots[of]
    rows: list[TrafficRow] = []
    for arm, mine, cost in (("cascade", up, ladder), ("holdout", ~up, baseline)):
        counts = np.bincount(slot[mine], minlength=SLOTS)
        spent = np.bincount(slot[mine], cost[mine], minlength=SLOTS)
        rows += [
            traffic(arm, number, int(counts[number]), int(spent[number])) for number in range(SLOTS) if counts[number]
        ]
    saved = np.exp(0.5**2 / 2) * NANO * (1 - _MEAN_SHARE)
    held, own = baseline[~up], ladder[up]
    return Rolled(
        rows,
        float((baseline[up] - own).sum()),
        float(saved * up.sum()),
        float(1.96 * up.sum() * np.sqrt(held.var(ddof=1) / len(held) + own.var(ddof=1) / len(own))),
        float(up.sum() * (held.mean() - own.mean())),
    )


_MEAN_SHARE = float(np.clip(np.random.default_rng(0).normal(0.4, 0.15, 1_000_000), 0.05, 1.2).mean())
