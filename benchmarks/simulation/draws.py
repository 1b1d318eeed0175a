"""Seeded chance that is the same on every Python.

Only `random.Random.random()` is promised to give the same sequence for a seed on every version, so every draw is made
of it: `choice`, `shuffle` or `gauss` may change between versions, and `sum` of floats did in 3.12.
"""

from __future__ import annotations

import math
import random
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STANDARD_NORMAL", "Draws"]

T = TypeVar("T")

STANDARD_NORMAL = NormalDist()


class Draws:
    """A stream of draws. Each `purpose` has its own, so that a new phrase in a text does not change who is right."""

    __slots__ = ("_uniform",)

    def __init__(self, seed: int, purpose: str) -> None:
        self._uniform = random.Random(f"{purpose}/{seed}").random

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        return int(self._uniform() * limit)

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._uniform() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the other."""
        return options[self.below(len(options))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order (Fisher-Yates)."""
        deck = list(items)
        for last in range(len(deck) - 1, 0, -1):
            other = self.below(last + 1)
            deck[last], deck[other] = deck[other], deck[last]
        return deck

    def normal(self) -> float:
        """A standard normal number, by inversion of a uniform one at the middle of its 2**-32 cell (never 0 or 1)."""
        return STANDARD_NORMAL.inv_cdf((self.below(2**32) + 0.5) / 2**32)

    def gap(self, mean: float) -> float:
        """The time to the next arrival of a Poisson process, in the unit of `mean`."""
        return -mean * math.log(1.0 - self._uniform())
