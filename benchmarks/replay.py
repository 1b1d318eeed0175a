"""The speed of replay: `python benchmarks/replay.py [--items N] [--lines N] [--repeats N]`.

Measured on three rungs: the vectorised point figures from columns in memory, end to end from a `.jsonl.gz` of about 900
bytes a line, and the engine's own rule item by item. The yardstick is numpy's sort of one column of the same length,
because seconds do not compare between machines. The corpus is drawn (synthetic, seeded). Runs are short and repeated, and
the shortest counts, so that other load matters little. The memory is the peak of a separate process that reads and
replays a million items.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, open_corpus, read_corpus, write_corpus
from cascade.corpora.items import RecordedUsage
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping, RungColumns
from cascade.replay.exact import ExactRun
from cascade.replay.mapping import own_mapping
from cascade.replay.outcomes import singles_of, tally, total
from cascade.replay.run import ReplayOptions, replay_corpus
from cascade.replay.vectorised import evaluate

RUNGS = ("small", "middle", "large")
TASKS = ("refund", "delivery", "invoice", "account")
LEVELS = (0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
MANIFEST = Manifest("benchmark", tuple(LadderEntry(rung) for rung in RUNGS), grader="drawn", synthetic=True)
_WORDS = ("parcel", "invoice", "refund", "yesterday", "account", "please", "number", "again", "arrived", "waiting")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000, help="items in memory (default 1,000,000)")
    parser.add_argument("--lines", type=int, default=10_000, help="items in the file (default 10,000)")
    parser.add_argument("--repeats", type=int, default=20, help="runs of each; the shortest counts (default 20)")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(_peak(given.peak))
        return
    columns, view = drawn_columns(given.items)
    yardstick = _best(lambda: np.sort(columns.rungs["small"].cost), given.repeats)
    print(f"yardstick: np.sort of one column of {given.items:,}: {yardstick * 1e3:.0f} ms\n")
    print("what                                            seconds    items/s   x sort   bound")
    points = _best(lambda: point_figures(columns, view), given.repeats)
    _row(f"point figures, {given.items:,} x 3, from memory", points, given.items, yardstick, "<= 0.25 s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "benchmark.jsonl.gz")
        items = tuple(drawn_items(given.lines))
        write_corpus(path, MANIFEST, items)
        whole = _best(lambda: _read_and_count(path), given.repeats)
        scale = yardstick * given.lines / given.items
        _row("end to end from .jsonl.gz, point figures", whole, given.lines, scale, ">= 60,000 items/s")
        with_tasks = _best(lambda: replay_corpus(path, ReplayOptions()), given.repeats)
        _row("  the same with tasks and 95 % intervals", with_tasks, given.lines, scale, "")
        engine_items = read_corpus(path).items[:2_000]
    mapping = own_mapping(MANIFEST)
    engine = _best(lambda: ExactRun(mapping).take(engine_items), given.repeats)
    scale = yardstick * len(engine_items) / given.items
    _row("the engine's own rule, item by item", engine, len(engine_items), scale, ">= 20,000 items/s")
    done = subprocess.run(
        [sys.executable, __file__, "--peak", str(given.items)], capture_output=True, text=True, check=True
    )
    print(f"\npeak memory of reading and replaying {given.items:,} items: {int(done.stdout):,} MB (bound: <= 600 MB)")


def drawn_columns(n: int) -> tuple[Columns, MappedColumns]:
    """`n` items, drawn directly as columns."""
    chance = np.random.default_rng(1)
    rungs = {
        rung: RungColumns(
            chance.choice(LEVELS, n),
            (chance.random(n) < 0.6 + 0.1 * number).astype(np.float64),
            chance.integers(1_000, 1_000_000, n) * 10**number,
            np.ones(n, np.int8),
        )
        for number, rung in enumerate(RUNGS)
    }
    line, group = np.arange(2, n + 2, dtype=np.int32), np.arange(n, dtype=np.int32)
    columns = Columns("drawn", MANIFEST, [""] * n, line, group, np.full(n, np.nan), rungs)
    task = chance.integers(0, len(TASKS), n).astype(np.int32)
    cost, confidence = (tuple(getattr(one, name) for one in rungs.values()) for name in ("cost", "confidence"))
    return columns, MappedColumns(own_mapping(MANIFEST), TASKS, task, None, (None,) * len(RUNGS), cost, confidence)


def drawn_items(n: int) -> Iterator[Item]:
    """`n` items of some 900 bytes a line."""
    chance = random.Random(1)
    for number in range(n):
        replies = {
            rung: RecordedReply(
                chance.choice(LEVELS),
                f"{chance.choice(_WORDS)} {number}",
                float(chance.random() < 0.6 + 0.1 * place),
                RecordedUsage(input_tokens=chance.randrange(100, 900), output_tokens=chance.randrange(20, 200)),
                chance.randrange(1_000, 1_000_000) * 10**place / 1e9,
                {"linguistic": chance.choice(LEVELS), "logit": chance.random()},
            )
            for place, rung in enumerate(RUNGS)
        }
        text = " ".join(chance.choice(_WORDS) for _ in range(26))
        yield Item(f"item-{number}", f"{number} {text}", replies, task=chance.choice(TASKS))


def point_figures(columns: Columns, view: MappedColumns) -> float:
    """Every point figure of a replay: all but the intervals."""
    return total(tally(columns, view, evaluate(columns, view)), singles_of(columns, view)).quality


def _read_and_count(path: Path) -> float:

    with open_corpus(path) as reader:
        mapping: PolicyMapping = own_mapping(reader.manifest)
        columns, (view,) = read_columns(reader, reader.manifest, [mapping], source=reader.source)
    return point_figures(columns, view)


def _peak(n: int) -> int:
    """The peak memory, in MB, of this process once it has read and replayed `n` items."""
    columns, (view,) = read_columns(drawn_items(n), MANIFEST, [own_mapping(MANIFEST)])
    point_figures(columns, view)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _best(run: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs, in seconds of CPU time: other load only adds to it."""
    times: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def _row(what: str, seconds: float, n: int, yardstick: float, wanted: str) -> None:
    print(f"{what:46}  {seconds:8.3f} {n / seconds:10,.0f} {seconds / yardstick:8.1f}   {wanted}")


if __name__ == "__main__":
    main()
