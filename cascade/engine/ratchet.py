"""The ratchet in force: the plan at the step that the audit has raised a policy's thresholds to (`cascade audit`).

The step is kept in the ledger's database, where every process reads it: when its driver is made, and while requests come at most
every 5 s, on a thread of its own. No request waits for a read. What cannot be read changes nothing: the last known step stays, also
where the ledger's file was moved or deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy.certificate import Escalation
from cascade.forks import renew_in_children
from cascade.ledger.audit import Ratchet
from cascade.logs import log_event
from cascade.policy.ratchet import describe_step, ratcheted, step_in_force

__all__ = ["RatchetInForce"]

_EVERY_S = 5.0
_FIRST_S = 1.0


class RatchetInForce:
    """A policy's plan at its ratchet's step. Safe between threads. Making it waits for a first read, for at most `first_s` seconds.

    `read`: how far the policy was ratcheted, None: never; raises if that cannot be read. `expect`: called with the escalation
    rates of a step before it is in force. `now`: seconds on the clock of `plan`.
    """

    def __init__(
        self,
        plan: BoundPolicy,
        read: Callable[[], Ratchet | None],
        expect: Callable[[Escalation], None],
        now: float,
        *,
        first_s: float = _FIRST_S,
    ) -> None:
        self._written = self._plan = plan
        self._read, self._expect = read, expect
        self._found: Ratchet | None = None
        self._is_down = False
        self._next = now
        self.renew_lock()
        renew_in_children(self)
        self._start(now)
        reading = self._reading
        if reading is not None:
            reading.join(first_s)
            if reading.is_alive():
                self._told_down(f"no answer within {first_s:g} s")

    def renew_lock(self) -> None:
        """For `forks`: a child has no reading thread."""
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None

    def plan(self, now: float) -> BoundPolicy:
        """The plan in force. `now`: seconds on the driver's clock, which decides when the step is read again."""
        if now >= self._next:
            self._start(now)
        return self._plan

    def _start(self, now: float) -> None:
        with self._lock:
            if now < self._next:
                return
            self._next = now + _EVERY_S
            if self._reading is not None and self._reading.is_alive():
                return
            reading = threading.Thread(target=self._update, name="cascade-ratchet", daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending
                reading.start()
                self._reading = reading

    def _update(self) -> None:
        try:
            found = self._read()
        except Exception as problem:  # noqa: BLE001 - nobody waits for this thread, and requests go on whatever it is
            self._told_down(f"{type(problem).__name__}: {problem}")
            return
        if found is None and self._found is not None:  # a reset leaves a row with step 0
            self._told_down("the ledger that held it is gone")
            return
        self._is_down = False
        if found == self._found:
            return
        self._found = found
        policy, before = self._written.policy, self._plan.ratchet
        step = step_in_force(policy, found.certificate, found.step) if found is not None else 0
        if step == before:
            return
        plan = ratcheted(self._written, step)
        self._expect(plan.escalation)
        self._plan = plan
        log_event(
            "warning" if step > before else "info", "ratchet_changed", policy=policy.name, step=step, before=before,
            thresholds=describe_step(policy, step),
        )  # fmt: skip

    def _told_down(self, problem: str) -> None:
        """Log, once until it can be read again, that the step is not known."""
        if self._is_down:
            return
        self._is_down = True
        hint = "requests go on at the last known step; it is read again every 5 s while requests come"
        log_event(
            "error", "ratchet_unreadable", policy=self._written.policy.name, step=self._plan.ratchet, problem=problem,
            hint=hint,
        )  # fmt: skip
