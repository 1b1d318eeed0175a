"""Two policies on the same items: paired differences with intervals, and the items that changed.

Both policies see the same items, so the items' difficulty cancels out. A difference shows on far fewer items than two
separate figures would need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns
from cascade.replay.intervals import Interval, interval_of
from cascade.replay.outcomes import Outcomes, false_confident, scores_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference over the items and its 95 % interval (None: fewer than two groups)."""

    value: float
    ci95: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The policy minus `against`: mean score, USD per request, share of confidently wrong answers.

    `to_right` and `to_wrong` are the ids of the items whose shipped answer became right or wrong, by the manifest's
    `right_at`. An abstained item counts as wrong.
    """

    against: str
    quality: Difference
    cost_per_request_usd: Difference
    false_confident_rate: Difference
    to_right: tuple[str, ...]
    to_wrong: tuple[str, ...]


def compare(columns: Columns, one: tuple[MappedColumns, Outcomes], other: tuple[MappedColumns, Outcomes]) -> Comparison:
    """The change from `other` to `one`, each given as a policy's columns and outcomes."""
    right_at = columns.manifest.right_at
    scores = [scores_of(columns, mapped, outcomes) for mapped, outcomes in (one, other)]
    confidently_wrong = [
        false_confident(mapped, outcomes, score, right_at)
        for (mapped, outcomes), score in zip((one, other), scores, strict=True)
    ]

    def difference(mine: object, theirs: object) -> Difference:
        values = np.asarray(mine, np.float64) - np.asarray(theirs, np.float64)
        return Difference(float(values.mean()) if len(values) else 0.0, interval_of(values, columns.group))

    right = [
        (score >= right_at) & (outcomes.shipped >= 0) for score, (_, outcomes) in zip(scores, (one, other), strict=True)
    ]

    def ids(which: Bools) -> tuple[str, ...]:
        return tuple(columns.ids[row] for row in np.flatnonzero(which).tolist())

    return Comparison(
        other[0].mapping.plan.policy.name,
        difference(*scores),
        difference(one[1].cost / 1e9, other[1].cost / 1e9),
        difference(*confidently_wrong),
        ids(right[0] & ~right[1]),
        ids(right[1] & ~right[0]),
    )
