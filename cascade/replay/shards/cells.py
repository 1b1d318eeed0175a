"""Cells: all items of a corpus that decide alike, with exact sums over them. Cells of different shards add up, in any order.

Columns of `Cells.table`, a `pyarrow.Table`. The key: `part` (0: tune, 1: certify, 0 if not told apart), `task`, and by rung of the corpus,
numbered `j`, `a{j}` (the kind of reply, a code of `RungColumns.answer`), `c{j}` (its confidence, or null; of a rung of the policy below its
top), `f{j}` (it failed a check), `g{j}` and `p{j}` (it has a score, a cost). The sums: `items`, `h{j}` and `l{j}` (scores, see
`replay.sums`), `n{j}` (nano-USD), `w{j}` (wrong ones), `r{j}` (wrong ones where the policy's top rung is right). And `first`, the least number
of its rows over all shards, from 1; `low` and `high`, the range of the scores of the policy's rungs, in 2^-30.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.corpora.parquet import load_pyarrow
from cascade.replay.arrays import np
from cascade.replay.columns import MISSING, NO_COST, Columns, MappedColumns
from cascade.replay.shards.undecided import Undecided
from cascade.replay.sums import on_grid

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["MOST_CELLS", "Cells", "added", "cells_of_items"]

MOST_CELLS = 1_000_000
"""More cells than this are not held: as many different confidences are better read item by item."""

_SAFE = 2.0**62


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of some shards. `rungs`: those that the columns are numbered by. `read`: how many rows were left to the reader.

    `named`: whether any item names its group.
    """

    rungs: tuple[str, ...]
    table: Any
    read: int = 0
    named: bool = False

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __add__(self, other: Cells) -> Cells:
        """The cells of both. Raises Undecided if there are too many, or if a sum does not fit in 64 bits."""
        return added((self, other))


def added(parts: Iterable[Cells]) -> Cells:
    """The cells of all parts, of which there is at least one. Raises as `Cells.__add__`."""
    pa, every = load_pyarrow(), list(parts)
    first, table = every[0], pa.concat_tables([one.table for one in every])
    _refuse_overflow(table)
    keys = [name for name in table.column_names if name in {"part", "task"} or _is_numbered(name, "acfgp")]
    how = {"first": "min", "low": "min", "high": "max"}
    sums = [name for name in table.column_names if name not in keys]
    added_so = [(name, how.get(name, "sum")) for name in sums]
    made = table.group_by(keys, use_threads=False).aggregate(added_so)
    made = made.select([*keys, *map("_".join, added_so)]).rename_columns([*keys, *sums])
    if made.num_rows > MOST_CELLS:
        raise too_many()
    return replace(
        first,
        table=made.select(first.table.column_names),
        read=sum(one.read for one in every),
        named=any(one.named for one in every),
    )


def too_many() -> Undecided:
    """The error for more cells than are held."""
    return Undecided(
        "confidence", f"replies have more than {MOST_CELLS:,} different combinations of confidences and tasks"
    )


def _is_numbered(name: str, letters: str) -> bool:
    return name[0] in letters and name[1:].isdigit()


def _refuse_overflow(table: Any) -> None:
    for name in table.column_names:
        if _is_numbered(name, "hlnwr"):
            column = table.column(name).to_numpy()
            if len(column) and float(np.abs(column.astype(np.float64)).sum()) >= _SAFE:
                raise too_large()


def too_large() -> Undecided:
    """The error for a sum that 64 bits do not hold."""
    return Undecided("score", "scores or costs are too large to be added exactly")


def cells_of_items(columns: Columns, mapped: MappedColumns, certifies: Ints) -> Cells:
    """The cells of items that were read one by one. `certifies`: (N,) 1 for the certify part, else 0."""
    pa, right_at, mapping = load_pyarrow(), columns.manifest.right_at, mapped.mapping
    names, n = tuple(columns.rungs), len(columns)
    asked = {rung: index for index, rung in enumerate(mapping.rungs)}
    top_right = columns.rungs[mapping.rungs[-1]].score >= right_at
    arrays: dict[str, Any] = {
        "part": pa.array(certifies, pa.int8()),
        "task": pa.array([mapped.tasks[code] for code in mapped.task.tolist()], pa.string()),
    }
    low, high = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for number, rung in enumerate(names):
        replies, index = columns.rungs[rung], asked.get(rung)
        graded = ~np.isnan(replies.score)
        cost = replies.cost if index is None else mapped.cost[index]
        scores = on_grid(np.where(graded, replies.score, 0.0))
        wrong = graded & (replies.score < right_at)
        failed = None if index is None else mapped.failed[index]
        is_key = index is not None and index < len(asked) - 1
        confidence = replies.confidence if is_key else np.full(n, np.nan)
        if index is not None:
            low, high = np.minimum(low, scores[0]), np.maximum(high, scores[0])
        arrays |= {
            f"a{number}": replies.answer.astype(np.int8) if index is not None else _presence(replies.answer),
            f"c{number}": pa.array(confidence, pa.float64(), mask=np.isnan(confidence)),
            f"f{number}": np.zeros(n, np.bool_) if failed is None else failed,
            f"g{number}": graded,
            f"p{number}": cost != NO_COST,
            f"h{number}": scores[0],
            f"l{number}": scores[1],
            f"n{number}": np.where(cost == NO_COST, 0, cost),
            f"w{number}": wrong.astype(np.int64),
            f"r{number}": (wrong & top_right).astype(np.int64),
        }
    arrays |= {"items": np.ones(n, np.int64), "first": columns.line.astype(np.int64), "low": low, "high": high}
    return added((Cells(names, pa.table(arrays), n),))


def _presence(answer: Any) -> Any:
    """Of a rung that the policy does not ask it matters only whether there is a reply."""
    return np.where(answer == MISSING, np.int8(MISSING), np.int8(1))
