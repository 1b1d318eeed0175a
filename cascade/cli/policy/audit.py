"""What `policy show` says of the audit: its settings, and the ratchet and the alarms that the ledger has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cascade.core.errors import CascadeError
from cascade.core.policy import Policy
from cascade.ledger.audit import AuditTables, Mark, Ratchet
from cascade.ledger.stores import LedgerDown
from cascade.policy.certificates import epoch_of
from cascade.policy.ratchet import describe_step, steps_of

__all__ = ["audit_fields", "audit_notes", "describe_audit"]


def audit_fields(policy: Policy) -> dict[str, Any] | None:
    """The ratchet and the alarms as JSON values; None without an audit. Where the ledger cannot be read: why, under `problem`."""
    if policy.audit is None:
        return None
    steps = steps_of(policy)
    try:
        ratchet, step, alarms = _read(policy)
    except (LedgerDown, CascadeError) as problem:
        return {"steps": steps, "step": None, "alarms": [], "problem": str(problem)}
    return {
        "steps": steps,
        "step": step,
        "thresholds": describe_step(policy, step) if step else None,
        "since": ratchet.at if ratchet is not None and step else None,
        "alarms": [
            {"task": task or None, "at": mark.at, "rate": mark.details.get("rate")} for task, mark in alarms.items()
        ],
    }


def describe_audit(policy: Policy) -> list[str]:
    """The same as lines."""
    fields = audit_fields(policy)
    if policy.audit is None or fields is None:
        return []
    audit, steps = policy.audit, fields["steps"]
    cap = "no cap" if audit.daily_usd is None else f"{audit.daily_usd} USD a day"
    can = f" ({_steps_text(policy, steps)})" if audit.on_alarm == "ratchet" else ""
    settings = (
        f"audit: {audit.sample:.3g} of the requests, {audit.lowest_confidence:.3g} of the lowest confidences, {cap};"
        f" on an alarm: {audit.on_alarm}{can}; run length {audit.arl:,} graded requests"
    )
    settings_and_notes = [settings, *(f"note: {note}" for note in audit_notes(policy))]
    if "problem" in fields:
        return [*settings_and_notes, f"audit: whether it was ratcheted is not known: {fields['problem']}"]
    lines = settings_and_notes
    if fields["step"]:
        lines.append(
            f"ratcheted since {_when(fields['since'])}: {fields['thresholds']}"
            " (`cascade audit reset` undoes it, and so does a new certificate)"
        )
    for alarm in fields["alarms"]:
        whose = f"task {alarm['task']}" if alarm["task"] else "the whole policy"
        lines.append(f"alarm since {_when(alarm['at'])}: {whose} (`cascade audit report` says more)")
    return lines


def audit_notes(policy: Policy) -> Iterator[str]:
    """What the audit of a policy cannot do, with what would change that."""
    audit = policy.audit
    if audit is None:
        return
    if not policy.ledger.content and (audit.sample or audit.lowest_confidence):
        yield "audit: answers cannot be graded without `ledger: {content: true}`: only real outcomes that are reported count"
    from cascade.audit.caps import daily_note  # noqa: PLC0415 - only with an audit

    if (note := daily_note(policy)) is not None:
        yield note


def _steps_text(policy: Policy, steps: int) -> str:
    if steps:
        return "1 step" if steps == 1 else f"{steps} steps"
    rung = policy.ladder[0].rung
    return f"no step: there is no certified path, and {rung} has no threshold below 0.9 to raise"


def _read(policy: Policy) -> tuple[Ratchet | None, int, dict[str, Mark]]:
    from cascade.audit.drift import step_in_force, told_alarms  # noqa: PLC0415 - only with an audit

    tables = AuditTables()
    ratchet = tables.ratchet(policy.name)
    step = step_in_force(policy, ratchet)
    return ratchet, step, told_alarms(epoch_of(policy, step), tables.marks(policy.name))


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
