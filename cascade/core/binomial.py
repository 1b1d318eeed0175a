"""The exact tail of the binomial distribution, for what must not need scipy."""

from __future__ import annotations

import math

__all__ = ["upper_tail"]

_NEGLIGIBLE = 1e-17


def upper_tail(hits: int, n: int, rate: float) -> float:
    """P(X >= hits) for X ~ Binomial(n, rate), above the mean; at or below it 1, which is no less. 0 <= hits <= n, 0 <= rate < 1."""
    if hits <= n * rate:
        return 1.0
    if rate <= 0:
        return 0.0
    log = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    term = math.exp(log + hits * math.log(rate) + (n - hits) * math.log1p(-rate))
    whole, odds = 0.0, rate / (1 - rate)
    for count in range(hits, n + 1):
        whole += term
        if term <= whole * _NEGLIGIBLE:  # above the mean the terms only fall
            break
        term *= (n - count) / (count + 1) * odds
    return whole
