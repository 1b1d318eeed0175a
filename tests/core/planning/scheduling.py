"""Plans and outcomes as hypothesis draws them, and a policy for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Attempt, PlanReview
from cascade.core.planning.schedule import Execute, Review, Schedule
from cascade.core.policy import Policy
from cascade.core.prepared import Assessment

RUNGS = ("haiku", "sonnet", "opus")
LADDER = [
    {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.8, "max_tokens": 100},
    {"rung": "sonnet", "model": "claude-sonnet-5-5", "threshold": 0.8, "max_tokens": 100},
    {"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 100},
]


def policy(tasks: Sequence[dict[str, Any]] = (), **plan: Any) -> Policy:
    """A policy of three rungs with this `plan` block."""
    return Policy.model_validate(
        {"version": 1, "name": "planned", "ladder": LADDER, "tasks": list(tasks), "plan": plan}
    )


@st.composite
def plans(draw: st.DrawFn, most: int = 6) -> Plan:
    """Any acyclic plan: each subtask rests on some of those before it, and they are listed in any order."""
    number = draw(st.integers(1, most))
    subtasks = [
        Subtask(
            f"s{n}",
            f"do part {n}",
            tuple(f"s{one}" for one in sorted(draw(st.sets(st.integers(0, n - 1))) if n else ())),
            draw(st.sampled_from(RUNGS)),
        )
        for n in range(number)
    ]
    return Plan("a goal", tuple(draw(st.permutations(subtasks))))


def made(work: Execute, level: str | None = "high", rung: str | None = None, **more: Any) -> Attempt:
    """A result of this work, at the lowest rung that may answer if no other is given."""
    said = None if level is None else Assessment(level, "so it is")  # pyright: ignore[reportArgumentType]
    values: dict[str, Any] = {
        "rung": rung or RUNGS[work.floor],
        "text": f"{work.subtask.id}.{work.attempt}",
        "assessment": said,
    }
    request_id = f"r-{work.subtask.id}-{work.attempt}"
    return Attempt(work.attempt, request_id, 10, started_at=work.start, **{**values, **more})


def failed(work: Execute) -> Attempt:
    """A climb that ended in an error."""
    return Attempt(
        work.attempt, f"r-{work.subtask.id}-{work.attempt}", 5, error="AllRungsFailed: no", started_at=work.start
    )


def said(verdict: str, reason: str = "because") -> PlanReview:
    """A review."""
    return PlanReview(verdict, reason, "r-review", 3)  # pyright: ignore[reportArgumentType]


def drive(schedule: Schedule, **outcomes: Sequence[Attempt | PlanReview | str]) -> list[str]:
    """Do all there is, one after the other. `outcomes`: of each subtask in turn: a self-assessment, "failed", or a review's verdict.

    What is not given is made, assessed high, and accepted. Returns what was done.
    """
    left = {name: list(those) for name, those in outcomes.items()}
    done: list[str] = []
    while works := schedule.ready(1):
        (work,) = works
        given = left.get(work.subtask.id) or [None]
        come = given.pop(0)
        if isinstance(work, Execute):
            done.append(f"{work.subtask.id}@{work.start}/{work.floor}")
            level = come if isinstance(come, str) else "high"
            schedule.settle(work, failed(work) if come == "failed" else made(work, level))
        else:
            assert isinstance(work, Review)
            done.append(f"review {work.subtask.id}")
            schedule.settle(work, said(come if isinstance(come, str) else "accept"))
    assert not any(left.values())
    return done
