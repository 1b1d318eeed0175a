"""With a review gate, too, the frontier is exact: it is what trying every vector of thresholds finds, one replay each."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from msgspec.structs import replace

from cascade.calibration.proof.pareto_testing import escalation_of
from cascade.calibration.search.baselines import shorter_counts
from cascade.calibration.search.by_task import best_by_task
from cascade.calibration.search.frontier import frontier, point_at, risk_path, surface
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.core.bound_policy import BoundPolicy, ReviewGate
from cascade.core.errors import CorpusError
from cascade.core.policy import Task
from cascade.core.prices import Rates, RateTier
from cascade.corpora import Item, Manifest
from cascade.corpora.items import RecordedReview
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.outcomes import Outcomes, scores_of
from cascade.replay.vectorised import evaluate
from tests.calibration.chance import drawn_items, lost, mapping_at

from .test_early import Counting

_PRICED = Rates(((0, RateTier(1_000_000_000, 5_000_000_000, 0, 0, 0)),))


def mapping_of(view: PolicyMapping, at: Sequence[float | None]) -> PolicyMapping:
    """The same policy at other thresholds."""
    policy = mapping_at(view.names, view.plan.policy.tasks, at).plan.policy
    policy = policy.model_copy(update={"early_stop": view.plan.policy.early_stop})
    return dataclasses.replace(view, plan=dataclasses.replace(view.plan, policy=policy))


def drawn(seed: int, rungs: int, *, items: int = 14, early: bool = False) -> tuple[Columns, MappedColumns]:
    """A corpus with reviews of every answer, under gates that differ by task; with floors and ceilings."""
    manifest, made, mapping = drawn_items_of(seed, rungs, items=items, early=early)
    columns, (view,) = read_columns(made, manifest, [mapping])
    return columns, view


def drawn_items_of(seed: int, rungs: int, *, items: int, early: bool) -> tuple[Manifest, list[Item], PolicyMapping]:
    """The same as items, and the policy."""
    manifest, made = drawn_items(seed, rungs, items=items)
    chance, names = random.Random(seed), manifest.rungs
    low = chance.randrange(rungs)
    tasks = (
        Task.model_construct(name="floored", floor=names[low]),
        Task.model_construct(name="capped", ceiling=names[chance.randrange(rungs)]),
        Task.model_construct(name="both", floor=names[low], ceiling=names[chance.randrange(low, rungs)]),
    )
    mapping = mapping_at(names, tasks, (None,) * (rungs - 1))
    gates = {task: _gate(chance, names) for task in ("", "floored", "capped", "both") if chance.random() < 0.7}
    shared = gates.pop("", None)
    policy = mapping.plan.policy.model_copy(update={"early_stop": early})
    plan = dataclasses.replace(
        mapping.plan, policy=policy, rates=(_PRICED,) * rungs, reviews=gates, shared_review=shared
    )
    mapping = dataclasses.replace(mapping, plan=plan)
    return manifest, [_reviewed(item, chance, plan, early=early) for item in made], mapping


def _gate(chance: random.Random, names: Sequence[str]) -> ReviewGate:
    index = chance.randrange(1, len(names))
    return ReviewGate(index, names[index], chance.choice([0.5, 0.8, 1.0]))


def _reviewed(item: Item, chance: random.Random, plan: BoundPolicy, *, early: bool) -> Item:
    gate = plan.review_of(item.task or "other")
    replies = {}
    for rung, reply in item.replies.items():
        usage = {"input_tokens": chance.randrange(1, 500), "output_tokens": chance.randrange(20, 500)}
        cost = chance.choice([0.0, 0.000007, 0.00031])
        review = (
            RecordedReview(gate.rung, chance.choice([True, True, False, False, None]), None, cost) if gate else None
        )
        # With ceilings, what becomes of a reply that ended badly after its confidence is not exact (`levels._returned`).
        cut = early and reply.extra is not None and reply.extra["verdict"] in ("refused", "truncated")
        confidence = None if cut else reply.confidence
        replies[rung] = replace(reply, usage=usage, review=review, confidence=confidence)
    return replace(item, replies=replies)


def replayed(columns: Columns, view: MappedColumns, thresholds: Sequence[float | None]) -> Outcomes:
    """What the replay makes of the corpus at these thresholds."""
    return evaluate(columns, dataclasses.replace(view, mapping=mapping_of(view.mapping, thresholds)))


def every(coded: CodedCorpus) -> list[tuple[int, ...]]:
    """Every vector of level numbers."""
    return list(product(*(range(1, len(own) + 2) for own in coded.levels)))


@pytest.mark.parametrize("early", [False, True], ids=["whole replies", "early stop"])
@pytest.mark.parametrize("rungs", [2, 3, 4])
def test_a_point_is_the_replay_at_its_thresholds(rungs: int, early: bool) -> None:
    """Quality, cost, losses, and each item's own: for every vector of thresholds."""
    read = turned_down = late = 0
    for seed in range(8):
        columns, view = drawn(seed, rungs, early=early)
        coded = code_columns(columns, view)
        counts = coded.counts()
        whole = surface(counts, "false_confident")
        for at in every(coded):
            outcomes = replayed(columns, view, coded.thresholds(at))
            read += sum(int((one != 0).sum()) for one in outcomes.reviews)
            turned_down += sum(int((one > 1).sum()) for one in outcomes.reviews)
            late += int(((outcomes.stopped != 0) & (outcomes.shipped != outcomes.last)).sum())
            scores = scores_of(columns, view, outcomes)
            assert coded.costs(at).tolist() == outcomes.cost.tolist()
            assert coded.scores(at).tolist() == pytest.approx(scores.tolist(), abs=1e-9)
            for loss in ("false_confident", "regression"):
                point, losses = point_at(counts, at, loss), lost(columns, view, outcomes, loss)
                assert (point.cost, point.losses) == (int(outcomes.cost.sum()), losses)
                assert int(coded.losses(at, loss).sum()) == losses
            assert point_at(counts, at).quality == pytest.approx(float(scores.mean()), abs=1e-9)
            assert point_at(counts, at).shipped == tuple(np.bincount(outcomes.last, minlength=rungs).tolist())
            place = tuple(level - 1 for level in at)
            assert (whole.cost[place], whole.losses[place]) == (int(outcomes.cost.sum()), point_at(counts, at).losses)
            assert whole.quality[place] == pytest.approx(scores.sum(), abs=1e-6)
    assert read > turned_down > 0
    assert late > 0


def test_the_frontier_is_what_trying_every_vector_finds() -> None:
    """No vector of thresholds is cheaper at the same quality, or at as few losses, than the search says."""
    for seed in range(8):
        columns, view = drawn(seed, 3)
        coded = code_columns(columns, view)
        points = [point_at(coded.counts(), at) for at in every(coded)]
        for best in frontier(coded.counts()):
            assert best.cost == min(one.cost for one in points if one.quality >= best.quality - 1e-12)
        for best in risk_path(coded.counts(), "false_confident", 1000):
            assert best.cost == min(one.cost for one in points if one.losses <= best.losses)


def test_parts_add_up_to_the_whole_and_tasks_pay_for_their_own_reviews() -> None:
    """Also the rows that only hold what a review costs, which have no item."""
    for seed in range(6):
        columns, view = drawn(seed, 3, items=60)
        coded, rows = code_columns(columns, view), np.arange(60)
        added = coded.rows(rows < 25).counts() + coded.rows(rows >= 25).counts()
        for at in every(coded):
            assert point_at(added, at) == point_at(coded.counts(), at)
        found = best_by_task(coded, 60, own=[name for name in coded.tasks if name != "other"])
        assert found is not None
        assert found.cost == int(coded.costs(found.at_items(coded)).sum())
        assert found.losses == int(coded.losses(found.at_items(coded), "false_confident").sum())


@pytest.mark.parametrize("early", [False, True], ids=["whole replies", "early stop"])
def test_the_certified_rates_are_what_the_guard_counts(early: bool) -> None:
    """A rejection is a reason as natural as a low confidence; a review that could not be used is an error, not counted."""
    for seed in range(6):
        manifest, items, mapping = drawn_items_of(seed, 3, items=60, early=early)
        columns, (view,) = read_columns(items, manifest, [mapping])
        coded = code_columns(columns, view)
        for at in random.Random(seed).sample(every(coded), 4):
            plan, guard = mapping_of(view.mapping, coded.thresholds(at)).plan, Counting()
            policy = plan.policy.model_copy(update={"exhausted": "abstain"})
            for item in items:
                replay_item(dataclasses.replace(plan, policy=policy), replace(item, at=0.0), guard=guard)
            rates = {rung: round(guard.up[rung] / n, 4) for rung, n in guard.seen.items() if n}
            assert escalation_of(coded, at).rungs == rates


def test_a_model_alone_pays_no_review() -> None:
    """Single models, and a shorter ladder's last rung, cost what their own replies cost."""
    columns, view = drawn(1, 3, items=40)
    coded = code_columns(columns, view)
    counts = coded.counts()
    assert counts.alone_cost is not None
    assert counts.alone_cost.tolist() == [int(one.sum()) for one in view.cost]
    assert shorter_counts(counts, (0, 2)).alone_cost is not None


def test_a_search_needs_every_review_that_a_gate_may_read() -> None:
    """A missing review, and one without a cost, are errors that name item and rung."""
    columns, view = drawn(1, 3)
    own = view.reviews[0]
    assert own is not None
    read = np.flatnonzero(own.code != 0)
    for lacking in (
        dataclasses.replace(own, code=np.where(own.code != 0, np.int8(4), own.code)),
        dataclasses.replace(own, cost=np.full(len(own.cost), -1)),
    ):
        assert len(read)
        with pytest.raises(CorpusError, match=r"review .*'r0'"):
            code_columns(columns, dataclasses.replace(view, reviews=(lacking, *view.reviews[1:])))
