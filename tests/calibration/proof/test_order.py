"""The order of a corpus's lines is chance: live traffic is recorded in the order in which its requests happened to end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade.calibration.choice import Versus
from cascade.calibration.objectives import MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import CalibrationOptions, ScorerTarget, calibrate
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus

RUNGS = ("low", "mid", "top")
TASKS = ("refund", "delivery", "other things")


def drawn(items: int, seed: int) -> tuple[Item, ...]:
    """Groups of one to six items, of which one or two tasks are typical; what is said is worth something."""
    chance = random.Random(seed)
    made: list[Item] = []
    customer = left = 0
    for number in range(items):
        if not left:
            customer, left = customer + 1, chance.choice((1, 1, 2, 6))
        left -= 1
        replies: dict[str, RecordedReply] = {}
        for rung, usd in zip(RUNGS, (0.0001, 0.002, 0.01), strict=True):
            said = chance.choice((0.5, 0.7, 0.9, 0.99))
            right = chance.random() < said + (1 - said) * RUNGS.index(rung) / 2
            replies[rung] = RecordedReply(confidence=said, answer=f"{rung} {right}", score=float(right), cost_usd=usd)
        task = TASKS[(customer + (chance.random() < 0.2)) % len(TASKS)]
        made.append(Item(f"i{number}", f"question {number}", replies, task=task, group=f"customer {customer}"))
    return tuple(made)


def said_of(items: Sequence[Item], path: Path, options: CalibrationOptions) -> dict[str, Any]:
    """All that a calibration says of these items in this order, but for the hash of the file."""
    write_corpus(path, Manifest("drawn", tuple(LadderEntry(rung) for rung in RUNGS), synthetic=True), items)
    found = calibrate([path], options)
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
    items = drawn(2_000, seed=7)
    options = CalibrationOptions(objective, per_task=per_task, scorer=scorer)
    first = said_of(items, tmp_path / "a.jsonl", options)
    assert (first["certificate"] is not None) == isinstance(objective, Target)
    for seed in range(2):
        shuffled = random.Random(seed).sample(items, len(items))
        assert said_of(shuffled, tmp_path / "b.jsonl", options) == first
