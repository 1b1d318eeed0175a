"""The rule, case by case: the order of the reasons, and what stops a climb."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.core.decision import Abstain, Call, Decision, Ship, Situation, decide
from cascade.core.policy import Policy, Task
from cascade.core.trail import NATURAL, Reason, Step

from .builders import policy_of, step

FLOORED = Task(name="floored", floor="r1")
CEILED = Task(name="ceiled", ceiling="r1")
POLICY = policy_of(tasks=(FLOORED, CEILED))

STORM = Situation("escalate")
BAD: dict[str, Any] = {"failed": ("not_empty",)}

# Each step has everything wrong that comes after its own reason in the order, so a swapped pair is seen.
ORDER: list[tuple[Reason, Step]] = [
    ("error", step(0, "failed", **BAD)),
    ("overflow", step(0, "overflow", **BAD)),
    ("refused", step(0, "refused", **BAD)),
    ("truncated", step(0, "truncated", **BAD)),
    ("malformed", step(0, "malformed", **BAD)),
    ("declined", step(0, "declined", 0.1, **BAD)),
    ("check_failed", step(0, "answered", 0.1, **BAD)),
    ("low_confidence", step(0, "answered", 0.1)),
    ("floor", step(0, "answered", 0.9)),
]


@pytest.mark.parametrize(("reason", "tried"), ORDER)
def test_the_first_reason_that_holds_is_the_one_given(reason: Reason, tried: Step) -> None:
    """On a floored task, in a storm, with failed checks and no confidence: the reason is the first of the order."""
    assert decide(POLICY, "floored", (tried,), STORM) == Call(1, reason)


def test_a_storm_is_the_last_of_the_reasons() -> None:
    """A step with nothing else against it goes up for the storm alone, and ships without it."""
    tried = step(0, "answered", 0.9)
    assert decide(POLICY, "other", (tried,), STORM) == Call(1, "storm")
    assert decide(POLICY, "other", (tried,), Situation()) == Ship(tried)


def test_only_what_a_reply_says_of_itself_is_natural() -> None:
    """Errors, overflow, floors and storms say nothing about the traffic."""
    assert [reason for reason, _ in ORDER if reason in NATURAL] == [reason for reason, _ in ORDER[2:8]]
    assert NATURAL.isdisjoint({"error", "overflow", "floor", "storm"})


HELD, TOP_FAILED = step(0, "answered", 0.1), step(2, "failed")
MIDDLE = step(1, "answered", 0.1)

UNKNOWN = replace(step(2), verdict=replace(step(2).verdict, unknown_stop=True))

STOPS: list[Any] = [
    ("the top stopped for an unknown reason", "other", (HELD, MIDDLE, UNKNOWN), Situation(), Ship(UNKNOWN, "malformed")),
    ("the top fails", "other", (HELD, MIDDLE, TOP_FAILED), Situation(), Ship(MIDDLE, "error")),
    ("the top is cut", "other", (HELD, step(1, "refused"), step(2, "truncated")), Situation(), Ship(HELD, "truncated")),
    ("the top's check fails", "other", (HELD, MIDDLE, step(2, **BAD)), Situation(), Ship(MIDDLE, "check_failed")),
    ("nothing is held", "other", (step(0, "failed"), step(1, "failed"), TOP_FAILED), Situation(), Abstain("error")),
    ("the ceiling", "ceiled", (HELD, MIDDLE), Situation(), Ship(MIDDLE, "ceiling")),
    ("the ceiling, none held", "ceiled", (step(0, "refused"), step(1, "malformed")), Situation(), Abstain("ceiling")),
    ("the deadline", "other", (HELD,), Situation(out_of="deadline"), Ship(HELD, "deadline")),
    ("the deadline, none held", "other", (step(0, "truncated"),), Situation(out_of="deadline"), Abstain("deadline")),
    ("the budget", "other", (HELD,), Situation(out_of="budget"), Ship(HELD, "budget")),
    ("the deadline at the top", "other", (HELD, MIDDLE, TOP_FAILED), Situation(out_of="deadline"), Ship(MIDDLE, "deadline")),
    ("a hold below the top", "other", (HELD, MIDDLE), Situation("hold"), Ship(MIDDLE, "storm")),
    ("a hold, none held", "other", (step(0, "failed"), step(1, "failed")), Situation("hold"), Abstain("storm")),
    ("a hold lower down goes on", "other", (HELD,), Situation("hold"), Call(1, "low_confidence")),
    ("a floor out of time", "floored", (step(0, "answered", 0.9),), Situation(out_of="deadline"),
     Ship(step(0, "answered", 0.9), "deadline")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "trail", "situation", "wanted"), [row[1:] for row in STOPS], ids=[r[0] for r in STOPS]
)
def test_what_stops_a_climb_marks_what_it_ships(
    task: str, trail: tuple[Step, ...], situation: Situation, wanted: Decision
) -> None:
    """The best held is shipped marked with what stopped the climb; without one, the climb abstains for that reason."""
    assert decide(POLICY, task, trail, situation) == wanted


def test_a_hold_does_not_keep_a_good_answer_back() -> None:
    """A hold only bars the way up: a step that stands ships unmarked."""
    tried = step(1, "answered", 0.9)
    assert decide(POLICY, "other", (HELD, tried), Situation("hold")) == Ship(tried)


def test_a_storm_does_not_touch_the_top() -> None:
    """There is no rung above it to send its answer to."""
    tried = step(2, "answered")
    assert decide(POLICY, "other", (HELD, MIDDLE, tried), STORM) == Ship(tried)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, None])
def test_never_ships_at_no_confidence(confidence: float | None) -> None:
    """A rung with threshold never goes up even at 1."""
    policy = policy_of("never", 0.0)
    assert decide(policy, "other", (step(0, "answered", confidence),), Situation()) == Call(1, "low_confidence")


def test_a_requests_own_floor_counts_beside_the_tasks() -> None:
    """The higher of the two holds."""
    tried = step(1, "answered", 0.9)
    assert decide(POLICY, "floored", (HELD, tried), Situation(floor=2)) == Call(2, "floor")
    assert decide(POLICY, "floored", (HELD, tried), Situation(floor=1)) == Ship(tried)


def test_a_tasks_threshold_replaces_the_ladders() -> None:
    """0.8 on the ladder, 0.2 for the task: the task's own decides, for this task alone."""
    policy: Policy = policy_of(tasks=(Task(name="easy", thresholds={"r0": 0.2}),))
    tried = step(0, "answered", 0.5)
    assert decide(policy, "easy", (tried,), Situation()) == Ship(tried)
    assert decide(policy, "other", (tried,), Situation()) == Call(1, "low_confidence")
