"""Control items find a reviewer that cannot review, in few items, and seldom accuse a good one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from cascade.core.control_items import FEWEST, MOST_WRONG, is_above
from cascade.core.planning.controls import (
    CONTROLS,
    ControlDone,
    ControlItem,
    control_done,
    next_control,
    standing_of,
)
from cascade.core.planning.result import PlanReview, ReviewVerdict

CALLED_FAULTY: Callable[[float, int], float] = run_path(
    str(Path(__file__).resolve().parents[3] / "benchmarks" / "plan_controls.py")
)["called_faulty"]

Reviewer = Callable[[ControlItem], ReviewVerdict]

GOOD: Reviewer = lambda item: "accept" if item.is_right else "retry"  # noqa: E731


def test_the_items_are_pairs_of_a_right_and_a_wrong_result_of_the_expected_form() -> None:
    """A wrong one is wrong by what it says, not by its form, which the executor's own checks would find."""
    assert len(CONTROLS) >= 2 * 8
    for right, wrong in zip(CONTROLS[::2], CONTROLS[1::2], strict=True):
        assert (right.is_right, wrong.is_right) == (True, False)
        assert (right.goal, right.instruction, right.sources) == (wrong.goal, wrong.instruction, wrong.sources)
        assert right.result != wrong.result
        for item in (right, wrong):
            if item.schema is not None:
                (value,) = json.loads(item.result).items()
                ((name, form),) = item.schema["properties"].items()
                kinds = {"array": list, "string": str, "number": float}
                assert (value[0], type(value[1])) == (name, kinds[form["type"]])
                assert value[1] in form.get("enum", [value[1]])


def asked(reviewer: Reviewer, reviews: int, *, name: str = "casc_") -> list[ControlDone]:
    """What came of the control items beside so many reviews, one after the other."""
    done: list[ControlDone] = []
    for number in range(reviews):
        item = next_control(done, review=f"{name}{number}")
        if item is not None:
            done.append(control_done(item, PlanReview(reviewer(item))))
    return done


@pytest.mark.parametrize(
    ("reviewer", "items", "why"),
    [
        (lambda _: "accept", 4, "it accepted 2 of 2 results that are known to be wrong"),
        (lambda _: "retry", 3, "it rejected 2 of 2 results that are known to be right"),
        (lambda _: "escalate", 3, "it rejected 2 of 2 results that are known to be right"),
        (lambda _: "unusable", 2, "of 2 of 2 control items it said nothing usable"),
        (
            lambda item: "retry" if item.is_right else "accept",
            3,
            "it rejected 2 of 2 results that are known to be right",
        ),
    ],
)
def test_a_reviewer_that_cannot_review_is_found_within_four_items_and_asked_no_more(
    reviewer: Reviewer, items: int, why: str
) -> None:
    """Always accepts, always rejects, prose, the wrong way round."""
    done = asked(reviewer, 100)
    standing = standing_of(done)
    assert (len(done), standing.why, standing.believed, standing.tested) == (items, why, False, False)
    assert str(standing) == f"not believed: {why}"


def test_a_reviewer_that_guesses_is_found() -> None:
    """Within 60 reviews, in at least 19 of 20 cases."""
    found = 0
    for seed in range(200):
        chance = random.Random(seed)
        found += not standing_of(asked(lambda _, chance=chance: chance.choice(["accept", "retry"]), 60)).believed
    assert found >= 190


def test_a_good_reviewer_is_tested_by_twelve_items_and_then_by_a_tenth_of_its_reviews() -> None:
    """Right and wrong ones take turns, in the order in which they are listed."""
    done = asked(GOOD, FEWEST)
    assert [one.is_right for one in done] == [True, False] * (FEWEST // 2)
    assert (standing_of(done[:-1]).tested, standing_of(done).tested) == (False, True)
    assert str(standing_of(done[:-1])) == f"not tested yet ({FEWEST - 1} control items)"
    more = asked(GOOD, FEWEST + 2000)[FEWEST:]
    assert 150 <= len(more) <= 250
    assert all(first.is_right is not second.is_right for first, second in pairwise(more))
    shown = [next_control(done[:n]) for n in range(FEWEST)]
    assert shown[:4] == [CONTROLS[0], CONTROLS[1], CONTROLS[2], CONTROLS[3]]


def test_the_same_reviews_are_accompanied_in_every_process() -> None:
    """By a hash of their ids."""
    done = asked(GOOD, FEWEST)
    drawn = [number for number in range(300) if next_control(done, review=f"casc_{number}") is not None]
    assert drawn == [number for number in range(300) if next_control(done, review=f"casc_{number}") is not None]
    assert 15 <= len(drawn) <= 45


def test_items_that_are_being_asked_count_so_concurrent_reviews_ask_no_more_than_needed() -> None:
    """Different items, right and wrong in turn, and no more than are missing."""
    running: list[ControlItem] = []
    for _ in range(2 * FEWEST):
        item = next_control((), running)
        running += [] if item is None else [item]
    assert [one.is_right for one in running] == [True, False] * (FEWEST // 2)
    assert len({one.result for one in running}) == FEWEST


def test_a_failed_call_says_nothing_of_the_reviewer() -> None:
    """An outage of the endpoint does not make a reviewer unbelievable for a month."""
    failed = [control_done(CONTROLS[0], PlanReview("unusable", "the call failed", failed=True))] * 30
    assert standing_of(failed) == standing_of(())
    assert next_control(failed) == CONTROLS[0]


def test_a_doubtful_reviewer_counts_as_not_tested_and_is_asked_on() -> None:
    """2 of 6 wrong results accepted: more than a fifth, but not beyond chance."""
    done = _outcomes(right=[True] * 6, wrong=[False, True, True, False, True, True])
    standing = standing_of(done)
    assert (standing.wrong_accepted, standing.wrong, standing.believed, standing.tested) == (2, 6, True, False)
    assert next_control(done, review="any") is not None
    better = [*done, *_outcomes(right=[True] * 4, wrong=[True] * 4)]
    assert standing_of(better).tested


def test_only_the_newest_items_count() -> None:
    """A reviewer behind the same name may have become worse, or better."""
    done = _outcomes(right=[True] * 40, wrong=[True] * 40)
    assert standing_of(done).controls == 60
    worse = [*done, *_outcomes(right=[True] * 12, wrong=[False] * 12)]
    assert "it accepted 12 of 30" in standing_of(worse).why


def _outcomes(right: Sequence[bool], wrong: Sequence[bool]) -> list[ControlDone]:
    """Items in turn; True: the reviewer was right about it."""
    done: list[ControlDone] = []
    for first, second in zip(right, wrong, strict=True):
        done.append(ControlDone(is_right=True, verdict="accept" if first else "escalate"))
        done.append(ControlDone(is_right=False, verdict="retry" if second else "accept"))
    return done


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_is_above_where_the_lower_bound_of_clopper_and_pearson_is(counts: tuple[int, int]) -> None:
    """The binomial tail is the same test without a beta distribution."""
    hits, n = counts
    bound = beta.ppf(0.05, hits, n - hits + 1) if hits else 0.0
    assert is_above(hits, n, MOST_WRONG) == (bound > MOST_WRONG)


@pytest.mark.parametrize(
    ("rate", "items", "most"),
    [(0.0, 60, 0.0), (0.02, 60, 0.001), (0.05, 12, 0.006), (0.05, 60, 0.006), (0.1, 60, 0.03)],
)
def test_a_good_reviewer_is_seldom_called_faulty(rate: float, items: int, most: float) -> None:
    """The exact false-alarm rates, which the documentation states, computed with the rule itself."""
    assert CALLED_FAULTY(rate, items) <= most


def test_the_exact_rate_is_that_of_a_simulation() -> None:
    """At 15 % errors, so that there is something to count: 2,000 reviewers, seeded."""
    chance, faulty, runs = random.Random(11), 0, 2000
    for _ in range(runs):
        done: list[ControlDone] = []
        for number in range(24):
            is_right = number % 2 == 0
            is_wrong_word = chance.random() < 0.15
            done.append(ControlDone(is_right, "accept" if is_right is not is_wrong_word else "retry"))
            if not standing_of(done).believed:
                faulty += 1
                break
    exact = CALLED_FAULTY(0.15, 24)
    assert abs(faulty / runs - exact) < 4 * (exact * (1 - exact) / runs) ** 0.5
