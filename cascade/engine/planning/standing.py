"""Where the outcomes of the reviewer's control items are kept between runs: with the ledger, for 30 days, beside those of the audit's judges.

What the ledger cannot take is kept in the driver's memory, and so is everything of a driver without a ledger. A run never fails by it.
Both functions may wait for a database: call them on a thread of their own where others must not wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from cascade.core.control_items import KEEP_S
from cascade.core.planning.controls import ControlDone
from cascade.core.planning.result import ReviewVerdict
from cascade.core.planning.reviewer import reviewer_id
from cascade.core.prompts import version_of
from cascade.engine.runtime import Runtime
from cascade.ledger.audit import AuditTables, Control, Relation
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event

__all__ = ["keep_control", "recall_controls"]

_MOST = 200  # in memory; of a tested reviewer 60 count
_SECONDS = 2.0  # for another's lock

_RELATIONS: Mapping[ReviewVerdict, Relation | None] = {
    "accept": "agree", "retry": "disagree", "escalate": "disagree", "unusable": None,
}  # fmt: skip
"""What the audit's table calls a verdict: does the reviewer agree with the result? Of a rejection it does not say which."""
_VERDICTS: Mapping[Relation | None, ReviewVerdict] = {"agree": "accept", "disagree": "retry", None: "unusable"}

_memory: WeakKeyDictionary[Runtime, deque[Control]] = WeakKeyDictionary()


def recall_controls(runtime: Runtime) -> tuple[ControlDone, ...]:
    """The control items of this driver's reviewer as it is now, oldest first."""
    policy, since = runtime.policy, runtime.options.wall() - KEEP_S
    mine, tables = _name_of(runtime), _tables(runtime)
    found: list[Control] = []
    if tables is not None:
        try:
            found += tables.controls(policy.name, since=since)
        except LedgerDown as down:
            _log(runtime, down)
    found += [one for one in _memory.get(runtime, ()) if one.at >= since]
    kept = sorted((one for one in found if one.judge == mine), key=lambda one: one.at)
    return tuple(ControlDone(one.is_right, _VERDICTS.get(one.relation, "unusable"), one.cost) for one in kept)


def keep_control(runtime: Runtime, done: ControlDone) -> None:
    """Keep what came of a control item. A call that failed is nothing to keep."""
    if done.verdict is None:
        return
    policy, tables = runtime.policy, _tables(runtime)
    relation = _RELATIONS[done.verdict]
    control = Control(_name_of(runtime), done.is_right, relation, runtime.options.wall(), done.cost_nanousd)
    if tables is not None:
        try:
            tables.add_control(policy.name, control)
            return
        except LedgerDown as down:
            if runtime not in _memory:
                _log(runtime, down)
    _memory.setdefault(runtime, deque(maxlen=_MOST)).append(control)


def _name_of(runtime: Runtime) -> str:
    """The reviewer as its items are kept. At another endpoint it is another one: what an emulator said is nothing against a model."""
    name, endpoint = reviewer_id(runtime.policy), runtime.options.endpoint.strip()
    return f"{name}@{version_of(endpoint)}" if endpoint else name


def _tables(runtime: Runtime) -> AuditTables | None:
    """The audit's tables of the driver's ledger; None without one."""
    if runtime.ledger() is None:
        return None
    address = runtime.options.ledger
    return AuditTables(None if address is None else str(address), seconds=_SECONDS)


def _log(runtime: Runtime, down: LedgerDown) -> None:
    hint = "runs go on: the reviewer's control items are kept in memory"
    log_event("warning", "plan_controls_unkept", policy=runtime.policy.name, error=str(down), hint=hint)
