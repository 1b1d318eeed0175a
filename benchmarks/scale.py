"""Count a corpus in generated shards by DuckDB: `python benchmarks/scale.py [--rows 1e7] [--levels 21] [--threads 2] [--memory 1073741824]`.

Shards of three rungs are written by DuckDB into a temporary folder (about 6 bytes a row; 1e8 rows take 0.6 GB), and removed at the end. Each
measured run is a process of its own, so its peak memory is its own. `tabulate` and DuckDB's own scan of the same columns take turns, and
the median of their ratios is told. Two scans are timed: `max`, the greatest value of every column (with a column that has none, since the
footers alone would answer without it: nothing would be read), and `sum`, the sums of the numbers and the greatest length of the texts.
"""

# ruff: noqa: S608 - queries of our own names

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from cascade.calibration.tables.shards import tabulate_shards
from cascade.corpora import LadderEntry, Manifest
from cascade.corpora.encoding import raw_manifest
from cascade.corpora.shards import find_shards
from cascade.corpora.shards.duckdb import Limits
from cascade.corpora.shards.identity import has_shared_groups, refuse_repeated_ids
from cascade.replay.run import ReplayOptions
from cascade.replay.shards import Counting
from cascade.replay.shards.passes import count_all
from cascade.replay.shards.run import replay_shards

_RUNGS = ("small", "middle", "large")
_ROUNDS = 3
_TASKS_EACH = 4  # of each worker, as the command has it


def generate(folder: Path, rows: int, shards: int, levels: int, *, split: bool) -> None:
    """Write the shards: confidences of so many levels, scores of 0 and 1, a task, and `split` where wanted."""
    manifest = raw_manifest(Manifest("generated", tuple(LadderEntry(rung) for rung in _RUNGS), synthetic=True))
    own = "CASE WHEN hash(i) % 2 = 0 THEN 'tune' ELSE 'certify' END" if split else "NULL::VARCHAR"
    columns = ["'i' || i AS id", "'question ' || i AS input", "'one' AS task", f"{own} AS split"]
    for number, rung in enumerate(_RUNGS):
        level = f"(hash(i * 3 + {number}) % {levels}) / {levels - 1}.0::DOUBLE"
        columns += [
            f'{level if number < 2 else "NULL::DOUBLE"} AS "{rung}.confidence"',
            f'(hash(i * 5 + {number}) % 100 < {60 + 15 * number})::INTEGER::DOUBLE AS "{rung}.score"',
            f'{10 ** (number - 4)} + (hash(i * 7) % 100) / 1e6 AS "{rung}.cost_usd"',
            f"""'"' || chr((65 + hash(i * 11 + {number}) % 4)::INTEGER) || '"' AS "{rung}.answer\"""",
        ]
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "1GiB"})
    for number in range(shards):
        first, last = rows * number // shards, rows * (number + 1) // shards
        connection.execute(
            f"COPY (SELECT {', '.join(columns)} FROM range({first}, {last}) AS r(i)) TO '{folder}/part-{number:04}.parquet'"
            f" (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{'cascade.corpus': '{json.dumps(manifest)}'}})"
        )
    connection.close()


def counting_of(folder: Path, threads: int, memory: int) -> Counting:
    """The generated corpus."""
    found = find_shards(folder)
    return Counting(found.shards, found.manifest, source=str(folder), threads=threads, memory=memory)


def scan(folder: Path, threads: int, memory: int, kind: str) -> None:
    """DuckDB's own scan of the columns that `tabulate` reads of these shards."""
    texts = ["task", "split", *(f"{rung}.answer" for rung in _RUNGS)]
    numbers = [f"{rung}.{name}" for rung in _RUNGS for name in ("score", "cost_usd")]
    numbers += [f"{rung}.confidence" for rung in _RUNGS[:-1]]
    if kind == "max":
        told = [f'max("{name}")' for name in (*texts, *numbers, f"{_RUNGS[-1]}.confidence")]
    else:
        told = [*(f'max(strlen("{name}"))' for name in texts), *(f'sum("{name}")' for name in numbers)]
    config: dict[str, Any] = {"threads": threads, "memory_limit": f"{memory}B", "preserve_insertion_order": False}
    duckdb.connect(config=config).execute(f"SELECT {', '.join(told)} FROM '{folder}/*.parquet'").fetchall()


def cpu_seconds() -> float:
    """Of this process, on all processors."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory() -> int:
    """Of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def run_child(what: str, folder: Path, threads: int, memory: int) -> None:
    """Do one thing in this process, and print its seconds and its peak memory."""
    started, before = time.monotonic(), cpu_seconds()
    if what.startswith("scan-"):
        scan(folder, threads, memory, what.removeprefix("scan-"))
    elif what == "identity":
        found, limits = find_shards(folder), Limits(memory, threads)
        refuse_repeated_ids(found, limits)
        has_shared_groups(found, limits)
    elif what == "tabulate":
        tabulate_shards(counting_of(folder, threads, memory), grouped=False)
    elif what == "cells":
        count_all(replace(counting_of(folder, threads, memory), parted=True))
    elif what == "replay":
        replay_shards(counting_of(folder, threads, memory), ReplayOptions(), grouped=False)
    else:
        print(json.dumps(tabulate_on_workers(folder, int(what.removeprefix("dask-")), memory)))
        return
    print(json.dumps({"seconds": time.monotonic() - started, "peak": peak_memory(), "cpu": cpu_seconds() - before}))


def tabulate_on_workers(folder: Path, workers: int, memory: int) -> dict[str, float]:
    """Seconds of `tabulate` by so many workers of one thread each, which have begun; `cpu` of the busiest one, `peak` of the largest."""
    import psutil  # noqa: PLC0415 - Dask brings it

    from cascade.cluster.dask import open_cluster  # noqa: PLC0415 - where it is installed

    cluster = open_cluster(None, workers)
    counting = counting_of(folder, 1, memory)
    # Each worker has imported what it needs.
    tabulate_shards(replace(counting, shards=counting.shards[:workers]), grouped=False, cluster=cluster, pieces=workers)
    processes = [psutil.Process(number) for number in cluster.processes]

    def used() -> list[float]:
        return [times.user + times.system for times in (one.cpu_times() for one in processes)]

    started, before = time.monotonic(), used()
    tabulate_shards(counting, grouped=False, cluster=cluster, pieces=workers * _TASKS_EACH)
    seconds = time.monotonic() - started
    cpu = max(after - own for after, own in zip(used(), before, strict=True))
    peak = max(one.memory_info().rss for one in processes)
    cluster.close()
    return {"seconds": seconds, "cpu": cpu, "peak": peak}


def measured(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one thing in a process of its own."""
    own = [sys.executable, __file__, "--child", what, "--folder", str(folder)]
    own += ["--threads", str(options.threads), "--memory", str(options.memory)]
    done = subprocess.run(own, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def told(name: str, rows: int, runs: list[dict[str, float]]) -> None:
    """Print one thing's figures."""
    seconds = statistics.median(run["seconds"] for run in runs)
    peak = max(run["peak"] for run in runs)
    cpu = statistics.median(run["cpu"] for run in runs)
    memory = f", {cpu:.2f} s of CPU, peak {peak / 2**20:,.0f} MiB" if peak else ""
    print(f"{name}: {seconds:.2f} s, {rows / seconds / 1e6:.2f} M rows/s{memory}", flush=True)


def measure_pairs(folder: Path, rows: int, options: argparse.Namespace) -> None:
    """Scans and `tabulate` in turns; print each, and their ratios."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("scan-max", "scan-sum", "tabulate")}
    for _ in range(options.rounds):
        for name, own in runs.items():
            own.append(measured(name, folder, options))
    for name, own in runs.items():
        told(name, rows, own)
    for name in ("scan-max", "scan-sum"):
        pairs = list(zip(runs[name], runs["tabulate"], strict=True))
        ratios = sorted(of_scan["seconds"] / own["seconds"] for of_scan, own in pairs)
        by_cpu = statistics.median(of_scan["cpu"] / own["cpu"] for of_scan, own in pairs)
        middle, spread = statistics.median(ratios), f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        print(f"rows/s of tabulate beside {name}: {middle:.2f} ({spread}), by CPU {by_cpu:.2f}", flush=True)


def measure_workers(folder: Path, rows: int, options: argparse.Namespace) -> None:
    """One Dask worker and two in turns, their start left out; by CPU, that of the busiest worker."""
    runs: dict[str, list[dict[str, float]]] = {"dask-1": [], "dask-2": []}
    for number in range(options.rounds):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            runs[name].append(measured(name, folder, options))
    for name, own in runs.items():
        told(name, rows, own)
    pairs = list(zip(runs["dask-1"], runs["dask-2"], strict=True))
    ratios = sorted(one["seconds"] / two["seconds"] for one, two in pairs)
    by_cpu = statistics.median(one["cpu"] / two["cpu"] for one, two in pairs)
    spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
    print(f"two Dask workers beside one: {statistics.median(ratios):.2f} ({spread}), by CPU {by_cpu:.2f}", flush=True)


def main() -> None:
    """Generate, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--levels", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1 << 30)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--parts", default="pairs,replay,identity,split,dask")
    parser.add_argument("--child")
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.child:
        run_child(options.child, Path(options.folder), options.threads, options.memory)
        return
    rows, parts = int(options.rows), options.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="cascade-scale-") as temporary:
        folder = Path(temporary) / "shards"
        folder.mkdir()
        generate(folder, rows, options.shards, options.levels, split=True)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{rows:,} rows in {options.shards} shards, {size / 1e6:,.0f} MB, {options.levels} levels", flush=True)
        if "pairs" in parts:
            measure_pairs(folder, rows, options)
        for name in ("replay", "identity"):
            if name in parts:
                told(name, rows, [measured(name, folder, options)])
        if "dask" in parts:
            measure_workers(folder, rows, options)
        if "split" in parts:
            few = Path(temporary) / "unsplit"
            few.mkdir()
            generate(few, rows // 10, 4, options.levels, split=False)
            told(
                "tabulate without `split`, which hashes each group in Python",
                rows // 10,
                [measured("tabulate", few, options)],
            )


if __name__ == "__main__":
    main()
