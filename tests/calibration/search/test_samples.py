"""`--samples auto`: a search over votes beside thresholds that is exact, and of which the certify half says nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as replace_item

from cascade import Policy
from cascade.calibration.candidates import Way
from cascade.calibration.halves import ItemHalf, JointHalf
from cascade.calibration.objectives import Budget, MinQuality, Objective
from cascade.calibration.proof.pareto_testing import Target, start_on
from cascade.calibration.proof.power import expected_losses
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.calibration.sampling import SampleSearch, mapping_with_samples, sampled_ways, what_samples_buy
from cascade.calibration.search.frontier import Loss, Point
from cascade.calibration.search.levels import code_columns
from cascade.core.policy import Rung
from cascade.corpora import Item, read_corpus
from cascade.corpora.splits import Split
from cascade.corpora.writing import write_corpus
from cascade.replay.building import read_columns
from cascade.replay.columns import Columns, MappedColumns
from cascade.replay.mapping import Override
from cascade.replay.outcomes import false_confident, scores_of
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from cascade.replay.sampled import put_to_vote
from cascade.replay.samples import SamplesOverride, variant_names
from cascade.replay.vectorised import evaluate
from tests.calibration.regrouped import in_samples
from tests.calibration.votes import MANIFEST, drawn_votes, write_votes

AUTO = SampleSearch(auto=True)
RISK = Target("false_confident", 0.15, 0.05)

Tried = tuple[int, tuple[int, ...], float, int, int]
"""A way, its level numbers, and there the mean score, the cost in nano-USD and the losses."""


def ways_of(path: Path) -> tuple[Columns, list[Way]]:
    """The candidates of a corpus on its own ladder, which all items may choose."""
    items = read_corpus(path).items
    mapping, sought = mapping_with_samples(AUTO, None, MANIFEST, [str(path)])
    columns, (view,) = read_columns(items, MANIFEST, [mapping])
    ways, refused = sampled_ways(columns, view, sought, np.ones(len(columns), np.bool_))
    assert not refused
    return columns, ways


def at_thresholds(columns: Columns, way: Way, thresholds: Sequence[float | None]) -> MappedColumns:
    """The way at these thresholds; a rung where agreement alone decides has none, unless it is `never`."""
    assert way.mapping is not None
    policy = way.mapping.plan.policy
    ladder = list(policy.ladder)
    for index, value in enumerate(thresholds):
        if policy.route("").by_agreement[index] and value is not None:
            continue
        values = {name: getattr(ladder[index], name) for name in ladder[index].model_fields_set}
        ladder[index] = Rung.model_construct(None, **values | {"threshold": value})
    made = policy.model_copy(update={"ladder": tuple(ladder)})
    mapping = replace(way.mapping, plan=replace(way.mapping.plan, policy=made))
    return put_to_vote(columns, replace(way.view, mapping=mapping))


def tried(columns: Columns, ways: Sequence[Way], loss: Loss) -> list[Tried]:
    """Every way at every vector of its levels, by one replay each."""
    found: list[Tried] = []
    for number, way in enumerate(ways):
        coded = code_columns(columns, way.view)
        for at in product(*(range(1, len(own) + 2) for own in coded.levels)):
            view = at_thresholds(columns, way, coded.thresholds(at))
            outcomes = evaluate(columns, view)
            scores = scores_of(columns, view, outcomes)
            if loss == "false_confident":
                lost = false_confident(view, outcomes, scores, 0.5)
            else:
                lost = (columns.rungs["sonnet"].score >= 0.5) & (scores < 0.5)
            found.append((number, at, float(scores.mean()), int(outcomes.cost.sum()), int(lost.sum())))
    return found


def unbeaten(points: Sequence[Tried], key: Callable[[Tried], tuple[float, float, float]]) -> list[Tried]:
    """Those that no other beats in the key's first two values, each against each; of equals by its third, way and levels."""
    ranked = {one: (*key(one), one[0], tuple(-level for level in one[1])) for one in points}
    kept = [
        one for one, mine in ranked.items()
        if not any(its[0] <= mine[0] and its[1] <= mine[1] and its < mine for its in ranked.values())
    ]  # fmt: skip
    return sorted(kept, key=lambda one: ranked[one])


def shown(points: Sequence[Point]) -> list[Tried]:
    """Points as what was tried."""
    return [(one.way, one.at, round(one.quality, 9), one.cost, one.losses) for one in points]


@pytest.mark.parametrize("seed", range(8))
def test_the_search_is_what_trying_every_vote_at_every_threshold_finds(tmp_path: Path, seed: int) -> None:
    """Frontier and path of all ways together are the union of each way's, less what another way beats; both losses."""
    items = drawn_votes(seed, 12, reports=seed % 4 != 3, samples=4, odd=seed % 2 == 1)
    columns, ways = ways_of(write_votes(tmp_path / "votes.jsonl", items))
    assert len(ways) > 5
    joint = JointHalf(tuple(ItemHalf(code_columns(columns, way.view)) for way in ways))
    everything = tried(columns, ways, "false_confident")
    frontier = unbeaten(everything, lambda one: (one[3], -round(one[2], 9), one[4]))
    assert shown(joint.frontier()) == [(way, at, round(quality, 9), *rest) for way, at, quality, *rest in frontier]
    for loss in ("false_confident", "regression"):
        path = unbeaten(tried(columns, ways, loss), lambda one: (one[4], one[3], -round(one[2], 9)))
        found = shown(joint.risk_path(loss, 1000))
        assert found == [(way, at, round(quality, 9), *rest) for way, at, quality, *rest in path]


def test_what_each_further_sample_buys_is_the_cheapest_with_no_more_losses(tmp_path: Path) -> None:
    """By brute force over the ways with so many samples at most."""
    columns, ways = ways_of(write_votes(tmp_path / "votes.jsonl", drawn_votes(5, 12, samples=4)))
    joint = JointHalf(tuple(ItemHalf(code_columns(columns, way.view)) for way in ways))
    path = joint.risk_path("false_confident")
    everything = tried(columns, ways, "false_confident")
    for chosen in path:
        good = [one for one in everything if one[4] <= chosen.losses]
        bought = what_samples_buy(ways, joint, chosen, "false_confident")
        assert {one.most for one in bought} >= {1, 2, 3, 4}
        for one in bought:
            asked = [number for number, way in enumerate(ways) if most_of(way) == one.most]
            cheapest = min(cost for way, _, _, cost, _ in good if way in asked)
            assert one.cost_per_request_usd == pytest.approx(cheapest / 1e9 / len(joint))
            assert one.losses <= chosen.losses
            assert one.name == ways[one.way].name


def most_of(way: Way) -> int:
    """How often the first rung is asked at most."""
    assert way.mapping is not None
    samples = way.mapping.plan.policy.ladder[0].samples
    return 1 if samples is None else samples.max


POLICY = {
    "version": 1,
    "name": "votes",
    "ladder": [
        {"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 500},
        {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 500},
    ],
}
GATED = {**POLICY, "ladder": [{**POLICY["ladder"][0], "threshold": 0.8}, POLICY["ladder"][1]]}
AGREED = {**POLICY, "ladder": [{**POLICY["ladder"][0], "samples": {"max": 2, "agree": 2}}, POLICY["ladder"][1]]}


@pytest.mark.parametrize(
    "objective", [RISK, MinQuality(0.95, of_top=True), Budget(0.012)], ids=["risk", "quality", "budget"]
)
@pytest.mark.parametrize("reports", [True, False], ids=["thresholds", "agreement"])
@pytest.mark.parametrize("with_policy", [False, True], ids=["own ladder", "policy"])
def test_replay_of_what_is_chosen_has_its_figures(
    tmp_path: Path, objective: Objective, *, reports: bool, with_policy: bool
) -> None:
    """On either half, by the engine's own path: quality, cost, confidently wrong answers, and who ships."""
    path = write_votes(tmp_path / "votes.jsonl", drawn_votes(3, 400, reports=reports, odd=True))
    policy = Policy.model_validate(GATED if reports else AGREED) if with_policy else None
    result = calibrate([path], CalibrationOptions(objective, policy, samples=AUTO))
    assert result.samples, "a vote is worth it here"
    assert result.by_agreement == (frozenset[str]() if reports else frozenset({"haiku"}))
    for part, figures in (("tune", result.choice.tune), ("certify", result.choice.certify)):
        assert figures is not None
        told = replayed(path, result, part == "tune").figures
        assert told.items == figures.items
        assert told.quality == pytest.approx(figures.quality, abs=1e-9)
        assert (told.cost, told.shipped) == (figures.cost, figures.shipped)
        assert told.false_confident_rate == pytest.approx(figures.false_confident, abs=1e-12)


def replayed(path: Path, result: Calibration, tune: bool) -> Replay:
    """The replay of a half: of the policy that was made, or of what a user would give for the corpus's own ladder."""
    part = "tune" if tune else "certify"
    if result.options.policy is not None:
        return replay_corpus(path, ReplayOptions(policy=result.policy, part=part, exact=True))
    samples = tuple(
        SamplesOverride(rung, one.agree, one.max, variant_names(result.policy, one)[: len(one.variants)])
        for rung, one in result.samples.items()
    )
    overrides = tuple(Override(rung, x) for rung, x in result.thresholds.items() if rung not in result.by_agreement)
    return replay_corpus(path, ReplayOptions(samples=samples, overrides=overrides, part=part, exact=True))


def test_a_single_model_is_one_reply_of_it(tmp_path: Path) -> None:
    """Whatever samples are chosen, the model beside the cascade is asked once."""
    items = drawn_votes(3, 400)
    path = write_votes(tmp_path / "votes.jsonl", items)
    result = calibrate([path], CalibrationOptions(RISK, samples=AUTO))
    held = [item for item in items if Split().part_of(item) == "certify"]
    alone = result.choice.singles["haiku"].figures
    assert result.samples
    assert alone.cost == sum(round((item.replies["haiku"].cost_usd or 0) * 1e9) for item in held)
    assert alone.quality == pytest.approx(float(np.mean([item.replies["haiku"].score or 0.0 for item in held])))


def walked(result: Calibration) -> list[tuple[str, tuple[float | None, ...]]]:
    """The candidates in the order in which they would be tested, from where the tests begin: all that the tune half decides."""
    tune = result.joint_tune
    assert tune is not None
    path = tune.risk_path("false_confident")
    expected = expected_losses(path, tune, "false_confident", lambda part: part.risk_path("false_confident", 400))
    start = start_on(len(path), expected, result.held_out.units, RISK)
    return [(result.ways[point.way].name, point.thresholds) for point in path[start:]]


def shuffled(items: Sequence[Item], seed: int, *, whole: bool) -> list[Item]:
    """The certify half's scores dealt out anew, sample by sample; if `whole`, its replies as they are."""
    chance, split = random.Random(seed), Split()
    held = [number for number, item in enumerate(items) if split.part_of(item) == "certify"]
    dealt = chance.sample(held, len(held))
    made = list(items)
    for number, other in zip(held, dealt, strict=True):
        theirs = items[other].replies
        if whole:
            made[number] = replace_item(items[number], replies=theirs)
            continue
        replies = {}
        for rung, reply in items[number].replies.items():
            samples = reply.samples and tuple(
                replace_item(mine, score=its.score)
                for mine, its in zip(reply.samples, theirs[rung].samples or (), strict=True)
            )
            replies[rung] = replace_item(reply, score=theirs[rung].score, samples=samples)
        made[number] = replace_item(items[number], replies=replies)
    return made


@pytest.mark.parametrize("whole", [False, True], ids=["scores", "replies"])
@pytest.mark.parametrize("reports", [True, False], ids=["thresholds", "agreement"])
def test_the_certify_half_decides_neither_what_is_tested_nor_in_which_order(
    tmp_path: Path, *, reports: bool, whole: bool
) -> None:
    """Its scores or its replies dealt out anew: the same candidates in the same order, though another may pass."""
    items = drawn_votes(3, 300, reports=reports)
    first = calibrate([write_votes(tmp_path / "votes.jsonl", items)], CalibrationOptions(RISK, samples=AUTO))
    passed = set[object]()
    for seed in range(3):
        path = write_votes(tmp_path / f"{seed}.jsonl", shuffled(items, seed, whole=whole))
        again = calibrate([path], CalibrationOptions(RISK, samples=AUTO))
        assert [way.name for way in again.ways] == [way.name for way in first.ways]
        assert walked(again) == walked(first)
        passed.add(again.choice.proof)
    assert len(passed) > 1 or whole, "the certify half does decide what passes"


def test_a_certify_half_that_is_all_alike_is_not_looked_at(tmp_path: Path) -> None:
    """Whether the samples are repeats is judged on the tune half: otherwise the other half would choose the candidates."""
    split, items = Split(), list[Item]()
    for item in drawn_votes(3, 300):
        haiku = item.replies["haiku"]
        if split.part_of(item) == "certify":
            bare = replace_item(haiku, samples=None, variant=None)
            every = [replace_item(bare, variant=one.variant) for one in haiku.every]
            haiku = replace_item(every[0], samples=tuple(every[1:]))
        items.append(replace_item(item, replies={**item.replies, "haiku": haiku}))
    result = calibrate([write_votes(tmp_path / "votes.jsonl", items)], CalibrationOptions(RISK, samples=AUTO))
    assert not result.not_judged
    assert len(result.ways) > 5


def test_claims_that_were_run_ten_times_at_temperature_0_choose_no_samples(
    tmp_path: Path, real_corpus: Callable[[str], Path]
) -> None:
    """All alike in nearly every cell: said of each rung, and the choice is as without samples."""
    corpus = read_corpus(real_corpus("coding-claims"))
    write_corpus(tmp_path / "claims.jsonl", replace(corpus.manifest, items=None), in_samples(corpus.items))
    objective = MinQuality(0.95, of_top=True)
    result = calibrate([tmp_path / "claims.jsonl"], CalibrationOptions(objective, samples=AUTO))
    assert result.samples == {}
    assert [why.partition(":")[0] for why in result.not_judged] == list(corpus.manifest.rungs[:-1])
    assert all("nothing of agreement at the model's default temperature" in why for why in result.not_judged)
    plain = calibrate([tmp_path / "claims.jsonl"], CalibrationOptions(objective))
    assert result.choice.chosen == plain.choice.chosen
