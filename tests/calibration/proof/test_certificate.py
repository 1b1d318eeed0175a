"""The walk along the path: what it proves, where it starts, when it stops, and what it says where it proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.calibration.halves import ItemHalf
from cascade.calibration.proof.pareto_testing import (
    Certified,
    NotCertified,
    Target,
    certify,
    escalation_of,
    hash_of_corpus,
    start_on,
)
from cascade.calibration.proof.power import ExpectedLosses
from cascade.calibration.proof.recheck import Recheck, levels_at, recheck_corpus
from cascade.calibration.search.frontier import Point, point_at, risk_path
from cascade.calibration.search.levels import CodedCorpus
from cascade.core.errors import ConfigurationError, CorpusError, PolicyError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.policy.certificates import hash_of, hashes_of
from tests.calibration.certified import certified
from tests.core.builders import policy_of

LEVELS = np.array([0.5, 0.8, 0.9])
ALPHA = Target("false_confident", 0.02, 0.05)


def coded(*kinds: tuple[int, int, int], group: int = 1, first_group: int = 0, right_at: float = 0.5) -> CodedCorpus:
    """Two rungs. Each kind: (level of the lower rung's confidence, whether it is right there, how many items); the top is right."""
    codes = np.concatenate([np.full(n, level, np.int32) for level, _, n in kinds])
    right = np.concatenate([np.full(n, float(right)) for _, right, n in kinds])
    n = len(codes)
    score = np.asfortranarray(np.stack([right, np.ones(n)], axis=1))
    cost = np.asfortranarray(np.tile(np.array([1, 5]), (n, 1)))
    groups = (np.arange(n, dtype=np.int32) // group + first_group).astype(np.int32)
    return CodedCorpus(
        ("r0", "r1"), (LEVELS,), codes[:, None], score, score, cost, None, groups, np.zeros(n, np.int32), ("other",), right_at
    )  # fmt: skip


def beside(tune: CodedCorpus, *kinds: tuple[int, int, int], group: int = 1) -> CodedCorpus:
    """The other half: groups of its own."""
    return coded(*kinds, group=group, first_group=int(tune.group.max()) + 1)


def walked(tune: CodedCorpus, held: CodedCorpus, target: Target = ALPHA) -> Certified | NotCertified:
    """Certify along the tune half's own path."""
    return certify(risk_path(tune.counts(), target.counted), ItemHalf(tune), ItemHalf(held), target)


def seen_on(path: Sequence[Point], tune: CodedCorpus) -> ExpectedLosses:
    """Each point's losses as the tune half has them."""
    return lambda index: ItemHalf(tune).sample(path[index], "false_confident")


CLEAR = ((3, 1, 500), (2, 1, 480), (2, 0, 20), (1, 1, 400), (1, 0, 100))
"""At 0.9 spotless; at 0.8 20 of 1,500 are lost; at 0.5 120 are: 8 %."""


def test_the_cheapest_thresholds_that_can_be_proved_are_taken() -> None:
    """0.80 loses 1.3 % and passes; 0.50 loses 8 % and is never reached, for it is 0.80 that fails the next test."""
    tune = coded(*CLEAR)
    held = beside(tune, (3, 1, 500), (2, 1, 483), (2, 0, 17), (1, 1, 400), (1, 0, 100))
    found = walked(tune, held)
    assert isinstance(found, Certified)
    assert isinstance(found.point, Point)
    assert found.point.thresholds == (0.8,)
    assert (found.tested.units, found.tested.n, found.tested.errors) == ("items", 1500, 17)
    assert found.tested.upper_bound == pytest.approx(0.01695, abs=1e-5)
    certificate = found.certificate(
        {"corpus": hash_of(b"c"), **hashes_of(policy_of(0.8))}, right_at=0.5, grader="exact"
    )
    assert certificate.told == "certified: false_confident <= 0.02 at 0.95"
    assert (certificate.errors, certificate.n, certificate.grader) == (17, 1500, "exact")


def test_the_walk_stops_at_the_first_that_fails() -> None:
    """Where 0.9 cannot be proved, 0.8 is not looked at, were it spotless: that is what delta is spent on."""
    tune = coded(*CLEAR)
    held = beside(tune, (3, 0, 60), (3, 1, 440), (2, 1, 500), (1, 1, 500))
    path = risk_path(tune.counts(), "false_confident")
    found = certify(path, ItemHalf(tune), ItemHalf(held), Target("false_confident", 0.005, 0.05))
    assert isinstance(found, NotCertified)
    assert isinstance(found.point, Point)
    assert found.point.thresholds == (0.9,)
    assert found.tested.errors == 60
    assert found.further_units_needed is None  # 4 % is above alpha: no number would do


def test_what_was_not_proved_says_how_many_more_units_would_do() -> None:
    """100 spotless items of the 149 that it takes."""
    tune = coded((3, 1, 100), (1, 0, 100))
    found = walked(tune, beside(tune, (3, 1, 60), (1, 0, 40)))
    assert isinstance(found, NotCertified)
    assert (found.tested.n, found.tested.errors, found.further_units_needed) == (100, 0, 49)
    assert found.tested.upper_bound > 0.02


def test_the_walk_starts_where_it_will_likely_pass_and_no_higher() -> None:
    """0.8 % on the tune half is likely to pass at 2 % with 2,000 units; with 200 only the spotless point is worth a try."""
    tune = coded((3, 1, 500), (2, 1, 488), (2, 0, 12), (1, 1, 400), (1, 0, 100))
    path = risk_path(tune.counts(), "false_confident")
    assert [point.losses for point in path] == [0, 12, 112]
    seen = seen_on(path, tune)
    assert [start_on(len(path), seen, n, ALPHA) for n in (2_000, 200, 10)] == [1, 0, 0]


def test_the_start_does_not_depend_on_the_outcomes_of_the_other_half() -> None:
    """It is given a number of units, and nothing else: two halves of one size are walked from the same place."""
    tune = coded(*CLEAR)
    good, bad = beside(tune, (3, 1, 3000)), beside(tune, (3, 0, 3000))
    assert ItemHalf(good).units == ItemHalf(bad).units == 3000
    failed = walked(tune, bad)
    assert isinstance(failed, NotCertified)
    path = risk_path(tune.counts(), "false_confident")
    assert failed.point == path[start_on(len(path), seen_on(path, tune), 3000, ALPHA)]


def test_groups_are_the_units() -> None:
    """50 rows a group: 30 groups prove nothing of 2 %, whatever 1,500 rows would; 300 groups do."""
    tune = coded((3, 1, 5000), (1, 0, 5000), group=50)
    few = walked(tune, beside(tune, (3, 1, 1000), (1, 0, 500), group=50))
    assert isinstance(few, NotCertified)
    assert (few.tested.units, few.tested.n, few.tested.errors) == ("groups", 30, None)
    assert few.tested.weighting == "each group weighted equally"
    many = walked(tune, beside(tune, (3, 1, 10_000), (1, 0, 5_000), group=50))
    assert isinstance(many, Certified)
    assert (many.tested.units, many.tested.n, many.tested.errors) == ("groups", 300, None)


def test_a_group_in_both_halves_is_refused() -> None:
    """What was tuned on would prove itself."""
    tune = coded(*CLEAR)
    with pytest.raises(ConfigurationError, match="a group has items in both halves"):
        walked(tune, tune)


def test_an_empty_half_is_told() -> None:
    """No tune half: nothing to certify; no certify half: nothing proved, and no number of units is made up."""
    tune = coded(*CLEAR)
    with pytest.raises(ConfigurationError, match=r"half has no items.*--tune"):
        certify((), ItemHalf(tune), ItemHalf(tune), ALPHA)
    found = walked(tune, tune.rows(np.zeros(len(tune), np.bool_)))
    assert isinstance(found, NotCertified)
    assert (found.tested.n, found.tested.upper_bound, found.further_units_needed) == (0, 1.0, None)


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"alpha": 1.0}, {"delta": 0.0}, {"delta": float("nan")}])
def test_a_target_that_is_none_is_refused(bad: dict[str, float]) -> None:
    """Alpha and delta lie between 0 and 1."""
    with pytest.raises(ConfigurationError, match=rf"{next(iter(bad))}: .* between 0 and 1"):
        Target(**bad)  # type: ignore[arg-type]


def test_a_regression_is_counted_only_where_the_top_is_right() -> None:
    """The top is right everywhere here, so both losses are one; where it is wrong too, there is no regression."""
    corpus = coded(*CLEAR)
    at = point_at(corpus.counts(), (2,))
    assert ItemHalf(corpus).sample(at, "regression").errors == 20
    corpus.score[:, 1] = 0.0
    assert ItemHalf(corpus).sample(at, "regression").errors == 0
    assert ItemHalf(corpus).sample(at, "false_confident").errors == 20


def test_the_escalation_is_of_those_that_reach_a_rung() -> None:
    """A rung that never ships is not watched, and has none."""
    corpus = coded(*CLEAR)
    assert escalation_of(corpus, (2,)) == Escalation({"r0": round(500 / 1500, 4)})
    assert escalation_of(corpus, (4,)) == Escalation()


def test_a_corpus_is_named_by_its_bytes(tmp_path: Path) -> None:
    """One file by its own SHA-256; several by all of theirs, in their order."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    assert hash_of_corpus([a]) == hash_of(b"one")
    assert len({hash_of_corpus([a]), hash_of_corpus([b]), hash_of_corpus([a, b]), hash_of_corpus([b, a])}) == 4


PROVED: Policy = certified(policy_of(0.8))


def against(*kinds: tuple[int, int, int], policy: Policy = PROVED, group: int = 1) -> Recheck:
    """The certificate of a policy at 0.8, held against this corpus."""
    return recheck_corpus(coded(*kinds, group=group), policy)


def test_a_fresh_corpus_confirms_a_certificate_or_breaks_it_or_is_too_small() -> None:
    """The three answers, with the bound on either side, and how many more units would prove it again."""
    holds = against((3, 1, 600), (2, 1, 395), (2, 0, 5))
    assert (holds.verdict, holds.tested.errors, holds.further_units_needed) == ("holds", 5, None)
    assert holds.tested.upper_bound <= 0.02
    broken = against((3, 1, 600), (2, 0, 100))
    assert (broken.verdict, broken.further_units_needed) == ("no_longer", None)
    assert broken.lower_bound > 0.02
    few = against((3, 1, 100), (1, 0, 20))
    assert (few.verdict, few.tested.errors, few.further_units_needed) == ("too_few", 0, 29)
    unsure = against((3, 1, 97), (2, 0, 3))
    assert (unsure.verdict, unsure.further_units_needed) == ("too_few", None)
    assert unsure.lower_bound < 0.02 < unsure.tested.upper_bound


def test_groups_are_the_units_of_a_fresh_corpus_too() -> None:
    """2,000 spotless rows of 40 groups are too few."""
    found = against((3, 1, 2000), group=50)
    assert (found.verdict, found.tested.units, found.tested.n) == ("too_few", "groups", 40)


def test_each_task_is_held_to_its_own_thresholds() -> None:
    """A task that never ships below the top cannot lose there."""
    policy = certified(policy_of(0.8, tasks=[{"name": "hard", "thresholds": {"r0": "never"}}]))
    corpus = coded((2, 0, 100), (3, 1, 400))
    lost = recheck_corpus(corpus, policy)
    assert lost.tested.errors == 100
    hard = replace(corpus, tasks=("hard",))
    assert recheck_corpus(hard, policy).tested.errors == 0


@pytest.mark.parametrize(
    ("threshold", "level"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.9, 3), (0.91, 4), (None, 4)]
)
def test_a_threshold_is_the_lowest_observed_level_that_it_lets_ship(threshold: float | None, level: int) -> None:
    """At, between and above the observed values; never is above them all."""
    assert levels_at(coded((1, 1, 1)), (threshold, None)) == (level,)


def test_what_cannot_be_held_against_is_told() -> None:
    """No certificate, no items, another meaning of right."""
    with pytest.raises(PolicyError, match="has no certificate"):
        against((3, 1, 10), policy=policy_of(0.8))
    with pytest.raises(CorpusError, match="no items"):
        recheck_corpus(coded((3, 1, 1)).rows(np.zeros(1, np.bool_)), PROVED)
    with pytest.raises(CorpusError, match=r"right_at: .*0\.7.*0\.5"):
        recheck_corpus(coded((3, 1, 10), right_at=0.7), PROVED)
