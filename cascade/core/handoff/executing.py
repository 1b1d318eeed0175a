"""What becomes of a plan: a cheaper rung answers by it, the answer is checked, and the top rung answers itself if nothing came of it.

    plan, valid, its confidence could ship ─> execution ─> the policy's checks and the plan's own ─> the rule decides
    plan, valid, its confidence could not  ─> not executed: the rule decides (it climbs)
    no plan, or an answer that fails       ─> below the top: the rule decides (it climbs); at the top: asked plainly, once

All calls belong to the step of the rung that planned. Until it has an answer nothing of it can be shipped or held.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cascade.core.assessment import assessed
from cascade.core.assisting import Assisted, ask_auxiliary
from cascade.core.bound_policy import BoundPolicy
from cascade.core.decision import Situation, own_reason
from cascade.core.events import Event, Sent, Taken, Taking
from cascade.core.handoff.artifacts import broken_by, read_artifact
from cascade.core.handoff.passing import Passing, executor_of
from cascade.core.handoff.words import execution_block
from cascade.core.prepared import AuxiliaryKind, Handed
from cascade.core.prompts.handoff import ARTIFACT_VERSION, DOUBT_VERSION
from cascade.core.sampling import apply_checks, verified
from cascade.core.step_calls import with_auxiliary
from cascade.core.trail import Step, Verdict
from cascade.core.triage import build_prompt
from cascade.core.verdicts import read_reply

__all__ = ["carry_out", "told_of"]

_RETRIED = frozenset({"answered", "malformed", "truncated"})
"""What a plan's reply must be for the top rung to be asked again: refusals, overflows and failures would only be repeated."""


def carry_out(passing: Passing, taking: Taking, come: Taken, situation: Situation) -> _Calling:
    """The step with its answer, and with what passed to its rung. `taking`: what it was taken for, without the handoff."""
    asked = passing.asked
    if come.step is None or asked is None:
        return come
    if not asked.request.wants_artifact:
        return replace(come, step=replace(come.step, handed=Handed("doubt", DOUBT_VERSION)))
    run = _Run(passing, taking, situation)
    return (yield from run.answer(come))


def told_of(shipped: Step) -> Iterator[str]:
    """What the caller is told of an answer by a plan: which rung planned, and which model wrote."""
    if (handed := shipped.handed) is not None and handed.executed_by is not None:
        yield f"{shipped.rung}: planned by {shipped.model}, answered by {handed.executed_by} ({handed.model})"


_Calling = Generator[Event, Sent, Taken]


@dataclass(frozen=True, slots=True)
class _Run:
    """One plan's way to an answer."""

    passing: Passing
    taking: Taking
    situation: Situation

    @property
    def plan(self) -> BoundPolicy:
        return self.taking.plan

    def answer(self, come: Taken) -> _Calling:
        """The planned step with its answer, as far as it has one."""
        step = come.step
        assert step is not None, "there is a step to carry out"
        planned, is_top = step.verdict, step.index == self.plan.policy.top
        artifact, problem = read_artifact(planned.data) if planned.kind == "answered" else (None, planned.detail)
        if artifact is None and planned.kind == "answered":
            planned = replace(planned, kind="malformed", detail=problem, confidence=None, source=None)
        bare = replace(_without_text(step, planned), handed=_handed(artifact))
        if come.rejected is not None or come.refusal is not None or planned.kind not in _RETRIED:
            return replace(come, step=bare)
        if artifact is not None and not planned.unknown_stop:
            if not self._could_ship(bare):
                return replace(come, step=bare)
            come = yield from self._executed(bare, artifact)
            stands = come.step is None or own_reason(self._route, self.plan.policy.top, come.step) is None
            if not is_top or stands or not _may_ask_again(come):
                return come
            bare = come.step or bare
        return (yield from self._plain(bare)) if is_top else replace(come, step=bare)

    @property
    def _route(self) -> Any:
        return self.plan.policy.route(self.taking.task)

    def _could_ship(self, step: Step) -> bool:
        """Whether an answer by this plan could ship: the storm guard aside, which is asked after the step."""
        policy, route = self.plan.policy, self._route
        if step.index == policy.top:
            return True
        return step.index >= max(route.floor, self.situation.floor) and own_reason(route, policy.top, step) is None

    def _executed(self, step: Step, artifact: dict[str, Any]) -> _Calling:
        """The step with the answer that the cheaper rung wrote by its plan."""
        settings, policy = self.passing.handoff.artifact, self.plan.policy
        assert settings is not None, "a plan was asked for"
        executor = executor_of(policy, settings)
        block = execution_block(artifact, self.passing.carried)
        request = self.passing.request_for(executor, self.taking.request)
        called = yield from self._call(
            step, "execution", executor, replace(request, handoff=(*request.handoff, block), top_extra={})
        )
        if called.call is None:
            return Taken(step, called.refusal)
        step = with_auxiliary(step, called.call)
        rung = policy.ladder[executor]
        verdict = self._verdict(called, f"execution on {rung.rung}: ")
        if verdict.kind == "answered" and step.index != policy.top:  # the rule decides by what the planning rung said
            said = step.verdict
            verdict = replace(verdict, confidence=said.confidence, source=said.source, self_reported=said.self_reported)
        value = verdict.data  # JSON; `accept` makes the caller's type of it
        verdict = apply_checks(verdict, self.taking.checks.functions, self.taking.checks.accept)
        if verdict.kind == "answered" and verdict.text is not None:
            broken = broken_by(artifact, verdict.text, value)
            if broken:
                verdict = replace(verdict, failed_checks=(*verdict.failed_checks, *broken), data=None)
        handed = replace(_handed(artifact), executed_by=rung.rung, model=rung.model, is_open=False)
        step = yield from verified(self.taking, replace(step, verdict=verdict, handed=handed))
        return Taken(step, rejected=_rejected(called, rung.rung))

    def _plain(self, step: Step) -> _Calling:
        """The step with the top rung's own answer to the request."""
        called = yield from self._call(step, "plain", step.index, self.taking.request)
        if called.call is None:
            return Taken(step, called.refusal)
        verdict = self._verdict(called)
        verdict = apply_checks(verdict, self.taking.checks.functions, self.taking.checks.accept)
        handed = step.handed or _handed(None)
        step = replace(
            with_auxiliary(step, called.call), verdict=verdict, handed=replace(handed, executed_by=None, model=None, is_open=False)
        )  # fmt: skip
        return Taken((yield from verified(self.taking, step)), rejected=_rejected(called, step.rung))

    def _call(self, step: Step, kind: AuxiliaryKind, index: int, request: Any) -> Generator[Event, Sent, Assisted]:
        prompt = build_prompt(self.plan.policy, index, request, triage=False)
        return (yield from ask_auxiliary(self.taking, step.index, kind, prompt, self.plan.rates[index], step=step))

    def _verdict(self, called: Assisted, where: str = "") -> Verdict:
        """What was made of a plain answer."""
        if called.reply is None:
            failure = called.failure
            kind = "overflow" if failure is not None and failure.kind == "overflow" else "failed"
            return Verdict(kind, detail=f"{where}{failure.summary if failure is not None else 'no reply'}")
        request = self.taking.request
        verdict = read_reply(
            called.reply,
            triage=False,
            structured=request.schema is not None,
            in_text=request.prompt_schema is not None,
            repair=self.plan.repair,
        )
        return assessed(verdict, request)


def _handed(artifact: dict[str, Any] | None) -> Handed:
    return Handed("artifact", ARTIFACT_VERSION, artifact=artifact, is_open=True)


def _without_text(step: Step, verdict: Verdict) -> Step:
    """The step without the plan's text, which is no answer: it must be neither shipped nor held."""
    message = None if verdict.message is None or verdict.kind != "refused" else replace(verdict.message, content=())
    return replace(step, verdict=replace(verdict, text=None, data=None, message=message))


def _may_ask_again(come: Taken) -> bool:
    """Whether the top rung is asked plainly after an execution: not where the request is at its end."""
    if come.step is None or come.refusal is not None or come.rejected is not None:
        return False
    return bool(come.step.auxiliaries[-1].attempts)  # a call that was not made for want of time


def _rejected(called: Assisted, rung: str) -> Any:
    failure = called.failure
    if failure is None or failure.kind != "rejected":
        return None
    return replace(failure, message=f"{rung}: {failure.message}")
