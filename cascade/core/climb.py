"""The climb, without I/O: a generator that yields what it needs and is sent what came of it.

    climb ── Ask(rung) ──────────> driver          the driver calls the model, or reads a corpus
    climb <─ Reply | Failure | Recorded ─ driver
    climb ── Observation ────────> driver          the driver asks the storm guard and reads the clock
    climb <─ Situation ─────────── driver
    climb ── Ask(rung) ──────────> driver          where a budget does not allow the call:
    climb <─ Refusal ───────────── driver          the rule decides again, now out of budget
    … until the rule ships: the generator returns the Answer, or raises a ClimbError with the trail.

Live and replay run this one generator, so they differ only in who answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from cascade.core import prices
from cascade.core.budgets import Refusal
from cascade.core.decision import Abstain, Call, Ship, Situation, decide, own_reason
from cascade.core.errors import AllRungsFailed, BudgetExceeded, DeadlineExceeded, UpstreamRejected
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.policy import OTHER, Policy
from cascade.core.policy.certificate import UNCERTIFIED, Escalation
from cascade.core.scoring import Facts, scored
from cascade.core.signals import Match, Signals
from cascade.core.text.parsing import Repair
from cascade.core.trail import NATURAL, Answer, Degraded, Step, Verdict
from cascade.core.triage import check_request, read_reply, wants_triage

__all__ = [
    "Accept",
    "Ask",
    "BoundCheck",
    "Climb",
    "Observation",
    "Outcome",
    "Plan",
    "Recorded",
    "apply_checks",
    "climb",
    "step_of",
]

_NOT_PROVED = frozenset(
    {"error", "deadline", "budget", "storm"}
)  # these stop a live climb; the corpus has none of them

Accept = Callable[[str], Any]
"""Turns an answer's JSON text into the caller's type; raises, usually ValueError, if it does not fit."""


@dataclass(frozen=True, slots=True)
class BoundCheck:
    """A check, ready to be called with the answer's text. Only True passes."""

    name: str
    test: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy, ready to run.

    `rates`: prices by rung index. `checks`: by task, besides `shared_checks`. `repair`: the parser for broken JSON, if one
    is installed. `certificate`: the text that answers carry. `stale`: the parts of the policy that changed since it was
    certified. `escalation`: the certified escalation rates, for the storm guard.
    """

    policy: Policy
    rates: tuple[prices.Rates, ...]
    signals: Signals
    checks: Mapping[str, tuple[BoundCheck, ...]]
    shared_checks: tuple[BoundCheck, ...]
    repair: Repair | None = None
    certificate: str = UNCERTIFIED
    stale: tuple[str, ...] = ()
    escalation: Escalation = field(default_factory=Escalation)


@dataclass(frozen=True, slots=True)
class Ask:
    """Requests the reply of the rung at `index`. `steps`: those before it, each with its escalation reason."""

    index: int
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """Reports a step, and requests the Situation after it.

    `natural`: whether the reply by itself would have escalated, whatever the guard did (None: not counted by the guard).
    `failed`: the call failed. `storm_cost`: nano-USD of this step if a storm caused it, else 0. `steps`: the trail,
    including this step.
    """

    task: str
    index: int
    rung: str
    natural: bool | None
    failed: bool
    storm_cost: int = 0
    steps: tuple[Step, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A rung's reply from a corpus: its verdict, usage and cost in nano-USD."""

    verdict: Verdict
    usage: Usage = Usage()
    cost: int = 0


Outcome = Reply | Failure | Recorded
Climb = Generator[Ask | Observation, Outcome | Refusal | Situation, Answer]


def climb(
    plan: Plan,
    request: Request,
    *,
    checks: tuple[BoundCheck, ...] = (),
    accept: Accept | None = None,
) -> Climb:
    """Climb the ladder for one request.

    `checks`: the caller's, besides the policy's. `accept`: parses the answer into the caller's type.
    Raises RequestError before the first call if a rung cannot take the request. UpstreamRejected, AllRungsFailed,
    DeadlineExceeded and BudgetExceeded carry the trail.
    """
    policy = plan.policy
    check_request(request, policy.ladder)
    match = plan.signals.classify(request)
    all_checks = (*plan.shared_checks, *plan.checks.get(match.task, ()), *checks)
    taken: list[Step] = []
    after_storm = False
    situation = Situation(floor=match.floor)
    refusal: Refusal | None = None
    while True:
        steps = tuple(taken)
        decision = decide(policy, match.task, steps, situation)
        if isinstance(decision, Ship):
            return _answer(plan, request, match, steps, decision.step, decision.degraded)
        if isinstance(decision, Abstain):
            return _exhausted(plan, request, match, steps, decision.why, refusal)
        if decision.reason is not None:
            taken[-1] = replace(taken[-1], reason=decision.reason)
        outcome = yield Ask(decision.index, match.task, tuple(taken))
        if isinstance(outcome, Refusal):
            refusal = outcome
            if not taken:
                problem = f"{refusal.message}: nothing was asked and nothing was paid"
                raise BudgetExceeded(problem, refused=refusal.message)
            taken[-1] = replace(taken[-1], reason=None)  # it did not escalate after all
            situation = replace(situation, out_of="budget")  # a storm stays in force
            continue
        assert not isinstance(outcome, Situation), "the driver must send an outcome or a Refusal for an Ask"
        # Without the storm neither this step nor any after it would have been taken.
        after_storm = after_storm or decision.reason == "storm"
        step = step_of(plan, request, decision, outcome, all_checks, accept)
        if policy.scorer is not None and step.index != policy.top:
            facts = Facts(request.turn_characters(), match.task, (*(one.verdict for one in taken), step.verdict))
            step = replace(step, verdict=scored(policy, facts))
        taken.append(step)
        if isinstance(outcome, Failure) and outcome.kind == "rejected":
            raise UpstreamRejected(
                f"{step.rung} ({step.model}): the endpoint refused the request, HTTP {outcome.status}:"
                f" {outcome.message}",
                status=outcome.status or 0,
                request_id=outcome.request_id,
                steps=tuple(taken),
            )
        latest = yield _observation(policy, match, tuple(taken), after_storm=after_storm)
        assert isinstance(latest, Situation), "the driver must send a Situation for an Observation"
        # A hold lasts for the whole climb; the floor comes from the request itself.
        storm = "hold" if situation.storm == "hold" else latest.storm
        if (storm, latest.out_of) != (situation.storm, situation.out_of):
            situation = Situation(storm, latest.out_of, match.floor)


def step_of(
    plan: Plan,
    request: Request,
    call: Call,
    outcome: Outcome,
    checks: tuple[BoundCheck, ...],
    accept: Accept | None,
) -> Step:
    """The outcome of a call as a step: verdict, checks and cost. The scorer is not applied here."""
    rung, rates = plan.policy.ladder[call.index], plan.rates[call.index]
    if isinstance(outcome, Recorded):
        verdict = apply_checks(outcome.verdict, checks, accept)
        return Step(call.index, rung.rung, rung.model, verdict, outcome.usage, outcome.cost)
    if isinstance(outcome, Failure):
        kind = "overflow" if outcome.kind == "overflow" else "failed"
        verdict = Verdict(kind, detail=outcome.summary)
    else:
        verdict = read_reply(
            outcome,
            triage=wants_triage(plan.policy, call.index),
            structured=request.schema is not None,
            in_text=request.prompt_schema is not None,
            repair=plan.repair,
        )
        verdict = apply_checks(verdict, checks, accept)
    usage = sum(outcome.spent, outcome.usage)
    cost = prices.total(rates, outcome.billed)
    return Step(
        call.index,
        rung.rung,
        rung.model,
        verdict,
        usage,
        cost,
        outcome.attempts,
        outcome.latency_s,
        outcome.request_id,
    )


def apply_checks(verdict: Verdict, checks: tuple[BoundCheck, ...], accept: Accept | None) -> Verdict:
    """The verdict with the names of the checks that failed. A recorded answer without its text is not checked again."""
    if verdict.kind != "answered" or verdict.text is None or not (checks or accept):
        return verdict
    failed: list[str] = []
    data = verdict.data
    if accept is not None:
        try:
            data = accept(verdict.text)
        except Exception as problem:  # noqa: BLE001 - the caller's validators may raise anything: the answer was paid for
            failed.append(f"response_model ({type(problem).__name__})")
    for check in checks:
        try:
            passed = check.test(verdict.text)
        except Exception as problem:  # noqa: BLE001 - a caller's function may raise anything: the answer was paid for
            failed.append(f"{check.name} (raised {type(problem).__name__})")
            continue
        if passed is not True:
            failed.append(check.name if passed is False else f"{check.name} (returned {type(passed).__name__})")
    if failed or data is not verdict.data:
        return replace(verdict, failed_checks=tuple(failed), data=None if failed else data)
    return verdict


def _observation(policy: Policy, match: Match, steps: tuple[Step, ...], *, after_storm: bool) -> Observation:
    route, step = policy.route(match.task), steps[-1]
    reason = own_reason(route, policy.top, step)
    counted = step.index != policy.top and route.thresholds[step.index] is not None
    natural = None if not counted or reason in ("error", "overflow") else reason in NATURAL
    cost = step.cost_nanousd if after_storm else 0
    return Observation(match.task, step.index, step.rung, natural, reason == "error", cost, steps)


def _exhausted(
    plan: Plan, request: Request, match: Match, steps: tuple[Step, ...], why: Degraded, refusal: Refusal | None
) -> Answer:
    """No answer may be shipped: an answer without text, or the error that says why, as the policy has it."""
    if plan.policy.exhausted == "abstain":
        return _answer(plan, request, match, steps, None, why)
    groups = groupby(steps, key=lambda step: f"{step.verdict.kind}{_detail(step)}")
    tried = "; ".join(f"{', '.join(step.rung for step in alike)}: {what}" for what, alike in groups)
    spent = f"{sum(step.cost_nanousd for step in steps) / 1e9:.6f} USD"
    if why == "deadline":
        message = f"the deadline passed before any rung had an answer ({tried}; spent {spent}; raise deadline_s)"
        raise DeadlineExceeded(message, steps=steps)
    if why == "budget":
        refused = refusal.message if refusal else "the budget is exhausted"
        message = f"{refused}, and no rung had an answer before ({tried}; spent {spent})"
        raise BudgetExceeded(message, refused=refused, steps=steps)
    message = f"no rung had an answer that may be shipped ({tried}; stopped by {why}; spent {spent})"
    if all(step.verdict.kind == "failed" for step in steps):
        message += "; check the endpoint: `cascade doctor`"
    raise AllRungsFailed(message, steps=steps)


def _detail(step: Step) -> str:
    detail = ", ".join(step.verdict.failed_checks) or step.verdict.detail
    return f" [{detail}]" if detail else ""


def _answer(
    plan: Plan,
    request: Request,
    match: Match,
    steps: tuple[Step, ...],
    shipped: Step | None,
    degraded: Degraded | None,
) -> Answer:
    verdict = shipped.verdict if shipped else Verdict("failed")
    usage, cost, attempts, latency_s = steps[0].usage, steps[0].cost_nanousd, steps[0].attempts, steps[0].latency_s
    for step in steps[1:]:
        usage, cost = usage + step.usage, cost + step.cost_nanousd
        attempts, latency_s = attempts + step.attempts, latency_s + step.latency_s
    return Answer(
        text=verdict.text,
        data=verdict.data,
        rung=shipped.rung if shipped else None,
        model=shipped.model if shipped else None,
        confidence=verdict.confidence,
        confidence_source=verdict.source,
        steps=steps,
        usage=usage,
        cost_nanousd=cost,
        degraded=degraded if shipped else None,
        abstained=None if shipped else degraded,
        attempts=attempts,
        latency_s=latency_s,
        request_id=request.id,
        task=match.task,
        flags=tuple(sorted(match.flags)),
        metadata=request.metadata,
        policy=plan.policy.name,
        policy_hash=plan.policy.hash,
        certificate=UNCERTIFIED if shipped is None or degraded in _NOT_PROVED else plan.certificate,
    )
