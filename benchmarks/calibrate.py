"""The speed of the threshold search: `python benchmarks/calibrate.py [--items N] [--repeats N]`.

Columns are drawn in memory (synthetic, seeded). Two times are measured: coding each confidence as its level's number, and
the search itself (the tables, and the frontier of all vectors of thresholds). They are compared with a yardstick (numpy's
sort of one column) and with a plain grid search, whose best point costs more. The memory is the peak of a separate process
that codes and searches, without the interpreter and the drawn columns, divided by the columns' size.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product

import numpy as np

from cascade.calibration.search.frontier import Point, frontier, point_at
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.corpora import LadderEntry, Manifest
from cascade.replay.columns import Columns, MappedColumns, RungColumns
from cascade.replay.mapping import own_mapping

PRICES = (1_000, 3_000, 5_000, 9_000)  # nano-USD a request, by rung
SCENES = {
    "K=3, 16 levels": (3, 16, "<= 0.08 s"),
    "K=4, 101 levels": (4, 101, "<= 0.5 s"),
    "K=3, continuous (512 quantiles)": (3, 0, "<= 0.6 s"),
}
GRIDS = {  # 40 vectors of thresholds, by the number of rungs below the top
    2: (np.linspace(0.3, 1.0, 8), np.linspace(0.3, 1.0, 5)),
    3: (np.linspace(0.4, 1.0, 5), np.linspace(0.4, 1.0, 4), np.array([0.7, 0.9])),
}
GRID_ITEMS = 100_000
WANTED = (0.5, 0.8, 0.9, 0.95)  # of the way from the cheapest point's quality to the best one's


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each; the shortest counts (default 5)")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(_peak(given.items, given.peak))
        return
    n = given.items
    # Measured first, because a process inherits its parent's peak.
    peaks = {name: _peak_of(n, name) for name in SCENES}
    column = np.random.default_rng(0).random(n)
    yardstick = _best(lambda: np.sort(column), given.repeats)
    print(f"{n:,} items; yardstick: np.sort of one column: {yardstick * 1e3:.0f} ms (synthetic data)\n")
    print("what                                  coding s   search s   x sort   bound        peak / columns   bound")
    for name, (rungs, levels, wanted) in SCENES.items():
        columns, view = drawn_columns(n, rungs, levels)
        coding = _best(lambda: code_columns(columns, view), given.repeats)  # noqa: B023 - used at once
        coded = code_columns(columns, view)
        search = _best(lambda: frontier(coded.counts()), given.repeats)  # noqa: B023
        row = f"{name:36} {coding:9.3f} {search:10.3f} {search / yardstick:8.1f}   {wanted:10}"
        print(f"{row}  {peaks[name]:15.2f}   <= 3")
    for name in SCENES:
        _compare(name, 1)


def drawn_columns(n: int, rungs: int, levels: int) -> tuple[Columns, MappedColumns]:
    """`n` items on `rungs` rungs with `levels` informative confidences each (0: continuous)."""
    chance = np.random.default_rng(1)
    made: dict[str, RungColumns] = {}
    hard = chance.random(n)
    for number in range(rungs):
        skill = np.clip(1 - hard + 0.12 * number + chance.normal(0, 0.15, n), 0, 1)
        # Overconfident, as real confidences are: most of the mass is on the top levels.
        stated = skill ** (0.4 + 0.2 * number)
        confidence = np.round(stated * (levels - 1)) / (levels - 1) if levels else stated
        score = (chance.random(n) < skill).astype(np.float64)
        cost = PRICES[number] + chance.integers(0, 500, n)
        made[f"r{number}"] = RungColumns(confidence, score, cost, np.ones(n, np.int8))
    manifest = Manifest("benchmark", tuple(LadderEntry(rung) for rung in made), grader="drawn", synthetic=True)
    line, nothing = np.arange(2, n + 2, dtype=np.int32), np.zeros(n, np.int32)
    columns = Columns("drawn", manifest, [""] * n, line, line, np.full(n, np.nan), made)
    costs, confidences = tuple(one.cost for one in made.values()), tuple(one.confidence for one in made.values())
    return columns, MappedColumns(own_mapping(manifest), ("other",), nothing, None, (None,) * rungs, costs, confidences)


def _compare(name: str, repeats: int) -> None:
    """Print the time of a plain grid search over the same data, and the extra cost of its best points."""
    rungs, levels, _ = SCENES[name]
    coded = code_columns(*drawn_columns(GRID_ITEMS, rungs, levels))
    points = frontier(coded.counts())
    seconds = _best(lambda: _grid_search(coded), repeats)
    grid = _grid_search(coded)
    print(f"\n{name}: a plain grid search, {len(grid)} vectors of thresholds, one pass over {GRID_ITEMS:,} items each:"
          f" {seconds:.3f} s")  # fmt: skip
    top = points[-1].quality
    for share in WANTED:
        wanted = points[0].quality + share * (top - points[0].quality)
        exact = next(point for point in points if point.quality >= wanted)
        found = min((point for point in grid if point.quality >= wanted), key=lambda point: point.cost, default=None)
        text = f"  {share:4.0%} of the way to the best quality ({wanted:.4f}): exact {_point_text(exact)}"
        print(
            text
            + (f"; grid {_point_text(found)}, {found.cost / exact.cost - 1:.1%} dearer" if found else "; grid: none")
        )


def _grid_search(coded: CodedCorpus) -> list[Point]:
    """40 vectors on an even grid up to 1, each evaluated on the score and cost of every item, as in a replay."""
    found: list[Point] = []
    for thresholds in product(*GRIDS[coded.top]):
        at = tuple(int(np.searchsorted(own, one)) + 1 for own, one in zip(coded.levels, thresholds, strict=True))
        quality, cost = float(coded.scores(at).mean()), int(coded.costs(at).sum())
        found.append(Point(at, coded.thresholds(at), quality, cost, 0, ()))
    return found


def _point_text(point: Point) -> str:
    thresholds = ", ".join("never" if one is None else f"{one:.3g}" for one in point.thresholds)
    return f"({thresholds}) {point.cost / 1e9:.3f} USD"


def _peak_of(n: int, name: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--items", str(n), "--peak", name], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _peak(n: int, name: str) -> float:
    """Peak memory of this process after coding and searching, divided by the size of the input columns."""
    rungs, levels, _ = SCENES[name]
    point_at(code_columns(*drawn_columns(100, rungs, levels)).counts(), (1,) * (rungs - 1))  # everything is imported
    bare = _resident()
    columns, view = drawn_columns(n, rungs, levels)
    own = sum(
        part.nbytes for one in columns.rungs.values() for part in (one.confidence, one.score, one.cost, one.answer)
    )
    own += columns.line.nbytes + columns.group.nbytes + columns.at.nbytes + view.task.nbytes
    frontier(code_columns(columns, view).counts())
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - bare) / own


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _best(run: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs, in seconds of CPU time: other load only adds to it."""
    times: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


if __name__ == "__main__":
    main()
