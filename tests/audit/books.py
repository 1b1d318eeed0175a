"""A ledger with sampled requests, their texts and their gradings, written as the ledger and the workers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cascade.audit.controls import judge_id
from cascade.core.policy import Policy
from cascade.ledger.audit import AuditTables, Control, Grading, Leased
from cascade.ledger.naming import text_part
from cascade.ledger.records import AuditRow, Batch, Content, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.sums import add_outcome, add_step

__all__ = ["AuditBooks"]

_RUNGS = ("haiku", "sonnet", "opus")


class AuditBooks:
    """Writes requests of a policy, at `at` and the seconds after it."""

    def __init__(self, path: Path, policy: Policy, at: float, epoch: str) -> None:
        self._path, self._policy, self._at, self._epoch, self._count = path, policy.name, at, epoch, 0
        self._judges = policy
        self._store = SqliteStore(path, synchronous="NORMAL")
        self._store.open("one")

    def ask(
        self, rung: int, *, question: str = "", answer: str = "", sampled: str | None = "uniform", **more: Any
    ) -> str:
        """One request that this rung answered, for a cent a step; without a question no texts are kept. Returns its id."""
        self._count += 1
        batch, at, request = Batch(), self._at + self._count, more.get("request", f"casc_{self._count}")
        asked = RequestBody(self._policy, "h", "p", more.get("task", "refund"), "cascade", {})
        for index in range(rung + 1):
            reason = "low_confidence" if index < rung else None
            add_step(batch, at, asked, StepBody(index, _RUNGS[index], "m", "answered", 10_000_000, reason=reason))
        cost = 10_000_000 * (rung + 1)
        outcome = OutcomeBody("cascade", cost, rung + 1, 1.0, _RUNGS[rung], "m", resolved=True, estimate=50_000_000)
        add_outcome(batch, at, asked, outcome)
        if question:
            prompt = json.dumps({"messages": [{"role": "user", "content": question}], "system": None})
            for part, text in (("prompt", prompt), (text_part(rung), answer)):
                batch.contents.append(Content(request, part, at, b"salt", text))
        if sampled is not None:
            batch.samples.append(AuditRow(
                request, at, self._policy, self._epoch, asked.task, "", sampled, _RUNGS[rung], rung, int(rung == 2),
                more.get("confidence", 0.9), "self_reported", cost, 50_000_000, "[]", None, int(bool(question)),
            ))  # fmt: skip
        self._store.write(batch)
        return request

    def grade(self, gradings: dict[str, Grading], shadow: str | None = None) -> None:
        """Grade the open samples as a worker does; those that are not named are left open."""
        tables, now = AuditTables(str(self._path)), self._at + 10_000
        held: list[Leased] = []
        while isinstance(leased := tables.lease(self._policy, "w", now, 600.0, bound=0, cap=None, day=0.0), Leased):
            held.append(leased)
        for leased in held:
            grading = gradings.get(leased.sample.request)
            if grading is None:
                tables.release(leased)
                continue
            tables.keep_shadow(leased, shadow, 40_000_000, now, 600.0)
            tables.finish(leased, grading, now)

    def put_controls(self, judge: str, *, agrees_with_wrong: bool = False) -> None:
        """Put control items of a judge on record, enough of them: it is right on all, or agrees with everything."""
        tables = AuditTables(str(self._path))
        for nth in range(12):
            is_right = nth % 2 == 0
            said = "agree" if is_right or agrees_with_wrong else "disagree"
            tables.add_control(self._policy, Control(judge_id(self._judges, judge), is_right, said, self._at + nth))

    def close(self) -> None:
        """Close the ledger."""
        self._store.close()
