"""The rule. One pure function decides what happens next; every driver (live, replay, batch, gateway) asks it.

Rule 1: everything that affects whether a reply ships must live here, or be a value this function is given.

    nothing asked yet           -> Call the first rung
    the last step stands        -> Ship it
    it has a reason to climb    -> Call the next rung: index + 1, never more
    there is no way up          -> Ship the best held, marked degraded; none held: Abstain
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cascade.core.policy import Policy, Route
from cascade.core.trail import Degraded, Reason, Step

__all__ = ["Abstain", "Call", "Decision", "Ship", "Situation", "best_held", "decide", "natural_reason"]


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rule must know besides the trail, as of the last step.

    `storm`: what the storm guard does at the last step's rung ("escalate"), or to this whole climb once any rung said
    so ("hold"). `out_of`: what has run out; `told` names it for people (which budget). `floor`: raised by the request
    itself (tampering), an index.
    """

    storm: Literal["escalate", "hold"] | None = None
    out_of: Literal["deadline", "budget"] | None = None
    floor: int = 0
    told: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask the rung at `index`; `reason` is why the step before it did not ship (None: there is none)."""

    index: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Ship:
    """Return this step's answer. `degraded` says what stopped the climb where the step did not stand by itself."""

    step: Step
    degraded: Degraded | None = None


@dataclass(frozen=True, slots=True)
class Abstain:
    """Nothing may be shipped; `why` says what stopped the climb."""

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
    """What to do next. No clock, no randomness, no I/O; the same arguments always give the same decision."""
    if not trail:
        return Call(0)
    route, top, last = policy.route(task), policy.top, trail[-1]
    reason = natural_reason(route, top, last) or _unnatural_reason(route, top, last, situation)
    if reason is None:
        return Ship(last)
    stop = _what_stops(route, top, last, situation, reason)
    if stop is None:
        return Call(last.index + 1, reason)
    held = best_held(trail)
    return Ship(held, stop) if held is not None else Abstain(stop)


def natural_reason(route: Route, top: int, step: Step) -> Reason | None:
    """Why the step's own reply does not stand, whatever the floor and the guard say; None where it stands.

    This is what confidence alone would have done, so it is what the storm guard counts. `error` and `overflow` are
    given here too, as the first of the order; they are not natural (see `trail.NATURAL`).
    """
    verdict = step.verdict
    if verdict.kind != "answered":
        return _BY_VERDICT[verdict.kind]
    if verdict.unknown_stop:
        return "malformed"
    if verdict.failed_checks:
        return "check_failed"
    if step.index != top:
        threshold = route.thresholds[step.index]
        if threshold is None or verdict.confidence is None or not verdict.confidence >= threshold:
            return "low_confidence"
    return None


def _unnatural_reason(route: Route, top: int, step: Step, situation: Situation) -> Reason | None:
    if step.index != top:
        if step.index < route.floor or step.index < situation.floor:
            return "floor"
        if situation.storm == "escalate":
            return "storm"
    return None


def _what_stops(route: Route, top: int, step: Step, situation: Situation, reason: Reason) -> Degraded | None:
    """What keeps the climb from going on, or None where the next rung may be asked."""
    if situation.out_of is not None:
        return situation.out_of
    if step.index == top:
        return reason  # pyright: ignore[reportReturnType] - low_confidence, floor and storm never hold at the top
    if step.index >= max(route.ceiling, situation.floor):  # what tampers is not judged below its floor, ceiling or not
        return "ceiling"
    if situation.storm == "hold" and step.index + 1 == top:
        return "storm"
    return None


def best_held(trail: tuple[Step, ...]) -> Step | None:
    """The highest answered step that passed every check; truncated text is never held."""
    for step in reversed(trail):
        if step.verdict.kind == "answered" and not step.verdict.failed_checks:
            return step
    return None
