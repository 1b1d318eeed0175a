"""The order of a corpus's lines is chance: live traffic is recorded in the order in which its requests happened to end."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cascade.calibration.choice import Versus
from cascade.calibration.objectives import MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import CalibrationOptions, ScorerTarget, calibrate
from tests.calibration.grouped import drawn_groups, write_groups


def said_of(corpus: Path, options: CalibrationOptions) -> dict[str, Any]:
    """All that a calibration says of a corpus, but for the hash of the file."""
    found = calibrate([corpus], options)
    certificate = found.certificate()
    return {
        "certificate": None if certificate is None else certificate.model_dump(exclude={"hashes": {"corpus"}}),
        "thresholds": (found.thresholds, found.task_thresholds),
        "walked": getattr(found.choice.proof, "walked", None),
        "halves": (found.choice.tune, found.choice.certify),
        "versus": None if (versus := found.choice.versus) is None else rounded(versus),
        "frontier": found.choice.frontier,
        "signal": found.signal,
    }


def rounded(versus: Versus) -> tuple[Any, ...]:
    """Without the last digits: it is a mean of shares, whose sum depends on the order."""
    pairs = [(0.0, 0.0) if one is None else one for one in (versus.cost_ci95, versus.quality_ci95)]
    return versus.rung, *(round(one, 9) for one in (versus.cost, versus.quality, *pairs[0], *pairs[1]))


OBJECTIVES: list[tuple[Objective, bool, ScorerTarget | None]] = [
    (Target("false_confident", 0.1, 0.05), False, None),
    (Target("regression", 0.1, 0.05), True, None),
    (MinQuality(0.9), False, None),
    (Target("false_confident", 0.1, 0.05), False, "right"),
]


@pytest.mark.parametrize(("objective", "per_task", "scorer"), OBJECTIVES, ids=["loss", "by task", "quality", "scorer"])
def test_rows_in_another_order_prove_the_same(
    tmp_path: Path, objective: Objective, per_task: bool, scorer: ScorerTarget | None
) -> None:
    """Certificate, thresholds, figures and every interval of grouped items are the same in any order."""
    items = drawn_groups(2_000, seed=7)
    options = CalibrationOptions(objective, per_task=per_task, scorer=scorer)
    first = said_of(write_groups(tmp_path / "a.jsonl", items), options)
    assert (first["certificate"] is not None) == isinstance(objective, Target)
    for seed in range(1 if scorer else 2):
        shuffled = random.Random(seed).sample(items, len(items))
        assert said_of(write_groups(tmp_path / "b.jsonl", shuffled), options) == first
