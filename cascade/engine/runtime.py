"""What a driver holds: policy and plans, mode, state, budgets, hooks and clocks. Nothing here calls a model."""

from __future__ import annotations

import random
import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cascade.budgets.allowance import Allowance
from cascade.budgets.gate import Gate
from cascade.budgets.notices import Notices
from cascade.core.arms import LADDER_ARMS, PLAN_ARMS, Arm
from cascade.core.bound_policy import Accept, BoundCheck, BoundPolicy
from cascade.core.climb import WHOLE, Climb, Reading, climb
from cascade.core.decision import Start
from cascade.core.early import can_refuse
from cascade.core.equal_requests import is_cached
from cascade.core.errors import ConfigurationError, UncertifiedWarning
from cascade.core.estimates import baseline_estimate
from cascade.core.messages import Request
from cascade.core.modes import arm_of, share_of, slot_of, unit_of
from cascade.core.planning.part import Part
from cascade.core.policy import OTHER, Policy, Rung
from cascade.core.policy.certificate import UNCERTIFIED
from cascade.core.policy.operations import Mode
from cascade.core.text.suggestions import closest
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments, OnEnd, default_policy
from cascade.engine.marking import Marking
from cascade.engine.mode_switch import ModeSwitch
from cascade.engine.outcomes import keep_outcome, read_outcome, without_note
from cascade.engine.prompt_marks import PromptIntervals
from cascade.engine.ratchet import RatchetInForce
from cascade.hooks import Begun, Hook, Tracks, begin
from cascade.ledger.audit import AuditTables
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger, open_reader, spent_lookup
from cascade.ledger.stores import Reader
from cascade.logs import log_event, warn_caller
from cascade.policy.binding import bind_baseline, bind_policy, bind_single
from cascade.policy.certificates import warn_of_changes
from cascade.policy.checks import bind_callables
from cascade.policy.loading import load_policy
from cascade.response_cache import open_cache
from cascade.response_cache.identities import policy_identities
from cascade.state.opening import open_state

__all__ = ["RequestContext", "Runtime", "RuntimeOptions"]

_ON_LADDER = frozenset({"cascade", "executor", *PLAN_ARMS})  # whose calls are of rungs of the ladder
_MARKS_S = 2.0  # `close` waits so long for the marks
_MAX_LOGGED = 1024  # log keys kept: a caller who names a task per customer must not fill the memory
_warned_uncertified: set[str] = set()  # policies, once per process


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where a driver keeps its ledger and state, its hooks, its clocks and its source of randomness.

    `ledger`, `state`, `cache`: addresses; None: the environment's, else the defaults. `ledger` "off": no ledger. `cache`: of the
    response cache, for policies that have one. `clock` gives seconds from any origin, `wall` Unix seconds. `endpoint`: where the
    driver's models are asked (`cached.endpoint_of`).
    """

    ledger: str | Path | None = None
    state: str | None = None
    cache: str | Path | None = None
    hooks: Sequence[Hook] = ()
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    chance: random.Random = field(default_factory=random.Random)
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One running request.

    `arm`: who answers it (`core.modes`). `slot`: its place in the rollout. `started` and `time_out_at` are on the driver's
    clock. `shadow_of`: the id of the request whose shadow this is. `reading`: whether replies are decided at their first
    tokens. `key` and `session`: by which a tool loop is remembered. `notes`: told on the answer, before its own. `cache_key`: under
    which the response cache knows it; None if it does not use the cache.
    """

    request: Request
    plan: BoundPolicy
    arm: Arm
    slot: int
    started: float
    time_out_at: float
    checks: tuple[BoundCheck, ...] = ()
    accept: Accept | None = None
    shadow_of: str | None = None
    reading: Reading = WHOLE
    key: str = ""
    session: str = ""
    notes: tuple[str, ...] = ()
    on_end: OnEnd | None = None
    cache_key: bytes | None = None
    part: Part | None = None
    given_start: Start | None = None
    allowance: Allowance | None = None

    def begin(self, start: Start) -> Climb:
        """The request's climb, which raises RequestError at its first step if a rung cannot take the request."""
        return climb(
            self.plan, self.request, checks=self.checks, accept=self.accept, start=start, reading=self.reading
        )  # fmt: skip

    @property
    def is_guarded(self) -> bool:
        """Whether the storm guard counts this request: only those that the ladder answers."""
        return self.arm in ("cascade", "executor")


class Runtime:
    """The runtime of one driver. Safe between threads."""

    def __init__(self, policy: Policy | str | Path | None, options: RuntimeOptions) -> None:
        _check(options)
        chosen = default_policy() if policy is None else policy
        self.policy = chosen if isinstance(chosen, Policy) else load_policy(chosen)
        self.options = options
        self.plan = bind_policy(self.policy)
        self.baseline = bind_baseline(self.plan)
        self._index = {rung.rung: number for number, rung in enumerate(self.policy.ladder)}
        self._singles: dict[str, BoundPolicy] = {}
        self.intervals = PromptIntervals(options.clock) if self.policy.prompt_cache == "auto" else None
        self._switch = ModeSwitch(self.policy.name, self.policy.mode)
        self._logged: set[str] = set()
        has_ledger = self.policy.ledger.enabled and options.ledger != "off"
        address = None if options.ledger is None else str(options.ledger)
        self._writer = open_ledger(address, self.policy.ledger) if has_ledger else None
        self._outcomes = GatewayTables(address) if has_ledger else None
        self.hooks: tuple[Hook, ...] = tuple(options.hooks)
        if self._writer is not None:
            self.hooks = (LedgerHook(self._writer, self.policy.ledger), *self.hooks)
        seed = spent_lookup(address) if has_ledger else None
        self._marking = Marking(self.policy, address, options.wall) if has_ledger else None
        told, noticed = (self._marking.changed, self._marking.noticed) if self._marking is not None else (None, None)
        self.notices = Notices(self.policy, noticed)
        self.state = open_state(options.state, self.policy, self.plan.escalation, options.clock, seed=seed, told=told)
        self.ratchet: RatchetInForce | None = None
        if has_ledger and self.policy.audit is not None and self.policy.audit.on_alarm == "ratchet":
            tables, name = AuditTables(address, seconds=2.0), self.policy.name
            self.ratchet = RatchetInForce(
                self.plan, lambda: tables.ratchet(name), self.state.expect, options.clock()
            )  # fmt: skip
        address = None if options.cache is None else str(options.cache)
        self.cache = open_cache(address, self.policy, clock=options.clock, wall=options.wall)
        self.functions = policy_identities(self.policy) if self.cache is not None else ()
        self.gate = Gate(self.policy, self.state, self.notices, wall=options.wall)
        # Computing a bound reads the whole prompt, so it is done only where something needs it.
        self.needs_bounds = self.gate.has_budgets or (has_ledger and self.policy.ledger.durability == "commit")
        # A budget that may refuse the next call: the answer so far must be kept for it.
        self._may_close = not can_refuse(self.policy)
        warn_of_changes(self.policy, self.plan.stale)

    def read(self, arguments: Arguments) -> tuple[Request, Arm]:
        """The request, and who answers it. Raises RequestError if the arguments are invalid."""
        request = arguments.request()
        self.warn_unknown_task(request.task)
        if arguments.cache:
            is_cached(self.policy, arguments.cache, None)  # raises if the policy has no response cache
        if arguments.part is not None:
            return request, arguments.part.role
        if request.raw is not None:
            return request, "bypass"
        arm = arm_of(self._switch.mode(), self.policy.rollout, self.policy.name, self._unit(request))
        return request, arm

    def ladder_of(self, arm: Arm) -> tuple[Rung, ...]:
        """The rungs that may be called for this arm, the other models that vote at them, and those that summarise."""
        if arm not in _ON_LADDER:
            return self.baseline.policy.ladder
        beside = tuple(rung for rung, _ in self.plan.auxiliaries.values())
        return self.policy.ladder + self.policy.panel + beside

    def start(self, arguments: Arguments, request: Request, arm: Arm) -> RequestContext:
        """Begin a request. Its deadline runs from here."""
        if arm in ("cascade", "executor"):
            self._warn_uncertified()
        checks, accept = bind_callables(arguments.checks), arguments.accept
        slot = slot_of(self.policy.rollout, self.policy.name, self._unit(request))
        started = self.options.clock()
        part, allowance = arguments.part, arguments.allowance
        plan = self._plan_of(arm, started, part.rung if part is not None else "")
        time_out_at = started + (arguments.deadline_s or self.policy.deadline_s)
        reading = Reading(
            self.policy.early_stop or arguments.streamed,
            arguments.streamed,
            self._may_close and not (allowance is not None and allowance.is_limited),
            messages=arguments.is_message,
        )
        return RequestContext(
            request, plan, arm, slot, started, time_out_at, checks, accept,
            reading=reading, key=arguments.key, session=arguments.session, notes=arguments.notes,
            on_end=arguments.on_end, part=part, given_start=arguments.start, allowance=allowance,
        )  # fmt: skip

    def _plan_of(self, arm: Arm, now: float, rung: str = "") -> BoundPolicy:
        """What answers on this arm. `rung`: who plans or reviews."""
        if arm in PLAN_ARMS:
            return self._singles.setdefault(rung, bind_single(self.plan, self.policy.ladder[self._index[rung]]))
        if arm not in _ON_LADDER:
            return self.baseline
        plan = self.plan if self.ratchet is None else self.ratchet.plan(now)
        return (
            plan if arm == "cascade" else replace(plan, certificate=UNCERTIFIED)
        )  # of other prompts than an executor's

    def _unit(self, request: Request) -> str | None:
        unit = unit_of(self.policy.rollout, request.metadata, request.id)
        if unit is None and self._is_first("rollout unit"):
            by = self.policy.rollout.by if self.policy.rollout else ""
            hint = f"give metadata={{{by!r}: …}}: requests without it go to the baseline, as the holdout"
            log_event("warning", "rollout_unit_missing", policy=self.policy.name, by=by, hint=hint)
        return unit

    def begin(self, context: RequestContext, task: str) -> Tracks:
        """Notify the hooks that a request begins."""
        cache = None if context.cache_key is None else "hit" if context.arm == "cache" else "miss"
        begun = Begun(
            context.plan,
            context.request,
            task,
            context.arm,
            self.options.wall(),
            context.slot,
            context.shadow_of,
            cache,
            context.part,
        )
        return begin(self.hooks, begun, self.log_hook_failure)

    def baseline_estimate(self, context: RequestContext, answer: Answer) -> int | None:
        """What the baseline alone would have cost. It is not asked again where a reviewer sends the result of a subtask back."""
        if context.arm not in LADDER_ARMS:
            return None
        if context.part is not None and context.part.attempt:
            return 0
        return baseline_estimate(context.plan, self.baseline.rates[0], answer)

    def elapsed(self, context: RequestContext) -> float:
        """Seconds since the request began."""
        return self.options.clock() - context.started

    def is_sampled(self, context: RequestContext) -> bool:
        """Whether this request, which the baseline answered, gets a shadow request."""
        return context.arm == "observe" and share_of("observe", context.request.id) < self.policy.observe.sample

    def mode(self) -> Mode:
        """The mode in force. Warns, as a request of the ladder does, where no certificate proves the thresholds."""
        mode = self._switch.mode()
        if mode == "enforce":
            self._warn_uncertified()
        return mode

    def ratchet_step(self) -> int:
        """The step that the audit's ratchet has reached."""
        return self._plan_of("cascade", self.options.clock()).ratchet

    def ledger(self) -> tuple[Callable[[float], bool], Callable[[], Reader]] | None:
        """How to write what waits, within seconds, and how to read it; None without a ledger."""
        if self._writer is None:
            return None
        address = self.options.ledger
        return self._writer.flush, partial(open_reader, None if address is None else str(address))

    def report_outcome(self, request_id: str, right: bool | float, note: str | None) -> None:
        """Put on record what came of an answer. See `cascade.report_outcome`."""
        said = read_outcome(request_id, right, note, at=self.options.wall())
        keep_outcome(self._outcomes, said if self.policy.ledger.content else without_note(said))

    def close(self) -> None:
        """Give back what is reserved, and write the ledger. It may wait for a slow disk, for a bounded time."""
        self.state.close()
        if self.cache is not None:
            self.cache.close()
        if self._writer is not None:
            self._writer.flush()
        if self._marking is not None:
            self._marking.close(_MARKS_S)

    def log_shadow_failure(self, error: BaseException) -> None:
        """Log that a shadow request failed; once per type of error."""
        if self._is_first(f"shadow {type(error).__name__}"):
            hint = "the caller has the baseline's answer; `cascade doctor` checks the ladder's endpoints"
            if isinstance(error, CancelledError):
                hint = "the loop ended first: `await driver.aclose()`, or use the driver as a context manager"
            log_event("warning", "observe_failed", error=type(error).__name__, hint=hint)

    def log_uncached(self, why: str) -> None:
        """Log, once per cause, that a request which the policy would cache cannot be."""
        if self._is_first(f"uncached {why}"):
            log_event(
                "warning", "not_cached", policy=self.policy.name, why=why, hint="the request is answered without it"
            )

    def log_hook_failure(self, name: str, problem: Exception) -> None:
        """Log that a hook failed; once per hook."""
        if self._is_first(f"hook {name}"):
            hint = "requests go on without this hook; logged once"
            log_event("error", "hook_failed", hook=name, error=type(problem).__name__, hint=hint)

    def _warn_uncertified(self) -> None:
        """Warn, once per process and policy, that no certificate proves the thresholds."""
        if self.plan.certificate != UNCERTIFIED or self.plan.stale or self.policy.name in _warned_uncertified:
            return
        warn_caller(
            f"policy {self.policy.name}: its thresholds are a guess, no certificate proves them (run `cascade calibrate` on a"
            " corpus of your own, or start with mode: observe)",
            UncertifiedWarning,
        )
        _warned_uncertified.add(self.policy.name)

    def _is_first(self, key: str) -> bool:
        if key in self._logged or len(self._logged) >= _MAX_LOGGED:
            return False
        self._logged.add(key)
        return True

    def warn_unknown_task(self, task: str | None) -> None:
        """Log, once per task, that the policy does not define it: it may be a label, or a typo that loses a floor."""
        if task is None or not self.policy.tasks or task == OTHER or not self._is_first(f"task {task}"):
            return
        names = [known.name for known in self.policy.tasks]
        if task not in names:
            meant = closest(task, names)
            hint = {"did_you_mean": meant} if meant else {}
            log_event("warning", "task_unknown", policy=self.policy.name, task=task, **hint)


def _check(options: RuntimeOptions) -> None:
    given: Any = options  # callers may ignore the types
    if given.ledger is not None and not isinstance(given.ledger, (str, Path)):
        raise ConfigurationError(f'ledger: {given.ledger!r} is not an address (give a path, postgresql://… or "off")')
    if given.state is not None and not isinstance(given.state, str):
        raise ConfigurationError(
            f"state: {type(given.state).__name__} is not an address (give redis://… or leave it out)"
        )
    if given.cache is not None and not isinstance(given.cache, (str, Path)):
        raise ConfigurationError(
            f"cache: {given.cache!r} is not an address (give a path or redis://…, or leave it out)"
        )
