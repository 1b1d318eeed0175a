"""The steps of a policy's ratchet: thresholds with fewer losses than those of the policy as it is written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from cascade.core.plans import Plan
from cascade.core.policy import Policy
from cascade.core.policy.certificate import UNCERTIFIED
from cascade.policy.certificates import epoch_of

__all__ = ["describe_step", "ratcheted", "steps_of"]

_STEP, _MOST = 0.1, 0.9


def steps_of(policy: Policy) -> int:
    """How many steps there are."""
    threshold = policy.ladder[0].threshold if policy.top else None
    if threshold is None or threshold >= _MOST:
        return 0
    return math.ceil(round((_MOST - threshold) / _STEP, 9))


def ratcheted(plan: Plan, step: int) -> Plan:
    """The plan at this step; 0: the plan itself."""
    step = min(step, steps_of(plan.policy))
    if not step:
        return plan
    first, *others = plan.policy.ladder
    assert first.threshold is not None
    raised = first.model_copy(update={"threshold": round(min(_MOST, first.threshold + _STEP * step), 9)})
    values: dict[str, Any] = {name: getattr(plan.policy, name) for name in Policy.model_fields}
    policy = Policy.model_construct(None, **{**values, "ladder": (raised, *others)})
    vars(policy)["hash"] = plan.policy.hash
    return replace(plan, policy=policy, certificate=UNCERTIFIED, epoch=epoch_of(plan.policy, step), ratchet=step)


def describe_step(policy: Policy, step: int) -> str:
    """The step in one line."""
    return f"step {step} of {steps_of(policy)}"
