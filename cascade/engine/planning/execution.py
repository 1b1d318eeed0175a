"""One run of a plan, without the waiting: what is asked next, and what came of what was asked.

    run.start(room) ─> Job …            requests that may be made now, each within the run's money and time
    run.finish(job, answer or error)    it is written down before anything follows from it
    run.result()

The drivers (`running`) make the requests, on threads or in asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cascade.budgets.allowance import Allowance, RunAllowance
from cascade.core.decision import Start
from cascade.core.errors import BudgetExceeded, ClimbError, DeadlineExceeded, RequestError
from cascade.core.messages import Request
from cascade.core.planning.executor import Source, executor_request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.part import Part, Role
from cascade.core.planning.result import Attempt, PlanReview, Result
from cascade.core.planning.reviewer import read_review, reviewer_request
from cascade.core.planning.schedule import Execute, Schedule, Stop, Work
from cascade.core.policy import Policy
from cascade.core.policy.planning import Planning
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments, new_id
from cascade.hooks import Ended, cost_of_end

__all__ = ["Execution", "Job", "RunTerms"]

_REVIEWED_BY: Role = "reviewer"


@dataclass(frozen=True, slots=True)
class RunTerms:
    """What holds for the whole run. `ends_at`: its deadline on `clock`; None: it has none. `decided`: in this conversation before."""

    plan: Plan
    inputs: Mapping[str, str]
    policy: Policy
    run_id: str
    clock: Callable[[], float]
    ends_at: float | None = None
    metadata: Mapping[str, str] | None = None
    decided: str = ""


class Job:
    """A request of the run that is under way. `arguments`: to be answered by the driver, which returns an answer or raises."""

    __slots__ = ("allowance", "arguments", "cost", "ends_with_run", "work")

    def __init__(self, work: Work, allowance: Allowance, *, ends_with_run: bool) -> None:
        self.work, self.allowance, self.ends_with_run = work, allowance, ends_with_run
        self.arguments: Arguments
        self.cost = 0

    @property
    def request_id(self) -> str:
        """On the ledger."""
        return self.arguments.given.id

    def ended(self, end: Ended) -> None:
        """What the ledger has of it."""
        self.cost = cost_of_end(end)


class Execution:
    """The state of a run. Not safe between threads: one of them starts and finishes.

    `room_for_all`: False once the run had no room for a call only because of what others had reserved: from there on it goes one by one.
    """

    def __init__(self, terms: RunTerms, schedule: Schedule, money: RunAllowance) -> None:
        self.terms, self.schedule, self.money = terms, schedule, money
        self.room_for_all = True
        self._running = 0

    def start(self, concurrency: int) -> list[Job]:
        """The requests that may be made now, beside those under way."""
        terms = self.terms
        if terms.ends_at is not None and terms.clock() >= terms.ends_at:
            self.schedule.stop("deadline")
        most = concurrency if self.room_for_all else 1
        jobs = [self._job(work) for work in self.schedule.ready(max(0, most - self._running))]
        self._running += len(jobs)
        return jobs

    def finish(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> None:
        """This came of a job. Raises the error if it is none of a request's own: then the run cannot go on."""
        self._running -= 1
        job.allowance.end(job.cost)
        why = self._stopped_by(job, answer, error)
        if why is not None:
            self.schedule.give_back(job.work)
            self._pause(job, why)
            return
        if error is not None and not isinstance(error, (ClimbError, RequestError)):
            self.schedule.give_back(job.work)
            raise error
        outcome = self._outcome(job, answer, error)
        self.schedule.settle(job.work, outcome)

    def put_down(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> None:
        """As `finish`, where the run cannot go on: what came of the job is kept, and nothing is raised."""
        if error is None or isinstance(error, ClimbError):
            self.finish(job, answer, error)
            return
        self._running -= 1
        job.allowance.end(job.cost)
        self.schedule.give_back(job.work)

    def result(self) -> Result:
        """What became of the run so far."""
        terms, schedule = self.terms, self.schedule
        notes = ()
        if self.money.maybe:
            notes = (
                f"calls whose reply never came may have cost up to {self.money.maybe / 1e9:.6f} USD more; it counts toward max_usd",
            )
        costs: dict[Any, int] = self.money.known
        return Result(
            terms.plan, schedule.results(), terms.run_id, costs, schedule.stopped, schedule.standing, notes, terms.inputs,
            self.money.maybe, terms.policy.hash,
        )  # fmt: skip

    def _pause(self, job: Job, why: Stop) -> None:
        """A job could not be done within the run's money or time. It is tried again if the money was only reserved."""
        if why == "budget" and job.allowance.is_crowded and self.room_for_all:
            self.room_for_all = False
            return
        self.schedule.stop(why)

    def _stopped_by(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> Stop | None:
        """What of the run's own kept this job from its end. What a policy's budget per request cuts short is a result, degraded."""
        if isinstance(error, BudgetExceeded):
            return "budget"
        if isinstance(error, DeadlineExceeded):
            return "deadline" if job.ends_with_run else None
        cut = None if answer is None else answer.degraded or answer.abstained
        if cut == "budget" and job.allowance.refused:
            return "budget"
        return "deadline" if cut == "deadline" and job.ends_with_run else None

    def _outcome(self, job: Job, answer: Answer[Any] | None, error: BaseException | None) -> Attempt | PlanReview:
        if isinstance(job.work, Execute):
            return _attempt(job.work, job, answer, error)
        come = answer if answer is not None else error
        assert isinstance(come, (Answer, Exception)), "there is an answer or an error"
        return read_review(come, job.request_id, job.cost)

    def _job(self, work: Work) -> Job:
        terms, subtask = self.terms, work.subtask
        request_id = new_id()
        left = None if terms.ends_at is None else terms.ends_at - terms.clock()
        role: Literal["executor", "reviewer"] = "executor" if isinstance(work, Execute) else "reviewer"
        job = Job(
            work,
            self.money.of(role, request_id),
            ends_with_run=left is not None and left < terms.policy.deadline_s,
        )
        rung = "" if role == "executor" else (terms.policy.plan or Planning()).reviewer
        part = Part(terms.run_id, role, subtask.id, subtask.kind, subtask.rung, work.attempt, rung)
        start = Start(work.start, work.floor) if isinstance(work, Execute) else None
        job.arguments = Arguments(
            replace(self._request(work), id=request_id, metadata=dict(terms.metadata or {})),
            max(left, 1e-3) if left is not None and job.ends_with_run else None,
            on_end=job.ended,
            is_message=False,
            part=part,
            start=start,
            allowance=job.allowance,
        )
        return job

    def _request(self, work: Work) -> Request:
        terms, subtask = self.terms, work.subtask
        results = self.schedule.results()
        if isinstance(work, Execute):
            sources = self._sources(subtask)
            return executor_request(terms.plan, subtask, sources, terms.policy, doubt=work.doubt, decided=terms.decided)
        text = results[subtask.id].attempts[-1].text or ""
        return reviewer_request(terms.plan, subtask, self._sources(subtask), text, terms.policy)

    def _sources(self, subtask: Subtask) -> dict[str, Source]:
        """What a subtask is given, by name, in its order."""
        results, given = self.schedule.results(), self.terms.inputs
        found: dict[str, Source] = {}
        for name in subtask.inputs:
            if name in given:
                found[name] = Source(given[name])
            else:
                one = results[name]
                found[name] = Source(one.text or "", one.why if one.status == "unsettled" else "")
        return found


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
