"""Which rung is asked for what, where a request climbs: the request itself, with the doubt of the rung below, or for a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cascade.core.bound_policy import Checks
from cascade.core.context import Context
from cascade.core.events import Taking
from cascade.core.handoff.words import doubt_block, plan_block
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.policy.economy import Artifact, Handoff
from cascade.core.prompts.handoff import ARTIFACT_SCHEMA, ARTIFACT_VERSION, DOUBT_VERSION
from cascade.core.triage import wants_triage

__all__ = [
    "Passing",
    "carries_plans",
    "executor_of",
    "handoff_text",
    "passing_of",
    "plans_at",
    "unrecorded",
    "versions_of",
]

_PLAN_TOKENS = 1_024  # a plan takes less than 400; a caller's smaller limit is one of the answer


class Passing:
    """What passes between the rungs of one climb. `carried`: the plan of the conversation's last answer, if one is known.

    `asked`: what the last rung was asked with, where something passed to it; None else.
    """

    __slots__ = ("_context", "asked", "carried", "handoff")

    def __init__(self, handoff: Handoff, carried: Mapping[str, Any] | None, context: Context | None) -> None:
        self.handoff, self.carried, self._context = handoff, carried, context
        self.asked: Taking | None = None

    def request_for(self, index: int, request: Request) -> Request:
        """The request as the rung at `index` is asked, without a handoff. `request`: as the caller made it."""
        return request if self._context is None else self._context.request_for(index)

    def ask(self, taking: Taking, index: int) -> Taking:
        """What the rung at `index` is asked. The same `taking` where nothing passes to it: at the climb's first rung, for one.

        A plan passes no checks of answers; it has its own (`artifacts`).
        """
        asked = self._asked(taking, index)
        self.asked = None if asked is taking else asked
        return asked

    def _asked(self, taking: Taking, index: int) -> Taking:
        if not taking.steps:
            return taking
        policy, request, artifact = taking.plan.policy, taking.request, self.handoff.artifact
        if artifact is None:
            block = doubt_block(taking.steps[-1])
            return (
                taking
                if block is None
                else replace(taking, request=replace(request, handoff=(*request.handoff, block)))
            )
        if not plans_at(policy, artifact, index):
            return taking
        planned = replace(
            request,
            schema=ARTIFACT_SCHEMA,
            prompt_schema=None,
            stop_sequences=(),  # of the answer
            max_tokens=None if request.max_tokens is None else max(request.max_tokens, _PLAN_TOKENS),
            handoff=(*request.handoff, plan_block(self.carried, triage=wants_triage(policy, index))),
            wants_artifact=True,
            assessed=False,
        )
        return replace(taking, request=planned, checks=Checks(), early=False)


def _every(policy: Policy) -> Iterator[Handoff]:
    """The handoffs of a policy that pass anything, of any task."""
    for one in (policy.handoff, *(task.handoff for task in policy.tasks)):
        if one is not None and _passes(one):
            yield one


def carries_plans(policy: Policy) -> bool:
    """Whether any task's rungs may plan."""
    return any(one.artifact is not None for one in _every(policy))


def versions_of(policy: Policy) -> list[str]:
    """Names the words that the policy's handoffs are asked in; empty without one."""
    found = {DOUBT_VERSION if one.doubt else ARTIFACT_VERSION for one in _every(policy)}
    return sorted(found)


def unrecorded(policy: Policy | None) -> tuple[str, ...]:
    """What is told of figures from a corpus: nothing of a handoff is in it. Empty without one."""
    if policy is None or not any(_every(policy)):
        return ()
    return (
        "the policy's handoff is left out: a corpus holds replies to plain requests, and these figures are of those",
    )


def handoff_text(policy: Policy, task: str) -> str | None:
    """What passes between rungs for a task, in one line; None for nothing."""
    handoff = policy.route(task).handoff
    if handoff is None or not _passes(handoff):
        return None
    if handoff.artifact is None:
        return "doubt: where a request climbs, the next rung is told why the answer below was not used"
    planning = [rung.rung for index, rung in enumerate(policy.ladder) if plans_at(policy, handoff.artifact, index)]
    executor = policy.ladder[executor_of(policy, handoff.artifact)].rung
    return f"artifact: where a request climbs to {' or '.join(planning)}, it plans, and {executor} answers by the plan"


def passing_of(
    policy: Policy, task: str, request: Request, carried: Mapping[str, Any] | None, context: Context | None = None
) -> Passing | None:
    """What passes in the climb of this request; None: every rung is asked the request alone.

    A request with tools is never planned: its answer may be calls of tools, which no other rung makes. `context`: how the
    conversation is shortened for each rung.
    """
    handoff = policy.route(task).handoff
    if handoff is None or request.raw is not None or not _passes(handoff):
        return None
    if handoff.artifact is not None and (request.tools or request.tool_choice is not None):
        return None
    return Passing(handoff, carried, context)


def _passes(handoff: Handoff) -> bool:
    return handoff.doubt or handoff.artifact is not None


def executor_of(policy: Policy, artifact: Artifact) -> int:
    """The index of the rung that answers by a plan."""
    return next((at for at, rung in enumerate(policy.ladder) if rung.rung == artifact.execute_on), 0)


def plans_at(policy: Policy, artifact: Artifact, index: int) -> bool:
    """Whether the rung at `index` plans, where a request climbs to it."""
    names = artifact.planned_by
    return index > executor_of(policy, artifact) and (not names or policy.ladder[index].rung in names)
