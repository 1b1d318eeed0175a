"""Control items: work of which it is known whether it is right, by which a model that judges others' work is judged itself.

What the audit's judges (`audit.controls`) and the reviewer of plans (`planning.controls`) have in common: how many count, and the counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cascade.core.binomial import upper_tail

__all__ = ["FEWEST", "KEEP_S", "MOST_WRONG", "SHARE", "Tally", "is_above"]

FEWEST = 12
"""Whoever judges is tested by so many control items, half of them right."""
MOST_WRONG = 0.2
"""The share of errors up to which it is believed."""
SHARE = 0.1
"""Of the judgements of one that is tested: so many are accompanied by a control item."""
KEEP_S = 30 * 86_400.0
"""Control items of so many seconds count."""

_NEWEST = 60  # of them count: a model may have changed since the older ones
_CHANCE = 0.05  # what is less probable than this is no chance


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of control items. Of the `wrong` ones `wrong_accepted` were called right, and so the other way round.

    Of `unusable` ones of both kinds nothing usable was said.
    """

    right: int
    wrong: int
    right_rejected: int
    wrong_accepted: int
    unusable: int

    @classmethod
    def of(cls, items: Iterable[tuple[bool, bool | None]]) -> Tally:
        """Of the newest items, oldest first: whether it is right, and whether it was called so; None: nothing usable was said."""
        counted = list(items)[-_NEWEST:]
        right = sum(is_right for is_right, _ in counted)
        return cls(
            right,
            len(counted) - right,
            counted.count((True, False)),
            counted.count((False, True)),
            sum(said is None for _, said in counted),
        )

    @property
    def items(self) -> int:
        """How many count."""
        return self.right + self.wrong

    @property
    def is_enough(self) -> bool:
        """Whether they are enough to test by."""
        return min(self.right, self.wrong) >= FEWEST // 2


def is_above(hits: int, n: int, share: float) -> bool:
    """Whether a share is above `share` beyond chance: its one-sided 95 % lower bound by Clopper and Pearson (1934), Biometrika 26, is.

    That is so where so many hits of `n`, or more, have a probability of less than 5 % at `share`.
    """
    return hits > 0 and upper_tail(hits, n, share) < _CHANCE
