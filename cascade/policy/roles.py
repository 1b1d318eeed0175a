"""The roles in which a policy asks models, and the versions of their words.

A version changes with every change of the role's words or of its reply's schema, and no other role's does. The ledger records those
that a request may be asked in, and a certificate those of the climb.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cascade.core.planning.executor import executor_version
from cascade.core.planning.planner import planner_version
from cascade.core.planning.reviewer import reviewer_version
from cascade.core.policy import OTHER, Check, Policy, Samples, Variant
from cascade.core.prompts import handoff, judge, review_gate, summariser, version_of
from cascade.core.triage import rules_for, triage_version

__all__ = ["RolePrompt", "climb_roles", "plan_roles", "prompts_by_task", "prompts_of"]

_BUILT_IN = "built in"
_OWN = "the policy's own text"


class RolePrompt(NamedTuple):
    """The words of a role. `source`: where they come from. `use`: what the policy asks in them."""

    role: str
    version: str
    source: str
    use: str


def prompts_of(policy: Policy) -> tuple[RolePrompt, ...]:
    """The roles that this policy uses, each once, but for the audit's (`audit.grading.audit_prompts`).

    The triage prompt is `triage`, and another one that samples are asked in is `triage/` and its name.
    """
    return (*_climb(policy), *_planning(policy))


def plan_roles(policy: Policy) -> dict[str, str]:
    """The versions of the words that plans are made, done and reviewed in, by role; none of a policy that does not plan."""
    return {one.role: one.version for one in _planning(policy)}


def climb_roles(policy: Policy) -> dict[str, str]:
    """The versions of the words that can change what a climb ships, by role: what a certificate rests on."""
    return {one.role: one.version for one in _climb(policy)}


def prompts_by_task(policy: Policy) -> dict[str, dict[str, str]]:
    """By task, and `other`: the versions of the words in which a request of the task may be asked, by role."""
    names = (OTHER, *(task.name for task in policy.tasks))
    return {name: {one.role: one.version for one in _distinct(_of_task(policy, name))} for name in names}


def _climb(policy: Policy) -> tuple[RolePrompt, ...]:
    names = (OTHER, *(task.name for task in policy.tasks))
    return _distinct(one for name in names for one in _of_task(policy, name))


def _distinct(found: Iterable[RolePrompt]) -> tuple[RolePrompt, ...]:
    """Each role once. Two texts under one name, at different rungs, are one role, whose version names both."""
    by_role: dict[str, list[RolePrompt]] = {}
    for one in found:
        known = by_role.setdefault(one.role, [])
        if one not in known:
            known.append(one)
    return tuple(
        same[0] if len(same) == 1 else same[0]._replace(version=version_of(*sorted(one.version for one in same)))
        for same in by_role.values()
    )


def _of_task(policy: Policy, task: str) -> Iterator[RolePrompt]:
    """The roles in which a request of this task may be asked."""
    route = policy.route(task)
    for samples in route.samples[: min(route.ceiling + 1, policy.top)]:  # the top rung is asked plainly
        yield from _triage(policy, samples)
    if any(check.kind == "review" for check in _checks(policy, task)):
        use = "a rung above reads an answer before it ships"
        yield RolePrompt("review_gate", review_gate.VERSION, _BUILT_IN, use)
    if route.prepare is not None and route.prepare.summarize is not None:
        use = "the older turns of a long conversation are summarised"
        yield RolePrompt("summariser", summariser.VERSION, _BUILT_IN, use)
    passed = route.handoff
    if passed is not None and passed.doubt:
        use = "the next rung is told why the answer below was not used"
        yield RolePrompt("handoff/doubt", handoff.DOUBT_VERSION, _BUILT_IN, use)
    if passed is not None and passed.artifact is not None:
        use = "a rung plans the answer, and a cheaper one writes it"
        yield RolePrompt("handoff/artifact", handoff.ARTIFACT_VERSION, _BUILT_IN, use)


def _checks(policy: Policy, task: str) -> tuple[Check, ...]:
    return (*policy.checks, *(check for one in policy.tasks if one.name == task for check in one.checks))


def _triage(policy: Policy, samples: Samples | None) -> Iterator[RolePrompt]:
    """How a rung below the top is asked, in each of its variants; and the judge of its samples."""
    for variant in (Variant(),) if samples is None else samples.variants or (Variant(),):
        rules, order = rules_for(policy, variant)
        name, source = "triage", _BUILT_IN
        if (rules, order) != rules_for(policy):
            name = f"triage/{variant.order or variant.name}"
            source = _BUILT_IN if variant.order else _OWN
        elif policy.triage.prompt is not None:
            source = _OWN
        yield RolePrompt(name, triage_version(policy, variant), source, f"a rung below the top answers, {order}")
    if samples is not None and samples.same.kind == "judge":
        yield RolePrompt("judge", judge.VERSION, _BUILT_IN, "the samples of a rung are grouped by their meaning")


def _planning(policy: Policy) -> Iterator[RolePrompt]:
    """The roles of a plan, which no climb of a request of its own comes to."""
    if policy.plan is None:
        return
    own, plan = policy.plan.prompts, policy.plan
    for role, version, text, use in (
        ("planner", planner_version, own.planner, f"{plan.planner} splits a goal into subtasks"),
        ("executor", executor_version, own.executor, "a climb does a subtask, and says how sure it is"),
        ("reviewer", reviewer_version, own.reviewer, f"{plan.reviewer} reads the result of a subtask"),
    ):
        yield RolePrompt(role, version(policy), _BUILT_IN if text is None else _OWN, use)
