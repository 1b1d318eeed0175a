"""Early stop in replay: what is decided at the confidence, what a closed reply costs, and one meaning on two paths."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from hypothesis import event, given, settings
from hypothesis import strategies as st

from cascade.core.policy.operations import Limits
from cascade.corpora import Corpus
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.exact import ExactRun
from cascade.replay.mapping import mapping_of
from cascade.replay.outcomes import REASONS, STOPS, Outcomes
from cascade.replay.vectorised import evaluate

from .scenes import corpora, escalations, policies


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Corpus, PolicyMapping]:
    """A corpus and a policy that stops early; some have a budget that forbids to close, or another order."""
    names = tuple(f"r{n}" for n in range(draw(st.integers(2, 4))))
    corpus = draw(corpora(names))
    mapping = mapping_of(draw(policies(names)), corpus.manifest, reprice=draw(st.booleans()), early_stop=True)
    policy = mapping.plan.policy
    if draw(st.integers(0, 5)):
        policy = policy.model_copy(update={"scorer": None})
    if draw(st.booleans()):  # nothing but not_empty: an answer may ship at its confidence
        tasks = tuple(task.model_copy(update={"checks": ()}) for task in policy.tasks)
        policy = policy.model_copy(update={"checks": (), "tasks": tasks})
        plan = dataclasses.replace(
            mapping.plan, checks={}, shared_checks=mapping_of(policy, corpus.manifest).plan.shared_checks
        )
        mapping = dataclasses.replace(mapping, plan=plan)
    budget = draw(st.sampled_from([(), (), (), Limits(daily_usd=Decimal(1)), Limits(daily_usd=Decimal(1), on_exhausted="hold")]))
    policy = policy.model_copy(update={"budget": (budget,) if budget else ()})
    plan = dataclasses.replace(mapping.plan, policy=policy, escalation=draw(escalations(names)))
    return corpus, dataclasses.replace(mapping, plan=plan)


def both(corpus: Corpus, mapping: PolicyMapping) -> tuple[Outcomes, Outcomes]:
    """What either path makes of a corpus."""
    run = ExactRun(mapping)
    columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=run.take)
    return evaluate(columns, mapped), run.outcomes()


def rows_of(outcomes: Outcomes) -> list[tuple[int, ...]]:
    """All that must be the same, an item a row."""
    columns = (outcomes.shipped, outcomes.last, outcomes.stopped, outcomes.cost, *outcomes.reasons, *outcomes.closed)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=80)
@given(scene=scenes())
def test_the_vectorised_early_stop_is_the_engines_own_path(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Who shipped, why each rung sent it up, what was closed, nano-USD, and every storm."""
    corpus, mapping = scene
    fast, slow = both(corpus, mapping)
    closed = any(one.any() for one in fast.closed)
    event("closed some" if closed else "closed none")
    for code in {int(code) for code in slow.stopped}:
        event(f"stopped: {STOPS[code]}")
    for reasons, early in zip(fast.reasons, fast.closed, strict=False):
        for code in set(reasons[early].tolist()):
            event(f"closed: {REASONS[code]}")
    assert rows_of(fast) == rows_of(slow)
    assert fast.storms == slow.storms
