"""The table of counts: all that a search for thresholds needs of a corpus, as sums that can be computed in parts and added.

A row stands for all items whose replies have the same level at every rung, so the number of rows is bounded by the levels,
not by the items. Any query engine's GROUP BY computes one (`tables.parquet` describes the file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from cascade.core.errors import CorpusError
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats, Ints

__all__ = ["DENSE", "GRID", "Counts", "Loss", "cells_of", "joined", "thresholds_of"]

Loss = Literal["false_confident", "regression"]
"""What counts as a loss, over all requests. `false_confident`: a wrong answer shipped below the top rung. `regression`: a wrong
answer where the top rung was right."""

GRID = 2.0**30
"""Scores are rounded to 1 / this: then sums are exact in any order, and equal outcomes have equal sums."""

_SUMS = ("items", "score", "cost", "wrong", "false_confident", "regressed")  # and `left`, if there is one

DENSE = 4_000_000
"""The most cells for which counting by cell is faster than sorting, and fits in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """M rows on K rungs: a code vector each, with sums over its items. Codes, levels and columns are as in `CodedCorpus`.

    items      (M,): how many
    score      (M, K): sum of the scores of what is returned if the climb ends at that rung
    cost       (M, K): nano-USD, each rung's own
    left       (M, K-1): nano-USD, each rung's own if the climb goes past it (early stop closes replies); None: as `cost`
    wrong      (M, K): how many of the answers returned there are wrong
    false_confident (M, K): how many of those come from below the top; at the top 0, except for best held answers
    regressed  (M, K): how many are wrong although the top rung's own answer is right
    alone_cost (K,) nano-USD of each single model, where `cost` holds more than that; None: as `cost`
    alone      (K,) sum of each single model's scores; alone_wrong (K,): how many of them are wrong

    If grouping by vector does not pay, each item is a row of its own (its counts of losses are bytes), so vectors may
    repeat; `merged` groups them.
    """

    rungs: tuple[str, ...]
    levels: tuple[Floats, ...]
    codes: Codes
    items: Ints
    score: Floats
    cost: Ints
    wrong: Ints
    false_confident: Ints
    regressed: Ints
    alone: Floats
    alone_wrong: Ints
    right_at: float
    left: Ints | None = None
    alone_cost: Ints | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def n(self) -> int:
        """How many items were counted."""
        return int(self.items.sum())

    @property
    def passed(self) -> Ints:
        """(M, K-1): nano-USD of each rung's own if the climb goes past it."""
        return self.cost[:, :-1] if self.left is None else self.left

    def lost(self, loss: Loss) -> Ints:
        """(M, K): how many losses there are if the climbs end at that rung."""
        return self.false_confident if loss == "false_confident" else self.regressed

    def __add__(self, other: Counts) -> Counts:
        """The counts of both, on the union of their levels. Raises CorpusError for different ladders."""
        if self.rungs != other.rungs or self.right_at != other.right_at:
            mine, its = (f"{' → '.join(one.rungs)} with right_at {one.right_at:g}" for one in (self, other))
            problem = f"different ladders cannot be added: {mine}, and {its}"
            raise CorpusError(problem, where="counts", hint="count both under one policy")
        levels = tuple(np.union1d(a, b) for a, b in zip(self.levels, other.levels, strict=True))
        singles: dict[str, Any] = {
            "alone": self.alone + other.alone,
            "alone_wrong": self.alone_wrong + other.alone_wrong,
        }
        return replace(joined([part.at_levels(levels) for part in (self, other)]), **singles).merged()

    def at_levels(self, levels: Sequence[Floats]) -> Counts:
        """The same counts on other levels, a superset of its own."""
        return replace(self, levels=tuple(levels), codes=_recoded(self, levels))

    def without_items(self, codes: Codes, left: Ints) -> Counts:
        """Rows that only change what is paid at the rungs that a climb leaves."""
        empty: dict[str, Any] = {
            name: np.zeros((len(codes), *getattr(self, name).shape[1:]), getattr(self, name).dtype) for name in _SUMS
        }
        return replace(self, codes=codes, left=left, **empty)

    def merged(self) -> Counts:
        """The same counts with one row for each code vector, sorted."""
        radices = [len(own) + 2 for own in self.levels]
        if prod(radices) <= DENSE:
            codes, sums = self._by_cell(radices)
        else:
            codes, sums = self._by_order()
        return replace(self, codes=codes, **sums)

    @property
    def _sums(self) -> tuple[str, ...]:
        return _SUMS if self.left is None else (*_SUMS, "left")

    def _by_cell(self, radices: list[int]) -> tuple[Codes, dict[str, Any]]:
        cell, cells = cells_of(self.codes, radices), prod(radices)
        items = np.bincount(cell, self.items, cells)
        found = np.flatnonzero(items if self.left is None else np.bincount(cell, minlength=cells))
        sums: dict[str, Any] = {"items": items[found].astype(np.int64)}
        for name in self._sums[1:]:
            matrix = getattr(self, name)
            made = np.empty((len(found), matrix.shape[1]), np.float64 if name == "score" else np.int64, order="F")
            for rung in range(matrix.shape[1]):
                if not matrix[:, rung].any():  # e.g. the losses of the top rung
                    made[:, rung] = 0
                    continue
                made[:, rung] = np.bincount(cell, matrix[:, rung], cells)[found]  # exact: whole, far below 2**53
            sums[name] = made
        return np.stack(np.unravel_index(found, radices), axis=1).astype(np.int32), sums

    def _by_order(self) -> tuple[Codes, dict[str, Any]]:
        order, starts = _runs(self.codes)
        sums = {name: self._summed(name, order, starts) for name in self._sums}
        return self.codes[order[starts]], sums

    def _summed(self, name: str, order: Ints, starts: Ints) -> Any:
        column = getattr(self, name)[order]
        return np.add.reduceat(column, starts, axis=0, dtype=np.float64 if name == "score" else np.int64)


def joined(parts: Sequence[Counts]) -> Counts:
    """The rows of all parts, which have the same levels, with the single models of the first."""
    names = ["codes", *_SUMS]
    rows: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    if any(part.left is not None for part in parts):
        rows["left"] = np.concatenate([part.passed for part in parts])
    return replace(parts[0], **rows)


def thresholds_of(levels: Sequence[Floats], at: Sequence[int]) -> tuple[float | None, ...]:
    """The thresholds of a vector of level numbers; None is `never`."""
    return tuple(float(own[j - 1]) if j <= len(own) else None for own, j in zip(levels, at, strict=True))


def cells_of(codes: Codes | Ints, radices: Sequence[int]) -> Ints:
    """(N,): each row's cell in a table of this shape, the last axis varying fastest."""
    cell = np.zeros(len(codes), np.intp)
    for index, radix in enumerate(radices):
        cell *= radix
        cell += codes[:, index]
    return cell


def _recoded(part: Counts, levels: Sequence[Floats]) -> Codes:
    codes = np.empty_like(part.codes)
    for index, (old, new) in enumerate(zip(part.levels, levels, strict=True)):
        renumbered = np.concatenate([[0], np.searchsorted(new, old) + 1, [len(new) + 1]]).astype(np.int32)
        codes[:, index] = renumbered[part.codes[:, index]]
    return codes


def _runs(codes: Codes) -> tuple[Ints, Ints]:
    """An order in which equal rows are adjacent, and where each run of them starts."""
    order = np.lexsort(codes.T[::-1])
    ranked = codes[order]
    new = np.concatenate([[True], np.any(ranked[1:] != ranked[:-1], axis=1)]) if len(codes) else np.zeros(0, np.bool_)
    return order, np.flatnonzero(new)
