"""What leaving a warm cache is expected to cost: exact, and only ever a note."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

import pytest

from cascade.core.loops import (
    UNKNOWN_ESCALATION,
    Turn,
    TurnSize,
    WarmCosts,
    begin_at,
    escalations_of,
    warm_costs,
    warm_note,
)
from cascade.core.messages import Usage
from cascade.core.policy.certificate import Escalation
from cascade.core.prices import Rates, cost
from cascade.policy.binding import bind_policy
from tests.core.builders import policy_of


def default_rates() -> tuple[Rates, ...]:
    """The list prices of the 5.5 models."""
    models = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
    return bind_policy(policy_of(0.8, 0.8, models=models, price=None)).rates


def test_a_turn_at_sixty_thousand_cached_tokens_costs_what_the_prices_say() -> None:
    """By hand: Sonnet reads 60k at 0.10, Opus at 0.20; Haiku writes them at 0.125, Sonnet at 2.50; each passes on a half."""
    odds = (Fraction(1, 2), Fraction(1, 2))
    haiku, sonnet, opus = 60_000 * 125, 60_000 * 100, 60_000 * 200
    assert warm_costs(default_rates(), odds, 1, TurnSize(60_000)) == WarmCosts(sonnet, haiku + sonnet // 2)
    written = 60_000 * 2_500
    assert warm_costs(default_rates(), odds, 2, TurnSize(60_000)) == WarmCosts(opus, haiku + written // 2 + opus // 4)


def test_input_and_output_count_at_every_rung_that_is_reached() -> None:
    """Without a cache a climb from the first rung is that of any request."""
    costs = warm_costs(default_rates(), (Fraction(1), Fraction(0)), 1, TurnSize(0, new=1_000, output=100))
    assert costs == WarmCosts(stay=1_000 * 2_000 + 100 * 10_000, climb=1_000 * 2_100 + 100 * 10_500)


def test_a_prompt_above_a_price_tier_is_priced_by_it_as_a_whole() -> None:
    """Haiku above 100k tokens costs five times as much."""
    costs = warm_costs(default_rates(), (Fraction(0), Fraction(0)), 2, TurnSize(100_001))
    assert costs.climb == 100_001 * 625, "and nothing is passed on"


def test_the_expectation_equals_that_over_all_outcomes() -> None:
    """Two hundred random ladders: each rung passes on or ships; every outcome's cost, weighted by its chance."""
    chance = random.Random(13)
    for _ in range(200):
        rungs = chance.randrange(2, 6)
        plan = bind_policy(
            policy_of(*([0.8] * (rungs - 1)), price={"input": str(chance.randrange(1, 9)), "output": "3"})
        )
        odds = [Fraction(chance.randrange(0, 11), 10) for _ in range(rungs - 1)]
        warm, size = (
            chance.randrange(rungs),
            TurnSize(chance.randrange(200_000), chance.randrange(999), chance.randrange(999)),
        )
        costs = warm_costs(plan.rates, odds, warm, size)
        assert costs == WarmCosts(
            cost(plan.rates[warm], Usage(size.new, size.output, cache_read=size.cached)),
            _by_outcomes(plan.rates, odds[:warm], size),
        )


def _by_outcomes(rates: Any, odds: list[Fraction], size: TurnSize) -> int:
    whole, warm = Fraction(0), len(odds)
    for passes in itertools.product((True, False), repeat=warm):
        likely, spent, index = Fraction(1), 0, 0
        for odd, passed in zip(odds, passes, strict=True):
            likely *= odd if passed else 1 - odd
        while True:
            read, written = (size.cached, 0) if index == warm else (0, size.cached)
            spent += cost(rates[index], Usage(size.new, size.output, cache_write_5m=written, cache_read=read))
            if index == warm or not passes[index]:
                break
            index += 1
        whole += likely * spent
    return int(whole + Fraction(1, 2))


def test_whatever_it_costs_a_loop_stays_and_the_note_says_which_is_cheaper() -> None:
    """Five hundred random turns, of which both happen: the rung is the one that asked, the note names both amounts."""
    chance, rates, cheaper = random.Random(13), default_rates(), {True: 0, False: 0}
    for _ in range(500):
        warm = chance.randrange(1, 3)
        odds = [Fraction(chance.randrange(101), 100) for _ in range(2)]
        size = TurnSize(chance.choice((0, 2_000, 60_000, 150_000)), chance.randrange(5_000), chance.randrange(4_000))
        costs = warm_costs(rates, odds, warm, size)
        note = warm_note(costs, "warm", "first")
        assert begin_at(Turn("tool_result", ("a",)), warm, 2) == warm
        assert ("never falls" in note) == (costs.climb <= costs.stay)
        assert f"{costs.climb / 1e9:.6f} USD" in note
        assert f"{costs.stay / 1e9:.6f} USD" in note
        cheaper[costs.climb > costs.stay] += 1
    assert min(cheaper.values()) > 50


def test_the_chances_are_the_certified_rates_else_the_stated_one() -> None:
    """A task's own before those of all; a rung that never ships passes everything on."""
    policy = policy_of(0.8, "never", 0.8, tasks=[{"name": "t", "thresholds": {"r1": 0.9}}])
    certified = Escalation({"r0": 0.25}, {"t": {"r0": 0.5, "r1": 0.125}})
    assert escalations_of(policy, Escalation(), "t") == (UNKNOWN_ESCALATION,) * 3
    assert escalations_of(policy, certified, "other") == (Fraction(1, 4), Fraction(1), UNKNOWN_ESCALATION)
    assert escalations_of(policy, certified, "t") == (Fraction(1, 2), Fraction(1, 8), UNKNOWN_ESCALATION)


def test_the_stated_chance_is_what_the_storm_guard_calls_normal() -> None:
    """The two must not drift apart."""
    policy = policy_of(0.8, storm_guard={})
    assert policy.storm_guard is not None
    assert float(UNKNOWN_ESCALATION) == pytest.approx(policy.storm_guard.rate)
