"""Samples, as the ledger gives them, for the tests of what is made of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from cascade.core.policy import Policy
from cascade.ledger.audit import Grading, Sample
from cascade.policy.certificates import epoch_of

__all__ = ["graded", "sample", "stream"]


def sample(
    policy: Policy, nth: int, *, step: int = 0, grader: str = "exact", score: float | None = 1.0, **more: Any
) -> Sample:
    """A graded uniform sample that haiku answered, the `nth`; `more` replaces its fields."""
    fields: dict[str, Any] = {
        "request": f"r{nth}", "at": float(nth), "policy": policy.name, "epoch": epoch_of(policy, step), "task": "refund",
        "why": "uniform", "rung": "haiku", "index": 0, "is_top": False, "confidence": 0.9, "source": "self_reported", "cost": 100,
        "state": "graded", "graded_at": float(nth), "number": nth, "grading": Grading(grader, score),
    }  # fmt: skip
    return Sample(**fields | more)


def graded(policy: Policy, scores: Sequence[float | None], **more: Any) -> list[Sample]:
    """A sample for each score."""
    return [sample(policy, nth, score=score, **more) for nth, score in enumerate(scores, 1)]


def stream(policy: Policy, rate: float, n: int, seed: int = 1, **more: Any) -> list[Sample]:
    """`n` samples, each wrong with this probability."""
    draws = random.Random(seed)
    return graded(policy, [float(draws.random() >= rate) for _ in range(n)], **more)
