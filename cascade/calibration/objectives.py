"""Objectives: minimise cost subject to a certified loss rate or to a quality, or maximise quality within a budget."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.search.counts import Loss
from cascade.core.errors import ConfigurationError

__all__ = ["Budget", "MinQuality", "Objective", "describe", "loss_of", "parse_quality", "wanted_quality"]


@dataclass(frozen=True, slots=True)
class MinQuality:
    """Minimise cost subject to a mean score of at least `value`; `of_top`: as a share of the top rung's."""

    value: float
    of_top: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """Maximise quality at a mean cost of at most `usd` per request."""

    usd: float

    def __post_init__(self) -> None:
        if not 0 < self.usd < float("inf"):
            raise ConfigurationError(f"--budget {self.usd:g}: must be above 0 (USD per request, e.g. 0.002)")


Objective = Target | MinQuality | Budget
"""A `Target` minimises cost subject to a certified loss rate."""


def loss_of(objective: Objective) -> Loss:
    """The loss that is counted under an objective: a target's own, else `false_confident`."""
    return objective.counted if isinstance(objective, Target) else "false_confident"


def wanted_quality(objective: MinQuality, of_top: float) -> float:
    """The least mean score that meets it. `of_top`: the top rung's mean score on the same items."""
    return objective.value * (of_top if objective.of_top else 1.0)


def describe(objective: Objective) -> str:
    """An objective in a few words, e.g. `false_confident <= 0.02 at 0.95`."""
    if isinstance(objective, Target):
        return f"{objective.loss} <= {objective.alpha:g} at {1 - objective.delta:g}"
    if isinstance(objective, MinQuality):
        return f"quality >= {objective.value:.4g}{' of the top rung' if objective.of_top else ''}"
    return f"cost <= {objective.usd:g} USD per request"


def parse_quality(text: str) -> MinQuality:
    """Read `0.9` (a mean score) or `95%top` (a share of the top rung's). Raises ConfigurationError."""
    share = text.removesuffix("%top")
    try:
        value = float(share) / (100 if share != text else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise ConfigurationError(
            f"--min-quality {text}: must be a mean score up to 1 or a share of the top rung's (e.g. 0.9, or 95%top)"
        )
    return MinQuality(value, share != text)
