"""The table of counts that the sliders sum: exact at every threshold they offer, and small enough to inline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.calibration.search.counts import Counts, Loss
from cascade.calibration.search.frontier import quantile_levels
from cascade.policy.editing import threshold_text
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["MOST_BYTES", "Table", "table_of"]

MOST_BYTES = 300_000
"""The table's share of the page's 500 KB."""

_MOST_ROWS = 30_000  # more rows never fit, so they are not tried
_KEPT = (256, 128, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """`fields`: the page's JSON; `at`: where the sliders start; `thinned`: a note on levels left out, if any."""

    fields: dict[str, Any]
    at: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]
    thinned: str | None


def table_of(
    counts: Counts,
    at: Sequence[int],
    loss: Loss,
    *,
    most_bytes: int = MOST_BYTES,
    by_agreement: frozenset[str] = frozenset(),
) -> Table:
    """The counts as columns, with fewer levels if all of them would be more than `most_bytes` of JSON.

    `by_agreement`: the rungs whose levels are no confidences, so that they are named `agreement`.
    Fewer levels mean fewer thresholds to choose from, always including `at` and `never`. Figures at them are exact.
    """
    if len(counts) <= _MOST_ROWS and _size(table := _table(counts, at, loss, by_agreement)) <= most_bytes:
        return table
    table = None
    for keep in _KEPT:
        if any(len(own) > keep for own in counts.levels):
            steps = [_steps(counts, rung, keep, at[rung]) for rung in range(len(at))]
            thin = _thinned(counts, steps)
            if len(thin) > _MOST_ROWS:
                continue
            places = [int(np.searchsorted(own, level)) + 1 for own, level in zip(steps, at, strict=True)]
            offered = ", ".join(
                f"{len(own)} of {len(all_)} at {rung}"
                for own, all_, rung in zip(steps, counts.levels, counts.rungs[:-1], strict=True)
            )
            note = f"To keep this page small, the sliders offer only some of the observed levels: {offered}. Figures at those are exact."
            table = replace(_table(thin, places, loss, by_agreement), thinned=note)
            if _size(table) <= most_bytes:
                return table
    assert table is not None  # two levels a rung are a few hundred rows at most
    return table


def _table(counts: Counts, at: Sequence[int], loss: Loss, by_agreement: frozenset[str]) -> Table:
    labels = tuple(
        (*("agreement" if rung in by_agreement else threshold_text(float(x)) for x in own), threshold_text(None))
        for rung, own in zip(counts.rungs, counts.levels, strict=False)
    )
    columns = {
        "codes": counts.codes,
        "score": counts.score,
        "cost": counts.cost,
        **({} if counts.left is None else {"left": counts.left}),
        "lost": counts.lost(loss),
    }
    fields: dict[str, Any] = {
        "rungs": list(counts.rungs),
        "labels": labels,
        "n": counts.n,
        "items": counts.items.tolist(),
        **{name: [_short(column) for column in matrix.T.tolist()] for name, matrix in columns.items()},
    }
    return Table(fields, tuple(at), labels, None)


def _short(column: list[Any]) -> list[Any]:
    """Ints numbers without a decimal point, which saves a third of the page."""
    return [int(x) if isinstance(x, float) and x.is_integer() else x for x in column]


def _size(table: Table) -> int:
    return len(json.dumps(table.fields, separators=(",", ":")))


def _steps(counts: Counts, rung: int, keep: int, at: int) -> Ints:
    """At most `keep` + 1 levels: about equally many items between them, and the one where the slider starts."""
    size = len(counts.levels[rung])
    if size <= keep:
        return np.arange(1, size + 1)
    chosen = quantile_levels(counts, rung, keep)
    return np.unique(np.append(chosen, at)) if at <= size else chosen


def _thinned(counts: Counts, steps: Sequence[Ints]) -> Counts:
    """The same items on fewer levels: a code is the number of levels it reaches."""
    codes = np.empty_like(counts.codes)
    for rung, own in enumerate(steps):
        renumbered = np.searchsorted(own, np.arange(len(counts.levels[rung]) + 2), "right")
        renumbered[-1] = len(own) + 1  # the climb always ends there
        codes[:, rung] = renumbered[counts.codes[:, rung]]
    levels = tuple(all_[own - 1] for all_, own in zip(counts.levels, steps, strict=True))
    return replace(counts, codes=codes, levels=levels).merged()
