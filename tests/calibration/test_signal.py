"""What a rung's confidence is worth: counted by hand, by brute force, and on recorded corpora."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.signal import MOST_BINS, bins_of, ece_of, gain_over_random, signals
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, read_corpus
from cascade.replay.building import read_columns
from cascade.replay.discrimination import auroc_of
from cascade.replay.mapping import own_mapping

from .chance import coded_of


def coded_rows(rows: list[tuple[float | None, float, float]], groups: list[str] | None = None) -> CodedCorpus:
    """Two rungs: the first one's confidence, its score, the second one's score."""
    manifest = Manifest("by hand", (LadderEntry("low"), LadderEntry("top")))
    items = [
        Item(
            f"i{number}",
            f"question {number}",
            {
                "low": RecordedReply(confidence=confidence, answer="a", score=score, cost_usd=0.001),
                "top": RecordedReply(answer="b", score=above, cost_usd=0.01),
            },
            group=groups[number] if groups else None,
        )
        for number, (confidence, score, above) in enumerate(rows)
    ]
    columns, (view,) = read_columns(items, manifest, [own_mapping(manifest)])
    return code_columns(columns, view)


def test_the_figures_are_those_counted_by_hand() -> None:
    """Six replies at three levels; one without a confidence has no part in them."""
    rows = [(0.9, 1.0, 1.0), (0.9, 0.0, 1.0), (0.5, 1.0, 1.0), (0.5, 0.0, 0.0), (0.2, 0.0, 1.0), (None, 0.0, 1.0)]
    signal = signals(coded_rows(rows))["low"]
    # right: .9 .5; wrong: .9 .5 .2; pairs 6: .9>.5 .9>.2 .5>.2 count 1, .9=.9 and .5=.5 count a half, .5<.9 none
    assert signal.auroc == pytest.approx((3 + 2 * 0.5) / 6)
    assert signal.ece == pytest.approx((abs(1 - 1.8) + abs(1 - 1.0) + abs(0 - 0.2)) / 5)
    assert (signal.items, signal.levels, signal.accuracy) == (5, 3, pytest.approx(2 / 5))
    assert signal.mean_confidence == pytest.approx(3.0 / 5)


def meant_as_said(chance: np.random.Generator, n: int, off: float = 0.0) -> CodedCorpus:
    """`n` replies, each with a confidence of its own that is right as often as it says, but for `off`."""
    said = np.round(chance.uniform(0.2, 0.8, n), 12)
    right = chance.random(n) < said + off
    return coded_rows([(float(one), float(hit), 1.0) for one, hit in zip(said, right, strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_a_continuous_confidence_that_is_meant_as_said_has_an_error_near_none(seed: int) -> None:
    """What is left is the bins' own chance, as theory has it: m items of variance v show sqrt(2 v / (pi m)) in the mean.

    |X| of a normal X has the variance (1 - 2/pi) v / m, so the mean of the bins stays within four of its own deviations.
    """
    n, share = 5_000, 5_000 / MOST_BINS
    spread = np.sqrt(np.mean(np.linspace(0.2, 0.8, 601) * (1 - np.linspace(0.2, 0.8, 601))) / share)
    expected, deviation = np.sqrt(2 / np.pi) * spread, np.sqrt((1 - 2 / np.pi) / MOST_BINS) * spread
    found = signals(meant_as_said(np.random.default_rng(seed), n))["low"]
    assert found.levels == n
    assert found.ece == pytest.approx(expected, abs=4 * deviation)
    assert expected + 4 * deviation < 0.05
    off = signals(meant_as_said(np.random.default_rng(seed), n, off=-0.15))["low"]
    assert off.ece == pytest.approx(0.15, abs=0.03)  # and what is not meant as said is seen as before


@pytest.mark.parametrize("seed", range(20))
def test_the_error_of_clumped_confidences_is_levelwise_to_the_digit(seed: int) -> None:
    """Up to 24 levels nothing is joined, whatever their mass; a level without items, as half a corpus has, is no bin."""
    chance = np.random.default_rng(seed)
    size = int(chance.integers(1, MOST_BINS + 1))
    levels = np.sort(chance.random(size))
    counts = chance.integers(1, 400, size).astype(np.float64)
    rights = np.floor(counts * chance.random(size))
    assert ece_of(rights, counts, levels) == float(np.abs(rights - counts * levels).sum() / counts.sum())
    assert bins_of(counts) == [*range(size)]


@pytest.mark.parametrize("seed", range(20))
def test_bins_hold_alike_and_cut_no_level(seed: int) -> None:
    """Of many levels at most 24 bins, all but the last with more than their share, and each from where the last one ended."""
    items = np.random.default_rng(seed).integers(0, 30, 500)
    starts = bins_of(items)
    masses = np.add.reduceat(items, starts)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert len(starts) <= MOST_BINS
    assert masses.sum() == items.sum()
    assert (masses[:-1] > items.sum() / MOST_BINS).all()
    assert (masses[:-1] <= items.sum() / MOST_BINS + 30).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    """Against all pairs, ties a half."""
    chance = np.random.default_rng(seed)
    codes, right = chance.integers(0, 4, 30), chance.integers(0, 2, 30).astype(bool)
    pairs = [(a > b) + (a == b) / 2 for a in codes[right] for b in codes[~right]]
    of_right, of_wrong = (np.bincount(codes[one], minlength=4).astype(float) for one in (right, ~right))
    assert auroc_of(of_right, of_wrong) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("seed", range(20))
def test_the_gain_is_the_area_between_the_two_curves(seed: int) -> None:
    """Against the curve itself: shares escalated in the order of confidence, ties at random on average."""
    chance = np.random.default_rng(seed)
    codes: Any = chance.integers(0, 5, 40)
    gains: Any = chance.choice([-1.0, 0.0, 1.0], 40)
    apart: Any = np.arange(40)
    order = np.argsort(codes, kind="stable")
    expected = np.array([gains[codes == code].mean() for code in codes[order]])  # of equals any order is as likely
    curve = np.concatenate([[0.0], np.cumsum(expected)]) / 40
    line = np.linspace(0.0, gains.mean(), 41)
    area = np.trapezoid(curve - line, dx=1 / 40)
    assert gain_over_random(codes, gains, apart)[0] == pytest.approx(area)


def drawn(n: int, groups: int, worth: float, seed: int) -> tuple[Any, Any, Any]:
    """Codes, gains and groups; `worth` 0: the confidence knows nothing of the gain, which is its group's affair."""
    chance = np.random.default_rng(seed)
    group = np.arange(n) % groups
    luck, level = chance.random(groups)[group], chance.integers(0, 8, groups)[group]
    gains = (chance.random(n) < 0.2 + 0.6 * (luck > 0.5) - worth * (level - 3.5) / 8).astype(float)
    return level, gains, group


def test_a_signal_that_knows_something_beats_random() -> None:
    """The interval is above 0, and holds the figure."""
    gain, ci95 = gain_over_random(*drawn(4_000, 2_000, 0.4, 1))
    assert ci95 is not None
    assert 0 < ci95[0] < gain < ci95[1]


def test_an_idle_signal_seldom_beats_random_whatever_its_groups() -> None:
    """Forty rows a group: items taken for strangers would find a signal in most draws; groups, in one of forty."""
    lows = [gain_over_random(*drawn(2_000, 50, 0.0, seed))[1] for seed in range(40)]
    apart: Any = np.arange(2_000)
    as_strangers = [
        gain_over_random(codes, gains, apart)[1]
        for codes, gains, _ in (drawn(2_000, 50, 0.0, seed) for seed in range(40))
    ]
    assert sum(one is not None and one[0] > 0 for one in lows) <= 4
    assert sum(one is not None and one[0] > 0 for one in as_strangers) >= 10


def test_above_a_hundred_thousand_items_the_interval_is_the_same() -> None:
    """By the influence function there, drawn below it."""
    codes, gains, group = drawn(99_000, 3_000, 0.1, 5)
    _, few = gain_over_random(codes, gains, group)
    doubled: list[Any] = [np.concatenate([one, one]) for one in (codes, gains, group)]
    _, many = gain_over_random(doubled[0], doubled[1], doubled[2])  # every group doubled: it tells no more
    assert few is not None
    assert many is not None
    assert np.subtract(*many) == pytest.approx(np.subtract(*few), rel=0.1)
    assert np.mean(many) == pytest.approx(np.mean(few), abs=0.1 * (few[1] - few[0]))


def test_the_same_corpus_always_gives_the_same_interval() -> None:
    """Chance has a seed."""
    codes, gains, group = drawn(500, 100, 0.2, 3)
    assert gain_over_random(codes, gains, group) == gain_over_random(codes, gains, group)


@pytest.mark.parametrize(
    "rows",
    [
        [(0.9, 1.0, 1.0)] * 12,
        [(0.9, 0.0, 0.0)] * 12,
        [(0.9, 1.0, 0.0), (0.9, 0.0, 1.0)] * 6,
        [(None, 1.0, 1.0)] * 12,
        [(0.9, 0.3, 0.7)],
    ],
    ids=["all right", "all wrong", "one confidence", "no confidence", "one item"],
)
def test_a_corpus_without_a_signal_says_so(rows: list[tuple[float | None, float, float]]) -> None:
    """Nothing is made up of it: no AUROC without both kinds, no interval of one group, never `beats_random`."""
    signal = signals(coded_rows(rows))["low"]
    fields = json.loads(json.dumps(signal.fields(), allow_nan=False))
    assert [*fields] == [
        "auroc", "ece", "levels", "accuracy", "mean_confidence", "beats_random", "beats_random_ci95",
    ]  # fmt: skip
    assert fields["beats_random"] is False
    kinds = {one[1] >= 0.5 for one in rows if one[0] is not None}
    assert fields["auroc"] == (0.5 if len(kinds) == 2 else None)


@pytest.mark.parametrize("seed", range(10))
def test_every_rung_below_the_top_is_told_whatever_the_corpus_holds(seed: int) -> None:
    """Declined, unparsed, floored and capped replies among them."""
    coded = coded_of(seed, 3, items=30)
    found = signals(coded)
    assert [*found] == [*coded.rungs[:-1]]
    for index, signal in enumerate(found.values()):
        assert signal.items == ((coded.codes[:, index] > 0) & (coded.codes[:, index] <= len(coded.levels[index]))).sum()


@pytest.mark.parametrize(
    ("name", "beats"),
    [
        ("mmlupro-claude", [False, True]),
        ("translation-claude", [False, False]),
        ("mmlupro-gpt41", [True, True]),
        ("coding-claims", [True, True]),
    ],
)
def test_recorded_confidences_are_worth_what_was_measured(
    real_corpus: Callable[[str], Path], name: str, beats: list[bool]
) -> None:
    """Claude 3 Haiku's self-report escalates worse than chance, translation's no better; GPT-4.1's and the claims' do."""
    corpus = read_corpus(real_corpus(name))
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [own_mapping(corpus.manifest)])
    found = [*signals(code_columns(columns, view)).values()]
    assert [signal.beats_random for signal in found] == beats
    if name == "mmlupro-claude":
        assert found[0].gain_ci95 is not None
        assert found[0].gain_ci95[1] < 0
        assert found[0].auroc == pytest.approx(0.51, abs=0.02)
        assert found[0].ece == pytest.approx(0.50, abs=0.01)
