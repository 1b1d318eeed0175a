"""The mix of a corpus in shards, from its cells."""

from __future__ import annotations

from dataclasses import replace

from cascade.cluster import Cluster
from cascade.core.errors import CorpusError
from cascade.replay.arrays import np
from cascade.replay.columns import ANSWERED, NO_COST, UNRECORDED
from cascade.replay.discrimination import auroc_of
from cascade.replay.outcomes import total
from cascade.replay.shards import Counting
from cascade.replay.shards.columns import CellColumns, columns_of
from cascade.replay.shards.figures import singles_of_cells, tally_cells
from cascade.replay.shards.passes import count_all
from cascade.replay.vectorised import evaluate
from cascade.savings.mixes import Mix, mix_of_figures

__all__ = ["mix_of_shards"]


def mix_of_shards(counting: Counting, cluster: Cluster | None = None, pieces: int = 1) -> Mix:
    """As `mix_of_corpus` under the counting's policy, to the digit. Raises as it does; Undecided for what cells cannot say."""
    rows, priced = _priced(counting, cluster, pieces)
    tasks = tally_cells(rows, evaluate(rows.columns, rows.mapped))
    figures, mapping = total(tasks, singles_of_cells(rows)), rows.mapped.mapping
    return mix_of_figures(figures, mapping, counting.manifest, priced=priced, auroc=_auroc(rows), tasks=len(tasks))


def _priced(counting: Counting, cluster: Cluster | None, pieces: int) -> tuple[CellColumns, bool]:
    """The cells with costs: as recorded, else at the policy's prices; else with costs of 0, and False."""
    ways = [replace(counting, reprice=reprice) for reprice in (False, True)]
    rows: CellColumns | None = None
    for own in ways:
        cells = count_all(own, cluster, pieces)
        if not len(cells):
            raise CorpusError("has no items", where=counting.source, hint="record some first: cascade record")
        rows = columns_of(own, own.mapping(), cells)
        if any((cost != NO_COST).any() for cost in rows.mapped.cost):
            return rows, True
    assert rows is not None  # there are two ways
    free = tuple(np.zeros_like(cost) for cost in rows.mapped.cost)
    mapping = counting.mapping()
    return replace(rows, mapped=replace(rows.mapped, mapping=mapping, cost=free, alone_cost=free, climb_cost=())), False


def _auroc(rows: CellColumns) -> float | None:
    """Of the first rung's confidence, over its graded answers."""
    rung = rows.mapped.mapping.rungs[0]
    first = rows.columns.rungs[rung]
    there = np.isin(first.answer, (ANSWERED, UNRECORDED)) & ~np.isnan(first.confidence) & ~np.isnan(first.score)
    levels, level = np.unique(first.confidence[there], return_inverse=True)
    rights, wrongs = np.zeros(len(levels)), np.zeros(len(levels))
    np.add.at(rights, level, (rows.items - rows.wrong[rung])[there])
    np.add.at(wrongs, level, rows.wrong[rung][there])
    return auroc_of(rights, wrongs)
