"""The table tells what was put into the corpus, from the tune half alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from cascade.calibration.search.levels import code_columns
from cascade.calibration.signal_table import SignalCollector, SignalOptions, SignalRow, SignalTable, signals_of
from cascade.calibration.signal_table.agreement import usable, votes_on, with_plurality
from cascade.calibration.signal_table.deciding import coded_with, tune_half
from cascade.calibration.signal_table.discrimination import auroc_with_interval
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy, Samples
from cascade.core.policy.samples import Same
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, read_corpus
from cascade.corpora.splits import Split
from cascade.corpora.writing import write_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import Asked, asking, own_mapping
from cascade.replay.sampled import put_to_vote
from tests.calibration.regrouped import in_samples

from .told import MANIFEST, drawn, measured


def row(table: SignalTable, signal: str, rung: str = "low") -> SignalRow:
    """The row of a signal."""
    return next(one for one in table.of(rung) if one.signal == signal)


@pytest.fixture(scope="module")
def table() -> SignalTable:
    """Votes and a check that help, and self-reports that do not."""
    return measured(drawn(600))


def test_what_helps_is_told_from_what_does_not(table: SignalTable) -> None:
    """A check that is nearly always right comes first; a self-report without meaning ranks by chance."""
    assert (table.best, table.items, table.synthetic, table.out_of_fold) == ("top", 600, True, True)
    own, check, votes = row(table, "self-report"), row(table, "check tests"), row(table, "votes of any size")
    assert own.auroc == pytest.approx(0.5, abs=0.06)
    assert own.verdict is None
    assert check.auroc is not None
    assert check.auroc > 0.9
    assert (check.verdict, votes.verdict) == ("helps", "helps")
    first = table.advice[0]
    assert first.shown
    assert first.signal == min((check, votes), key=lambda one: one.difference or 0.0).signal
    assert first.before == own.costs[1].cost
    assert first.difference_ci95 is not None
    assert first.difference_ci95[1] < 0
    assert table.verdict.startswith(f"turn on {first.signal} on low")
    assert table.repeats["low"].startswith("repeats help: --samples low=")
    assert row(table, "length of the input").verdict != "helps"


def test_a_check_costs_what_it_fails() -> None:
    """Out of fold as in-sample: whatever fails climbs, in every fold, and nothing else does."""
    corpus = drawn(600, 3)
    failed = np.mean([not (low.checks or {})["tests"] for low in (item.replies["low"] for item in corpus.items)])
    table = measured(corpus, targets=())
    (half, *_) = row(table, "check tests").costs
    assert half.cost == pytest.approx((0.001 + 0.02 * failed) / 0.02)
    assert half.shipped == pytest.approx((1 - failed, failed))


def test_which_check_finds_which_mistakes_is_counted() -> None:
    """By hand: two of three mistakes found, one of two right answers blamed, one answer of which it could not say."""
    results = [(0.0, False), (0.0, False), (0.0, True), (1.0, True), (1.0, False), (1.0, None)]
    items = [
        Item(
            str(number),
            f"q{number}",
            {
                "low": RecordedReply(0.5, "a", score, cost_usd=0.001, checks={"tests": passed}),
                "top": RecordedReply(answer="a", score=1.0, cost_usd=0.01),
            },
        )
        for number, (score, passed) in enumerate(results)
    ]
    (found,) = measured(Corpus(MANIFEST, tuple(items))).checks
    assert (found.wrong, found.found, found.right, found.blamed, found.unsaid) == (3, 2, 2, 1, 1)
    assert str(found) == "finds 2 of 3 mistakes, blames 1 of 2 right answers; could not say of 1"


def test_repeats_that_know_nothing_are_worth_nothing() -> None:
    """Samples that agree by chance alone: no vote helps, and the advice does not take one."""
    corpus = drawn(500, 2, steady=0.0, check=0.5)
    table = measured(corpus)
    assert "worth nothing" in table.repeats["low"] or "not shown to help" in table.repeats["low"]
    assert not [step for step in table.advice if step.shown]
    assert table.verdict.startswith("no signal is shown to help beyond the self-reports")


def test_samples_that_are_all_alike_are_not_judged() -> None:
    """No figure, but the reason; the other signals are measured all the same."""
    items = [
        changed(item, replies={**item.replies, "low": changed(low, samples=(changed(low, samples=None),) * 2)})
        for item in drawn(200).items
        for low in (item.replies["low"],)
    ]
    table = measured(Corpus(MANIFEST, tuple(items)))
    (refused,) = [one for one in table.rows if one.kind == "agreement"]
    assert "all alike in 100% of 200 cells" in (refused.refused or "")
    assert (refused.auroc, refused.costs) == (None, ())
    assert table.repeats["low"].startswith("agreement is not judged: the samples are all alike")
    assert row(table, "check tests").auroc is not None
    cold = measured(Corpus(replace(MANIFEST, temperature=0.0), drawn(200).items))
    assert "temperature 0" in cold.repeats["low"]


def test_the_certify_half_is_never_read() -> None:
    """Its scores dealt out anew, taken away or turned round: the same table to the last digit."""
    corpus, split = drawn(400, groups=150), Split()
    tunes = np.array([split.part_of(item) == "tune" for item in corpus.items])
    before = measured(corpus, tunes).fields()
    for how in ("permuted", "deleted", "turned"):
        assert measured(replace(corpus, items=with_other_scores(corpus, tunes, how)), tunes).fields() == before, how


def with_other_scores(corpus: Corpus, tunes: Any, how: str) -> tuple[Item, ...]:
    """The items, with other scores where they do not tune."""
    held = np.flatnonzero(~tunes).tolist()
    dealt = dict(zip(held, np.random.default_rng(1).permutation(held).tolist(), strict=True))

    def score_of(place: int, rung: str) -> float | None:
        own = corpus.items[place].replies[rung].score
        return {"deleted": None, "turned": 1.0 - (own or 0.0)}.get(how, corpus.items[dealt[place]].replies[rung].score)

    return tuple(
        item
        if tunes[place]
        else changed(
            item,
            replies={
                rung: changed(
                    one,
                    score=score_of(place, rung),
                    samples=one.samples and tuple(changed(other, score=score_of(place, rung)) for other in one.samples),
                )
                for rung, one in item.replies.items()
            },
        )
        for place, item in enumerate(corpus.items)
    )


def test_an_empty_tune_half_is_refused() -> None:
    """With what to change."""
    with pytest.raises(ConfigurationError, match="tune half of the split has no items"):
        measured(drawn(10), np.zeros(10, np.bool_))


def test_where_the_first_rung_is_the_best_there_is_no_gap() -> None:
    """No costs and no advice, and that is the verdict."""
    items = [
        changed(item, replies={**item.replies, "low": changed(item.replies["low"], score=1.0)})
        for item in drawn(100).items
    ]
    table = measured(Corpus(MANIFEST, tuple(items)))
    assert (table.best, table.gap, table.advice) == ("low", 0.0, ())
    assert "no gap for a signal to close" in table.verdict
    assert not any(one.costs for one in table.rows)


def test_a_best_model_that_is_free_is_told_so() -> None:
    """There is no price to compare with."""
    items = [
        changed(item, replies={**item.replies, "top": changed(item.replies["top"], cost_usd=0.0)})
        for item in drawn(100).items
    ]
    table = measured(Corpus(MANIFEST, tuple(items)))
    assert table.verdict == "top alone, the best single model, costs nothing: there is no cost to save"
    assert (table.oracle, table.advice) == (None, ())


def test_what_a_step_adds_is_measured_beside_those_before_it() -> None:
    """Two rungs with a check each, both of which help: the second step starts where the first one ended."""
    chance, items = random.Random(4), list[Item]()
    for number in range(500):
        replies = {"top": RecordedReply(answer="a", score=1.0, cost_usd=0.02)}
        for rung, skill, usd in (("low", 0.5, 0.001), ("mid", 0.6, 0.004)):
            right = chance.random() < skill
            replies[rung] = RecordedReply(0.5, "a", float(right), cost_usd=usd, checks={f"{rung}-tests": right})
        items.append(Item(str(number), f"q{number}", replies))
    manifest = Manifest("two", tuple(LadderEntry(rung) for rung in ("low", "mid", "top")))
    table = measured(Corpus(manifest, tuple(items)), targets=())
    first, second = table.advice
    assert {first.signal, second.signal} == {"check low-tests", "check mid-tests"}
    assert first.shown
    assert second.shown
    assert second.before == first.after
    assert second.after is not None
    assert first.after is not None
    assert second.after < first.after
    assert table.oracle is not None
    assert second.after == pytest.approx(table.oracle.cost, abs=0.12)


@pytest.mark.parametrize(("most", "agree"), [(2, 2), (3, 2), (4, 2), (4, 3)])
def test_a_votes_decision_is_the_vote_of_a_policy(most: int, agree: int) -> None:
    """The same costs, the same answers shipped, and the same scores as the ladder that is put to this vote."""
    corpus = drawn(300, 7)
    mapping = replace(own_mapping(MANIFEST), same=Same())
    collector = SignalCollector(mapping)
    columns, (view,) = read_columns(corpus.items, MANIFEST, [mapping], on_items=collector.add)
    every = np.ones(len(columns), np.bool_)
    half = tune_half((columns, view), collector.features(view), collector.signals, collector.checks, every)
    assert view.samples[0] is not None
    votes = votes_on(usable(view.samples[0], str(Same())), "low")
    assert votes.reports is not None
    for by_agreement, way in ((True, votes.decisions[most, agree]), (False, votes.reports[most, agree])):
        asked = {"low": Asked(Samples(max=most, agree=agree, same=Same()), by_agreement)}
        expected = code_columns(columns, put_to_vote(columns, replace(view, mapping=asking(mapping, asked))))
        found = coded_with(half, {0: way})
        assert (found.cost == expected.cost).all()
        assert (found.codes == expected.codes).all()
        assert [one.tolist() for one in found.levels] == [one.tolist() for one in expected.levels]
        ships = found.codes[:, 0] > 0
        assert (found.score[ships] == expected.score[ships]).all()
        assert (found.score[:, 1] == expected.score[:, 1]).all()


def test_a_policys_own_samples_do_not_change_the_table(tmp_path: Path) -> None:
    """They are one of the signals that are compared; the self-report is of one answer."""
    corpus = drawn(150)
    path = tmp_path / "told.jsonl"
    write_corpus(path, corpus.manifest, corpus.items)
    ladder: list[dict[str, Any]] = [
        {"rung": "low", "model": "m-low", "threshold": 0.8, "max_tokens": 9, "price": {"input": 1, "output": 1}},
        {"rung": "top", "model": "m-top", "max_tokens": 9, "price": {"input": 1, "output": 1}},
    ]
    sampled = [{**ladder[0], "samples": {"max": 3, "agree": 2}}, ladder[1]]
    plain, voting = (
        signals_of([path], SignalOptions(Policy.model_validate({"version": 1, "name": "p", "ladder": one})))
        for one in (ladder, sampled)
    )
    assert plain.fields() == voting.fields()


def test_agreement_is_the_commonest_answers_share() -> None:
    """As counted by hand; of equals the earliest, and a declined sample counts against it."""
    cells: list[tuple[list[Any], float, Any]] = [
        (["a", "a", "b"], 2 / 3, "a"),
        (["b", "a", "a"], 2 / 3, "a"),
        (["b", "a", "c"], 1 / 3, "b"),
        ([None, "c", None], 1 / 3, "c"),
        ([None, None, None], np.nan, None),
    ]
    right = {"a": 0.1, "b": 0.2, "c": 0.3, None: 0.0}
    items = [
        Item(
            str(number),
            f"q{number}",
            {"low": _sampled(answers, right), "top": RecordedReply(answer="a", score=1.0, cost_usd=1)},
        )
        for number, (answers, _, _) in enumerate(cells)
    ]
    _, (view,) = read_columns(items, MANIFEST, [replace(own_mapping(MANIFEST), same=Same())])
    assert view.samples[0] is not None
    samples = usable(view.samples[0], str(Same()))
    found = with_plurality(samples, 3)
    assert found.agreement.tolist() == pytest.approx([share for _, share, _ in cells], nan_ok=True)
    assert found.score.tolist() == [right[winner] for _, _, winner in cells]
    for (most, agree), way in votes_on(samples, "low").decisions.items():
        for place, (answers, _, _) in enumerate(cells):
            asked, counted = 0, Counter[Any]()
            while (
                asked < most
                and max(counted.values(), default=0) < agree <= max(counted.values(), default=0) + most - asked
            ):
                counted.update([answers[asked]] if answers[asked] is not None else [])
                asked += 1
            reached = max(counted.values(), default=0) >= agree
            assert np.isnan(way.confidence[place]) != reached
            assert way.cost is not None
            assert way.cost[place] == asked * 1_000_000


def _sampled(answers: list[Any], right: dict[Any, float]) -> RecordedReply:
    first, *others = (RecordedReply(0.5, one, right[one], cost_usd=0.001) for one in answers)
    return changed(first, samples=tuple(others))


def test_on_recorded_samples_agreement_ranks_as_published(real_corpus: Callable[[str], Path]) -> None:
    """AUROC at 3, 5 and 8 samples, the majority's accuracy, and the curtailed vote of 3 in 4 over all items."""
    corpus = read_corpus(real_corpus("date-samples"))
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [replace(own_mapping(corpus.manifest), same=Same())])
    assert view.samples[0] is not None
    samples = usable(view.samples[0], str(Same()))
    for size, area, accuracy in ((3, 0.793, 0.740), (5, 0.772, 0.775), (8, 0.736, 0.816)):
        found = with_plurality(samples, size)
        right = found.score >= 0.5
        assert auroc_with_interval(found.agreement, right, columns.group)[0] == pytest.approx(area, abs=0.0006)
        assert right.mean() == pytest.approx(accuracy, abs=0.0006)
    way, top = votes_on(samples, "cheap", 4).decisions[4, 3], columns.rungs["strong"]
    assert way.score is not None
    assert way.cost is not None
    ships = ~np.isnan(way.confidence)
    assert (way.cost.sum() + top.cost[~ships].sum()) / top.cost.sum() == pytest.approx(0.395, abs=0.0006)
    assert np.where(ships, way.score, top.score).mean() == pytest.approx(0.892, abs=0.0006)
    assert (ships & (way.score < 0.5)).mean() == pytest.approx(0.087, abs=0.0006)


def test_on_recorded_samples_repeats_help(real_corpus: Callable[[str], Path]) -> None:
    """The tune half of `date-samples`: no self-report, so votes are all there is."""
    corpus = read_corpus(real_corpus("date-samples"))
    table = measured(corpus, np.array([Split().part_of(item) == "tune" for item in corpus.items]))
    assert table.advice[0].shown
    assert table.advice[0].after is not None
    assert table.advice[0].after < 0.6
    assert row(table, "agreement of 3", "cheap").verdict == "helps"
    assert [one for one in table.notes if "no scorer (right)" in one]


def test_ten_recorded_runs_at_temperature_0_are_refused(real_corpus: Callable[[str], Path]) -> None:
    """Both rungs: one is all alike, and the other is of the same recording."""
    corpus = read_corpus(real_corpus("coding-claims"))
    table = measured(replace(corpus, items=tuple(in_samples(corpus.items))), targets=())
    assert [one.refused is not None for one in table.rows if one.kind == "agreement"] == [True, True]
    assert all("default temperature" in said for said in table.repeats.values())
