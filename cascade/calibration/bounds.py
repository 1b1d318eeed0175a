"""Finite-sample bounds on the rate of a loss: exact for single items, by betting for groups and for graded losses.

Single items with losses of 0 or 1: the binomial test, and the bound of Clopper, C. J. and Pearson, E. S. (1934), Biometrika
26. Any other losses in [0, 1], a mean for each unit: a test by betting that the mean is lower. Waudby-Smith, I.
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
loss-free groups where 3/4 needs 200, and loses some power only if there are many units."""

_SEED = 20_260_101
_BISECTIONS = 40  # a bound to 1e-12
_MOST_UNITS = 10**9
_MOST_DRAWN = 1_000_000  # units drawn at once to simulate the chance of passing


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Independent units, each with a mean loss from 0 to 1.

    errors   how many losses are 1; None if some are in between, or for groups
    counted  the number of units, if only that and `errors` are known; `values` is then empty
    """

    units: Units
    values: Floats
    errors: int | None
    counted: int | None = None

    @property
    def n(self) -> int:
        """The number of units."""
        return len(self.values) if self.counted is None else self.counted

    @property
    def rate(self) -> float:
        """The mean loss, every unit weighted equally; 0 without units."""
        if not self.n:
            return 0.0
        return float(self.values.mean()) if self.errors is None else self.errors / self.n


def sample_of(losses: Floats | Truths, group: Codes) -> Sample:
    """The units of (N,) losses in [0, 1]: the items if each is a group of its own, else the groups with their mean losses.

    All groups weigh the same, whatever their size. The order is random (seeded): a bet is valid only if the order is
    independent of the losses, and a file may be sorted by anything.
    """
    _, which, sizes = np.unique(group, return_inverse=True, return_counts=True)
    single = bool((sizes == 1).all())
    whole = losses.dtype == np.bool_ or bool(((losses == 0) | (losses == 1)).all())
    means: Floats = np.bincount(which, losses.astype(np.float64), len(sizes)) / sizes
    shuffled = np.random.default_rng(_SEED).permutation(means)
    errors = int(np.count_nonzero(losses)) if single and whole else None
    return Sample("items" if single else "groups", shuffled, errors)


def counted_sample(errors: int, n: int) -> Sample:
    """A sample of `n` single items with `errors` losses, from a table of counts."""
    return Sample("items", np.zeros(0), errors, n)


def passes(sample: Sample, alpha: float, delta: float) -> bool:
    """Whether "the rate is above alpha" is rejected at level delta: wrongly with probability at most delta."""
    if not sample.n or alpha >= 1:
        return sample.n > 0
    if sample.errors is not None:
        return bool(binomial_cdf(sample.errors, sample.n, alpha) <= delta)
    return bool(_most_capital(sample.values[None, :], alpha, delta)[0] >= -math.log(delta))


def keeps(sample: Sample, alpha: float, delta: float) -> bool | None:
    """Whether the rate is shown to be at most alpha (True) or above it (False); None if undecided."""
    if passes(sample, alpha, delta):
        return True
    return False if lower_bound(sample, delta) > alpha else None


def upper_bound(sample: Sample, delta: float) -> float:
    """The upper confidence limit of the rate at 1 - delta: the lowest alpha that `passes`; 1 without units."""
    if not sample.n or sample.errors == sample.n:
        return 1.0
    if sample.errors is not None:
        return float(_special().betaincinv(sample.errors + 1, sample.n - sample.errors, 1 - delta))
    low, high = sample.rate, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(sample, middle, delta) else (middle, high)
    return high


def lower_bound(sample: Sample, delta: float) -> float:
    """The lower confidence limit of the rate at 1 - delta: one minus the upper limit of (1 - loss)."""
    errors = None if sample.errors is None else sample.n - sample.errors
    return 1 - upper_bound(replace(sample, values=1 - sample.values, errors=errors), delta)


def binomial_cdf(errors: int | Whole, n: int, rate: float) -> Any:
    """P(at most `errors` of n), if each is lost with probability `rate`; `errors` is a number or an array."""
    return np.where(np.asarray(errors) >= n, 1.0, _special().bdtr(errors, n, rate))


def most_errors(n: int, alpha: float, delta: float) -> int:
    """The most errors with which n items pass; -1 if n is too small to pass with none."""
    if binomial_cdf(0, n, alpha) > delta:
        return -1
    low, high = 0, max(1, math.ceil(n * alpha))  # half the mass and more lies at or below n * alpha
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_cdf(middle, n, alpha) <= delta else (low, middle)
    return low


def units_needed(sample: Sample, alpha: float, delta: float) -> int | None:
    """How many units would pass at the observed rate; None if no number would."""
    if not sample.n or sample.rate >= alpha:
        return None
    if sample.errors is None:
        return _groups_needed(sample, alpha, delta)
    low, high = 0, 1
    while binomial_cdf(_expected(sample, high), high, alpha) > delta:
        low, high = high, high * 2
        if high > _MOST_UNITS:
            return None
    while (
        high - low > 1
    ):  # not quite monotone where the rounded number of errors steps up; the difference does not matter here
        middle = (low + high) // 2
        enough = binomial_cdf(_expected(sample, middle), middle, alpha) <= delta
        low, high = (low, middle) if enough else (middle, high)
    return high


def _expected(sample: Sample, n: int) -> int:
    assert sample.errors is not None
    return -(-sample.errors * n // sample.n)


def _groups_needed(sample: Sample, alpha: float, delta: float) -> int | None:
    """How many groups the best constant bet needs at its mean growth rate; adaptive bets come close to that."""
    bets: Floats = np.linspace(0.02, _CAPTURED, 45) / (1 - alpha)
    growth = max(float(np.log1p(bet * (alpha - sample.values)).mean()) for bet in bets.tolist())
    needed = math.ceil(-math.log(delta) / growth) if growth > 0 else _MOST_UNITS + 1
    return needed if needed <= _MOST_UNITS else None


def _most_capital(values: Floats, alpha: float, delta: float) -> Floats:
    """(R,): the log of the maximum capital, for R samples of n units in order, (R, n).

    A bet of b on "the mean is below alpha" turns a capital of 1 into 1 + b (alpha - x), for b up to 1 / (1 - alpha). If the
    mean is alpha or more, the capital is a supermartingale, which reaches 1 / delta with probability at most delta
    (Ville). Each bet depends only on earlier units.
    """
    n = values.shape[1]
    seen: Floats = np.arange(1, n + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(values, axis=1)) / (1 + seen)
    variance = (0.25 + np.cumsum((values - mean) ** 2, axis=1)) / (1 + seen)
    before = np.concatenate([np.full((len(values), 1), 0.25), variance[:, :-1]], axis=1)
    bets = np.minimum(np.sqrt(-2 * math.log(delta) / (n * before)), _CAPTURED / (1 - alpha))
    return np.cumsum(np.log1p(bets * (alpha - values)), axis=1).max(axis=1)


def chance_of_passing(sample: Sample, n: int, alpha: float, delta: float) -> float:
    """The predicted probability that n further units like these pass.

    Items: the number lost is beta-binomial, with Jeffreys' prior. Groups: by simulation with the Bayesian bootstrap:
    Rubin, D. B. (1981), The Bayesian bootstrap, Annals of Statistics 9.
    """
    if not sample.n or not n:
        return 0.0
    if sample.errors is not None:
        return _beta_binomial(most_errors(n, alpha, delta), n, sample.errors + 0.5, sample.n - sample.errors + 0.5)
    if sample.rate >= alpha:
        return 0.0  # nearly 0: below any probability that is compared with it
    chance = np.random.default_rng(_SEED)
    draws = int(np.clip(_MOST_DRAWN // n, 25, 100))
    edges = np.cumsum(chance.dirichlet(np.ones(sample.n), draws), axis=1)[:, :-1]
    row = np.arange(draws)[:, None]  # one search for all draws: each has its own interval
    places = np.searchsorted((edges + row).ravel(), chance.random((draws, n)) + row) - row * (sample.n - 1)
    return float((_most_capital(sample.values[places], alpha, delta) >= -math.log(delta)).mean())


def _beta_binomial(most: int, n: int, a: float, b: float) -> float:
    """P(at most `most` of n) if the rate is beta-distributed with a and b."""
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
