"""The scorer of a policy: for a rung, the terms of the score that replaces its self-reported confidence.

`core.scoring` evaluates them; `calibration.scorer` fits them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, Strict, model_serializer

from cascade.core.policy.ladder import Fault, Frozen, Text

__all__ = ["INTERACTION", "Feature", "Scoring", "ScoringTarget", "scorer_faults"]

ScoringTarget = Literal["right", "gain"]

INTERACTION = "*logit"
"""What the name of an agreement ends in if it is multiplied by the logit of the rung's self-report."""

_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class Feature(Frozen):
    """One term of a score: weight x (value - mean) / scale. A value that is not known adds nothing."""

    name: Text
    """level, logit (of the rung's self-report), is:LEVEL (the self-report is this number), level:RUNG, logit:RUNG (of a
    lower rung's), log_input, log_answer (characters), agrees:RUNG (its answer is the same), agrees:RUNG*logit (that, times
    the logit of the rung's self-report), task:NAME. Of a rung with samples: agreement (the share of the samples asked that
    agree), unanimous, and those of a lower rung (agreement:RUNG, unanimous:RUNG); level is the mean of those that agree."""
    mean: _Number
    scale: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
    weight: _Number


class Scoring(Frozen):
    """How a rung's confidence is made of what is known when it has answered: of the sum of bias and terms, S."""

    target: ScoringTarget = "right"
    """What S predicts. right: the log odds that the answer is right; the confidence is 1 / (1 + exp(-S)). gain: by how much
    the score of the best rung above is higher; the confidence is (1 - S) / 2, between 0 and 1, and not a probability."""
    bias: _Number
    features: tuple[Feature, ...] = Field(max_length=512)

    @model_serializer(mode="wrap")
    def _without_default(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the default target: the hash of a policy written before there was one stays as it was."""
        values = as_usual(self)
        if self.target == "right":
            values.pop("target", None)
        return values


_OWN_FEATURES = frozenset({"level", "logit", "log_input", "log_answer", "agreement", "unanimous"})
_OF_LOWER_RUNGS = frozenset({"level", "logit", "agrees", "agreement", "unanimous"})


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
        if kind == "agrees":
            of = of.removesuffix(INTERACTION)
        if feature.name in _OWN_FEATURES or (kind == "task" and of) or (kind in _OF_LOWER_RUNGS and of in lower):
            continue
        if kind == "is" and _is_level(of):
            continue
        if kind in _OF_LOWER_RUNGS and of in names:
            yield Fault(here, f"{of!r} has not answered yet when {rung!r} is scored", "name a lower rung")
        else:
            hint = (
                "use level, logit, log_input, log_answer, agreement, unanimous, task:NAME, is:LEVEL, or level:, logit:, agrees:,"
                " agreement: or unanimous: and a lower rung"
            )
            yield Fault(here, f"an unknown feature {feature.name!r}", hint)


def _is_level(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False
