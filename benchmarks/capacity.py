"""What a request costs, and what that means for 1e3, 1e5 and 1e7 requests a day: `python benchmarks/capacity.py`.

It prints what follows from `capacity.json`, the figures of an earlier measurement; docs/capacity.md has exactly that. With
`--measure --postgres URL` (a database that may be emptied) it measures on this machine first, and with `--keep` writes the file anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capacity_model import (
    DAY,
    MIX,
    MODEL_S,
    PEAK,
    SCALES,
    SEED,
    UTILISATION,
    WAIT_MS,
    Costs,
    Hour,
    Needs,
    costs_of,
    fewest,
    needs,
    simulate,
    whole_day,
)

STORED = Path(__file__).with_suffix(".json")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure on this machine first (two minutes)")
    parser.add_argument("--postgres", help="with --measure: the address of a database whose ledger may be dropped")
    parser.add_argument("--seconds", type=float, default=6.0, help="with --measure: of each load (default 6)")
    parser.add_argument("--keep", action="store_true", help="with --measure: write capacity.json anew")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the simulation (default {SEED})")
    parser.add_argument("--json", action="store_true", help="the measured figures, as JSON")
    options = parser.parse_args()
    if options.measure:
        if not options.postgres:
            parser.error("--measure needs --postgres URL: an empty database")
        from capacity_measures import measured as measure  # noqa: PLC0415 - needs servers

        found = measure(options.seconds, options.postgres)
        if options.keep:
            STORED.write_text(json.dumps(found, indent=1) + "\n")
    else:
        found = json.loads(STORED.read_text())
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for part in (measured_lines(found), derived_lines(found), simulated_lines(found, options.seed)):
        print("\n".join(part), end="\n\n")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]
    for row in (heads, *rows):
        cells = (
            f"{cell:<{width}}" if not at else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def measured_lines(found: Mapping[str, Any]) -> list[str]:
    """What was measured, a column for each number of steps."""
    machine, alone, shared = found["machine"], found["alone"], found["shared"]

    def row(name: str, values: Any, digits: int) -> list[str]:
        return [name, *(f"{value:,.{digits}f}" for value in values)]

    each = [str(steps) for steps in MIX]
    ours, theirs = [alone[one] for one in each], [shared[one] for one in each]
    rows = [
        row("the engine's processor time, ms, beyond the SDK's", (found["engine_cpu_ms"][one] for one in each), 2),
        row("the gateway's, ms, SQLite, state in memory", (one["cpu_ms"] for one in ours), 2),
        row("the gateway's, ms, Postgres and Redis", (one["cpu_ms"] for one in theirs), 2),
        row("its memory, MB, under 32 connections", (one["memory_mb"] for one in theirs), 0),
        row("rows of the ledger", (one["rows"] for one in theirs), 1),
        row("bytes in SQLite", (one["sqlite_bytes"] for one in ours), 0),
        row("bytes in Postgres, tables", (one["postgres"]["table_bytes"] for one in theirs), 0),
        row("bytes in Postgres, indexes", (one["postgres"]["index_bytes"] for one in theirs), 0),
        row("Postgres's processor time, ms", (one["postgres"]["cpu_ms"] for one in theirs), 2),
        row("round trips to Redis, guard and one budget", (one["redis"]["round_trips"] for one in theirs), 1),
        row("commands in Redis, inside of its scripts", (one["redis"]["commands"] for one in theirs), 1),
        row("Redis's processor time, ms", (one["redis"]["cpu_ms"] for one in theirs), 2),
    ]
    content, size = found["content"], found["prompt_characters"]
    postgres = content["postgres"]["table_bytes"] + content["postgres"]["index_bytes"]
    return [
        f"Measured: {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, load average {machine['load_average']} (a busy machine)",
        "",
        *_table(["a request, by its steps", *each], rows),
        "",
        f"With `content: true`, a prompt of {size:,} characters, one step: {content['sqlite']:,.0f} bytes in SQLite, {postgres:,.0f} in Postgres.",
    ]


def derived_lines(found: Mapping[str, Any]) -> list[str]:
    """What follows for each scale."""
    costs = costs_of(found)
    columns = [needs(requests, costs) for requests in SCALES]
    rows = [
        ["requests/s on average", *(f"{one.mean_per_s:,.2f}" for one in columns)],
        ["requests/s in the busiest hour", *(f"{one.peak_per_s:,.2f}" for one in columns)],
        ["gateway processes", *(f"{one.processes}" for one in columns)],
        ["their memory, MB", *(f"{one.memory_mb:,.0f}" for one in columns)],
        ["rows of the ledger a day", *(f"{one.rows_a_day:,.0f}" for one in columns)],
        ["rows/s in the busiest hour", *(f"{one.rows_per_s:,.1f}" for one in columns)],
        ["commits/s then, at most", *(f"{one.commits_per_s:,.1f}" for one in columns)],
        ["GB a month, SQLite", *(f"{one.sqlite_gb:,.2f}" for one in columns)],
        ["GB a month, Postgres", *(f"{one.postgres_gb:,.2f}" for one in columns)],
        ["GB a month, Postgres, with texts", *(f"{one.content_gb:,.2f}" for one in columns)],
        ["cores of Postgres then", *(f"{one.postgres_cores:,.3f}" for one in columns)],
        ["round trips/s to Redis then", *(f"{one.round_trips_per_s:,.1f}" for one in columns)],
        ["commands/s in Redis then", *(f"{one.commands_per_s:,.0f}" for one in columns)],
        ["cores of Redis then", *(f"{one.redis_cores:,.3f}" for one in columns)],
    ]
    mix = ", ".join(f"{share:.0%} {steps}" for steps, share in MIX.items())
    return [
        f"Extrapolated: requests by steps {mix}; the busiest hour has {PEAK:g} times the mean; {UTILISATION:.0%} of a core for each process",
        "",
        *_table(["requests a day", *(f"{requests:,}" for requests in SCALES)], rows),
        "",
        *(f"{one.requests:,} a day: {one.advice}" for one in columns),
    ]


def by_steps(costs: Costs, one: Needs) -> Mapping[int, float]:
    """The processor time that applies."""
    return costs.alone_by_steps if one.is_alone else costs.by_steps


def simulated_lines(found: Mapping[str, Any], seed: int = SEED) -> list[str]:
    """A day for each scale."""
    costs, rows = costs_of(found), list[list[str]]()
    for requests in SCALES:
        rows += simulated_rows(found, requests, seed=seed)
    least = (fewest(n, by_steps(costs, needs(n, costs)), seed) for n in SCALES)
    return [
        f"Simulated: a seeded day, the model takes {MODEL_S:g} s a call; what requests wait for a process, ms",
        "",
        *_table(["requests a day", "processes", "", "requests", "busy", "p50", "p99", "longest"], rows),
        "",
        f"fewest processes with a p99 of at most {WAIT_MS:g} ms in the busiest hour: "
        + ", ".join(f"{processes} for {n:,}" for processes, n in zip(least, SCALES, strict=True)),
    ]


def simulated_rows(found: Mapping[str, Any], requests: int, *, day: bool = True, seed: int = SEED) -> list[list[str]]:
    """The busiest hour, and the whole day."""
    costs = costs_of(found)
    one = needs(requests, costs)
    taken = by_steps(costs, one)
    busiest = simulate(requests, taken, one.processes, DAY.index(max(DAY)), seed)[0]
    rows = [_row(one, "busiest hour", busiest)]
    return [*rows, _row(one, "day", whole_day(requests, taken, one.processes, seed=seed))] if day else rows


def _row(one: Needs, what: str, hour: Hour) -> list[str]:
    waited = (f"{value:,.2f}" for value in (hour.p50_ms, hour.p99_ms, hour.longest_ms))
    return [f"{one.requests:,}", str(one.processes), what, f"{hour.requests:,}", f"{hour.busy:.2%}", *waited]


if __name__ == "__main__":
    main()
