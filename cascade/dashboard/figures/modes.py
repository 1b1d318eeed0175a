"""The modes in force on this machine, as `cascade mode` says them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.dashboard.values import PolicyMode
from cascade.engine.mode_switch import ModeSwitch, read_switch_file, switch_path

__all__ = ["policy_modes"]

_UNKNOWN = "not known here"


def policy_modes(policies: Sequence[Policy], others: Iterable[str]) -> tuple[PolicyMode, ...]:
    """Of the policies at hand, then of those that only the ledger knows: of them only a switch says anything."""
    here = {policy.name for policy in policies}
    return (*(_of(policy) for policy in policies), *(_named(name) for name in others if name not in here))


def _of(policy: Policy) -> PolicyMode:
    try:
        now = ModeSwitch(policy.name, policy.mode).in_force(log=False)
    except ConfigurationError as problem:  # CASCADE_MODE is invalid
        return PolicyMode(policy.name, None, str(problem), policy.mode)
    return PolicyMode(policy.name, now.mode, now.source, policy.mode)


def _named(name: str) -> PolicyMode:
    try:
        switched = read_switch_file(switch_path()).of(name)
    except ConfigurationError as problem:
        return PolicyMode(name, None, str(problem), None)
    if switched is None:
        return PolicyMode(name, None, _UNKNOWN, None)
    return PolicyMode(name, switched.mode, switched.source, None)
