"""Finite-sample bounds on the rate of a loss: exact for single items, by betting for groups and for graded losses.

Single items, each lost or not: the binomial test, and the bound of Clopper, C. J. and Pearson, E. S. (1934), Biometrika
26. Anything else in [0, 1], unit by unit: the capital of one who bets against a mean that is too high. Waudby-Smith, I.
and Ramdas, A. (2023), Estimating means of bounded random variables by betting, JRSS B 86, one-sided, with their
predictable plug-in bets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra
from cascade.replay.arrays import np

if TYPE_CHECKING:
    from cascade.core.policy.certificate import Units
    from cascade.replay.arrays import Bools, Codes, Floats, Ints

__all__ = [
    "Sample",
    "binomial_cdf",
    "chance_of_passing",
    "counted_sample",
    "keeps",
    "lower_bound",
    "most_errors",
    "passes",
    "sample_of",
    "units_needed",
    "upper_bound",
]

_CAPTURED = 0.9
"""The share of its capital that a bet may risk. The paper suggests 1/2 or 3/4; 0.9 certifies a mean of 0.02 with 167
spotless groups where 3/4 needs 200, and loses some power only where units are plenty."""

_SEED = 20_260_101
_ACCURATE = 40  # halvings: a bound to 1e-12
_MOST_UNITS = 10**9
_DRAWN = 1_000_000  # units drawn at once to see how often they would pass


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Independent units, each with a mean loss from 0 to 1. `errors`: how many are 1, None where some are in between.

    `counted`: the number of units where only that and the `errors` are known; `values` is then empty.
    """

    units: Units
    values: Floats
    errors: int | None
    counted: int | None = None

    @property
    def n(self) -> int:
        """How many units."""
        return len(self.values) if self.counted is None else self.counted

    @property
    def rate(self) -> float:
        """Their mean loss, every unit alike; 0 where there are none."""
        if not self.n:
            return 0.0
        return float(self.values.mean()) if self.errors is None else self.errors / self.n


def sample_of(losses: Floats | Bools, group: Codes) -> Sample:
    """The units of (N,) losses in [0, 1]: items where each is a group of its own, else the groups with their means.

    Groups count every one alike, whatever their size. They are put in a random order (seeded): a bet is fair only where
    the order has nothing to do with the losses, and a file may be sorted by anything.
    """
    _, which, sizes = np.unique(group, return_inverse=True, return_counts=True)
    single = bool((sizes == 1).all())
    whole = losses.dtype == np.bool_ or bool(((losses == 0) | (losses == 1)).all())
    means: Floats = np.bincount(which, losses.astype(np.float64), len(sizes)) / sizes
    shuffled = np.random.default_rng(_SEED).permutation(means)
    errors = int(np.count_nonzero(losses)) if single and whole else None
    return Sample("items" if single else "groups", shuffled, errors)


def counted_sample(errors: int, n: int) -> Sample:
    """`n` single items with `errors` losses, as a table of counts has them: enough for a bound."""
    return Sample("items", np.zeros(0), errors, n)


def passes(sample: Sample, alpha: float, delta: float) -> bool:
    """Whether "the rate is above alpha" is rejected at level delta: true by mistake with probability delta at most."""
    if not sample.n or alpha >= 1:
        return sample.n > 0
    if sample.errors is not None:
        return bool(binomial_cdf(sample.errors, sample.n, alpha) <= delta)
    return bool(_most_capital(sample.values[None, :], alpha, delta)[0] >= -math.log(delta))


def keeps(sample: Sample, alpha: float, delta: float) -> bool | None:
    """Whether the rate is shown to be at most alpha (True) or above it (False); None where the units show neither."""
    if passes(sample, alpha, delta):
        return True
    return False if lower_bound(sample, delta) > alpha else None


def upper_bound(sample: Sample, delta: float) -> float:
    """The upper confidence limit of the rate at 1 - delta: the lowest alpha that `passes`, 1 where nothing is known."""
    if not sample.n or sample.errors == sample.n:
        return 1.0
    if sample.errors is not None:
        return float(_special().betaincinv(sample.errors + 1, sample.n - sample.errors, 1 - delta))
    low, high = sample.rate, 1.0
    for _ in range(_ACCURATE):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(sample, middle, delta) else (middle, high)
    return high


def lower_bound(sample: Sample, delta: float) -> float:
    """The lower confidence limit of the rate at 1 - delta, by the upper limit of one minus the loss."""
    errors = None if sample.errors is None else sample.n - sample.errors
    return 1 - upper_bound(replace(sample, values=1 - sample.values, errors=errors), delta)


def binomial_cdf(errors: int | Ints, n: int, rate: float) -> Any:
    """P(at most this many of n) where each is lost with probability `rate`; `errors` is a whole number, or several."""
    return np.where(np.asarray(errors) >= n, 1.0, _special().bdtr(errors, n, rate))


def most_errors(n: int, alpha: float, delta: float) -> int:
    """The most errors among n items with which they still pass; -1 where even none are too many for so few."""
    if binomial_cdf(0, n, alpha) > delta:
        return -1
    low, high = 0, max(1, math.ceil(n * alpha))  # half the mass and more lies at or below n * alpha
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_cdf(middle, n, alpha) <= delta else (low, middle)
    return low


def units_needed(sample: Sample, alpha: float, delta: float) -> int | None:
    """How many units would pass at the observed rate; None where no number would."""
    if not sample.n or sample.rate >= alpha:
        return None
    if sample.errors is None:
        return _groups_needed(sample, alpha, delta)
    low, high = 0, 1
    while binomial_cdf(_expected(sample, high), high, alpha) > delta:
        low, high = high, high * 2
        if high > _MOST_UNITS:
            return None
    while high - low > 1:  # nearly monotone: a whole error more makes a step back that does not matter here
        middle = (low + high) // 2
        enough = binomial_cdf(_expected(sample, middle), middle, alpha) <= delta
        low, high = (low, middle) if enough else (middle, high)
    return high


def _expected(sample: Sample, n: int) -> int:
    assert sample.errors is not None
    return -(-sample.errors * n // sample.n)


def _groups_needed(sample: Sample, alpha: float, delta: float) -> int | None:
    """So many that the best constant bet, at its mean growth, would reach the goal: what bets that learn come near."""
    bets: Floats = np.linspace(0.02, _CAPTURED, 45) / (1 - alpha)
    growth = max(float(np.log1p(bet * (alpha - sample.values)).mean()) for bet in bets.tolist())
    needed = math.ceil(-math.log(delta) / growth) if growth > 0 else _MOST_UNITS + 1
    return needed if needed <= _MOST_UNITS else None


def _most_capital(values: Floats, alpha: float, delta: float) -> Floats:
    """(R,): the log of the most capital ever held, for R samples of n units in their order, (R, n).

    A bet of b on "the mean is below alpha" makes capital 1 + b (alpha - x) of 1, for b up to 1 / (1 - alpha). Where the
    mean is alpha or more that is a supermartingale: it reaches 1 / delta with probability delta at most (Ville). Each
    bet knows only the units before it.
    """
    n = values.shape[1]
    seen: Floats = np.arange(1, n + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(values, axis=1)) / (1 + seen)
    variance = (0.25 + np.cumsum((values - mean) ** 2, axis=1)) / (1 + seen)
    before = np.concatenate([np.full((len(values), 1), 0.25), variance[:, :-1]], axis=1)
    bets = np.minimum(np.sqrt(-2 * math.log(delta) / (n * before)), _CAPTURED / (1 - alpha))
    return np.cumsum(np.log1p(bets * (alpha - values)), axis=1).max(axis=1)


def chance_of_passing(sample: Sample, n: int, alpha: float, delta: float) -> float:
    """The probability that n units more like these pass, as far as these tell.

    Items: the number lost is beta-binomial, by Jeffreys' prior. Else by simulation, the units' weights drawn anew each
    time: Rubin, D. B. (1981), The Bayesian bootstrap, Annals of Statistics 9.
    """
    if not sample.n or not n:
        return 0.0
    if sample.errors is not None:
        return _beta_binomial(most_errors(n, alpha, delta), n, sample.errors + 0.5, sample.n - sample.errors + 0.5)
    if sample.rate >= alpha:
        return 0.0  # not quite, but below any probability that is asked for
    chance = np.random.default_rng(_SEED)
    draws = int(np.clip(_DRAWN // n, 25, 100))
    edges = np.cumsum(chance.dirichlet(np.ones(sample.n), draws), axis=1)[:, :-1]
    row = np.arange(draws)[:, None]  # all draws in one search: each in a span of its own
    places = np.searchsorted((edges + row).ravel(), chance.random((draws, n)) + row) - row * (sample.n - 1)
    return float((_most_capital(sample.values[places], alpha, delta) >= -math.log(delta)).mean())


def _beta_binomial(most: int, n: int, a: float, b: float) -> float:
    """P(at most `most` of n) where the rate is beta-distributed."""
    if most < 0:
        return 0.0
    special = _special()
    k: Floats = np.arange(most + 1, dtype=np.float64)
    logs = special.betaln(k + a, n - k + b) - special.betaln(a, b) - special.betaln(k + 1, n - k + 1) - np.log(n + 1)
    return float(min(1.0, np.exp(logs).sum()))


def _special() -> Any:
    try:
        from scipy import special  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] - an extra, wanted only here
    except ImportError:
        raise MissingExtra("certifying", "numbers") from None
    return special
