"""The words that a policy asks models in, by role: for `policy show`."""

from __future__ import annotations

from pathlib import Path

from cascade.audit.grading import audit_prompts
from cascade.core.policy import Policy
from cascade.policy.loading import compose, find_policy
from cascade.policy.prompts import files_in
from cascade.policy.roles import RolePrompt, prompts_of

__all__ = ["roles_shown"]


def roles_shown(policy: Policy, source: str | Path) -> tuple[RolePrompt, ...]:
    """Every role of the policy, and of its audit; a text of its own with the name of its file. `source`: what it was loaded from."""
    path = find_policy(source)
    files = files_in(compose(path.read_text(encoding="utf-8"), where=str(path))[1])
    every = (*prompts_of(policy), *audit_prompts(policy))
    return tuple(one._replace(source=files.get(one.role, one.source)) for one in every)
