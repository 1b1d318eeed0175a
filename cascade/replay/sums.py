"""Sums of scores that are exact, so that neither the order of the items nor the engine that adds them changes a digit.

A score is rounded to 2^-60 and held as two integers: its multiples of 2^-30, and of 2^-60 for the rest. A mean is rounded once, at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Codes, Floats, Ints

__all__ = ["exact_dot", "exact_mean", "exact_sum", "on_grid", "sums_by"]

_BITS: Final = 30
_GRID: Final = float(1 << _BITS)
_HALF: Final = 32
_SAFE: Final = 1 << 62


def on_grid(values: Floats) -> tuple[Ints, Ints]:
    """(N,) each: the multiples of 2^-30, and of 2^-60 for the rest. Values are at most 1e9, and not NaN."""
    scaled = values * _GRID
    high = np.rint(scaled)
    return high.astype(np.int64), np.rint((scaled - high) * _GRID).astype(np.int64)


def exact_sum(values: Ints) -> int:
    """The sum, however large."""
    if values.dtype == object:
        return int(values.sum()) if len(values) else 0
    return (int((values >> _HALF).sum()) << _HALF) + int((values & ((1 << _HALF) - 1)).sum())


def exact_mean(high: int, low: int, n: int) -> float:
    """The mean of `n` scores whose integers add up to these; 0 for none. Rounded once."""
    return ((high << _BITS) + low) / (n << (2 * _BITS)) if n else 0.0


def exact_dot(one: Ints, other: Ints) -> int:
    """The sum of the products, however large."""
    if object in (one.dtype, other.dtype):
        return int(sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True)))
    mask, half = (1 << 31) - 1, 31
    pieces = [[values >> half, values & mask] for values in (one, other)]
    total = 0
    for n, left in enumerate(pieces[0]):
        for m, right in enumerate(pieces[1]):
            total += exact_sum(left * right) << (half * (2 - n - m))
    return total


def sums_by(code: Codes | Ints, *columns: Ints) -> tuple[Ints, tuple[Ints, ...]]:
    """How many rows each code has, and their sums by column; codes ascending, those without rows left out."""
    order = np.argsort(code, kind="stable")
    ranked = code[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, np.int64)
    )
    counts = np.diff(np.append(starts, len(ranked)))
    return counts.astype(np.int64), tuple(_added(column[order], starts) for column in columns)


def _added(column: Ints, starts: Ints) -> Ints:
    if not len(starts):
        return column[:0]
    most: Any = np.abs(column).max()
    if int(most) * len(column) >= _SAFE:  # numpy's integers would wrap around without a word
        column = column.astype(object)
    return np.add.reduceat(column, starts)
