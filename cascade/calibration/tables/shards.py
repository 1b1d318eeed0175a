"""Tables of counts of a corpus in shards, from its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from cascade.calibration.search.counts import GRID, Counts
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.tables.parquet import PARTS, CountsTable, counted_as, refuse_uncountable
from cascade.cluster import Cluster, InProcess, Task
from cascade.core.errors import CorpusError
from cascade.policy.certificates import hash_of_file
from cascade.replay.arrays import np
from cascade.replay.outcomes import NO_RUNG
from cascade.replay.shards import Cells, Counting
from cascade.replay.shards.columns import CellColumns, columns_of
from cascade.replay.shards.passes import count_all, cut
from cascade.replay.sums import exact_sum

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints
    from cascade.replay.run import Progress

__all__ = ["tabulate_shards"]


def tabulate_shards(
    counting: Counting,
    *,
    grouped: bool,
    cluster: Cluster | None = None,
    pieces: int = 1,
    progress: Progress | None = None,
) -> CountsTable:
    """As `tabulate_corpus`, to the digit. `grouped`: whether any two items are of one group (see `corpora.shards.identity`).

    `pieces`: into how many tasks of the cluster (None: this process) the pass is cut. `progress` is told how many items were counted.
    Raises as `tabulate_corpus` does; Undecided for what cells cannot say.
    """
    refuse_uncountable(counting.policy)
    counting = replace(counting, parted=True, part="all", reprice=False, overrides=())
    cells = count_all(counting, cluster, pieces, progress)
    if not len(cells):
        raise CorpusError("has no items", where=counting.source, hint="record some")
    return _table_of(counting, cells, _hash_all(counting, cluster, pieces), grouped=grouped)


def _hash_all(counting: Counting, cluster: Cluster | None, pieces: int) -> tuple[str, ...]:
    """The shards' hashes in their order, made by the cluster's workers: they take about a tenth of the time of counting."""
    tasks = [
        Task(f"hash-{n}", _hashes_of, (tuple(counting.shards[number].path for number in numbers),))
        for n, numbers in enumerate(cut(counting, pieces))
    ]
    found = {done.name: done.result for done in (cluster or InProcess()).run(tasks)}
    return tuple(own for task in tasks for own in found[task.name])


def _hashes_of(paths: tuple[str, ...]) -> tuple[str, ...]:
    made: list[str] = []
    for path in paths:
        try:
            made.append(hash_of_file(path))
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise CorpusError(problem, where=path, hint="was it removed while it was counted?") from error
    return tuple(made)


def _table_of(counting: Counting, cells: Cells, hashes: tuple[str, ...], *, grouped: bool) -> CountsTable:
    manifest, mapping = counting.manifest, counting.mapping()
    rows = columns_of(counting, mapping, cells)
    coded = code_columns(rows.columns, rows.mapped)
    counts = _counts_of(rows, coded)
    parts = {name: replace(counts, **dict(_of_part(counts, rows, code))).merged() for code, name in enumerate(PARTS)}
    models = {entry.rung: entry.model for entry in manifest.ladder}
    low, high = (int(which(cells.table.column(name).to_numpy())) for which, name in ((min, "low"), (max, "high")))
    return CountsTable(
        parts, tuple(models[rung] for rung in mapping.rungs), (manifest.name,), grouped, manifest.synthetic, manifest.grader,
        counted_as(mapping.plan.policy), hashes, cells.named,
        (min(0.0, low / GRID), max(1.0, high / GRID)),
    )  # fmt: skip


def _counts_of(rows: CellColumns, coded: CodedCorpus) -> Counts:
    """As `CodedCorpus.counts`, of cells: what an item has as yes or no is a number here."""
    rungs, right_at = rows.mapped.mapping.rungs, coded.right_at
    wrong, regressed = (_stacked([own[rung] for rung in rungs]) for own in (rows.wrong, rows.regressed))
    top = len(rungs) - 1
    regressed[:, top] = 0
    right_above = rows.items - wrong[:, top]
    if coded.returned is None:
        confident = wrong.copy(order="F")
        confident[:, top] = 0
    else:
        nothing = right_at > 0.0  # no answer scores 0
        none, place = coded.returned == NO_RUNG, np.maximum(coded.returned, 0).astype(np.intp)
        own_wrong, own_regressed = (np.take_along_axis(one, place, 1) for one in (wrong, regressed))
        wrong = np.where(none, (rows.items * nothing)[:, None], own_wrong)
        regressed = np.where(none, (right_above * nothing)[:, None], own_regressed)
        confident = np.where(none | (coded.returned == top), 0, wrong)
    return Counts(
        coded.rungs, coded.levels, coded.codes, rows.items, coded.score, coded.cost, wrong, confident, regressed,
        coded.alone.sum(axis=0), np.zeros(top + 1, np.int64), right_at,
    )  # fmt: skip


def _of_part(counts: Counts, rows: CellColumns, code: int) -> Iterator[tuple[str, Any]]:
    chosen = np.flatnonzero(rows.part == code)
    for name in ("codes", "items", "score", "cost", "wrong", "false_confident", "regressed"):
        yield name, np.asfortranarray(getattr(counts, name)[chosen])
    rungs = rows.mapped.mapping.rungs
    yield "alone", np.array([exact_sum(rows.high[rung][chosen]) / int(GRID) for rung in rungs])
    yield "alone_wrong", _stacked([rows.wrong[rung] for rung in rungs])[chosen].sum(axis=0)


def _stacked(columns: list[Ints]) -> Ints:
    return np.asfortranarray(np.stack(cast("Any", columns), axis=1))
