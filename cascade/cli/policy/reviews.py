"""What a policy's review does, in words: for `policy check`, `show` and `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.core.bound_policy import BoundPolicy, ReviewGate

__all__ = ["describe_review", "each_review", "idle_reviews", "review_fields"]


def each_review(plan: BoundPolicy) -> Iterator[str]:
    """A line for the policy's review, then one for each task that has its own."""
    if plan.shared_review is not None:
        yield f"review: {_text(plan.shared_review)}"
    for task, gate in plan.reviews.items():
        yield f"task {task}: review: {_text(gate)}"


def describe_review(plan: BoundPolicy, task: str) -> Iterator[str]:
    """The line of a task's review, if there is one."""
    gate = plan.review_of(task)
    if gate is not None:
        rungs = ", ".join(_reviewed(plan, task, gate)) or "no rung"
        yield f"review: {_text(gate)} (of {rungs} here)"


def review_fields(plan: BoundPolicy, task: str) -> dict[str, object]:
    """A task's review as JSON values; nothing without one."""
    gate = plan.review_of(task)
    if gate is None:
        return {}
    return {"review": {"rung": gate.rung, "below": gate.below, "of": _reviewed(plan, task, gate)}}


def idle_reviews(plan: BoundPolicy, tasks: tuple[str, ...]) -> Iterator[str]:
    """Reviews that read no answer of any of these tasks, each with what would change that."""
    named = (("review", plan.shared_review), *((f"task {task}: review", gate) for task, gate in plan.reviews.items()))
    for name, gate in named:
        of = [task for task in tasks if plan.review_of(task) is gate]
        if gate is not None and not any(_reviewed(plan, task, gate) for task in of):
            yield f"{name}: no effect, because {_why_idle(plan, of, gate)}"


def _why_idle(plan: BoundPolicy, tasks: list[str], gate: ReviewGate) -> str:
    routes, ladder = [plan.policy.route(task) for task in tasks], plan.policy.ladder
    shipping = [
        route.thresholds[index] for route in routes for index in range(route.floor, min(gate.index, route.ceiling + 1))
    ]
    if not shipping:
        floors = ", ".join(dict.fromkeys(ladder[route.floor].rung for route in routes))
        whose = "this task" if len(tasks) == 1 else "these tasks"
        return f"no rung below {gate.rung} ships for {whose} (floor: {floors})"
    if all(threshold is None for threshold in shipping):
        return f"no rung below {gate.rung} ships by its confidence (give one a threshold under `below`)"
    return (
        "nothing ships by itself at a confidence below it"
        f" (raise `below` above the thresholds of the rungs under {gate.rung})"
    )


def _text(gate: ReviewGate) -> str:
    return f"{gate.rung} reads what would ship under confidence {gate.below:g} from the rungs below it; what it rejects climbs"


def _reviewed(plan: BoundPolicy, task: str, gate: ReviewGate) -> list[str]:
    """The rungs of which an answer may ship by itself at a confidence under `below`."""
    route, ladder = plan.policy.route(task), plan.policy.ladder
    return [
        ladder[index].rung
        for index in range(route.floor, min(gate.index, route.ceiling + 1))
        if not route.by_agreement[index]
        and (threshold := route.thresholds[index]) is not None
        and threshold < gate.below
    ]
