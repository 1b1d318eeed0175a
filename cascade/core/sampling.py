"""One step of the climb, without I/O: a rung's one reply, or its samples until they agree or no longer can.

`core.events` has what it asks its driver for; `core.voting` counts the samples. A sample of another model (`Variant.model`)
is priced at its own rates.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import replace

from cascade.core import prices
from cascade.core.assessment import assessed
from cascade.core.bound_policy import Accept, BoundCheck, BoundPolicy, Checks
from cascade.core.budgets import Refusal
from cascade.core.decision import Call
from cascade.core.events import (
    Ask,
    AskJudge,
    AskSamples,
    Early,
    Event,
    Finish,
    Outcome,
    Recorded,
    Sent,
    Stepping,
    Taken,
    Taking,
    Verify,
)
from cascade.core.grouping import groups_of, read_groups
from cascade.core.messages import Failure, Reply, Request
from cascade.core.policy import Policy, Samples, Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.tools import last_words, read_tools
from cascade.core.trail import CheckResult, Sample, Step, Verdict
from cascade.core.triage import triage_name, wants_triage
from cascade.core.verdicts import read_begun, read_beside_calls, read_reply, stopped, with_more
from cascade.core.voting import Vote, count, decided, mean_report

__all__ = ["apply_checks", "finish_step", "step_of", "take_step", "verified"]


def take_step(taking: Taking, call: Call) -> Stepping:
    """Ask one rung: once, or until its samples agree or no longer can."""
    policy, request = taking.plan.policy, taking.request
    samples = policy.route(taking.task).samples[call.index] if call.index != policy.top else None
    if samples is not None and not request.tools:
        return (yield from _take_vote(taking, call.index, samples))
    outcome = yield Ask(call.index, taking.task, taking.steps, taking.early, request=request)
    if isinstance(outcome, Refusal):
        return Taken(None, outcome)
    if isinstance(outcome, Step):
        return Taken(replace(outcome, index=call.index, reason=None))
    if isinstance(outcome, Early):
        return Taken(_first_tokens(policy, call.index, outcome), is_early=True)
    step = step_of(taking.plan, request, call.index, outcome, taking.checks)
    return Taken((yield from verified(taking, step)), rejected=_rejected(outcome))


def _first_tokens(policy: Policy, index: int, early: Early) -> Step:
    """A reply's first tokens as a step, for the rule to decide on. The text is not known yet."""
    rung, source = policy.ladder[index], None if early.confidence is None else "self_reported"
    kind = "declined" if early.declined else "answered"
    return Step(index, rung.rung, rung.model, Verdict(kind, early.confidence, source, closed=early.declined))


def finish_step(taking: Taking, early: Step, finish: Finish) -> Stepping:
    """The step of a reply whose first tokens were `early`."""
    outcome: Outcome = yield finish
    if finish.action == "read" or isinstance(outcome, Failure):
        step = step_of(taking.plan, taking.request, early.index, outcome, taking.checks)
        return Taken((yield from verified(taking, step)), rejected=_rejected(outcome))
    if finish.action == "close":
        verdict = replace(early.verdict, closed=True)
    elif isinstance(outcome, Recorded):
        verdict = replace(outcome.verdict, begun=True)
    else:
        verdict = read_begun(outcome, early.verdict, triage=wants_triage(taking.plan.policy, early.index))
        if taking.request.tools:
            verdict = replace(
                read_tools(verdict, outcome, taking.request, taking.checks.tools, triage=False), begun=True
            )  # fmt: skip
        verdict = replace(apply_checks(verdict, taking.checks.functions, None), begun=True)
    return Taken(_priced(taking.plan, early.index, outcome, None, verdict))


def _rejected(outcome: Outcome | Refusal) -> Failure | None:
    return outcome if isinstance(outcome, Failure) and outcome.kind == "rejected" else None


def step_of(
    plan: BoundPolicy, request: Request, index: int, outcome: Outcome, checks: Checks, variant: Variant | None = None
) -> Step:
    """The outcome of a call as a step: verdict, functions among the checks, and cost. `variant`: of a sample."""
    if isinstance(outcome, Recorded):
        verdict = outcome.verdict
    elif isinstance(outcome, Failure):
        verdict = Verdict("overflow" if outcome.kind == "overflow" else "failed", detail=outcome.summary)
    else:
        triage = wants_triage(plan.policy, index)
        verdict = read_reply(
            last_words(outcome) if triage and request.tools else outcome,
            triage=triage,
            structured=request.schema is not None,
            in_text=request.prompt_schema is not None,
            repair=plan.repair,
            in_vote=variant is not None,
        )
        if triage and request.stop_sequences:
            verdict = stopped(verdict, request.stop_sequences)
        if triage and outcome.message is not None and outcome.message.more:
            verdict = with_more(verdict, outcome.message)
        if request.tools:
            if triage and outcome.stop_reason in ("tool_use", "pause_turn"):
                verdict = read_beside_calls(outcome, structured=request.schema is not None, repair=plan.repair)
            verdict = read_tools(verdict, outcome, request, checks.tools, triage=triage)
        verdict = assessed(verdict, request)
    verdict = apply_checks(verdict, checks.functions, checks.accept)
    return _priced(plan, index, outcome, variant, verdict)


def _priced(plan: BoundPolicy, index: int, outcome: Outcome, variant: Variant | None, verdict: Verdict) -> Step:
    """The outcome of a call as a step with this verdict."""
    rung = plan.policy.ladder[index]
    model = rung.model if variant is None else asked_as(rung, variant).model
    if isinstance(outcome, Recorded):
        return Step(index, rung.rung, model, verdict, outcome.usage, outcome.cost)
    cost = prices.total(plan.rates_of(index, variant), outcome.billed)
    usage = sum(outcome.spent, outcome.usage)
    return Step(
        index, rung.rung, model, verdict, usage, cost, outcome.attempts, outcome.latency_s, outcome.request_id
    )  # fmt: skip


def apply_checks(verdict: Verdict, checks: tuple[BoundCheck, ...], accept: Accept | None) -> Verdict:
    """The verdict with the names of the checks that failed. A recorded answer without its text is not checked again."""
    if verdict.kind != "answered" or verdict.text is None or verdict.source == "tool_use" or not (checks or accept):
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


def verified(
    taking: Taking, step: Step, number: int | None = None, taken: tuple[Sample, ...] = ()
) -> Generator[Event, Sent, Step]:
    """The step with the results of the verifiers, if its answer passed everything else. `number`: of a sample, `taken`: its vote's calls."""
    verdict, verifiers = step.verdict, taking.checks.verifiers
    if not verifiers or verdict.kind != "answered" or verdict.failed_checks or verdict.unknown_stop:
        return step
    if verdict.source == "tool_use":
        return step
    whole = step if number is None else None
    results: tuple[CheckResult, ...] = yield Verify(
        step.index, verifiers, verdict.text, number, taking.task, taking.steps, whole, taken
    )
    failed = tuple(result.name for result in results if result.passed is False)
    verdict = replace(verdict, failed_checks=failed, data=None if failed else verdict.data, checks=results)
    return replace(step, verdict=verdict)


class _Poll:
    """The calls of one rung so far: their samples, and the groups of their answers."""

    def __init__(self, taking: Taking, index: int, samples: Samples) -> None:
        self.taking, self.index, self.samples = taking, index, samples
        self.key = taking.plan.keys[str(samples.same)]
        self.calls: list[Sample] = []  # samples and the judge's calls, in order
        self.steps: list[Step] = []  # of each sample
        self.groups: list[Hashable | None] = []  # of each sample's answer by its text; None agrees with nothing
        self.judged: dict[int, int] | None = None  # of each answer, by the judge's last grouping
        self.grouped: list[int] = []  # the samples whose answers the judge was last given
        self.judge_failed = False
        self.timed_out = False

    @property
    def asked(self) -> int:
        return len(self.steps)

    @property
    def answered(self) -> list[int]:
        """The samples with an answer that can agree."""
        return [number for number, group in enumerate(self.groups) if group is not None]

    def add(self, step: Step, variant: str) -> None:
        verdict = step.verdict
        can_agree = (
            verdict.kind == "answered"
            and verdict.text is not None
            and not verdict.failed_checks
            and not verdict.is_unchecked
            and not verdict.unknown_stop
        )
        self.groups.append(self._group(verdict.text) if can_agree and verdict.text is not None else None)
        self.calls.append(_sample_of(step, self.asked, variant))
        self.steps.append(step)

    def _group(self, text: str) -> Hashable:
        """The answer's key; an answer without a key is a group of its own."""
        key = self.key(text)
        return (self.asked,) if key is None else (None, key)

    def vote(self) -> Vote:
        """The vote so far, by the judge's groups if it has grouped these answers."""
        failed = sum(step.verdict.kind == "failed" or step.verdict.is_unchecked for step in self.steps)
        overflow = any(step.verdict.kind == "overflow" for step in self.steps)
        groups: Sequence[Hashable | None] = self.groups
        if self.judged is not None:  # answers with the same text are the same, whatever a judge says
            first = [None if group is None else self.groups.index(group) for group in self.groups]
            groups = [None if number is None else self.judged.get(number) for number in first]
        if self.judge_failed or self.timed_out:
            failed = self.samples.agree
        return count(self.samples.agree, self.samples.max, groups, failed=failed, overflow=overflow)

    def is_decided(self, vote: Vote) -> bool:
        """Whether no further sample can change the outcome. Until a judge has grouped them, all answers might be the same."""
        if self.samples.same.kind == "judge" and self.judged is None and not (vote.reached or vote.overflow):
            return vote.asked == vote.most or len(self.answered) + vote.most - vote.asked < vote.agree
        return decided(vote)

    @property
    def needs_judge(self) -> bool:
        """Whether a grouping by meaning could tell more than the texts do, and than the last grouping did."""
        if self.samples.same.kind != "judge" or any(step.verdict.kind == "overflow" for step in self.steps):
            return False
        answered = self.answered
        if len(answered) < self.samples.agree or answered == self.grouped:
            return False
        by_text = count(self.samples.agree, self.samples.max, self.groups)
        return not by_text.reached and len({self.groups[number] for number in answered}) > 1

    def step(self, vote: Vote, latency_s: float) -> Step:
        """All calls as one step."""
        first = self.steps[vote.members[0]] if vote.members else self.steps[-1]
        verdict = self._verdict(vote, first.verdict)
        usage = self.calls[0].usage
        for call in self.calls[1:]:
            usage = usage + call.usage
        return replace(
            first,
            verdict=verdict,
            usage=usage,
            cost_nanousd=sum(call.cost_nanousd for call in self.calls),
            attempts=sum(call.attempts for call in self.calls),
            latency_s=latency_s,
            samples=tuple(self.calls),
        )

    def _verdict(self, vote: Vote, first: Verdict) -> Verdict:
        """The first member's verdict, with the confidence of those that agree.

        If agreement alone decides, it is agree / max: a label, not a probability. Otherwise it is their mean self-report.
        """
        if not vote.members:
            return replace(first, confidence=None, source=None, vote=vote)
        mean = mean_report([self.steps[number].verdict.confidence for number in vote.members])
        if not self.taking.plan.policy.route(self.taking.task).by_agreement[self.index]:
            source = None if mean is None else "self_reported"
            return replace(first, confidence=mean, source=source, vote=vote)
        share = vote.agree / vote.most if vote.reached else None
        source = None if share is None else "agreement"
        return replace(first, confidence=share, source=source, self_reported=mean, vote=vote)


def _take_vote(taking: Taking, index: int, samples: Samples) -> Stepping:
    """Ask for samples in waves until the vote is decided."""
    poll, latency_s = _Poll(taking, index, samples), 0.0
    refusal: Refusal | None = None
    rejected: Failure | None = None
    while True:
        numbers = tuple(range(poll.asked, min(samples.max, poll.asked + samples.at_once)))
        asked = AskSamples(
            index, numbers, samples, taking.task, taking.steps, tuple(poll.calls), request=taking.request
        )  # fmt: skip
        outcomes = yield asked
        if isinstance(outcomes, Step):
            return Taken(replace(outcomes, index=index, reason=None))
        slowest, rejected = 0.0, next(filter(None, map(_rejected, outcomes)), None)
        came: list[tuple[Step, Reply | Failure | Recorded, str]] = []
        for number, outcome in zip(numbers, outcomes, strict=True):
            if isinstance(outcome, Refusal):  # and so were those after it
                refusal = outcome
                break
            variant = samples.variant(number)
            step = step_of(taking.plan, taking.request, index, outcome, taking.checks, variant)
            came.append((step, outcome, variant.label(triage_name(taking.plan.policy))))
        listed = zip(came, numbers, strict=False) if taking.checks.verifiers else ()
        wave = tuple(_sample_of(step, number, label) for (step, _, label), number in listed)
        for place, (step, outcome, label) in enumerate(came):
            if rejected is None:  # it is raised at once: nothing is checked any more
                paid = (*poll.calls, *wave[place:])
                step = yield from verified(taking, step, numbers[place], paid)  # noqa: PLW2901
            poll.add(step, label)
            slowest = max(slowest, step.latency_s)
            poll.timed_out |= isinstance(outcome, Failure) and outcome.kind == "deadline" and not outcome.attempts
        latency_s += slowest
        if not poll.calls:
            return Taken(None, refusal)
        if refusal is None and rejected is None and poll.needs_judge:
            judged = yield from _judge(poll)
            refusal, rejected = judged.refusal, judged.rejected
            latency_s += judged.step.latency_s if judged.step else 0.0
        vote = poll.vote()
        if rejected is not None or refusal is not None or poll.timed_out or poll.is_decided(vote):
            step = poll.step(vote, latency_s)
            return Taken(step, None if vote.reached else refusal, rejected)


def _sample_of(step: Step, number: int, variant: str) -> Sample:
    """A sample's call, as one of its vote's."""
    return Sample(
        number, variant, step.model, step.verdict, step.usage, step.cost_nanousd, step.attempts, step.latency_s,
        step.request_id,
    )  # fmt: skip


def _judge(poll: _Poll) -> Stepping:
    """Have the answers so far grouped by meaning. The step is the judge's call."""
    taking, numbers = poll.taking, tuple(poll.answered)
    texts = tuple(poll.steps[number].verdict.text or "" for number in numbers)
    asked = AskJudge(
        poll.index, numbers, texts, taking.task, taking.steps, tuple(poll.calls), request=taking.request
    )  # fmt: skip
    outcome = yield asked
    if isinstance(outcome, Refusal):
        return Taken(None, outcome)
    poll.grouped = list(numbers)
    call = _judge_call(taking, outcome, len(numbers))
    groups = groups_of(call.verdict.text or "", len(numbers)) if call.verdict.kind == "answered" else None
    poll.judged = dict(zip(numbers, groups, strict=True)) if groups is not None else None
    poll.judge_failed = call.verdict.kind in ("failed", "overflow")
    poll.calls.append(
        Sample(
            poll.asked - 1, "judge", call.model, call.verdict, call.usage, call.cost_nanousd, call.attempts,
            call.latency_s, call.request_id, is_judge=True,
        )
    )  # fmt: skip
    return Taken(call, rejected=_rejected(outcome))


def _judge_call(taking: Taking, outcome: Outcome, answers: int) -> Step:
    """The judge's call as a step of the first rung; its text is the grouping."""
    rung = taking.plan.policy.ladder[0]
    if isinstance(outcome, Recorded):
        return Step(0, rung.rung, rung.model, outcome.verdict, outcome.usage, outcome.cost)
    if isinstance(outcome, Failure):
        verdict = Verdict("overflow" if outcome.kind == "overflow" else "failed", detail=outcome.summary)
    else:
        verdict = read_groups(outcome, answers)
    cost = prices.total(taking.plan.rates[0], outcome.billed)
    usage = sum(outcome.spent, outcome.usage)
    return Step(
        0, rung.rung, rung.model, verdict, usage, cost, outcome.attempts, outcome.latency_s, outcome.request_id
    )  # fmt: skip
