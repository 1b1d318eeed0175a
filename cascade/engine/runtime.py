"""What a driver has at hand: policy and plans, mode, state, budgets, hooks and clocks. Nothing here talks to a model."""

from __future__ import annotations

import random
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascade.budgets.gate import Gate
from cascade.budgets.notices import Notices
from cascade.core.climb import Accept, BoundCheck, Climb, Plan, climb
from cascade.core.errors import ConfigurationError, UncertifiedWarning
from cascade.core.messages import Request
from cascade.core.modes import arm_of, share_of, slot_of, unit_of
from cascade.core.policy import OTHER, Policy, Rung
from cascade.core.policy.certificate import UNCERTIFIED
from cascade.core.suggestions import closest
from cascade.core.trail import Arm
from cascade.engine.arguments import AskArguments, default_policy
from cascade.engine.mode_switch import Switch
from cascade.engine.response_types import response_type
from cascade.hooks import Begun, Hook, Tracks, begin
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger, spent_lookup
from cascade.logs import log_event, warn_caller
from cascade.policy.certificates import warn_of_changes
from cascade.policy.checks import bind_callables
from cascade.policy.loading import load_policy
from cascade.policy.plans import baseline_plan, make_plan
from cascade.state.opening import open_state

__all__ = ["RequestContext", "Runtime", "RuntimeOptions"]

_MOST_TOLD = 1024  # unknown tasks; a caller who names one a customer must not fill the memory
uncertified_told: set[str] = set()
"""Policies that were warned of as uncertified: once a process."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where a driver keeps books and shares state, who else is told, and its clocks and chance.

    `ledger`, `state`: addresses; None: the environment's, else the defaults; `ledger` "off": none. `clock` gives seconds
    from any origin, `wall` Unix seconds.
    """

    ledger: str | Path | None = None
    state: str | None = None
    hooks: Sequence[Hook] = ()
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    chance: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request on its way: who answers it, its climb, and when its time is out (on the driver's clock)."""

    request: Request
    plan: Plan
    climb: Climb
    arm: Arm
    slot: int
    started: float
    time_out_at: float
    checks: tuple[BoundCheck, ...] = ()
    accept: Accept | None = None
    shadow_of: str | None = None

    @property
    def is_guarded(self) -> bool:
        """Whether the storm guard counts it: only what climbs tells of the traffic's escalation."""
        return self.arm == "cascade"


class Runtime:
    """One driver's; safe between threads."""

    def __init__(self, policy: Policy | str | Path | None, means: RuntimeOptions) -> None:
        _check(means)
        chosen = default_policy() if policy is None else policy
        self.policy = chosen if isinstance(chosen, Policy) else load_policy(chosen)
        self.means = means
        self.plan = make_plan(self.policy)
        self.baseline = baseline_plan(self.plan)
        self._switch = Switch(self.policy.name, self.policy.mode)
        self._told: set[str] = set()
        self.notices = Notices(self.policy)
        kept = self.policy.ledger.enabled and means.ledger != "off"
        address = None if means.ledger is None else str(means.ledger)
        self._writer = open_ledger(address, self.policy.ledger) if kept else None
        self.hooks: tuple[Hook, ...] = tuple(means.hooks)
        if self._writer is not None:
            self.hooks = (LedgerHook(self._writer, self.policy.ledger), *self.hooks)
        seed = spent_lookup(address) if kept else None
        self.state = open_state(means.state, self.policy, self.plan.escalation, means.clock, seed=seed)
        self.gate = Gate(self.policy, self.state, self.notices, wall=means.wall)
        # A bound is reckoned where somebody asks for it: it takes a look at the whole prompt.
        self.wants_bounds = self.gate.has_budgets or (kept and self.policy.ledger.durability == "commit")
        warn_of_changes(self.policy, self.plan.stale)

    def read(self, asked: AskArguments) -> tuple[Request, Arm]:
        """What is asked, and who answers it; RequestError where it cannot be asked."""
        request = asked.request()
        self._look_up(request.task)
        arm = arm_of(self._switch.mode(), self.policy.rollout, self.policy.name, self._unit(request))
        return request, arm

    def ladder_of(self, arm: Arm) -> tuple[Rung, ...]:
        """The rungs that may be called for it."""
        return (self.plan if arm == "cascade" else self.baseline).policy.ladder

    def start(self, asked: AskArguments, request: Request, arm: Arm) -> RequestContext:
        """Set a request on its way; its time runs from here."""
        plan = self.plan if arm == "cascade" else self.baseline
        if arm == "cascade":
            self._warn_of_guesses()
        checks = bind_callables(asked.options.get("checks") or ())
        accept = response_type(asked.response_model).read if asked.response_model is not None else None
        running = climb(plan, request, checks=checks, accept=accept)
        slot = slot_of(self.policy.rollout, self.policy.name, self._unit(request))
        started = self.means.clock()
        time_out_at = started + (asked.options.get("deadline_s") or self.policy.deadline_s)
        return RequestContext(request, plan, running, arm, slot, started, time_out_at, checks, accept)

    def _unit(self, request: Request) -> str | None:
        unit = unit_of(self.policy.rollout, request.metadata, request.id)
        if unit is None and self._once("rollout unit"):
            by = self.policy.rollout.by if self.policy.rollout else ""
            hint = f"give metadata={{{by!r}: …}}: requests without it go to the baseline, as the holdout"
            log_event("warning", "rollout_unit_missing", policy=self.policy.name, by=by, hint=hint)
        return unit

    def begin(self, context: RequestContext, task: str) -> Tracks:
        """Tell the hooks that a request begins."""
        begun = Begun(
            context.plan, context.request, task, context.arm, self.means.wall(), context.slot, context.shadow_of
        )
        return begin(self.hooks, begun, self._tell_hook)

    def is_sampled(self, context: RequestContext) -> bool:
        """Whether this request, which the baseline answered, is also put to the ladder."""
        return context.arm == "observe" and share_of("observe", context.request.id) < self.policy.observe.sample

    def close(self) -> None:
        """Give back what is held, and have what was told written. May wait for a slow disk, but not for ever."""
        self.state.close()
        if self._writer is not None:
            self._writer.flush()

    def tell_of_shadow(self, error: BaseException) -> None:
        """Say of a request that was put to the ladder beside its answer that this failed; once a kind."""
        if self._once(f"shadow {type(error).__name__}"):
            hint = "the caller had the baseline's answer; `cascade doctor` looks at the ladder's endpoints"
            if isinstance(error, CancelledError):
                hint = "the loop ended first: `await driver.aclose()`, or use the driver as a context manager"
            log_event("warning", "observe_failed", error=type(error).__name__, hint=hint)

    def _tell_hook(self, name: str, problem: Exception) -> None:
        if self._once(f"hook {name}"):
            hint = "requests go on without it; it is told once"
            log_event("error", "hook_failed", hook=name, error=type(problem).__name__, hint=hint)

    def _warn_of_guesses(self) -> None:
        """Say once a process that nothing proves the thresholds at work."""
        if self.plan.certificate != UNCERTIFIED or self.plan.stale or self.policy.name in uncertified_told:
            return
        warn_caller(
            f"policy {self.policy.name}: its thresholds are a guess, no certificate proves them (run `cascade calibrate` on a"
            " corpus of your own, or start with mode: observe)",
            UncertifiedWarning,
        )
        uncertified_told.add(self.policy.name)

    def _once(self, what: str) -> bool:
        if what in self._told or len(self._told) >= _MOST_TOLD:
            return False
        self._told.add(what)
        return True

    def _look_up(self, task: str | None) -> None:
        """Say once of a task that the policy has nothing for it: it may be a label, or a typo that loses a floor."""
        if task is None or not self.policy.tasks or task == OTHER or not self._once(f"task {task}"):
            return
        names = [known.name for known in self.policy.tasks]
        if task not in names:
            meant = closest(task, names)
            hint = {"did_you_mean": meant} if meant else {}
            log_event("warning", "task_unknown", policy=self.policy.name, task=task, **hint)


def _check(means: RuntimeOptions) -> None:
    given: Any = means  # what callers pass is not what the types say
    if given.ledger is not None and not isinstance(given.ledger, (str, Path)):
        raise ConfigurationError(f'ledger: {given.ledger!r} is no address (give a path, postgresql://… or "off")')
    if given.state is not None and not isinstance(given.state, str):
        raise ConfigurationError(f"state: {type(given.state).__name__} is no address (give redis://… or nothing)")
