"""Corpora drawn by a seed, in which everything happens that the rule knows of; and every vector of thresholds tried on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from cascade.calibration.search.frontier import Loss
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy import Policy, Rung, Task
from cascade.core.prices import Rates, RateTier
from cascade.core.signals import Matcher, Signals
from cascade.corpora import NOT_RECORDED, Item, LadderEntry, Manifest, RecordedReply
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.outcomes import Outcomes, false_confident, scores_of
from cascade.replay.vectorised import evaluate

_FREE = Rates(((0, RateTier(0, 0, 0, 0, 0)),))  # costs are the recorded ones

Tried = tuple[tuple[int, ...], float, int, int]
"""A vector of level numbers, its mean score, its cost in nano-USD, its losses."""

LEVELS = {2: 6, 3: 5, 4: 3, 5: 2}
"""Distinct confidences a rung, by the number of rungs: few enough to try them all."""


def drawn(
    seed: int, rungs: int, *, items: int = 14, levels: int = 0, calm: bool = False
) -> tuple[Columns, MappedColumns]:
    """A corpus of `items` on `rungs`; unless `calm` with declined, refused and unparsed replies, floors and ceilings."""
    manifest, made = drawn_items(seed, rungs, items=items, levels=levels, calm=calm)
    tasks = () if calm else _tasks(random.Random(seed), manifest.rungs)
    columns, (view,) = read_columns(made, manifest, [mapping_at(manifest.rungs, tasks, (None,) * (rungs - 1))])
    return columns, view


def drawn_items(
    seed: int, rungs: int, *, items: int = 14, levels: int = 0, calm: bool = False
) -> tuple[Manifest, list[Item]]:
    """The same as it stands in a file."""
    chance = random.Random(seed)
    names = tuple(f"r{n}" for n in range(rungs))
    values = [round(chance.random(), 2) for _ in range(levels or LEVELS[rungs])]
    made = [_item(chance, number, names, values, calm=calm) for number in range(items)]
    return Manifest("drawn", tuple(LadderEntry(name) for name in names), synthetic=True), made


def coded_of(seed: int, rungs: int, **more: Any) -> CodedCorpus:
    """The same, coded."""
    return code_columns(*drawn(seed, rungs, **more))


def mapping_at(names: Sequence[str], tasks: tuple[Task, ...], thresholds: Sequence[float | None]) -> PolicyMapping:
    """A ladder at these thresholds, built past the invariants that are about real models."""
    ladder = tuple(
        Rung.model_construct(rung=name, model=name, max_tokens=1, threshold=threshold)
        for name, threshold in zip(names, (*thresholds, None), strict=True)
    )
    policy = Policy.model_construct(version=1, name="drawn", ladder=ladder, tasks=tasks, checks=())
    return PolicyMapping(
        BoundPolicy(policy, (_FREE,) * len(ladder), Signals(policy, _find_nothing), {}, ()), tuple(names)
    )


def replayed(columns: Columns, view: MappedColumns, thresholds: Sequence[float | None]) -> Outcomes:
    """What the replay makes of the corpus at these thresholds."""
    return evaluate(
        columns, replace(view, mapping=mapping_at(view.mapping.names, view.mapping.plan.policy.tasks, thresholds))
    )


def lost(columns: Columns, view: MappedColumns, outcomes: Outcomes, loss: Loss) -> int:
    """The losses of a replay, by the words of the design."""
    scores, right_at = scores_of(columns, view, outcomes), columns.manifest.right_at
    if loss == "false_confident":
        return int(np.count_nonzero(false_confident(view, outcomes, scores, right_at)))
    top_right = columns.rungs[view.mapping.rungs[-1]].score >= right_at
    return int(np.count_nonzero(top_right & (scores < right_at)))


def tried(columns: Columns, view: MappedColumns, coded: CodedCorpus) -> dict[Loss, list[Tried]]:
    """Every vector of level numbers with its mean score, cost (nano-USD) and losses, by one replay each."""
    found: dict[Loss, list[Tried]] = {"false_confident": [], "regression": []}
    for at in product(*(range(1, len(own) + 2) for own in coded.levels)):
        outcomes = replayed(columns, view, coded.thresholds(at))
        quality = float(scores_of(columns, view, outcomes).sum()) / len(columns)
        for loss, points in found.items():
            points.append((at, quality, int(outcomes.cost.sum()), lost(columns, view, outcomes, loss)))
    return found


def _item(chance: random.Random, number: int, names: Sequence[str], values: list[float], *, calm: bool) -> Item:
    replies = {name: _reply(chance, values, calm=calm) for name in names}
    task = chance.choice([None, "floored", "capped", "both"])
    return Item(f"i{number}", f"text {number}", replies, task=task, group=f"g{number // 2}", line=number + 2)


def _reply(chance: random.Random, values: list[float], *, calm: bool) -> RecordedReply:
    cost = chance.choice([0.0, 0.000001, 0.000123, 0.0000015])
    score = chance.choice([0.0, 0.25, 0.5, 1.0])
    if calm:
        return RecordedReply(chance.choice(values), "a", score, cost_usd=cost)
    answer = chance.choice(["a", "a", "a", NOT_RECORDED, None])
    extra = {"verdict": chance.choice(["refused", "truncated", "failed", "odd"])} if answer is None else None
    return RecordedReply(chance.choice([None, *values, *values]), answer, score, cost_usd=cost, extra=extra)


def _tasks(chance: random.Random, names: Sequence[str]) -> tuple[Task, ...]:
    if chance.random() < 0.4:
        return ()
    low = chance.randrange(len(names))
    high = chance.randrange(low, len(names))
    return (
        Task.model_construct(name="floored", floor=names[low]),
        Task.model_construct(name="capped", ceiling=names[high]),
        Task.model_construct(name="both", floor=names[low], ceiling=names[high]),
    )


def _find_nothing(_pattern: str) -> Matcher:
    def found(_text: str) -> bool:
        return False

    return found
