"""What is wanted of the thresholds: a bounded risk at the least cost, a quality at the least cost, or the best for a budget."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.calibration.proof.pareto_testing import Target
from cascade.core.errors import ConfigurationError

__all__ = ["Budget", "MinQuality", "Objective", "parse_quality", "told"]


@dataclass(frozen=True, slots=True)
class MinQuality:
    """The least cost at a mean score of at least `value`; `of_top`: as a share of the top rung's."""

    value: float
    of_top: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """The best quality at a mean cost of at most `usd` a request."""

    usd: float

    def __post_init__(self) -> None:
        if not 0 < self.usd < float("inf"):
            raise ConfigurationError(f"--budget {self.usd:g}: not a sum of USD a request (give e.g. 0.002)")


Objective = Target | MinQuality | Budget
"""A `Target`: the least cost at which the rate of a loss is certified."""


def told(objective: Objective) -> str:
    """An objective in short."""
    if isinstance(objective, Target):
        return f"{objective.loss} <= {objective.alpha:g} at {1 - objective.delta:g}"
    if isinstance(objective, MinQuality):
        return f"quality >= {objective.value:.4g}{' of the top rung' if objective.of_top else ''}"
    return f"cost <= {objective.usd:g} USD a request"


def parse_quality(text: str) -> MinQuality:
    """`0.9`, or `95%top`. Raises ConfigurationError."""
    share = text.removesuffix("%top")
    try:
        value = float(share) / (100 if share != text else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise ConfigurationError(f"--min-quality {text}: not a mean score, nor a share of the top (as 0.9, or 95%top)")
    return MinQuality(value, share != text)
