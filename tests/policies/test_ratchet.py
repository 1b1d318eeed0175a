"""A policy's ratchet: which thresholds each step has, what stays as it was, and which steps are in force."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cascade.core.policy import Policy
from cascade.core.policy.certificate import UNCERTIFIED, Escalation
from cascade.policy.binding import bind_policy
from cascade.policy.certificates import certificate_digest, epoch_of
from cascade.policy.ratchet import describe_step, ratcheted, step_in_force, steps_of
from tests.calibration.certified import certified, with_keys
from tests.core.builders import policy_of

TASKS: list[dict[str, Any]] = [{"name": "refund", "thresholds": {"r0": 0.7}}, {"name": "chat", "floor": "r1"}]
PATH: list[dict[str, Any]] = [
    {"thresholds": {"r0": 0.9, "r1": 0.8}, "tasks": {"refund": {"r0": 0.85}}, "escalation": {"r0": 0.4, "r1": 0.3}},
    {"thresholds": {"r0": 0.85, "r1": None}, "tasks": {"refund": {"r0": None}}, "escalation": {"r0": 0.35}},
    {"thresholds": {"r0": None, "r1": None}, "tasks": {"refund": {"r0": None}}},
]
PROVED = certified(policy_of(0.8, 0.8, tasks=TASKS), path=PATH, escalation={"r0": 0.3, "r1": 0.2})


def thresholds(policy: Policy, step: int, task: str = "other") -> tuple[float | None, ...]:
    """What the rungs below the top ship at for a task, at this step."""
    return ratcheted(bind_policy(policy), step).policy.route(task).thresholds[:-1]


def test_a_certified_policy_goes_along_its_path() -> None:
    """Ladder and tasks at once; tasks without thresholds of their own follow the ladder; the last step ships nothing below."""
    assert steps_of(PROVED) == 3
    assert [thresholds(PROVED, step) for step in range(4)] == [(0.8, 0.8), (0.9, 0.8), (0.85, None), (None, None)]
    assert [thresholds(PROVED, step, "chat") for step in range(4)] == [
        (0.8, 0.8),
        (0.9, 0.8),
        (0.85, None),
        (None, None),
    ]
    assert [thresholds(PROVED, step, "refund") for step in range(4)] == [
        (0.7, 0.8), (0.85, 0.8), (None, None), (None, None),
    ]  # fmt: skip
    assert thresholds(PROVED, 9) == (None, None)


def test_a_ratcheted_plan_is_the_same_policy_uncertified() -> None:
    """Its hash stays, the rates that the guard expects are the step's, and each step is an epoch. Step 0 is the plan itself."""
    plan = bind_policy(PROVED)
    assert ratcheted(plan, 0) is plan
    assert (plan.certificate, plan.ratchet) == ("certified: false_confident <= 0.02 at 0.95", 0)
    steps = [ratcheted(plan, step) for step in (1, 2, 3)]
    assert [one.ratchet for one in steps] == [1, 2, 3]
    assert {one.policy.hash for one in steps} == {PROVED.hash}
    assert {one.certificate for one in steps} == {UNCERTIFIED}
    assert [one.epoch for one in steps] == [epoch_of(PROVED, step) for step in (1, 2, 3)]
    assert len({plan.epoch, *(one.epoch for one in steps)}) == 4
    assert [one.escalation for one in steps] == [
        Escalation({"r0": 0.4, "r1": 0.3}), Escalation({"r0": 0.35}), Escalation(),
    ]  # fmt: skip
    assert plan.policy.route("other").thresholds == (0.8, 0.8, None)


@pytest.mark.parametrize(
    ("first", "raised"),
    [
        (0.8, [0.9]),
        (0.7, [0.8, 0.9]),
        (0.55, [0.65, 0.75, 0.85, 0.9]),
        (0.0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.89, [0.9]),
        (0.9, []),
        (0.97, []),
        ("never", []),
    ],
)
def test_without_a_certificate_the_first_threshold_rises_by_a_tenth(first: float | str, raised: list[float]) -> None:
    """To at most 0.9, to the digit: a model that reports 0.8 ships at 0.8. The rungs above stay."""
    policy = policy_of(first, 0.6)
    assert steps_of(policy) == len(raised)
    assert [thresholds(policy, step + 1) for step in range(len(raised))] == [(one, 0.6) for one in raised]
    assert ratcheted(bind_policy(policy), 99).ratchet == len(raised)


def test_tasks_own_thresholds_of_the_first_rung_rise_with_it() -> None:
    """Each from its own, and none falls; those of other rungs stay."""
    tasks = [
        {"name": "a", "thresholds": {"r0": 0.5, "r1": 0.4}}, {"name": "b", "thresholds": {"r0": 0.95}},
        {"name": "c", "thresholds": {"r0": "never"}}, {"name": "d", "thresholds": {"r1": 0.3}},
    ]  # fmt: skip
    policy = policy_of(0.7, 0.8, tasks=tasks)
    assert [thresholds(policy, 2, task) for task in "abcd"] == [(0.7, 0.4), (0.95, 0.8), (None, 0.8), (0.9, 0.3)]


def test_a_certificate_of_other_thresholds_has_no_path() -> None:
    """Edited by hand: the path is not of this policy, so the first threshold rises. A new price list changes no answer."""
    values = PROVED.model_dump(by_alias=True, exclude_unset=True)
    values["ladder"][1]["threshold"] = 0.6
    edited = Policy.model_validate(values)
    assert steps_of(edited) == 1
    assert thresholds(edited, 1) == (0.9, 0.6)
    values = PROVED.model_dump(by_alias=True, exclude_unset=True)
    values["ladder"][1]["price"] = {"input": "3", "output": "9"}
    assert steps_of(Policy.model_validate(values)) == 3
    assert steps_of(certified(policy_of(0.8, 0.8))) == 1  # by a version that stored none


def test_a_ratchet_goes_with_its_certificate() -> None:
    """With another one it is undone; more steps than there are is the last."""
    digest = certificate_digest(PROVED)
    assert [step_in_force(PROVED, digest, step) for step in (0, 2, 7)] == [0, 2, 3]
    assert step_in_force(PROVED, "", 2) == 0
    assert step_in_force(with_keys(PROVED, certificate=None), digest, 2) == 0
    again = certified(policy_of(0.8, 0.8, tasks=TASKS), path=PATH, n=400)
    assert step_in_force(again, digest, 2) == 0
    assert step_in_force(policy_of(0.7, 0.8), "", 2) == 2


def test_the_order_of_a_files_keys_is_no_other_certificate() -> None:
    """A formatter that sorts keys neither undoes a ratchet nor begins an epoch."""
    values = PROVED.model_dump(by_alias=True, exclude_unset=True, mode="json")
    again = Policy.model_validate_json(json.dumps(values, sort_keys=True))
    assert again.certificate == PROVED.certificate
    assert certificate_digest(again) == certificate_digest(PROVED)
    assert epoch_of(again, 2) == epoch_of(PROVED, 2)


def test_a_step_is_told_in_one_line() -> None:
    """Its thresholds, and whether they were certified."""
    assert [describe_step(PROVED, step) for step in range(4)] == [
        "not ratcheted",
        "step 1 of 3 on the certified path: r0 0.9, r1 0.8; refund: r0 0.85",
        "step 2 of 3 on the certified path: r0 0.85, r1 never; refund: r0 never",
        "step 3 of 3, the last on the certified path: nothing ships below the top",
    ]
    assert describe_step(policy_of(0.7, 0.8), 1) == "step 1 of 2, uncertified: r0 0.8 (written: 0.7)"


def test_the_last_step_names_the_tasks_whose_ceiling_is_below_the_top() -> None:
    """Their climbs end there at every step, so what is held ships."""
    tasks = [*TASKS, {"name": "brief", "ceiling": "r0"}, {"name": "free", "ceiling": "r2"}]
    policy = certified(policy_of(0.8, 0.8, tasks=tasks), path=PATH)
    told = "step 3 of 3, the last on the certified path: nothing ships below the top, but for brief: the ceiling is below it"
    assert describe_step(policy, 3) == told
    assert ratcheted(bind_policy(policy), 3).policy.route("brief").ceiling == 0
