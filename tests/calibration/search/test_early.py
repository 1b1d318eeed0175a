"""With early stop, too, the frontier is exact: it is what trying every vector of thresholds finds, one replay each."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import product

import numpy as np
import pytest
from msgspec.structs import replace

from cascade.calibration.proof.pareto_testing import escalation_of
from cascade.calibration.search.baselines import shorter_counts
from cascade.calibration.search.by_task import best_by_task
from cascade.calibration.search.frontier import point_at, surface
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.core.bound_policy import BoundCheck
from cascade.core.policy import Task
from cascade.core.policy.operations import Limits
from cascade.core.prices import Rates, RateTier
from cascade.core.storm import Action, Change, Guard
from cascade.corpora import Item
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.outcomes import Outcomes, scores_of
from cascade.replay.vectorised import evaluate
from tests.calibration.chance import drawn_items, lost, mapping_at

_PRICED = Rates(((0, RateTier(1_000_000_000, 5_000_000_000, 0, 0, 0)),))


def mapping_of(names: Sequence[str], tasks: tuple[Task, ...], kind: int, at: Sequence[float | None]) -> PolicyMapping:
    """A ladder that stops early. Kind 1 has a check that sees the whole answer, kind 2 a budget that forbids to close."""
    mapping = mapping_at(names, tasks, at)
    budget = (Limits(daily_usd=Decimal(1), on_exhausted="hold"),) if kind == 2 else ()
    policy = mapping.plan.policy.model_copy(update={"early_stop": True, "budget": budget})
    checks = (BoundCheck("short", lambda text: text != "b"),) if kind == 1 else ()
    plan = dataclasses.replace(mapping.plan, policy=policy, rates=(_PRICED,) * len(names), shared_checks=checks)
    return dataclasses.replace(mapping, plan=plan)


def drawn(seed: int, rungs: int, kind: int, *, items: int = 14) -> tuple[Columns, MappedColumns]:
    """A corpus with declined, cut off and failing answers; with floors, and with ceilings where nothing is cut off."""
    manifest, _ = drawn_items(seed, rungs, items=0)
    chance = random.Random(seed)
    tasks = [Task.model_construct(name="floored", floor=manifest.rungs[chance.randrange(rungs)])]
    if seed % 3 == 0:
        tasks.append(Task.model_construct(name="capped", ceiling=manifest.rungs[chance.randrange(rungs)]))
    mapping = mapping_of(manifest.rungs, tuple(tasks), kind, (None,) * (rungs - 1))
    columns, (view,) = read_columns(_items(seed, rungs, items), manifest, [mapping])
    return columns, view


def _items(seed: int, rungs: int, items: int) -> list[Item]:
    """The items of `drawn`."""
    chance = random.Random(seed + 1)
    return [_told(item, chance, capped=seed % 3 == 0) for item in drawn_items(seed, rungs, items=items)[1]]


def _told(item: Item, chance: random.Random, *, capped: bool) -> Item:
    replies = {}
    for rung, reply in item.replies.items():
        usage = {"input_tokens": chance.randrange(1, 500), "output_tokens": chance.randrange(20, 500)}
        answer = "b" if reply.answer == "a" and chance.random() < 0.4 else reply.answer
        verdict = reply.extra["verdict"] if reply.extra else None
        if verdict == "truncated":
            verdict = chance.choice(["truncated", "malformed"])
        cut = verdict not in (None, "odd", "failed")
        told = replace(reply, usage=usage, answer=answer, extra={"verdict": verdict} if verdict else None)
        replies[rung] = replace(told, confidence=None) if capped and cut else told
    return replace(item, replies=replies)


def replayed(columns: Columns, view: MappedColumns, kind: int, thresholds: Sequence[float | None]) -> Outcomes:
    """What the replay makes of the corpus at these thresholds."""
    tasks = view.mapping.plan.policy.tasks
    return evaluate(columns, dataclasses.replace(view, mapping=mapping_of(view.mapping.names, tasks, kind, thresholds)))


def every(coded: CodedCorpus) -> list[tuple[int, ...]]:
    """Every vector of level numbers."""
    return list(product(*(range(1, len(own) + 2) for own in coded.levels)))


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["no checks", "a check", "a budget"])
@pytest.mark.parametrize("rungs", [2, 3, 4])
def test_a_point_is_the_replay_at_its_thresholds(rungs: int, kind: int) -> None:
    """Quality, cost, losses, and each item's own: for every vector of thresholds."""
    closed = 0
    for seed in range(12):
        columns, view = drawn(seed, rungs, kind)
        coded = code_columns(columns, view)
        counts = coded.counts()
        whole = surface(counts, "false_confident")
        for at in every(coded):
            outcomes = replayed(columns, view, kind, coded.thresholds(at))
            closed += sum(int(one.sum()) for one in outcomes.closed)
            for loss in ("false_confident", "regression"):
                point = point_at(counts, at, loss)
                assert (point.cost, point.losses) == (int(outcomes.cost.sum()), lost(columns, view, outcomes, loss))
            assert point.quality == pytest.approx(float(scores_of(columns, view, outcomes).mean()), abs=1e-9)
            assert point.shipped == tuple(np.bincount(outcomes.last, minlength=rungs).tolist())
            assert coded.costs(at).tolist() == outcomes.cost.tolist()
            place = tuple(level - 1 for level in at)
            assert whole.cost[place] == point.cost
    assert bool(closed) == (kind != 2)


def test_parts_add_up_to_the_whole() -> None:
    """Also the rows that only take back what closing saves, which have no item."""
    for seed in range(6):
        columns, view = drawn(seed, 3, 1, items=40)
        coded = code_columns(columns, view)
        counts, rows = coded.counts(), np.arange(40)
        added = coded.rows(rows < 15).counts() + coded.rows(rows >= 15).counts()
        assert (counts.items == 0).any()
        assert added.n == counts.n == 40
        for at in every(coded):
            assert point_at(added, at) == point_at(counts, at)


def test_a_shorter_ladder_pays_for_whole_replies_of_its_last_rung() -> None:
    """The rung that becomes the last is asked plainly and closes nothing."""
    columns, view = drawn(1, 3, 1, items=40)
    coded = code_columns(columns, view)
    less = shorter_counts(coded.counts(), (0, 1))
    never = point_at(less, (len(less.levels[0]) + 1,))
    climbed = coded.codes[:, 0] <= len(coded.levels[0])
    first = np.where(climbed, coded.left[:, 0] if coded.left is not None else 0, coded.cost[:, 0])
    assert never.cost == int(first.sum() + coded.cost[climbed, 1].sum())


def test_thresholds_by_task_pay_what_their_items_pay() -> None:
    """The sum of the tasks' costs is that of the items, each under its own task's thresholds."""
    columns, view = drawn(2, 3, 1, items=60)
    coded = code_columns(columns, view)
    found = best_by_task(coded, 60, own=[name for name in coded.tasks if name != "other"])
    assert found is not None
    assert found.cost == int(coded.costs(found.at_items(coded)).sum())


class Counting(Guard):
    """A guard that never trips, and keeps what it is told: by rung, what was counted and what of it would have escalated."""

    def __init__(self) -> None:
        super().__init__(None)
        self.seen, self.up = Counter[str](), Counter[str]()

    def observe(
        self, task: str, rung: str, *, natural: bool | None, failed: bool, storm_cost: int, now: float
    ) -> tuple[Action | None, tuple[Change, ...]]:
        """Count one step."""
        self.seen[rung] += natural is not None
        self.up[rung] += natural is True
        return super().observe(task, rung, natural=natural, failed=failed, storm_cost=storm_cost, now=now)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["no checks", "a check", "a budget"])
def test_the_certified_rates_are_what_the_guard_counts(kind: int) -> None:
    """What is decided at the confidence is counted there, whatever the rest of the reply would have been."""
    for seed in range(6):
        columns, view = drawn(seed, 3, kind, items=60)
        coded, items = code_columns(columns, view), _items(seed, 3, 60)
        for at in random.Random(seed).sample(every(coded), 4):
            mapping = mapping_of(view.mapping.names, view.mapping.plan.policy.tasks, kind, coded.thresholds(at))
            policy = mapping.plan.policy.model_copy(update={"exhausted": "abstain"})
            guard = Counting()
            for item in items:
                replay_item(dataclasses.replace(mapping.plan, policy=policy), replace(item, at=0.0), guard=guard)
            rates = {rung: round(guard.up[rung] / n, 4) for rung, n in guard.seen.items() if n}
            assert escalation_of(coded, at).rungs == rates
