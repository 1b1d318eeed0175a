"""Cells as the columns that the vectorised rule takes: each cell a row, its costs and scores the sums over its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

from cascade.corpora.shards.picking import pick_items
from cascade.replay.arrays import np
from cascade.replay.columns import NO_COST, Columns, MappedColumns, PolicyMapping, RungColumns
from cascade.replay.shards.cells import Cells
from cascade.replay.shards.counting import Counting

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Floats, Int8s, Ints

__all__ = ["CellColumns", "columns_of"]

_GRID = 2.0**30


@dataclass(frozen=True, slots=True, eq=False)
class CellColumns:
    """M cells as columns, ordered by their first rows, with what a row of items does not have. By rung of the corpus: (M,) each.

    items  (M,) how many items a cell has; `part`: 0 tune, 1 certify
    high, low   the scores' sums (`replay.sums`); wrong, regressed: how many are wrong, and wrong where the policy's top is right
    """

    columns: Columns
    mapped: MappedColumns
    items: Ints
    part: Int8s
    high: dict[str, Ints]
    low: dict[str, Ints]
    wrong: dict[str, Ints]
    regressed: dict[str, Ints]

    @property
    def n(self) -> int:
        """How many items there are."""
        return int(self.items.sum())


def columns_of(counting: Counting, mapping: PolicyMapping, cells: Cells) -> CellColumns:
    """Cells as columns. Tasks are in the order in which they first appear in the corpus."""
    table = cells.table.sort_by("first")

    def column(name: str) -> Any:
        return table.column(name).to_numpy()

    names = cast("list[str]", table.column("task").to_pylist())
    tasks = tuple(dict.fromkeys(names))
    codes = {name: code for code, name in enumerate(tasks)}
    m = len(names)
    rungs: dict[str, RungColumns] = {}
    sums: dict[str, dict[str, Ints]] = {name: {} for name in "hlwr"}
    for number, rung in enumerate(cells.rungs):
        graded, priced = column(f"g{number}"), column(f"p{number}")
        for name, own in sums.items():
            own[rung] = column(f"{name}{number}")
        score: Floats = np.where(graded, sums["h"][rung] / _GRID, np.nan)
        cost: Ints = np.where(priced, column(f"n{number}"), NO_COST)
        confidence: Floats = table.column(f"c{number}").cast("double").to_numpy(zero_copy_only=False).astype(np.float64)
        rungs[rung] = RungColumns(confidence, score, cost, column(f"a{number}").astype(np.int8))
    first: Ints = column("first")
    columns = Columns(
        counting.named,
        counting.manifest,
        cast("list[str]", _Ids(counting, first)),
        cast("Any", first),
        np.zeros(m, np.int32),
        np.full(m, np.nan),
        rungs,
    )
    plan = mapping.plan
    places = [cells.rungs.index(rung) for rung in mapping.rungs]
    failed: list[Bools | None] = [
        column(f"f{place}") if plan.shared_checks or any(plan.checks.values()) else None for place in places
    ]
    costs = tuple(rungs[rung].cost for rung in mapping.rungs)
    mapped = MappedColumns(
        mapping,
        tasks,
        np.array([codes[name] for name in names], np.int32),
        None,
        tuple(failed),
        costs,
        tuple(rungs[rung].confidence for rung in mapping.rungs),
        alone_cost=costs,
    )
    return CellColumns(
        columns, mapped, column("items"), column("part").astype(np.int8), sums["h"], sums["l"], sums["w"], sums["r"]
    )


class _Ids(Sequence[str]):
    """The id of each cell's first item, read when an error names it."""

    def __init__(self, counting: Counting, first: Ints) -> None:
        self._counting, self._first = counting, first

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return _id_of(self._counting, int(self._first[index]))


def _id_of(counting: Counting, row: int) -> str:
    before = counting.before
    number = max(n for n, start in enumerate(before) if start < row)
    shard = counting.shards[number]
    return next(iter(pick_items(shard.path, counting.manifest, [row - before[number] - 1], before[number]))).id
