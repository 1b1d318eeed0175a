"""What the caller is told beside an answer: where its climb began, what its rungs were not given, and who wrote it."""

from __future__ import annotations

from cascade.core.bound_policy import BoundPolicy
from cascade.core.context import Context
from cascade.core.handoff import Passing, told_of
from cascade.core.messages import Request
from cascade.core.tools import forced, takes_forced
from cascade.core.trail import Step

__all__ = ["told", "told_of_choice"]


def told(
    notes: tuple[str, ...],
    context: Context | None,
    passing: Passing | None,
    steps: tuple[Step, ...],
    shipped: Step | None,
) -> tuple[str, ...]:
    """What the caller is told of where the climb began, of how its conversation was shortened, and of an answer by a plan."""
    notes = notes if context is None else (*notes, *context.notes(steps))
    return notes if passing is None or shipped is None else (*notes, *told_of(shipped))


def told_of_choice(plan: BoundPolicy, request: Request, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """What the caller is told of a forced tool choice: which models could not be made to keep it."""
    if not forced(request):
        return ()
    models = [step.model for step in steps if not takes_forced(plan.policy.ladder[step.index])]
    return (f"tool_choice is asked for, not enforced, by {', '.join(dict.fromkeys(models))}",) if models else ()
