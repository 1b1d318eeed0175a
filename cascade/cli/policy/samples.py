"""What a policy's samples do, in words: for `policy check`, `show` and `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.core.policy import Policy, Samples
from cascade.core.triage import triage_name

__all__ = ["describe_samples", "each_samples", "ships_where", "votes_of"]

_MOST_NAMES = 4

_SAME = {
    "exact": "the same to the letter",
    "normalized": "the same",
    "choice": "the same letter",
    "numeric": "the same number",
    "json": "the same JSON",
    "judge": "the same in meaning (as {first} groups them)",
    "function": "the same (by {function})",
}


def each_samples(policy: Policy) -> Iterator[str]:
    """A line for each rung that is asked more than once, then for each task that changes that."""
    for number, rung in enumerate(policy.ladder[:-1]):
        if rung.samples is not None:
            yield f"{rung.rung} is {describe_samples(policy, '', number)}"
    for task in policy.tasks:
        for number, rung in enumerate(policy.ladder[:-1]):
            if rung.rung in task.samples:
                yield f"task {task.name}: {rung.rung} is {describe_samples(policy, task.name, number)}"


def describe_samples(policy: Policy, task: str, index: int) -> str:
    """How often a rung is asked for a task's requests, in which ways, and what ships: "asked up to 5 times (…); ships where …"."""
    samples = policy.route(task).samples[index]
    if samples is None:
        return "asked once"
    asked = f"asked up to {samples.max} times ({votes_of(policy, samples)})"
    asked += f", {samples.at_once} at once" if samples.at_once > 1 else ""
    return f"{asked}; ships where {ships_where(policy, task, index)}"


def votes_of(policy: Policy, samples: Samples) -> str:
    """The variants' names in turn, the first few."""
    own = triage_name(policy)
    names = [variant.label(own) for variant in samples.variants[: samples.max]] or [own]
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES and len(names) in (1, samples.max) else f"{shown}, …"


def ships_where(policy: Policy, task: str, index: int) -> str:
    """What the samples of a rung must come to: "4 are the same and their mean confidence is 0.8 or above"."""
    route = policy.route(task)
    samples, threshold = route.samples[index], route.thresholds[index]
    assert samples is not None
    same = samples.same
    words = _SAME[same.kind].format(first=policy.ladder[0].rung, function=same.function)
    if same.tolerance:
        words += f" to {same.tolerance:g}"
    if same.fields:
        words += f" in {', '.join(same.fields)}"
    agree = f"{samples.agree} are {words}"
    if route.by_agreement[index]:
        return agree
    if threshold is None:
        return f"nothing is sure enough (threshold: never), though {agree}"
    return f"{agree} and their mean confidence is {threshold:g} or above"
