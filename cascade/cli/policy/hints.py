"""What `policy check` says of the hints for the planner."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.core.planning.hints import read_hints
from cascade.core.planning.planner import stale_hints
from cascade.core.policy import Policy

__all__ = ["hint_notes"]


def hint_notes(policy: Policy) -> Iterator[str]:
    """Why hints have no effect, or may mislead; each with what to do."""
    if policy.plan is None or policy.plan.hints is None:
        return
    hints = read_hints(policy.plan.hints)
    if stale := stale_hints(policy):
        roles = " and ".join(stale)
        yield (
            f"plan.hints: the words of {roles} changed since these hints were made on {hints.made}, so the planner is not told them"
            " (run plans, then make hints again: `cascade plan hints`)"
        )
    if hints.policy != policy.name:
        yield f"plan.hints: these are figures of policy {hints.policy!r}, and this one is {policy.name!r}"
    if not hints.rows:
        yield "plan.hints: there is nothing in them yet"
