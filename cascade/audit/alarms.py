"""What an alarm of the audit does: it is put on record, logged, sent to `audit.notify`; with `on_alarm: ratchet` one step is taken.

Any number of workers may look at once. An alarm is told by the worker whose mark is the first on record. A step is taken by compare
and set, from the ratchet that the drift was read with, so one alarm is one step; the loser of the race looks again later.
A worker that is killed after its mark may leave an alarm that was not sent; it stands in reports and in `policy show`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade.audit.drift import Drift, Rate, read_drift, step_in_force, told_alarms
from cascade.budgets.delivering import Deliveries, target_of
from cascade.core.policy import Policy
from cascade.core.policy.operations import Audit
from cascade.ledger.audit import AuditTables, Mark, Ratchet
from cascade.logs import log_event
from cascade.policy.certificates import certificate_digest, epoch_of
from cascade.policy.ratchet import describe_step, steps_of

__all__ = ["AuditNotice", "DriftWatch", "Undone", "undo"]

_CALIBRATE = "review the policy, and calibrate again"


@dataclass(frozen=True, slots=True)
class AuditNotice:
    """A notice of the audit. A function gets this object, an address gets it as JSON. It holds nothing of a request.

    `event`: audit_alarm (the rate of the loss is above `alpha`) or audit_ratchet (thresholds were raised to `step` of `steps`).
    `task`: "" for the whole policy. `rate`, `interval95`: since the current thresholds are in force, over `results`, `losses` of them
    losses; `recent_rate` over the newest 250. `certified`: alpha is a certificate's. `text`: all of it in one line.
    """

    event: Literal["audit_alarm", "audit_ratchet"]
    policy: str
    task: str
    alpha: float
    certified: bool
    rate: float | None
    recent_rate: float | None
    interval95: tuple[float, float] | None
    results: int
    losses: int
    step: int
    steps: int
    text: str


class DriftWatch:
    """Looks for drift of one policy, and acts on it. Raises LookupError if a function in `audit.notify` does not exist."""

    def __init__(self, policy: Policy, tables: AuditTables) -> None:
        audit = policy.audit or Audit()
        self._policy, self._tables = policy, tables
        self._ratchets = audit.on_alarm == "ratchet"
        self._steps = steps_of(policy)
        self._targets = [target_of(one, audit.notify_timeout_s) for one in audit.notify]
        self._deliveries = Deliveries(_log)
        self._wait_s = len(self._targets) * audit.notify_timeout_s
        self.notices: list[AuditNotice] = []
        """What was told so far, oldest first. At most some of each epoch."""

    def look(self, now: float, withheld: Mapping[str, str] | None = None) -> Drift:
        """Read the drift, and act on alarms. `now`: Unix seconds. `withheld`: as for `watch`. Raises LedgerDown, NoPrice.

        It waits until notices are sent, at most `notify_timeout_s` for each. Where a step was taken, the drift returned is the one
        before it.
        """
        drift = read_drift(self._policy, self._tables, withheld)
        told = [rate for rate in drift.alarms if rate.alarm is None and self._is_first(drift, rate, now)]
        for rate in told:
            self._tell(self._alarm(drift, rate))
        if self._ratchets and drift.alarms and drift.step < self._steps:
            self._step(drift, now)
        if self._targets:
            self._deliveries.drain(self._wait_s)
        return drift

    def close(self, timeout_s: float) -> bool:
        """Wait until all notices are sent; returns whether they are. At exit a process does it by itself."""
        return self._deliveries.drain(timeout_s)

    def _is_first(self, drift: Drift, rate: Rate, now: float) -> bool:
        """Put the alarm on record; whether no other worker has before."""
        token = secrets.token_hex(8)
        details = {
            "epoch": drift.epoch, "task": rate.task, "step": drift.step, "rate": rate.rate, "alpha": rate.alpha,
            "interval95": rate.interval, "results": rate.counted, "losses": rate.losses, "recent": rate.recent, "by": token,
        }  # fmt: skip
        self._tables.add_mark(Mark(drift.policy, now, "alarm", details))
        first = told_alarms(drift.epoch, self._tables.marks(drift.policy)).get(rate.task)
        return first is None or first.details["by"] == token

    def _step(self, drift: Drift, now: float) -> None:
        step = drift.step + 1
        after = Ratchet(drift.policy, certificate_digest(self._policy), step, now)
        if not self._tables.step_ratchet(drift.ratchet, after):
            return
        what = describe_step(self._policy, step)
        self._tables.add_mark(Mark(drift.policy, now, "step", {"step": step, "steps": self._steps, "thresholds": what}))
        left = "" if step < self._steps else f"; it was the last step: if it alarms again, {_CALIBRATE}"
        text = f"{drift.policy}: the audit has ratcheted the thresholds: {what}{left}"
        self._tell(self._notice("audit_ratchet", drift, drift.alarms[0], step, text))

    def _alarm(self, drift: Drift, rate: Rate) -> AuditNotice:
        whose = f"task {rate.task} of {drift.policy}" if rate.task else drift.policy
        losses, results = rate.recent
        low, high = rate.interval or (0.0, 1.0)
        certified = "certified" if drift.is_certified else "not certified"
        text = (
            f"{whose}: the audit finds more wrong answers than {rate.alpha:.3g} ({certified}): {rate.losses} of {rate.counted} results"
            f" (95 %: {low:.3g} to {high:.3g}), {losses} of the newest {results}"
        )
        if self._ratchets and drift.step >= self._steps:
            text += f"; nothing is left to ratchet: {_CALIBRATE}"
        return self._notice("audit_alarm", drift, rate, drift.step, text)

    def _notice(
        self, event: Literal["audit_alarm", "audit_ratchet"], drift: Drift, rate: Rate, step: int, text: str
    ) -> AuditNotice:
        losses, results = rate.recent
        return AuditNotice(
            event, drift.policy, rate.task, rate.alpha or drift.alpha, drift.is_certified, rate.rate,
            losses / results if results else None, rate.interval, rate.counted, rate.losses, step, self._steps, text,
        )  # fmt: skip

    def _tell(self, notice: AuditNotice) -> None:
        self.notices.append(notice)
        body = asdict(notice)
        details = {name: value for name, value in body.items() if name != "event"}
        _log(notice.event, **details)
        for target in self._targets:
            self._deliveries.put(target, json.dumps(body).encode() if target.is_post else notice)


@dataclass(frozen=True, slots=True)
class Undone:
    """What a reset has undone: the ratchet's step that was in force, and the alarms that stood (by task, "" for the policy)."""

    step: int
    alarms: tuple[str, ...]


def undo(policy: Policy, tables: AuditTables, now: float) -> Undone:
    """Take every ratchet step back, and start the detectors anew: samples shipped until `now` (Unix seconds) no longer count.

    Writes nothing where the audit has nothing of the policy. Raises LedgerDown, NoPrice.
    """
    ratchet, marks = tables.ratchet(policy.name), tables.marks(policy.name)
    step = step_in_force(policy, ratchet)
    alarms = tuple(sorted(told_alarms(epoch_of(policy, step), marks)))
    if ratchet is None and not marks and not any(tables.counts(policy.name).values()):
        return Undone(0, ())
    # The mark first: with it no worker finds an alarm in the samples so far, whatever step it reads.
    tables.add_mark(Mark(policy.name, now, "reset", {"step": step, "alarms": list(alarms)}))
    after = Ratchet(policy.name, certificate_digest(policy), 0, now)
    while not tables.step_ratchet(ratchet, after):  # a worker took a step, or another command reset it, just now
        ratchet = tables.ratchet(policy.name)
        step = max(step, step_in_force(policy, ratchet))
    return Undone(step, alarms)


def _log(event: str, **details: Any) -> None:
    log_event("warning", event, **details)
