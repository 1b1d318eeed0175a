"""The scorer of a policy: for a rung, the terms of the score that replaces its self-reported confidence.

`core.scoring` evaluates them; `calibration.scorer` fits them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, Strict

from cascade.core.policy.ladder import Fault, Frozen, Text

__all__ = ["Feature", "Scoring", "scorer_faults"]

_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class Feature(Frozen):
    """One term of a score: weight x (value - mean) / scale. A value that is not known adds nothing."""

    name: Text
    """level, logit (of the rung's self-report), level:RUNG, logit:RUNG (of a lower rung's), log_input, log_answer
    (characters), agrees:RUNG (its answer is the same), task:NAME."""
    mean: _Number
    scale: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
    weight: _Number


class Scoring(Frozen):
    """How a rung's confidence is made of what is known when it has answered: 1 / (1 + exp(-(bias + the terms)))."""

    bias: _Number
    features: tuple[Feature, ...] = Field(max_length=512)


_OWN_FEATURES = frozenset({"level", "logit", "log_input", "log_answer"})
_OF_LOWER_RUNGS = frozenset({"level", "logit", "agrees"})


def scorer_faults(scorer: Mapping[str, Scoring], names: list[str]) -> Iterator[Fault]:
    """The broken invariants of a scorer; `names` are the ladder's rungs."""
    for rung, scoring in scorer.items():
        if rung in names[:-1]:
            yield from _faults(rung, scoring, names)
            continue
        problem = f"rung {rung!r} has no confidence to score" if rung in names else f"there is no rung {rung!r}"
        yield Fault(("scorer", rung), problem, f"use one of {', '.join(names[:-1])}")


def _faults(rung: str, scoring: Scoring, names: list[str]) -> Iterator[Fault]:
    lower, seen = names[: names.index(rung)], set[str]()
    for number, feature in enumerate(scoring.features):
        here, (kind, _, of) = ("scorer", rung, "features", number, "name"), feature.name.partition(":")
        if feature.name in seen:
            yield Fault(here, f"feature {feature.name!r} is there twice", "remove one of them")
        seen.add(feature.name)
        if feature.name in _OWN_FEATURES or (kind == "task" and of) or (kind in _OF_LOWER_RUNGS and of in lower):
            continue
        if kind in _OF_LOWER_RUNGS and of in names:
            yield Fault(here, f"{of!r} has not answered yet when {rung!r} is scored", "name a lower rung")
        else:
            hint = "use level, logit, log_input, log_answer, task:NAME, or level:, logit: or agrees: and a lower rung"
            yield Fault(here, f"an unknown feature {feature.name!r}", hint)
