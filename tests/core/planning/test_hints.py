"""Hints: what the planner is told of its earlier assignments, and when it is not told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cascade.core.planning.hints import HintRow, Hints, hints_block, read_hints, stale_roles
from cascade.core.planning.planner import planner_request, planner_version, stale_hints
from cascade.core.policy import Policy
from cascade.core.policy.planning import PlanPrompts
from tests.live.conftest import ladder

ROWS: tuple[dict[str, Any], ...] = (
    {"task": "other", "rung": "haiku", "subtasks": 100, "failed": 41, "interval": (0.31, 0.51), "advice": "sonnet"},
    {"task": "other", "rung": "sonnet", "subtasks": 120, "failed": 3, "interval": (0.005, 0.071), "advice": "sonnet"},
)


def hints(**more: Any) -> Hints:
    """Figures of two rungs."""
    rows = tuple(HintRow(**row) for row in ROWS)
    return Hints(**{"version": 1, "policy": "live", "made": "2026-11-29", "limit": 0.25, "rows": rows, **more})


def policy_with(told: Hints | None, **prompts: str) -> Policy:
    """A policy whose planner has these hints."""
    plan = {"hints": None if told is None else told.to_text(), "prompts": PlanPrompts(**prompts)}
    return ladder(plan=plan)


def system_of(policy: Policy) -> str:
    """What the planner is told besides the goal."""
    system: Any = planner_request("Compare them.", {}, policy).system
    return "\n".join(part["text"] for part in system)


def test_the_planner_is_told_each_kind_and_rung_in_a_line() -> None:
    """Short, with counts and the interval, and what to assign."""
    assert hints_block(hints()).splitlines()[1:] == [
        "- other at haiku: 41 of 100 results did not stand (31 % to 51 %): assign sonnet",
        "- other at sonnet: 3 of 120 results did not stand (0 % to 7 %): sonnet is enough",
    ]
    policy = policy_with(hints(prompts={"planner": planner_version(policy_with(None))}))
    assert system_of(policy).endswith(hints_block(hints()))
    assert stale_hints(policy) == ()


def test_without_rows_it_is_told_nothing() -> None:
    """Not even that there is nothing."""
    assert hints_block(hints(rows=())) == ""
    assert system_of(policy_with(hints(rows=()))) == system_of(policy_with(None))


@pytest.mark.parametrize("role", ["planner", "executor", "reviewer"])
def test_hints_of_other_words_are_stale_and_not_told(role: str) -> None:
    """Whichever of the three roles is asked in other words."""
    policy = policy_with(hints(prompts={role: "0123456789ab"}))
    assert stale_hints(policy) == (role,)
    assert system_of(policy) == system_of(policy_with(None))


def test_changing_a_roles_words_makes_them_stale() -> None:
    """Own words have another version."""
    told = hints(prompts={"planner": planner_version(policy_with(None)), "executor": "e1"})
    assert stale_roles(told, {"planner": planner_version(policy_with(None)), "executor": "e1"}) == ()
    assert "planner" in stale_hints(policy_with(told, planner="Plan."))


def test_hints_come_back_as_they_were_written() -> None:
    """In the text that a policy made in code has."""
    assert read_hints(hints().to_text()) == hints()
    assert Hints.model_validate(hints().to_dict()) == hints()


WRONG: list[dict[str, Any]] = [
    {"version": 2}, {"rows": (*ROWS, ROWS[0])}, {"rows": ({**ROWS[0], "failed": 101},)}, {"rows": ({**ROWS[0], "interval": (0.5, 0.4)},)},
    {"more": 1}, {"limit": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Strictly: a file of hints is told to a model."""
    with pytest.raises(ValidationError):
        Hints(**{**hints().to_dict(), **wrong})
