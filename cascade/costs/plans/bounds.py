"""Bounds on a rate of failures, from independent runs that each have one result or several.

If every run has one, failures are binomial, and the bound is exact: Clopper, C. J. and Pearson, E. S. (1934), Biometrika 26. Results of
one run resemble each other: with several in some runs the runs' own shares are counted, each in [0, 1], and the tail's probability is
bounded without any assumption on what happens inside a run: by Hoeffding, W. (1963), JASA 58, theorem 1, or Bentkus, V. (2004), On Hoeffding's
inequalities, Annals of Probability 32, e times the binomial's, whichever is smaller.
"""

from __future__ import annotations

import math

from cascade.core.binomial import upper_tail

__all__ = ["interval", "lower_bound"]

_HALVINGS = 40  # to 1e-12


def interval(failed: float, runs: int, *, single: bool, delta: float = 0.05) -> tuple[float, float]:
    """Two-sided, at 1 - delta. `failed`: the sum of the runs' shares of failures; `single`: each run has one result. (0, 1) without runs."""
    half = delta / 2
    return lower_bound(failed, runs, half, single=single), 1 - lower_bound(runs - failed, runs, half, single=single)


def lower_bound(failed: float, runs: int, delta: float, *, single: bool) -> float:
    """The lower confidence limit of the rate at 1 - delta: the highest rate at which so many failures have probability at most delta."""
    low, high = 0.0, failed / runs if runs else 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _probability(failed, runs, middle, single=single) <= delta:
            low = middle
        else:
            high = middle
    return low


def _probability(failed: float, runs: int, rate: float, *, single: bool) -> float:
    """At most so probable are as many failures or more, at a rate below the observed one."""
    tail = upper_tail(math.floor(failed + 1e-9), runs, rate)
    return tail if single else min(1.0, math.e * tail, _hoeffding(failed / runs, runs, rate))


def _hoeffding(share: float, runs: int, rate: float) -> float:
    if rate <= 0:
        return 0.0 if share > 0 else 1.0
    rest = (1 - share) * math.log((1 - share) / (1 - rate)) if share < 1 else 0.0
    return math.exp(-runs * (share * math.log(share / rate) + rest))
