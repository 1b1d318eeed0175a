"""One run of a plan, without the waiting: what is asked next, and what came of what was asked.

    run.start(room) ─> Job …            requests that may be made now, each within the run's money and time
    run.finish(job, answer or error)    it is written down before anything follows from it
    run.result()

The drivers (`running`) make the requests, on threads or in asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from cascade.budgets.allowance import Allowance, RunAllowance
from cascade.claude.schemas import schema_of
from cascade.core.decision import Start
from cascade.core.errors import (
    BudgetExceeded,
    CascadeError,
    ClimbError,
    ConfigurationError,
    DeadlineExceeded,
    RequestError,
)
from cascade.core.messages import Request
from cascade.core.planning.controls import ControlDone, control_done
from cascade.core.planning.executor import Source, executor_request
from cascade.core.planning.graph import Plan
from cascade.core.planning.part import Part
from cascade.core.planning.result import Attempt, PlanReview, Result
from cascade.core.planning.reviewer import control_request, read_review, reviewer_request
from cascade.core.planning.schedule import Control, Execute, Review, Schedule, Stop, Work
from cascade.core.policy import Policy
from cascade.core.policy.planning import Planning
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments, new_id
from cascade.engine.planning.journal import Journal
from cascade.engine.runtime import Runtime
from cascade.hooks import Ended, cost_of_end
from cascade.policy.checks import schema_check

__all__ = ["Execution", "Job", "RunTerms"]

_SHORTEST_S = 1e-3  # a deadline must be above 0


@dataclass(frozen=True, slots=True)
class RunTerms:
    """What holds for the whole run. `ends_at`: its deadline on the driver's clock; None: it has none.

    `decided`: what was decided in this conversation before.
    """

    plan: Plan
    inputs: Mapping[str, str]
    runtime: Runtime
    run_id: str
    ends_at: float | None = None
    metadata: Mapping[str, str] | None = None
    decided: str = ""

    @property
    def policy(self) -> Policy:
        """The driver's."""
        return self.runtime.policy

    def left(self) -> float | None:
        """Seconds to the run's deadline; None without one."""
        return None if self.ends_at is None else self.ends_at - self.runtime.options.clock()

    @property
    def is_over(self) -> bool:
        """Whether the run's deadline has passed."""
        left = self.left()
        return left is not None and left <= 0


class Job:
    """A request of the run that is under way. `arguments`: to be answered by the driver, which returns an answer or raises.

    `is_kept`: what came of it is written down.
    """

    __slots__ = ("allowance", "arguments", "cost", "ends_with_run", "is_kept", "work")

    def __init__(self, work: Work, allowance: Allowance, *, ends_with_run: bool) -> None:
        self.work, self.allowance, self.ends_with_run = work, allowance, ends_with_run
        self.arguments: Arguments
        self.cost, self.is_kept = 0, False

    @property
    def request_id(self) -> str:
        """On the ledger."""
        return self.arguments.given.id

    def ended(self, end: Ended) -> None:
        """What the ledger has of it."""
        self.cost = cost_of_end(end)


class Execution:
    """The state of a run. Not safe between threads: one of them starts and finishes.

    `journal` None: it is kept in memory alone. `is_crowded`: the run had no room for a call, but only because of what others had reserved:
    from there on it goes one by one.
    """

    def __init__(
        self, terms: RunTerms, schedule: Schedule, money: RunAllowance, journal: Journal | None = None
    ) -> None:
        self.terms, self.schedule, self.money, self.journal = terms, schedule, money, journal
        self.is_crowded = False
        self._running, self._refused = 0, ""
        self._waiting: list[Control] = []

    def start(self, concurrency: int) -> list[Job]:
        """The requests that may be made now, beside those under way."""
        self._note_reviewer()
        if self.terms.is_over:
            self.schedule.stop("deadline")
        elif self.terms.runtime.mode() != "enforce":
            self.schedule.stop("mode")
        if self.schedule.stopped is not None:
            return []
        room = max(0, (1 if self.is_crowded else concurrency) - self._running)
        controls, self._waiting = self._waiting[:room], self._waiting[room:]
        jobs = [self._job(work) for work in controls]
        for work in self.schedule.ready(room - len(jobs)):
            job = self._job(work)
            jobs.append(job)
            control = self.schedule.beside(job.request_id) if isinstance(work, Review) else None
            if control is not None and self.is_crowded:
                self._waiting.append(control)
            elif control is not None:
                jobs.append(self._job(control))
        self._running += len(jobs)
        return jobs

    def finish(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> ControlDone | None:
        """This came of a job. Returns what came of a control item, to be kept for other runs.

        Raises the error if it is none of a request's own: then the run cannot go on.
        """
        why = self._stopped_by(job, answer, error)
        if why is not None:
            self._give_back(job)
            self._pause(job, why)
            return None
        if error is not None and not isinstance(error, (ClimbError, RequestError)):
            self._give_back(job)
            raise error
        self._running -= 1
        job.allowance.end(job.cost)
        return self._keep(job, _outcome(job, answer, error))

    def put_down(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> None:
        """The run cannot go on, perhaps from the middle of `finish`: what came of the job is written down, and nothing is raised for it."""
        job.allowance.end(job.cost)
        is_end = error is None or isinstance(error, ClimbError)
        if is_end and not job.is_kept and self._stopped_by(job, answer, error) is None:
            with suppress(ConfigurationError):  # then it is asked again
                self._write_down(job, _outcome(job, answer, error))

    def result(self) -> Result:
        """What became of the run so far."""
        terms, schedule, maybe = self.terms, self.schedule, self.money.maybe
        counted = (
            f"calls whose reply never came may have cost up to {maybe / 1e9:.6f} USD more; it counts toward max_usd"
        )
        costs: dict[Any, int] = self.money.known
        results = schedule.results()
        stopped = schedule.stopped if any(one.status == "pending" for one in results.values()) else None
        notes = (counted,) if maybe else ()
        if stopped == "budget" and self._refused:  # which one: only the run's own limit is the caller's to raise
            notes = (*notes, f"stopped: {self._refused}")
        return Result(
            terms.plan, results, terms.run_id, costs, stopped, schedule.standing,
            notes, terms.inputs, maybe, terms.policy.hash,
        )  # fmt: skip

    def _keep(self, job: Job, outcome: Attempt | PlanReview) -> ControlDone | None:
        """An outcome is written down, and then something follows from it."""
        control = self._write_down(job, outcome)
        self.schedule.settle(job.work, outcome)
        return control

    def _write_down(self, job: Job, outcome: Attempt | PlanReview) -> ControlDone | None:
        work, control = job.work, None
        if isinstance(work, Control):
            assert isinstance(outcome, PlanReview), "a reviewer is asked"
            control = control_done(work.item, outcome)
            came: dict[str, Any] = {"control": asdict(control)}
        else:
            kind = "attempt" if isinstance(outcome, Attempt) else "review"
            came = {"subtask": work.subtask.id, kind: outcome.to_dict()}
        if self.journal is not None:
            self.journal.came(**came)
        job.is_kept = True
        return control

    def _note_reviewer(self) -> None:
        """Once the reviewer is not believed, this is so for every life of the run: results have been built upon by then."""
        why = self.schedule.standing.why
        if why and self.journal is not None and not self.journal.unbelieved:
            self.journal.disbelieved(why)

    def _give_back(self, job: Job) -> None:
        """A job came to nothing. What it cost is kept."""
        self._running -= 1
        job.allowance.end(job.cost)
        self.schedule.give_back(job.work)

    def _pause(self, job: Job, why: Stop) -> None:
        """A job could not be done within the run's money or time. It is tried again if the money was only reserved."""
        if why == "budget" and job.allowance.is_crowded:
            self.is_crowded, self._refused = (
                True,
                "",
            )  # the next ones have nothing reserved beside them, so that this ends
        else:
            self.schedule.stop(why)

    def _stopped_by(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> Stop | None:
        """What of the run's own kept this job from its end. What only a budget of the policy cuts short is a result, degraded."""
        if isinstance(error, BudgetExceeded):
            self._refused = self._refused or error.refused
            return "budget"
        late = job.ends_with_run or self.terms.is_over
        if isinstance(error, DeadlineExceeded):
            return "deadline" if late else None
        cut = None if answer is None else answer.degraded or answer.abstained
        if cut == "budget" and job.allowance.refused:
            return "budget"
        return "deadline" if cut == "deadline" and late else None

    def _job(self, work: Work) -> Job:
        terms, request_id = self.terms, new_id()
        left = terms.left()
        part = self._part(work)
        ends_with_run = left is not None and left < terms.policy.deadline_s
        job = Job(work, self.money.of(part.role, request_id), ends_with_run=ends_with_run)
        if self.journal is not None:
            self.journal.begun(request_id, part.role, part.subtask, part.attempt)
        job.arguments = Arguments(
            replace(self._request(work), id=request_id, metadata=dict(terms.metadata or {})),
            max(left, _SHORTEST_S) if left is not None and ends_with_run else None,
            checks=(schema_check(schema),) if (schema := _schema_of(work)) is not None else (),
            on_end=job.ended,
            is_message=False,
            part=part,
            start=Start(work.start, work.floor) if isinstance(work, Execute) else None,
            allowance=job.allowance,
        )
        return job

    def _part(self, work: Work) -> Part:
        run_id, reviewer = self.terms.run_id, (self.terms.policy.plan or Planning()).reviewer
        if isinstance(work, Control):
            return Part(run_id, "reviewer", rung=reviewer, control="right" if work.item.is_right else "wrong")
        one = work.subtask
        if isinstance(work, Execute):
            return Part(run_id, "executor", one.id, one.kind, one.rung, work.attempt, planned_in=self.terms.plan.prompt)
        return Part(run_id, "reviewer", one.id, one.kind, one.rung, work.attempt, reviewer)

    def _request(self, work: Work) -> Request:
        terms = self.terms
        if isinstance(work, Control):
            return control_request(work.item, terms.policy, decided=terms.decided)
        results, sources = self.schedule.results(), dict[str, Source]()
        for name in work.subtask.inputs:
            if name in terms.inputs:
                sources[name] = Source(terms.inputs[name])
            else:
                one = results[name]
                sources[name] = Source(one.text or "", one.why if one.status == "unsettled" else "")
        if isinstance(work, Execute):
            return executor_request(
                terms.plan, work.subtask, sources, terms.policy, doubt=work.doubt, decided=terms.decided, enforce=schema_of
            )  # fmt: skip
        text = results[work.subtask.id].attempts[-1].text or ""
        return reviewer_request(terms.plan, work.subtask, sources, text, terms.policy, decided=terms.decided)


def _schema_of(work: Work) -> Mapping[str, Any] | None:
    """The schema that a work's result must fit: the API enforces only a part of it."""
    return work.subtask.schema if isinstance(work, Execute) else None


def _outcome(job: Job, answer: Answer[Any] | None, error: BaseException | None) -> Attempt | PlanReview:
    """What came of a request that came to its end."""
    if isinstance(job.work, Execute):
        return _attempt(job.work, job, answer, error)
    come = answer if answer is not None else error
    assert isinstance(come, (Answer, CascadeError)), "there is an answer or an error"
    return read_review(come, job.request_id, job.cost)


def _attempt(work: Execute, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> Attempt:
    """What came of an executor."""
    if answer is None or answer.text is None:
        steps = answer.steps if answer is not None else error.steps if isinstance(error, ClimbError) else ()
        said = f"{type(error).__name__}: {error}" if error is not None else "no rung's answer may be shipped"
        why = f" ({answer.abstained})" if answer is not None else ""
        rungs = tuple((step.rung, step.cost_nanousd) for step in steps)
        return Attempt(work.attempt, job.request_id, job.cost, error=said + why, started_at=work.start, rungs=rungs)
    return Attempt(
        work.attempt,
        job.request_id,
        job.cost,
        answer.rung,
        answer.text,
        answer.data,
        answer.confidence,
        answer.degraded,
        answer.assessment,
        started_at=work.start,
        rungs=tuple((step.rung, step.cost_nanousd) for step in answer.steps),
        answer=answer,
    )
