"""`cascade audit reset`."""

from __future__ import annotations

import time

from cascade.audit.alarms import undo
from cascade.cli.output import print_json, stdout
from cascade.core.errors import ConfigurationError
from cascade.engine import default_policy
from cascade.ledger.audit import AuditTables
from cascade.ledger.reading import reading
from cascade.policy.loading import load_policy

__all__ = ["run_reset"]


def run_reset(policy: str | None, ledger: str | None, *, as_json: bool) -> None:
    """Undo the ratchet of a policy, and start its drift detectors anew. Raises ConfigurationError without an audit or a ledger."""
    loaded = load_policy(policy or default_policy())
    if loaded.audit is None:
        raise ConfigurationError(
            f"policy {loaded.name}: it has no `audit` block, so there is nothing to reset (add it, or name another policy)"
        )
    with reading(ledger):  # an error where there is none: the address may be mistaken
        undone = undo(loaded, AuditTables(ledger), time.time())
    if as_json:
        tasks = [{"task": task or None} for task in undone.alarms]
        print_json({"policy": loaded.name, "undone": {"steps": undone.step, "alarms": tasks}})
        return
    if undone.step:
        steps = "1 step" if undone.step == 1 else f"{undone.step} steps"
        told = f"{steps} of the ratchet undone; the policy's own thresholds are in force within 5 s of the next request"
    else:
        told = "no ratchet was in force"
    alarms = ", ".join(f"task {task}" if task else "the whole policy" for task in undone.alarms)
    stdout.print(f"{loaded.name}: {told}")
    stdout.print(f"alarms cleared: {alarms or 'none'}; the detectors start anew with the requests from now on")
