"""The climb, without I/O: a generator that yields what it needs and is sent what came of it.

    climb ── Ask(rung) ──────────> driver          the driver calls the model, or reads a corpus (`core.events`
    climb <─ Reply | Failure | Recorded ─ driver   has the other things it may ask for: samples, checks, reviews)
    climb ── Observation ────────> driver          the driver asks the storm guard and reads the clock
    climb <─ Situation ─────────── driver
    climb ── Ask(rung) ──────────> driver          where a budget does not allow the call:
    climb <─ Refusal ───────────── driver          the rule decides again, now out of budget
    climb ── Ask(rung, early) ───> driver          where the confidence may decide before the answer is there:
    climb <─ Early(confidence) ─── driver
    climb ── Observation ────────> driver          as above; then the rule decides
    climb ── Finish(action) ─────> driver          the reply is read to its end, or its stream is closed
    climb <─ Reply | Failure ───── driver
    … until the rule ships: the generator returns the Answer, or raises a ClimbError with the trail.

Live and replay run this one generator, so they differ only in who answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from cascade.core.bound_policy import Accept, BoundCheck, BoundPolicy, Checks
from cascade.core.budgets import Refusal, usd_text
from cascade.core.carrying import check_carried
from cascade.core.changing import changed
from cascade.core.context import Context, context_of
from cascade.core.decision import Abstain, Call, Ship, Situation, Start, decide, own_reason
from cascade.core.early import can_close, can_ship
from cascade.core.errors import AllRungsFailed, BudgetExceeded, DeadlineExceeded, StreamBroken, UpstreamRejected
from cascade.core.events import Event, Finish, Taken, Taking
from cascade.core.handoff import Passing, carry_out, passing_of
from cascade.core.messages import Failure, Request
from cascade.core.notes import told, told_of_choice
from cascade.core.policy import Policy
from cascade.core.policy.certificate import UNCERTIFIED
from cascade.core.review import ask_review, may_review, needs_review
from cascade.core.sampling import finish_step, take_step
from cascade.core.scoring import Facts, scored
from cascade.core.signals import Match
from cascade.core.tools import forced
from cascade.core.trail import NATURAL, Answer, Degraded, Step, Verdict
from cascade.core.triage import check_request

__all__ = ["WHOLE", "Climb", "Observation", "Reading", "climb"]

_NOT_PROVED = frozenset(
    {"error", "deadline", "budget", "storm"}
)  # these stop a live climb; the corpus has none of them


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


Climb = Generator[Event | Observation, Any, Answer]
"""Yields the events of `core.events`, and an Observation after each step, for which it is sent a Situation."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the replies of a climb are read. `early`: they may be decided at their first tokens.

    `streamed`: the caller is given the shipped text as it comes. `may_close`: whether a low rung's text can be given up. Not
    where a budget could refuse the next call: the text might have to be shipped. `messages`: the caller reads messages of the
    API, which say why they ended: where nothing else may ship, the top rung's is returned as it is. `recorded`: the replies are
    there already, so no request is prepared for them.
    """

    early: bool = False
    streamed: bool = False
    may_close: bool = True
    messages: bool = False
    recorded: bool = False


WHOLE = Reading()
"""Every reply is read whole before anything is decided."""


def climb(
    plan: BoundPolicy,
    request: Request,
    *,
    checks: tuple[BoundCheck, ...] = (),
    accept: Accept | None = None,
    start: Start | None = None,
    reading: Reading | None = None,
) -> Climb:
    """Climb the ladder for one request.

    `checks`: the caller's, besides the policy's. `accept`: parses the answer into the caller's type. `start`: where the
    climb begins, and `reading` how replies are read; the policy's `early_stop` decides where it is None.
    Raises RequestError before the first call if a rung cannot take the request. UpstreamRejected, AllRungsFailed,
    DeadlineExceeded, BudgetExceeded and StreamBroken carry the trail.
    """
    policy = plan.policy
    start = start or Start()
    reading = reading or Reading(early=policy.early_stop)
    _check(request, policy)
    match = plan.signals.classify(request)
    context = None if reading.recorded else context_of(plan, request, match.task, start)
    passing = None if reading.recorded else passing_of(policy, match.task, request, start.carried, context)
    answer = partial(_answer, plan, request, match, partial(told, start.notes, context, passing))
    all_checks = plan.checks_for(match.task, checks, accept, request.tools)
    taken: list[Step] = []
    after_storm = False
    situation = Situation(floor=max(match.floor, start.floor), start=start.index)
    refusal: Refusal | None = None
    while True:
        steps = tuple(taken)
        decision = decide(policy, match.task, steps, situation)
        if isinstance(decision, Ship):
            return answer(steps, decision.step, decision.degraded)
        if isinstance(decision, Abstain):
            return _exhausted(answer, plan, request, reading, steps, decision.why, refusal)
        if decision.reason is not None:
            taken[-1] = changed(taken[-1], reason=decision.reason)
        may = _may_decide_early(reading, plan, request, match.task, all_checks, decision.index)
        taking = Taking(plan, request, match.task, all_checks, tuple(taken), early=may is not None)
        if context is not None:
            taking = yield from context.prepare(taking, decision.index)
        asked = taking if passing is None else passing.ask(taking, decision.index)
        come, latest = (yield from take_step(asked, decision)), None
        if may is not None and come.is_early and come.step is not None:
            after = after_storm or decision.reason == "storm"
            come, latest = yield from _decide_early(taking, come.step, situation, may, match, after_storm=after)
        come = yield from _judged(taking, request, match, come, situation, context, passing)
        step, refusal = come.step, come.refusal or refusal
        if step is None:
            assert refusal is not None, "without a step there is a Refusal"
            _require_asked(taken, refusal, context)
            taken[-1] = _unescalated(taken[-1], context)
            situation = replace(situation, out_of="budget")  # a storm stays in force
            continue
        # Without the storm neither this step nor any after it would have been taken.
        after_storm = after_storm or decision.reason == "storm"
        taken.append(step)
        if come.rejected is not None:
            raise _rejected(come.rejected, tuple(taken))
        if latest is None:
            is_whole = come.refusal is None
            latest = yield _observation(policy, match, tuple(taken), after_storm=after_storm, is_whole=is_whole)
            assert isinstance(latest, Situation), "the driver must send a Situation for an Observation"
        situation = _later(situation, latest, refused=come.refusal is not None)


@dataclass(frozen=True, slots=True)
class _Early:
    """What the first tokens of a reply may decide: that its stream is closed, that it ships. `streamed`: to the caller."""

    close: bool
    ship: bool
    streamed: bool = True


def _check(request: Request, policy: Policy) -> None:
    """Raises RequestError if a rung cannot take the request. One that is passed on as it is, is the API's to check."""
    if request.raw is None:
        check_request(request, policy.ladder)
    check_carried(request, policy.ladder, policy.panel)


def _require_asked(taken: list[Step], refusal: Refusal, context: Context | None) -> None:
    """Raises BudgetExceeded if a budget refuses the first rung. A summary may have been paid for by then."""
    if not taken:
        paid = context.unmarked_cost if context is not None else 0
        done = f"only a summary was paid for, {usd_text(paid)}" if paid else "nothing was asked and nothing was paid"
        raise BudgetExceeded(f"{refusal.message}: {done}", refused=refusal.message)


def _unescalated(step: Step, context: Context | None) -> Step:
    """The last step, which did not escalate after all. A summary that was made for the rung above stands with it."""
    step = replace(step, reason=None)
    return step if context is None else context.with_spent(step)


def _judged(
    taking: Taking,
    request: Request,
    match: Match,
    come: Taken,
    situation: Situation,
    context: Context | None,
    passing: Passing | None,
) -> Generator[Event | Observation, Any, Taken]:
    """The step with its score, which goes by the caller's own request, and with its review where the policy wants one."""
    step = come.step
    if step is None:
        return come
    if context is not None:
        step = context.marked(step)
    step = _scored(taking.plan.policy, request, match, taking.steps, step)
    if passing is not None:
        come = yield from carry_out(passing, taking, replace(come, step=step), situation)
        step = come.step or step
    gate = needs_review(taking.plan, match.task, step, situation)
    if gate is None:
        return come if step is come.step else replace(come, step=step)
    if context is not None:
        taking = replace(taking, request=context.request_for(gate.index))
    step, unasked = yield from ask_review(taking, gate, step)
    return replace(come, step=step, refusal=unasked or come.refusal)


def _scored(policy: Policy, request: Request, match: Match, before: tuple[Step, ...], step: Step) -> Step:
    """The step with the policy's score in place of the self-reported confidence, if it has a scorer."""
    if policy.scorer is None or step.index == policy.top or step.verdict.source == "tool_use":
        return step
    facts = Facts(request.turn_characters(), match.task, (*(one.verdict for one in before), step.verdict))
    return replace(step, verdict=scored(policy, facts))


def _rejected(failure: Failure, steps: tuple[Step, ...]) -> UpstreamRejected:
    step = steps[-1]
    message = f"{step.rung} ({step.model}): the endpoint refused the request, HTTP {failure.status}: {failure.message}"
    return UpstreamRejected(message, status=failure.status or 0, request_id=failure.request_id, steps=steps)


def _may_decide_early(
    reading: Reading, plan: BoundPolicy, request: Request, task: str, checks: Checks, index: int
) -> _Early | None:
    """What the first tokens of this rung's reply may decide; None if the reply is read whole."""
    if not reading.early:
        return None
    ships = request.raw is not None or can_ship(checks, request, is_top=index == plan.policy.top)
    ships = ships and not may_review(plan, task, index)
    if index == plan.policy.top:
        return _Early(close=False, ship=True) if reading.streamed and ships else None
    if not can_close(plan.policy, task, index, request):
        return None
    return _Early(reading.may_close, ships, reading.streamed) if reading.may_close or ships else None


def _decide_early(
    taking: Taking, first: Step, situation: Situation, may: _Early, match: Match, *, after_storm: bool
) -> Generator[Event | Observation, Any, tuple[Taken, Situation | None]]:
    """Decide on a reply's first tokens, and have it finished. The Situation is None if the step is still to be observed."""
    policy, trail = taking.plan.policy, (*taking.steps, first)
    latest: Situation | None = None
    action = "read"
    wish = decide(policy, taking.task, trail, replace(situation, storm="hold" if situation.storm == "hold" else None))
    if may.ship or (may.close and isinstance(wish, Call)):
        latest = yield _observation(policy, match, trail, after_storm=after_storm, is_whole=True)
        assert isinstance(latest, Situation), "the driver must send a Situation for an Observation"
        wish = decide(policy, taking.task, trail, _later(situation, latest))
        if isinstance(wish, Call):
            action = "close" if may.close else "read"
        elif isinstance(wish, Ship) and wish.degraded is None and may.ship:
            action = "ship"
    come = yield from finish_step(taking, first, Finish(first.index, action, taking.steps))
    step = come.step
    if latest is not None and step is not None:
        failed, extra = step.verdict.kind == "failed", step.cost_nanousd if after_storm else 0
        if failed or extra:  # known only at its end: whether it came, and what it cost
            yield Observation(match.task, step.index, step.rung, None, failed, extra, (*taking.steps, step))
    if action == "ship" and may.streamed and step is not None and not step.verdict.begun:
        message = f"the reply of {step.rung} ({step.model}) broke off after it had begun: {step.verdict.detail}"
        raise StreamBroken(f"{message} (ask again: nothing else was returned)", steps=(*taking.steps, step))
    return come, latest


def _later(situation: Situation, latest: Situation, *, refused: bool = False) -> Situation:
    """The Situation after a step. A hold lasts for the whole climb; floor and start come from the request."""
    storm = "hold" if situation.storm == "hold" else latest.storm
    out_of = "budget" if refused else latest.out_of
    if (storm, out_of) == (situation.storm, situation.out_of):  # nearly always: a copy takes longer than to decide
        return situation
    return replace(situation, storm=storm, out_of=out_of)


def _observation(
    policy: Policy, match: Match, steps: tuple[Step, ...], *, after_storm: bool, is_whole: bool
) -> Observation:
    """`is_whole`: whether no budget cut the step's vote short; such a vote says nothing of the traffic."""
    route, step = policy.route(match.task), steps[-1]
    reason = own_reason(route, policy.top, step)
    counted = is_whole and step.index != policy.top and route.decides(step.index)
    natural = None if not counted or reason in ("error", "overflow") else reason in NATURAL
    if step.verdict.source == "tool_use" and reason is None:  # it says nothing about the answers' confidence
        natural = None
    cost = step.cost_nanousd if after_storm else 0
    return Observation(match.task, step.index, step.rung, natural, reason == "error", cost, steps)


def _as_it_is(top: int, request: Request, last: Step) -> Step | None:
    """The top rung's message that is no answer, where its caller can see why: truncated, refused, a call that breaks its schema or is missing.

    Of a bypass, any message.
    """
    verdict = last.verdict
    is_call = verdict.source == "tool_use" or (forced(request) and bool(verdict.failed_checks))
    is_told = verdict.kind != "answered" or is_call or request.raw is not None
    if last.index != top or verdict.message is None or not is_told:
        return None
    text = "".join(block["text"] for block in verdict.message.content if block["type"] == "text")
    return replace(last, verdict=replace(verdict, text=text))


def _exhausted(
    answer: Callable[[tuple[Step, ...], Step | None, Degraded], Answer],
    plan: BoundPolicy,
    request: Request,
    reading: Reading,
    steps: tuple[Step, ...],
    why: Degraded,
    refusal: Refusal | None,
) -> Answer:
    """No answer may be shipped: an answer without text, or the error that says why, as the policy has it."""
    last = _as_it_is(plan.policy.top, request, steps[-1]) if reading.messages else None
    if last is not None:
        return answer((*steps[:-1], last), last, why)
    if plan.policy.exhausted == "abstain":
        return answer(steps, None, why)
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
    verdict = step.verdict
    unsaid = (f"{result.name} could not say: {result.detail}" for result in verdict.checks if result.passed is None)
    detail = ", ".join((*verdict.failed_checks, *unsaid)) or verdict.detail
    return f" [{detail}]" if detail else ""


def _answer(
    plan: BoundPolicy,
    request: Request,
    match: Match,
    told: Callable[[tuple[Step, ...], Step | None], tuple[str, ...]],
    steps: tuple[Step, ...],
    shipped: Step | None,
    degraded: Degraded | None,
) -> Answer:
    notes = told(steps, shipped)
    verdict = shipped.verdict if shipped else Verdict("failed")
    usage, cost, attempts, latency_s = steps[0].usage, steps[0].cost_nanousd, steps[0].attempts, steps[0].latency_s
    for step in steps[1:]:
        usage, cost = usage + step.usage, cost + step.cost_nanousd
        attempts, latency_s = attempts + step.attempts, latency_s + step.latency_s
    proved = shipped is not None and degraded not in _NOT_PROVED and verdict.source != "tool_use"
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
        certificate=UNCERTIFIED if not proved else plan.certificate,
        notes=(*notes, *told_of_choice(plan, request, steps)) if notes or request.tool_choice else (),
    )
