"""The scorer: a confidence computed from what is known when a rung has answered, without a further call.

A weighted sum of the self-report, the lengths, the task, and whether the rungs called so far agree. It predicts that the
answer is right, or what the best rung above would gain: Jitkrittum, W. et al. (2023), When does confidence-based cascade
deferral suffice?, NeurIPS. Its coefficients are in the policy (`scorer`); `calibration.scorer` fits them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, log, log1p

from cascade.core.policy import Policy
from cascade.core.policy.scorer import INTERACTION, Scoring, ScoringTarget
from cascade.core.text.answers import normalised
from cascade.core.trail import Verdict

__all__ = ["DECIMALS", "Facts", "can_be_scored", "confidence_of", "logistic", "score", "scored", "value_of"]

DECIMALS = 6
"""Scores are rounded to this, so that a threshold means the same on machines whose logarithms differ in the last bit."""

_SUREST = 0.99  # beyond it the logit depends on how many nines a model happens to write
_FURTHEST = 30.0  # beyond it a logistic is 0 or 1 to all decimals


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when a rung has answered: characters in the turns, the task, the verdicts so far.

    The last verdict is the one to score; those before it are of the rungs below, from the first.
    """

    characters: int
    task: str
    verdicts: tuple[Verdict, ...]


def scored(policy: Policy, facts: Facts) -> Verdict:
    """The last verdict; its confidence is the score, if the policy scores its rung and there is an answer to score."""
    verdict = facts.verdicts[-1]
    if policy.scorer is None or not can_be_scored(verdict):
        return verdict
    names = tuple(rung.rung for rung in policy.ladder[: len(facts.verdicts)])
    scoring = policy.scorer.get(names[-1])
    if scoring is None:
        return verdict
    number = score(scoring, facts, names)
    return replace(verdict, confidence=number, source="calibrated", self_reported=verdict.stated)


def can_be_scored(verdict: Verdict) -> bool:
    """Whether there is an answer to score: one with a confidence, or one that enough samples agree on."""
    if verdict.kind != "answered":
        return False
    return verdict.confidence is not None if verdict.vote is None else verdict.vote.reached


def score(scoring: Scoring, facts: Facts, rungs: tuple[str, ...]) -> float:
    """0..1: `confidence_of` bias + Σ weight x (value - mean) / scale. `rungs`: the names of the verdicts' rungs.

    An unknown value (an answer that was not recorded, a lower rung that gave none) counts as its mean: it adds nothing.
    """
    total = scoring.bias
    for feature in scoring.features:
        value = value_of(feature.name, facts, rungs)
        if value is not None:
            total += feature.weight * ((value - feature.mean) / feature.scale)
    return confidence_of(scoring.target, total)


def confidence_of(target: ScoringTarget, total: float) -> float:
    """0..1, rounded to DECIMALS: the logistic of `total` if it predicts `right`; (1 - total) / 2 if it predicts `gain`.

    Both rise as escalating becomes less useful, so the one rule `confidence >= threshold` applies. For `gain`, 1 is
    the worst loss by escalating, 0.5 no difference, 0 the highest gain; it is not a probability.
    """
    return logistic(total) if target == "right" else round(min(max((1.0 - total) / 2.0, 0.0), 1.0), DECIMALS)


def logistic(total: float) -> float:
    """1 / (1 + exp(-total)), rounded to DECIMALS."""
    return round(1.0 / (1.0 + exp(-min(max(total, -_FURTHEST), _FURTHEST))), DECIMALS)


def value_of(name: str, facts: Facts, rungs: tuple[str, ...]) -> float | None:
    """The value of a feature, None if unknown. Raises KeyError for an unknown feature."""
    return _reader(name, rungs)(facts)


@lru_cache(maxsize=4096)
def _reader(name: str, rungs: tuple[str, ...]) -> Callable[[Facts], float | None]:
    kind, _, of = name.partition(":")
    if kind == "task":
        return lambda facts: float(facts.task == of)
    if kind == "log_input":
        return lambda facts: log1p(facts.characters)
    if kind == "is":
        return _at_level(float(of))
    if kind == "agrees" and of.endswith(INTERACTION):
        return _times_logit(_reader(name.removesuffix(INTERACTION), rungs))
    read, index = _OF_A_RUNG[kind], rungs.index(of) if of else len(rungs) - 1
    return lambda facts: read(facts, index)


def _at_level(level: float) -> Callable[[Facts], float | None]:
    def read(facts: Facts) -> float | None:
        stated = facts.verdicts[-1].stated
        return None if stated is None else float(stated == level)

    return read


def _times_logit(agreement: Callable[[Facts], float | None]) -> Callable[[Facts], float | None]:
    def read(facts: Facts) -> float | None:
        agrees, logit = agreement(facts), _logit(facts, -1)
        return None if agrees is None or logit is None else agrees * logit

    return read


def _level(facts: Facts, index: int) -> float | None:
    return facts.verdicts[index].stated


def _logit(facts: Facts, index: int) -> float | None:
    stated = facts.verdicts[index].stated
    if stated is None:
        return None
    bounded = min(max(stated, 1.0 - _SUREST), _SUREST)
    return log(bounded / (1.0 - bounded))


def _log_answer(facts: Facts, index: int) -> float | None:
    text = facts.verdicts[index].text
    return None if text is None else log1p(len(text))


def _agrees(facts: Facts, index: int) -> float | None:
    one, other = facts.verdicts[index].text, facts.verdicts[-1].text
    if one is None or other is None:
        return None
    return float(one == other or (bool(bare := normalised(one)) and bare == normalised(other)))


def _agreement(facts: Facts, index: int) -> float | None:
    vote = facts.verdicts[index].vote
    return None if vote is None else vote.share


def _unanimous(facts: Facts, index: int) -> float | None:
    vote = facts.verdicts[index].vote
    return None if vote is None else float(vote.unanimous)


_OF_A_RUNG: dict[str, Callable[[Facts, int], float | None]] = {
    "level": _level,
    "logit": _logit,
    "log_answer": _log_answer,
    "agrees": _agrees,
    "agreement": _agreement,
    "unanimous": _unanimous,
}
