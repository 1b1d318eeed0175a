"""What both sides of a move are compared by: how many rows of each table, every writer's last entry, the sums of the sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["Totals", "differences", "totals"]

Totals = Mapping[str, tuple[Any, ...]]
"""By what is compared, in words; the values are numbers, or an entry's place and digest."""

Ask = Callable[[str], Iterable[Sequence[Any]]]
"""Runs a query that both databases understand."""

_SUMS = {
    "spend": ("steps", "escalated", "cost", "input", "output", "errors"),
    "traffic": ("requests", "answers", "resolved", "escalated", "cost", "cost_squared", "estimate", "estimated"),
}
_HEADS = (
    "SELECT w.name, h.number, h.seq, e.digest FROM"
    " (SELECT writer, count(*) AS number, max(seq) AS seq FROM entries GROUP BY writer) AS h"
    " JOIN entries e ON e.writer = h.writer AND e.seq = h.seq JOIN writers w ON w.id = h.writer"
)


def totals(ask: Ask, tables: Iterable[str]) -> Totals:
    """One side's figures. `tables`: those that are compared by their number of rows alone."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, number, seq, digest in ask(_HEADS):
        found[f"writer {name}: entries, last seq, digest"] = (int(number), int(seq), bytes(digest).hex())
    for table in ("writers", "entries", "contents", "calls", *tables):
        for (number,) in ask(f"SELECT count(*) FROM {table}"):  # noqa: S608 - the schema's names
            found[f"{table}: rows"] = (int(number),)
    for table, names in _SUMS.items():
        added = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
        for part in (table, f"{table}_days"):
            for row in ask(f"SELECT {added} FROM {part}"):  # noqa: S608 - constants
                pairs = zip(names, row, strict=True)
                found[f"{part}: {', '.join(names)}"] = tuple(
                    float(one) if name == "cost_squared" else int(one) for name, one in pairs
                )
    return found


def differences(source: Totals, target: Totals) -> Iterator[str]:
    """What is not equal, one line each."""
    for what in sorted(source.keys() | target.keys()):
        one, other = source.get(what), target.get(what)
        if one is None or other is None or len(one) != len(other) or not all(map(_same, one, other)):
            yield f"{what}: {_shown(one)} in the source, {_shown(other)} in the target"


def _same(one: Any, other: Any) -> bool:
    # Squares are floats, added in any order; everything else is exact.
    return one == other or (isinstance(one, float) and math.isclose(one, other, rel_tol=1e-9))


def _shown(values: tuple[Any, ...] | None) -> str:
    return "nothing" if values is None else ", ".join(map(str, values))
