"""What the audit keeps beside the ledger's entries, in the ledger's database: sampled requests, their grades, ratchets, and marks.

A sampled request is written in the transaction of its outcome (`records.Batch.samples`). The rest is written by the audit's workers and
commands (`small_tables`), every change one transaction. Every method raises LedgerDown if it fails. What only reads makes no ledger
where there is none, and finds nothing there; nor do leases.

A lease is named by its owner and its number (`tries`), so a worker that comes back after its lease ran out, and was taken by another,
can change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from cascade.ledger.audit_records import Control, Grading, Leased, Mark, Ratchet, Relation, Sample, State
from cascade.ledger.naming import storable
from cascade.ledger.records import BUCKET_S
from cascade.ledger.small_tables import Execute, SmallTables
from cascade.ledger.stores import NoLedger

__all__ = ["AuditTables", "Control", "Grading", "Leased", "Mark", "Ratchet", "Relation", "Sample", "State"]

_LOCK = 0x4341_5343_0003
"""An advisory lock of Postgres: one worker at a time leases or finishes. SQLite has one writer at a time anyway."""

_SHIPPED = (
    "s.request, s.at, s.policy, s.epoch, s.task, s.why, s.rung, s.place, s.is_top, s.confidence, s.source, s.cost, s.estimate,"
    " s.workflow, s.flags, s.degraded, s.has_content, s.executed_by, s.state, s.graded_at, s.number, s.shadow, s.shadow_cost,"
    " (SELECT f.score FROM feedback f WHERE f.request = s.request ORDER BY f.id DESC LIMIT 1),"
    " s.grader, s.score, s.relation, s.reason, s.skipped, s.grading_cost"
)
_FREE = "s.policy = :policy AND s.state = 'open' AND s.leased_until <= :now"
_COMMITTED = (
    "SELECT (SELECT coalesce(sum(cost), 0) FROM spend WHERE bucket >= :since AND policy = :policy AND arm = 'audit')"
    " + (SELECT coalesce(sum(bound), 0) FROM calls WHERE at >= :since AND policy = :policy AND arm = 'audit')"
    " + (SELECT coalesce(sum(bound), 0) FROM audit_samples WHERE policy = :policy AND state = 'open'"
    " AND owner <> '' AND leased_until > :now)"
)  # one statement, so that a worker that finishes meanwhile is counted once
_HELD = "request = :request AND state = 'open' AND owner = :owner AND tries = :number"


class AuditTables(SmallTables):
    """The audit's tables in the ledger's database.

    Workers and commands can wait for a lock that many workers want, so `seconds` is long; what a request depends on gives less.
    """

    def __init__(self, address: str | None = None, *, seconds: float = 10.0) -> None:
        super().__init__(address, seconds=seconds)

    def lease(
        self, policy: str, owner: str, now: float, seconds: float, *, bound: int, cap: int | None, day: float
    ) -> Leased | Literal["none", "cap"]:
        """Take the oldest open sample whose lease is free or over, for `seconds`.

        `bound`: the most that grading it may cost, in nano-USD; it is reserved with the lease. `cap`: what the audit of this policy
        may spend from `day` (Unix seconds) on: what the ledger has of arm "audit" since then, with the bounds of announced calls
        without a result, of all running leases, and this one; None: no cap. "none": no sample is open. "cap": there is one, and no
        room for it.
        """
        values = {"policy": policy, "now": now, "since": int(day) // BUCKET_S * BUCKET_S}
        first = f"SELECT {_SHIPPED}, s.tries FROM audit_samples s WHERE {_FREE} ORDER BY s.at, s.request LIMIT 1"  # noqa: S608 - constants
        if not self._read(f"SELECT 1 FROM audit_samples s WHERE {_FREE} LIMIT 1", values):  # noqa: S608 - constants
            return "none"  # without holding up a writer
        with self._alone() as execute:
            found = execute(f"{first} FOR UPDATE OF s SKIP LOCKED" if self._is_postgres else first, values).fetchone()
            if found is None:
                return "none"
            if cap is not None and int(execute(_COMMITTED, values).fetchone()[0]) + bound > cap:
                return "cap"
            *row, tries = found
            sample, until = _sample(row), now + seconds
            question = (
                "UPDATE audit_samples SET owner = :owner, leased_until = :until, bound = :bound, tries = tries + 1"
                " WHERE request = :request"
            )
            execute(question, {"owner": owner, "until": until, "bound": bound, "request": sample.request})
            return Leased(sample, owner, until, tries)

    def reserve(
        self, leased: Leased, bound: int, now: float, seconds: float, *, cap: int | None, day: float
    ) -> Literal["ok", "cap", "lost"]:
        """Renew a lease, and reserve `bound` with it in place of what it reserved before: for the next call.

        `cap`, `day`: as for `lease`. "cap": there is no room, and the lease is as it was. "lost": the lease ran out.
        """
        values = {
            "policy": leased.sample.policy, "now": now, "since": int(day) // BUCKET_S * BUCKET_S,
            "until": now + seconds, "bound": bound, **_lease_values(leased),
        }  # fmt: skip
        held = f"UPDATE audit_samples SET bound = :bound, leased_until = :until WHERE {_HELD}"  # noqa: S608 - constants
        with self._alone() as execute:
            reserved = "CASE WHEN leased_until > :now THEN bound ELSE 0 END"  # as `_COMMITTED` counts it
            own = execute(f"SELECT {reserved} FROM audit_samples WHERE {_HELD}", values).fetchone()  # noqa: S608 - constants
            if own is None:
                return "lost"
            if cap is not None and int(execute(_COMMITTED, values).fetchone()[0]) - int(own[0]) + bound > cap:
                return "cap"
            execute(held, values)
            return "ok"

    def committed(self, policy: str, now: float, day: float) -> int:
        """What `cap` is compared with: spent since `day`, and reserved by running calls, in nano-USD."""
        found = self._read(_COMMITTED, {"policy": policy, "now": now, "since": int(day) // BUCKET_S * BUCKET_S})
        return int(found[0][0]) if found else 0

    def keep_shadow(self, leased: Leased, shadow: str | None, cost: int, now: float, seconds: float) -> bool:
        """Keep the shadow answer, so that it is not paid for again, and renew the lease. False if the lease is lost.

        `cost` is on the ledger by now, so it is taken from what the lease reserves. The text is kept only if the request's own texts
        are still there: they may have been erased meanwhile.
        """
        question = (
            f"UPDATE audit_samples SET shadow = CASE WHEN has_content = 1 THEN :shadow END, shadow_cost = shadow_cost + :cost,"  # noqa: S608 - constants
            " bound = CASE WHEN bound > :cost THEN bound - :cost ELSE 0 END, leased_until = :until"
            f" WHERE {_HELD}"
        )
        values = {"shadow": None if shadow is None else storable(shadow), "cost": cost, "until": now + seconds}
        return self._change(question, {**values, **_lease_values(leased)})

    def finish(self, leased: Leased, grading: Grading, now: float) -> bool:
        """Put the grading on record; the sample is graded, or skipped. False, and nothing is changed, if the lease is lost.

        A graded sample gets the policy's next number. Write the calls to the ledger before: the lease's bound is free afterwards.
        """
        skipped = grading.skipped
        number = (
            "(SELECT coalesce(max(number), 0) + 1 FROM audit_samples WHERE policy = :policy)" if not skipped else "0"
        )
        question = (
            f"UPDATE audit_samples SET state = :state, owner = '', leased_until = 0, bound = 0, graded_at = :now, number = {number},"  # noqa: S608 - constants
            " grader = :grader, score = :score, relation = :relation, reason = CASE WHEN has_content = 1 THEN :reason END,"
            f" skipped = :skipped, grading_cost = :cost WHERE {_HELD}"
        )
        values = {
            "state": "skipped" if skipped else "graded", "now": now, "policy": leased.sample.policy,
            "grader": storable(grading.grader), "score": grading.score, "relation": grading.relation, "skipped": skipped,
            "reason": None if grading.reason is None else storable(grading.reason), "cost": grading.cost,
        }  # fmt: skip
        return self._change(question, {**values, **_lease_values(leased)})

    def release(self, leased: Leased, *, retry_at: float = 0.0, tried: bool = True) -> None:
        """Give a lease back without a grading; the sample is not leased again before `retry_at`. Does nothing if it is lost.

        Not `tried`: the lease does not count in `tries`.
        """
        given_back = "owner = '', leased_until = :at, bound = 0, tries = tries - :untried"
        question = f"UPDATE audit_samples SET {given_back} WHERE {_HELD}"  # noqa: S608 - constants
        self._change(question, {"at": retry_at, "untried": int(not tried), **_lease_values(leased)})

    def give_back(self, policy: str, owner: str) -> None:
        """Free what an earlier process of this owner has leased, which is no try. Only where no other one can run."""
        question = (
            "UPDATE audit_samples SET owner = '', leased_until = 0, bound = 0, tries = tries - 1"
            " WHERE policy = :policy AND state = 'open' AND owner = :owner"
        )
        self._change(question, {"policy": policy, "owner": owner})

    def owners(self, policy: str) -> tuple[str, ...]:
        """Who has leases of the policy's open samples, whether they run or are over."""
        question = "SELECT DISTINCT owner FROM audit_samples WHERE policy = :policy AND state = 'open' AND owner <> ''"
        return tuple(owner for (owner,) in self._read(question, {"policy": policy}))

    def take_up(self, policy: str, until: float) -> None:
        """Free the open samples that were given back until exactly this time (`release`'s `retry_at`)."""
        question = (
            "UPDATE audit_samples SET leased_until = 0"
            " WHERE policy = :policy AND state = 'open' AND owner = '' AND leased_until = :until"
        )
        self._change(question, {"policy": policy, "until": until})

    def samples(self, policy: str | None = None, *, since: float = 0.0, until: float | None = None) -> Sequence[Sample]:
        """The samples by `at`, each with the newest real outcome that was reported (`ledger.gateway`'s feedback)."""
        question = f"SELECT {_SHIPPED} FROM audit_samples s WHERE s.at >= :since"  # noqa: S608 - constants
        values: dict[str, Any] = {"since": since}
        if policy is not None:
            question, values["policy"] = f"{question} AND s.policy = :policy", policy
        if until is not None:
            question, values["until"] = f"{question} AND s.at < :until", until
        return tuple(map(_sample, self._read(f"{question} ORDER BY s.at, s.request", values)))

    def counts(self, policy: str, now: float = 0.0) -> Mapping[str, int]:
        """How many samples are "open", "leased" (of the open ones, at `now`), "graded" and "skipped"."""
        question = (
            "SELECT state, count(*), sum(CASE WHEN owner <> '' AND leased_until > :now THEN 1 ELSE 0 END)"
            " FROM audit_samples WHERE policy = :policy GROUP BY state"
        )
        found = {"open": 0, "leased": 0, "graded": 0, "skipped": 0}
        for state, count, leased in self._read(question, {"policy": policy, "now": now}):
            found[state] = int(count)
            found["leased"] += int(leased)
        return found

    def leased_for(self, policy: str, now: float) -> float:
        """In how many seconds all leases that run now are over; 0: none runs."""
        question = (
            "SELECT max(leased_until) FROM audit_samples"
            " WHERE policy = :policy AND state = 'open' AND owner <> '' AND leased_until > :now"
        )
        found = self._read(question, {"policy": policy, "now": now})
        return float(found[0][0]) - now if found and found[0][0] is not None else 0.0

    def add_control(self, policy: str, control: Control) -> None:
        """Put a judgement of a control item on record."""
        question = (
            "INSERT INTO audit_controls (policy, judge, is_right, relation, at, cost)"
            " VALUES (:policy, :judge, :is_right, :relation, :at, :cost)"
        )
        values = {
            "policy": policy, "judge": control.judge, "is_right": int(control.is_right), "relation": control.relation,
            "at": control.at, "cost": control.cost,
        }  # fmt: skip
        self._change(question, values, make=True)

    def controls(self, policy: str, *, since: float = 0.0) -> Sequence[Control]:
        """The judgements of control items, oldest first."""
        question = (
            "SELECT judge, is_right, relation, at, cost FROM audit_controls"
            " WHERE policy = :policy AND at >= :since ORDER BY at, id"
        )
        found = self._read(question, {"policy": policy, "since": since})
        return tuple(Control(judge, bool(is_right), *rest) for judge, is_right, *rest in found)

    def ratchet(self, policy: str) -> Ratchet | None:
        """How far a policy was ratcheted; None: never."""
        question = "SELECT policy, certificate, step, at FROM audit_ratchets WHERE policy = :policy"
        found = self._read(question, {"policy": policy})
        return Ratchet(*found[0]) if found else None

    def step_ratchet(self, before: Ratchet | None, after: Ratchet) -> bool:
        """Replace `before` by `after`. False, and nothing is changed, if another worker was first."""
        values = {"policy": after.policy, "certificate": after.certificate, "step": after.step, "at": after.at}
        if before is None:
            question = (
                "INSERT INTO audit_ratchets (policy, certificate, step, at) VALUES (:policy, :certificate, :step, :at)"
                " ON CONFLICT DO NOTHING"
            )
            return self._change(question, values, make=True)
        question = (
            "UPDATE audit_ratchets SET certificate = :certificate, step = :step, at = :at"
            " WHERE policy = :policy AND certificate = :old AND step = :old_step AND at = :old_at"
        )
        old = {"old": before.certificate, "old_step": before.step, "old_at": before.at}
        return self._change(question, {**values, **old})

    def add_mark(self, mark: Mark) -> None:
        """Put something that happened on record."""
        question = "INSERT INTO audit_marks (policy, at, kind, details) VALUES (:policy, :at, :kind, :details)"
        details = json.dumps(dict(mark.details), sort_keys=True)
        self._change(question, {"policy": mark.policy, "at": mark.at, "kind": mark.kind, "details": details}, make=True)

    def marks(self, policy: str, *, since: float = 0.0) -> Sequence[Mark]:
        """What happened, in the order in which it was put on record: workers' clocks differ, and who looks longer marks later."""
        question = (
            "SELECT policy, at, kind, details FROM audit_marks WHERE policy = :policy AND at >= :since ORDER BY id"
        )
        found = self._read(question, {"policy": policy, "since": since})
        return tuple(Mark(name, at, kind, json.loads(details)) for name, at, kind, details in found)

    @contextmanager
    def _alone(self, *, make: bool = False) -> Generator[Execute]:
        """A transaction beside which no other worker leases or finishes."""
        with self._transaction(make=make) as execute:
            if self._is_postgres:
                execute("SELECT pg_advisory_xact_lock(:lock)", {"lock": _LOCK})
            yield execute

    def _change(self, question: str, values: Mapping[str, Any], *, make: bool = False) -> bool:
        """Whether a row was changed. Not if there is no ledger, and not `make`."""
        try:
            with self._alone(make=make) as execute:
                return execute(question, values).rowcount > 0
        except NoLedger:
            return False


def _lease_values(leased: Leased) -> dict[str, Any]:
    return {"request": leased.sample.request, "owner": leased.owner, "number": leased.tries + 1}


def _sample(row: Sequence[Any]) -> Sample:
    """A row of `_SHIPPED`."""
    (request, at, policy, epoch, task, why, rung, place, is_top, confidence, source, cost, estimate, workflow, flags,
     degraded, has_content, executed_by, state, graded_at, number, shadow, shadow_cost, outcome, *graded) = row  # fmt: skip
    return Sample(
        request, at, policy, epoch, task, why, rung, place, bool(is_top), confidence, source, cost, estimate, workflow,
        tuple(json.loads(flags)), degraded, bool(has_content), state, graded_at, number,
        None if state == "open" else Grading(*graded), shadow, shadow_cost, outcome, executed_by,
    )  # fmt: skip
