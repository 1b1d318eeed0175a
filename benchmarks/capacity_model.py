"""What measured costs mean for so many requests a day: arithmetic, and a simulation of a day that shows how long requests wait. Pure.

The day: Poisson arrivals whose rate follows `DAY`, an office's day whose busiest hour has three times the mean. A request takes one, two
or three steps (`MIX`). It is served in bursts of processor time, before its first call, between calls and after its last; between two bursts
it waits for the model (`MODEL_S` on average, exponential), and takes no time of the process. Each request belongs to a process by chance,
as the kernel's accept does it; each process serves one burst after the other. The bursts' lengths are exponential around the measured mean:
longer tails than were measured, so waits are rather over- than underestimated.

Chance comes as raw numbers of PCG64 with a seed, whose stream numpy keeps from version to version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DAY",
    "HOURS",
    "MIX",
    "PEAK",
    "SCALES",
    "SEED",
    "UTILISATION",
    "Costs",
    "Hour",
    "Needs",
    "costs_of",
    "fewest",
    "needs",
    "simulate",
    "waits",
    "whole_day",
]

DAY = (1, 1, 1, 1, 1, 2, 4, 10, 20, 28, 30, 24, 18, 22, 26, 22, 14, 6, 3, 2, 1, 1, 1, 1)
"""Requests by the hour, relative; they add up to 240, so the mean is 10 and the busiest hour has 30."""
HOURS = range(24)
PEAK = max(DAY) * 24 / sum(DAY)
MIX = {1: 0.70, 2: 0.22, 3: 0.08}
"""The share of requests that take one, two and three steps: an assumption."""
SCALES = (1_000, 100_000, 10_000_000)
UTILISATION = 0.6
MODEL_S = 1.5
WAIT_MS = 20.0
"""What the 99th percentile may wait for a process in the busiest hour."""
SEED = 17
_DAYS = 30

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What one request of the mix costs on average. Milliseconds of processor time, bytes, counts.

    `by_steps`: the gateway's processor time by the number of steps. `alone`: with SQLite and without Redis.
    """

    by_steps: Mapping[int, float]
    alone_by_steps: Mapping[int, float]
    cpu_ms: float
    alone_cpu_ms: float
    rows: float
    sqlite_bytes: float
    postgres_bytes: float
    content_sqlite_bytes: float
    content_postgres_bytes: float
    postgres_cpu_ms: float
    redis_round_trips: float
    redis_commands: float
    redis_cpu_ms: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What so many requests a day need. `processes`: of the gateway, at the busiest hour, at `UTILISATION` of a core each."""

    requests: int
    mean_per_s: float
    peak_per_s: float
    is_alone: bool
    processes: int
    memory_mb: float
    rows_a_day: float
    sqlite_gb: float
    postgres_gb: float
    content_gb: float
    rows_per_s: float
    commits_per_s: float
    postgres_cores: float
    round_trips_per_s: float
    commands_per_s: float
    redis_cores: float
    advice: str


@dataclass(frozen=True, slots=True)
class Hour:
    """How long requests waited for a process in one hour, all their bursts together, in ms. `busy`: of the processes' time."""

    requests: int
    busy: float
    p50_ms: float
    p99_ms: float
    longest_ms: float


def _mixed(values: Mapping[int, float]) -> float:
    return sum(share * values[steps] for steps, share in MIX.items())


def costs_of(measured: Mapping[str, Any]) -> Costs:
    """The mix's averages, from what `capacity_measures.measured` has stored."""
    alone, shared, content = measured["alone"], measured["shared"], measured["content"]

    def of(where: Mapping[str, Any], *path: str) -> dict[int, float]:
        found: dict[int, float] = {}
        for steps in MIX:
            value: Any = where[str(steps)]
            for name in path:
                value = value[name]
            found[steps] = float(value)
        return found

    tables, indexes = of(shared, "postgres", "table_bytes"), of(shared, "postgres", "index_bytes")
    sqlite, postgres = _mixed(of(alone, "sqlite_bytes")), _mixed(tables) + _mixed(indexes)
    one = shared["1"]["postgres"]
    texts_sqlite = content["sqlite"] - alone["1"]["sqlite_bytes"]
    texts_postgres = sum(content["postgres"][name] - one[name] for name in ("table_bytes", "index_bytes"))
    return Costs(
        by_steps=of(shared, "cpu_ms"), alone_by_steps=of(alone, "cpu_ms"),
        cpu_ms=_mixed(of(shared, "cpu_ms")), alone_cpu_ms=_mixed(of(alone, "cpu_ms")), rows=_mixed(of(shared, "rows")),
        sqlite_bytes=sqlite, postgres_bytes=postgres, content_sqlite_bytes=sqlite + texts_sqlite,
        content_postgres_bytes=postgres + texts_postgres, postgres_cpu_ms=_mixed(of(shared, "postgres", "cpu_ms")),
        redis_round_trips=_mixed(of(shared, "redis", "round_trips")), redis_commands=_mixed(of(shared, "redis", "commands")),
        redis_cpu_ms=_mixed(of(shared, "redis", "cpu_ms")), memory_mb=max(of(shared, "memory_mb").values()),
    )  # fmt: skip


def needs(requests: int, costs: Costs) -> Needs:
    """What so many requests a day need."""
    mean = requests / 86_400
    peak = mean * PEAK
    is_alone = peak * costs.alone_cpu_ms / 1e3 <= UTILISATION / 10  # a tenth of what one process may do
    cpu_ms = costs.alone_cpu_ms if is_alone else costs.cpu_ms
    processes = max(1, math.ceil(peak * cpu_ms / 1e3 / UTILISATION))
    if is_alone and requests <= 10_000:
        advice = "one process, SQLite"
    elif processes == 1:
        advice = "one process can; two, with Postgres and Redis, go on when one ends"
    else:
        advice = f"{processes + 1} processes (one may end), Postgres by months, Redis"
    return Needs(
        requests, mean, peak, is_alone, processes, processes * costs.memory_mb, requests * costs.rows,
        requests * _DAYS * costs.sqlite_bytes / 1e9, requests * _DAYS * costs.postgres_bytes / 1e9,
        requests * _DAYS * costs.content_postgres_bytes / 1e9, peak * costs.rows, min(peak * 2, processes * 10.0),
        peak * costs.postgres_cpu_ms / 1e3, peak * costs.redis_round_trips, peak * costs.redis_commands,
        peak * costs.redis_cpu_ms / 1e3, advice,
    )  # fmt: skip


def _uniform(chance: np.random.PCG64, count: int) -> Numbers:
    raw = np.asarray(chance.random_raw(count), dtype=np.uint64)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _exponential(chance: np.random.PCG64, count: int) -> Numbers:
    return -np.log1p(-_uniform(chance, count))


def waits(arrivals: Numbers, services: Numbers) -> Numbers:
    """How long each waits for one server that takes them in their order, from their arrivals (ascending) and services, in seconds."""
    served = np.cumsum(services)
    ends = served + np.maximum.accumulate(arrivals - (served - services))
    return ends - services - arrivals


def simulate(
    requests: int, by_steps: Mapping[int, float], processes: int, hour: int, seed: int = SEED
) -> tuple[Hour, Numbers]:
    """One hour of a day with so many requests; and what each request waited, in ms. `by_steps`: processor ms by the number of steps."""
    # Chance that is the hour's own: any hour can be made alone.
    chance = np.random.PCG64([seed, requests, processes, hour])
    expected = requests * DAY[hour] / sum(DAY)
    gaps = _exponential(chance, int(expected + 6 * math.sqrt(expected) + 20))
    arrivals = np.cumsum(gaps) * (3600 / expected)
    arrivals = arrivals[arrivals < 3600]
    count = len(arrivals)
    draw, steps = _uniform(chance, count), np.ones(count, dtype=np.int64)
    for number, above in ((2, MIX[1]), (3, MIX[1] + MIX[2])):
        steps[draw >= above] = number
    process = (_uniform(chance, count) * processes).astype(np.int64)
    total, busy = np.zeros(count), 0.0
    times, lengths, owners, places = [], [], [], []
    at = arrivals.copy()
    for burst in range(4):  # before the first call, and after each
        live = np.flatnonzero(steps >= burst)
        mean = np.array([by_steps[number] / (number + 1) / 1e3 for number in (1, 2, 3)])[steps[live] - 1]
        length = _exponential(chance, len(live)) * mean
        busy += float(length.sum())
        times.append(at[live])
        lengths.append(length)
        owners.append(live)
        places.append(process[live])
        at[live] += _exponential(chance, len(live)) * MODEL_S
    time, length = np.concatenate(times), np.concatenate(lengths)
    owner, place = np.concatenate(owners), np.concatenate(places)
    for number in range(processes):
        mine = np.flatnonzero(place == number)
        order = mine[np.argsort(time[mine], kind="stable")]
        total += np.bincount(owner[order], waits(time[order], length[order]) * 1e3, count)
    return _hour(total, busy / (3600 * processes)), total


def _hour(total: Numbers, busy: float) -> Hour:
    middle, late = (float(one) for one in np.quantile(total, (0.5, 0.99)))
    return Hour(len(total), busy, middle, late, float(total.max()))


def fewest(requests: int, by_steps: Mapping[int, float], seed: int = SEED) -> int:
    """The fewest processes with which the 99th percentile waits no longer than `WAIT_MS` in the busiest hour."""
    hour = DAY.index(max(DAY))
    peak = requests * DAY[hour] / sum(DAY) / 3600
    processes = max(1, math.floor(peak * _mixed(by_steps) / 1e3) + 1)  # with fewer the queue grows for ever
    while simulate(requests, by_steps, processes, hour, seed)[0].p99_ms > WAIT_MS:
        processes += 1
    return processes


def whole_day(
    requests: int, by_steps: Mapping[int, float], processes: int, hours: Sequence[int] = HOURS, *, seed: int = SEED
) -> Hour:
    """All hours together."""
    done = [simulate(requests, by_steps, processes, hour, seed) for hour in hours]
    return _hour(np.concatenate([total for _, total in done]), sum(hour.busy for hour, _ in done) / len(done))
