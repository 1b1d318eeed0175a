"""The rule: one pure function that decides what happens next. Every driver uses it: live and replay.

Whatever affects whether a reply ships must be decided here, or be an argument of this function.

    no step yet                       -> Call the first rung (a tool loop: the rung that it is on)
    the last step stands              -> Ship it
    it was decided before its end     -> Ship it, marked degraded if it ended badly
    it has an escalation reason       -> Call the next rung: index + 1, never more
    the climb may not go on           -> Ship the best held answer, marked degraded; if none is held, Abstain
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cascade.core.policy import Policy, Route
from cascade.core.trail import Degraded, Reason, Step

__all__ = ["Abstain", "Call", "Decision", "Ship", "Situation", "Start", "best_held", "decide", "own_reason"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a climb begins: at the first rung, but for a turn of a tool loop.

    `index`: the rung that asked for the tools whose results these are, or the one above it. `floor`: the lowest rung whose
    answer stands, an index. `notes`: what the caller is told of it. `kept`: ids of the tool calls that the rung at `index`
    made: the thinking beside them goes back to it. `carried`: the plan by which the conversation's last answer was written.
    """

    index: int = 0
    floor: int = 0
    notes: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    carried: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rule needs to know besides the trail, as of the last step.

    `storm`: "escalate" if the storm guard distrusts the last step's rung; "hold" from the step at which it says
    so to the end of the climb. `out_of`: what has run out. `floor`: the lowest rung whose answer stands (an index), raised by
    tampering or by the conversation. `start`: the rung that is called first.
    """

    storm: Literal["escalate", "hold"] | None = None
    out_of: Literal["deadline", "budget"] | None = None
    floor: int = 0
    start: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """Call the rung at `index`. `reason`: why the step before it did not ship; None for the first rung."""

    index: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Ship:
    """Return this step's answer. `degraded`: what stopped the climb, if the step did not stand by itself."""

    step: Step
    degraded: Degraded | None = None


@dataclass(frozen=True, slots=True)
class Abstain:
    """No answer may be shipped. `why`: what stopped the climb."""

    why: Degraded


Decision = Call | Ship | Abstain

_BY_VERDICT: dict[str, Reason] = {
    "failed": "error",
    "overflow": "overflow",
    "refused": "refused",
    "truncated": "truncated",
    "malformed": "malformed",
    "declined": "declined",
}


def decide(policy: Policy, task: str, trail: tuple[Step, ...], situation: Situation) -> Decision:
    """What to do next. Pure: the same arguments always give the same decision."""
    if not trail:
        return Call(situation.start)
    route, top, last = policy.route(task), policy.top, trail[-1]
    reason = own_reason(route, top, last) or _imposed_reason(route, top, last, situation)
    if reason is None:
        return Ship(last)
    if last.verdict.begun:
        return Ship(last, reason)  # pyright: ignore[reportArgumentType] - only what comes after its first tokens is a reason
    stop = _stop_reason(route, top, last, situation, reason)
    if stop is None:
        return Call(last.index + 1, reason)
    held = best_held(trail)
    return Ship(held, stop) if held is not None else Abstain(stop)


def own_reason(route: Route, top: int, step: Step) -> Reason | None:
    """Why the reply by itself does not stand, whatever the floor and the storm guard say; None if it stands.

    The storm guard counts these reasons, but not `error` and `overflow`, which are not natural (see `trail.NATURAL`).
    """
    verdict = step.verdict
    if verdict.vote is not None and verdict.vote.reason is not None:
        return verdict.vote.reason
    if verdict.kind != "answered":
        return _BY_VERDICT[verdict.kind]
    if verdict.unknown_stop:
        return "malformed"
    if verdict.failed_checks:
        return "check_failed"
    if verdict.is_unchecked:
        return "error"
    if step.index == top or (verdict.vote is not None and route.by_agreement[step.index]):
        return None
    threshold = route.thresholds[step.index]
    if verdict.source == "tool_use":  # it has no confidence: only a rung that never ships does not ship it
        return None if route.decides(step.index) else "low_confidence"
    if threshold is None or verdict.confidence is None or not verdict.confidence >= threshold:
        return "low_confidence"
    return None


def _imposed_reason(route: Route, top: int, step: Step, situation: Situation) -> Reason | None:
    """Why a reply that stands must escalate all the same."""
    if step.index != top:
        if step.index < route.floor or step.index < situation.floor:
            return "floor"
        if situation.storm == "escalate":
            return "storm"
    if step.review is not None and step.review.refused:
        return "error"  # it was to be reviewed, and the budget is out: what is held ships, degraded
    if step.handed is not None and step.handed.is_open:
        return "error"  # a plan without an answer: no budget had room for the call that writes it
    return None


def _stop_reason(route: Route, top: int, step: Step, situation: Situation, reason: Reason) -> Degraded | None:
    """What stops the climb here, or None if the next rung may be called."""
    if situation.out_of is not None:
        return situation.out_of
    if step.index == top:
        return reason  # pyright: ignore[reportReturnType] - low_confidence, floor and storm never hold at the top
    if step.index >= max(route.ceiling, situation.floor):  # a floor raised by tampering beats the ceiling
        return "ceiling"
    if situation.storm == "hold" and step.index + 1 == top:
        return "storm"
    return None


def best_held(trail: tuple[Step, ...]) -> Step | None:
    """The highest step that was answered and passed every check; truncated text, closed streams and plans without an answer are never held."""
    for step in reversed(trail):
        verdict = step.verdict
        is_plan = step.handed is not None and step.handed.is_open
        if verdict.kind == "answered" and not (
            verdict.failed_checks or verdict.is_unchecked or verdict.closed or is_plan
        ):
            return step
    return None
