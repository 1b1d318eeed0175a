"""What a request's entry says beside the request: in which words it may be asked, and which part of a run it is."""

from __future__ import annotations

from cascade.core.planning.decisions import versions_told
from cascade.core.planning.part import Part
from cascade.hooks import Begun
from cascade.ledger.naming import storable
from cascade.ledger.records import PlanBody

__all__ = ["plan_body", "prompts_in"]

_LONGEST_VERSION = 64  # of what a plan file says of its planner's words


def prompts_in(begun: Begun) -> dict[str, str]:
    """The versions of the words in which the request may be asked, by role."""
    if begun.prompts is not None:
        return begun.prompts
    found = begun.plan.prompts_for(begun.task, begun.request)
    if (part := begun.part) is not None:
        planned_in = storable(part.planned_in[:_LONGEST_VERSION])
        own = {"planner": planned_in, part.role: begun.plan.plan_prompts.get(part.role, "")}
        found = {**{role: version for role, version in own.items() if version}, **found}
    told = versions_told(begun.request)
    return {**found, **told} if told else found


def plan_body(part: Part | None) -> PlanBody | None:
    """Which part of a run the request is; None for any other request."""
    if part is None:
        return None
    return PlanBody(storable(part.run), storable(part.subtask), part.assigned, part.attempt, part.control)
