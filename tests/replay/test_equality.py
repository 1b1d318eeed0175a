"""Two paths, one meaning: the vectorised replay is the engine's own rule, item by item."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, seed, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import AllRungsFailed, Answer, Policy
from cascade.core.errors import CorpusError
from cascade.core.storm import Guard
from cascade.corpora import Corpus, Item, read_corpus
from cascade.policy.loading import load_policy
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns, PolicyMapping
from cascade.replay.exact import ExactRun
from cascade.replay.figures import figures_of
from cascade.replay.mapping import OWN_LADDER, mapping_of, own_mapping, parse_override
from cascade.replay.outcomes import REASONS, STOPS, Outcomes, singles_of, tally, total
from cascade.replay.vectorised import evaluate

from .scenes import corpora, escalations, policies


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Corpus, PolicyMapping]:
    """A corpus, and a policy or the corpus's own ladder that looks at it."""
    names = tuple(f"r{n}" for n in range(draw(st.integers(2, 4))))
    corpus = draw(corpora(names))
    reprice = draw(st.booleans())
    if draw(st.integers(0, 4)):
        mapping = mapping_of(draw(policies(names)), corpus.manifest, reprice=reprice)
        return corpus, dataclasses.replace(
            mapping, plan=dataclasses.replace(mapping.plan, escalation=draw(escalations(names)))
        )
    overrides = [parse_override(text) for text in draw(st.sampled_from([(), ("r0=never",), ("one:r0=0.25", "r0=1")]))]
    return corpus, own_mapping(corpus.manifest, overrides)


def both(corpus: Corpus, mapping: PolicyMapping) -> tuple[Columns, MappedColumns, Outcomes, Outcomes]:
    """The columns, and what either path makes of them."""
    run = ExactRun(mapping)
    columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=run.take)
    return columns, mapped, evaluate(columns, mapped), run.outcomes()


def rows_of(outcomes: Outcomes) -> list[tuple[int, ...]]:
    """All that must be the same, an item a row."""
    columns = (outcomes.shipped, outcomes.last, outcomes.stopped, outcomes.cost, *outcomes.reasons)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=50)
@given(scene=scenes())
def test_the_vectorised_replay_is_the_engines_own_path(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Who shipped, who was asked, why each rung sent it up, what stopped it, nano-USD, and every storm."""
    corpus, mapping = scene
    _, _, fast, slow = both(corpus, mapping)
    event("scored" if mapping.plan.policy.scorer else "self-reported")
    event("storms" if fast.storms.changes else f"no storms: {fast.storms.off}")
    for code in {int(code) for code in slow.stopped}:
        event(f"stopped: {STOPS[code]}")
    for code in {int(code) for reasons in slow.reasons for code in reasons}:
        event(f"reason: {REASONS[code]}")
    assert rows_of(fast) == rows_of(slow)
    assert fast.storms == slow.storms


def climbs(corpus: Corpus, mapping: PolicyMapping) -> list[Answer | AllRungsFailed]:
    """Every item through `replay_item` itself, in order of arrival where a guard watches."""
    policy = mapping.plan.policy
    guard = Guard(policy.storm_guard, mapping.plan.escalation) if policy.storm_guard else None
    timed = sorted((i.at, n) for n, i in enumerate(corpus.items) if i.at is not None)
    order = [n for _, n in timed] + [n for n, item in enumerate(corpus.items) if item.at is None]
    made: dict[int, Answer | AllRungsFailed] = {}
    for number in order:
        try:
            made[number] = replay_item(mapping.plan, corpus.items[number], cost_of=mapping.cost_of, guard=guard)
        except AllRungsFailed as failed:
            made[number] = failed
    return [made[number] for number in range(len(corpus.items))]


@settings(max_examples=30)
@given(scene=scenes())
def test_the_counted_figures_are_those_of_the_answers(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Figures counted from columns equal the figures counted from each answer's own trail."""
    corpus, mapping = scene
    answers = climbs(corpus, mapping)
    columns, mapped, fast, _ = both(corpus, mapping)
    counted = total(tally(columns, mapped, fast), singles_of(columns, mapped))
    kept = [(item, answer) for item, answer in zip(corpus.items, answers, strict=True) if isinstance(answer, Answer)]
    told = figures_of([item for item, _ in kept], [answer for _, answer in kept], mapping.names)
    failed = [answer for answer in answers if isinstance(answer, AllRungsFailed)]
    assert counted.items == told.items + len(failed)
    assert counted.quality * counted.items == pytest.approx(told.quality * told.items)
    assert counted.cost == told.cost + sum(step.cost_nanousd for one in failed for step in one.steps)
    assert counted.shipped == told.shipped
    assert counted.false_confident == told.false_confident
    assert counted.degraded == told.degraded
    assert counted.abstained == told.abstained + len(failed)
    assert counted.wrong == told.wrong + len(failed)
    if not failed:
        assert counted.reached == told.reached
        assert counted.escalations == told.escalations
        assert counted.natural == told.natural
        assert counted.reasons == told.reasons


def test_the_drawn_scenes_reach_everything() -> None:
    """Guards the property: what it draws knows every reason and stop a recorded corpus can have, and storms."""
    reasons: set[str] = set()
    stops: set[str] = set()
    changes: set[str] = set()

    @settings(max_examples=100, database=None)
    @given(scene=scenes())
    def look(scene: tuple[Corpus, PolicyMapping]) -> None:
        corpus, mapping = scene
        columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping])
        fast = evaluate(columns, mapped)
        reasons.update(REASONS[code] for one in fast.reasons for code in one.tolist())
        stops.update(STOPS[code] for code in fast.stopped.tolist())
        changes.update(change.kind for _, change in fast.storms.changes)

    failures = {"", "error", "overflow", "refused", "truncated", "malformed", "check_failed"}
    for number in range(24):  # what one seed draws also hangs on what else is imported
        seed(number)(look)()
        if (len(reasons), len(stops), len(changes)) == (11, 9, 3):
            break
    assert reasons == {*failures, "declined", "low_confidence", "floor", "storm"}
    assert stops == {*failures, "ceiling", "storm"}
    assert changes == {"tripped", "released", "limit_wrong"}


def complain(run: Callable[[], object]) -> str:
    """What `run` refuses."""
    with pytest.raises(CorpusError) as caught:
        run()
    return f"{caught.value.item}: {caught.value.problem}"


@pytest.mark.parametrize("lacking", ["reply", "cost"])
@settings(max_examples=25)
@given(data=st.data())
def test_both_paths_refuse_what_was_not_recorded(lacking: str, data: st.DataObject) -> None:
    """A reply that the rule reaches and that is not there, or has no cost, is an error naming item and rung."""
    names = ("r0", "r1", "r2")
    corpus = data.draw(corpora(names))
    mapping = own_mapping(corpus.manifest)
    _, _, whole, _ = both(corpus, mapping)
    victim = data.draw(st.integers(0, len(corpus.items) - 1))
    rung = data.draw(st.sampled_from(names))
    bad = [without(item, rung, lacking) if n == victim else item for n, item in enumerate(corpus.items)]
    hurt = Corpus(corpus.manifest, tuple(bad))
    columns, (mapped,) = read_columns(hurt.items, hurt.manifest, [mapping])
    run = ExactRun(mapping)
    if whole.last[victim] < names.index(rung):  # the rule does not get there: nothing is missed
        run.take(hurt.items)
        assert rows_of(evaluate(columns, mapped)) == rows_of(run.outcomes()) == rows_of(whole)
        assert rung not in singles_of(columns, mapped)
        return
    fast, slow = complain(lambda: evaluate(columns, mapped)), complain(lambda: run.take(hurt.items))
    assert fast == slow
    assert fast.startswith(f"i{victim}: ")
    assert repr(rung) in fast


def without(item: Item, rung: str, lacking: str) -> Item:
    """The item, less one reply or one cost."""
    replies = {name: reply for name, reply in item.replies.items() if name != rung}
    if lacking == "cost":
        replies = {**item.replies, rung: replace(item.replies[rung], cost_usd=None)}
    return replace(item, replies=replies)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("mmlupro-gpt41", None), ("mmlupro-claude", None), ("coding-claims", None), ("translation-claude", "classic")],
)
def test_both_paths_agree_on_recorded_corpora(
    real_corpus: Callable[[str], Path], name: str, policy: str | None
) -> None:
    """Real confidences, costs and answers: no row differs."""
    corpus = read_corpus(real_corpus(name))
    mapping = own_mapping(corpus.manifest)
    assert mapping.plan.policy.name == OWN_LADDER
    _, _, fast, slow = both(corpus, mapping)
    assert rows_of(fast) == rows_of(slow)
    assert len(np.unique(fast.shipped)) == 3


def test_storms_agree_on_the_shipped_corpus(support: Path) -> None:
    """The shipped corpus has arrival times and a storm; both paths trip and release at the same items."""
    corpus = read_corpus(support)
    policy = load_policy("support", environment={})
    guard = {"rate": 0.35, "window": 200, "min_samples": 50}
    values = policy.model_dump(by_alias=True, exclude_unset=True)
    mapping = mapping_of(Policy.model_validate({**values, "storm_guard": guard}), corpus.manifest, reprice=True)
    _, _, fast, slow = both(corpus, mapping)
    assert rows_of(fast) == rows_of(slow)
    assert fast.storms == slow.storms
    assert {change.kind for _, change in fast.storms.changes} >= {"tripped", "released"}
