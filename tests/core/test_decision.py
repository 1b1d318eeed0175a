"""The rule, as properties over random policies, trails and situations, against a restatement of it in other words."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cascade.core.decision import Abstain, Call, Ship, Situation, best_held, decide
from cascade.core.policy import Policy
from cascade.core.trail import Step

from .builders import policies, situations, step, trails

Case = tuple[Policy, str, tuple[Step, ...], Situation]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Everything `decide` is given."""
    policy = draw(policies())
    rungs = len(policy.ladder)
    return (
        policy,
        draw(st.sampled_from(("t0", "t1", "t2", "other", "unknown"))),
        draw(trails(rungs)),
        draw(situations(rungs)),
    )


def stands(policy: Policy, task: str, trail: tuple[Step, ...], situation: Situation) -> bool:
    """DESIGN §3 said again: answered, checked, confident enough, at or above the floor, and no storm."""
    last, named = trail[-1], {one.name: one for one in policy.tasks}.get(task)
    if last.verdict.kind != "answered" or last.verdict.failed_checks != ():
        return False
    if last.rung == policy.ladder[-1].rung:
        return True
    threshold = policy.ladder[last.index].threshold
    floor = situation.floor
    if named is not None:
        threshold = named.thresholds.get(last.rung, threshold)
        floor = max(floor, [rung.rung for rung in policy.ladder].index(named.floor or policy.ladder[0].rung))
    confident = threshold is not None and last.verdict.confidence is not None and last.verdict.confidence >= threshold
    return confident and last.index >= floor and situation.storm != "escalate"


@given(case=cases())
def test_the_first_call_is_always_the_first_rung(case: Case) -> None:
    """Whatever the policy, the task and the situation: an empty trail calls rung 0."""
    policy, task, _, situation = case
    assert decide(policy, task, (), situation) == Call(0)


@given(case=cases())
def test_the_next_call_is_always_the_next_rung(case: Case) -> None:
    """Never a rung skipped, never one taken twice, a storm included; and never past the top or the ceiling (or a floor above it)."""
    policy, task, trail, situation = case
    decision = decide(policy, task, trail, situation)
    if trail and isinstance(decision, Call):
        assert decision.index == trail[-1].index + 1
        assert decision.index <= max(policy.route(task).ceiling, situation.floor)
        assert decision.reason is not None


@given(case=cases())
def test_a_storm_moves_a_request_one_rung_at_most(case: Case) -> None:
    """What ships in calm goes to the very next rung in a storm, or stays; nothing else about the decision changes."""
    policy, task, trail, situation = case
    calm = decide(policy, task, trail, Situation(None, situation.out_of, situation.floor))
    storm = decide(policy, task, trail, Situation("escalate", situation.out_of, situation.floor))
    if storm != calm:
        assert isinstance(calm, Ship)
        assert storm == Call(trail[-1].index + 1, "storm") or (isinstance(storm, Ship) and storm.degraded is not None)


@given(case=cases())
def test_what_ships_undegraded_is_exactly_what_stands(case: Case) -> None:
    """The rule and its restatement agree on every trail, both ways."""
    policy, task, trail, situation = case
    if trail:
        decision = decide(policy, task, trail, situation)
        assert (decision == Ship(trail[-1])) == stands(policy, task, trail, situation)


@given(case=cases())
def test_what_is_held_is_answered_and_checked(case: Case) -> None:
    """A degraded answer is the highest that was answered and passed its checks; truncated text is never among them."""
    policy, task, trail, situation = case
    decision = decide(policy, task, trail, situation)
    good = [one for one in trail if one.verdict.kind == "answered" and not one.verdict.failed_checks]
    assert best_held(trail) == (good[-1] if good else None)
    if isinstance(decision, Ship):
        assert decision.step is good[-1]
    if isinstance(decision, Abstain):
        assert not good


@given(case=cases())
def test_the_same_arguments_give_the_same_decision(case: Case) -> None:
    """No clock, no chance, nothing kept between calls; a policy made again from its own values decides alike."""
    policy, task, trail, situation = case
    first = decide(policy, task, trail, situation)
    again = Policy.model_validate(policy.model_dump(exclude_unset=True))
    assert decide(policy, task, trail, situation) == first
    assert decide(again, task, trail, situation) == first


@given(case=cases(), confidence=st.sampled_from([None, math.nan]))
def test_no_confidence_never_ships_below_the_top(case: Case, confidence: float | None) -> None:
    """None and NaN stand at no threshold, 0 included."""
    policy, task, _, situation = case
    trail = (step(0, "answered", confidence),)
    decision = decide(policy, task, trail, situation)
    assert decision != Ship(trail[0])


@given(case=cases())
def test_a_confidence_at_the_threshold_ships(case: Case) -> None:
    """`>=`: the threshold itself is enough; the number just below it is not."""
    policy, task, _, _ = case
    route = policy.route(task)
    threshold = route.thresholds[0]
    if threshold is not None and route.floor == 0:
        at = (step(0, "answered", threshold),)
        assert decide(policy, task, at, Situation()) == Ship(at[0])
        below = (step(0, "answered", math.nextafter(threshold, -1)),)
        assert decide(policy, task, below, Situation()) != Ship(below[0])


@given(case=cases())
def test_a_climb_that_has_run_out_asks_nobody(case: Case) -> None:
    """Deadline and budget stop every climb: it ships what stands, the best held marked with the reason, or nothing."""
    policy, task, trail, situation = case
    decision = decide(policy, task, trail, situation)
    if trail and situation.out_of:
        assert not isinstance(decision, Call)
        if decision != Ship(trail[-1]):
            stopped_by = decision.why if isinstance(decision, Abstain) else decision.degraded
            assert stopped_by == situation.out_of
