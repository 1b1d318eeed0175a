"""A period's requests → runs: what became of each subtask at the rung that its plan assigns, and what it cost, by role.

A run has no end on the ledger: it may be taken up again. It is complete here once nothing was heard of it for a day of the ledger's time, or
where too many are held; what comes later counts as another run. A resumed run repeats no finished subtask, but the attempt that was under
way when it was cut off is made again: then the last one that has an outcome counts, and the money of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, cast

from cascade.core.planning.result import ReviewVerdict, Status
from cascade.core.trail import NATURAL
from cascade.ledger.records import OutcomeBody, PlanBody, StepBody
from cascade.ledger.requests import RequestRecord

__all__ = ["ROLES", "ControlSaid", "Fate", "RunRecord", "Spent", "SubtaskRecord", "runs_of"]

ROLES: Final = ("planner", "executor", "reviewer")

Fate = Literal["stood", "climbed", "unknown"]
"""What became of the assigned rung's first answer, by the ladder's own rule. stood: it was the answer. climbed: it did not stand, for a
reason that depends on the traffic. unknown: an error, a budget, the deadline or a storm came first, or there is no end on record."""

_IDLE_S = 86_400.0
_MOST_HELD = 100_000  # subtasks of runs that are not complete
_DIDNT_STAND = NATURAL | {"ceiling"}


@dataclass(slots=True)
class Spent:
    """Nano-USD. `below`: of executors, by rungs below the assigned one: the price of the law that every climb starts at the first rung.

    `above`: of executors, by the assigned rung and those above it. `control`: by the reviewer's control items.
    """

    planner: int = 0
    below: int = 0
    above: int = 0
    reviewer: int = 0
    control: int = 0

    @property
    def whole(self) -> int:
        """All of it."""
        return self.planner + self.below + self.above + self.reviewer + self.control

    def add(self, other: Spent) -> None:
        """Add another's."""
        self.planner += other.planner
        self.below += other.below
        self.above += other.above
        self.reviewer += other.reviewer
        self.control += other.control


@dataclass(slots=True)
class _Attempt:
    """One climb, and its review. `final`: the rung that answered."""

    ended: bool = False
    final: str | None = None
    degraded: str | None = None
    review: ReviewVerdict | None = None


@dataclass(slots=True)
class SubtaskRecord:
    """A subtask of a run. Money in nano-USD.

    kind, assigned   its task, and the rung that the plan assigns
    began            whether its first attempt is in the period; without it nothing is known of its fate
    fate             of the assigned rung's first answer
    reason           why it did not stand; None if it did
    escalated        the first attempt went above the assigned rung, for whatever reason
    answered_at      what the assigned rung's first answer itself cost; `higher`: what the first call of the rung above it did, None without one
    below_stood      whether the rung below would have stood by its own confidence; None: it was not asked
    """

    id: str
    kind: str
    assigned: str
    began: bool = False
    fate: Fate = "unknown"
    reason: str | None = None
    escalated: bool = False
    answered_at: int = 0
    higher: int | None = None
    below_stood: bool | None = None
    spent: Spent = field(default_factory=Spent)
    attempts: dict[int, _Attempt] = field(default_factory=dict[int, _Attempt])

    @property
    def review(self) -> ReviewVerdict | None:
        """The verdict on the first attempt's result; None: it was not reviewed."""
        first = self.attempts.get(0)
        return first.review if first is not None else None

    @property
    def final(self) -> str | None:
        """The rung that made the result; None without one."""
        return self._last.final

    @property
    def status(self) -> Status:
        """What became of it, as far as the ledger tells: skipped subtasks are not on it."""
        last = self._last
        if not last.ended:
            return "pending"
        if last.final is None:
            return "failed"
        if last.review is None:
            return "accepted" if last.degraded is None else "unsettled"
        return "accepted" if last.review == "accept" else "unsettled"

    @property
    def after(self) -> int:
        """What was paid after the assigned rung's first answer: reviews, rungs above, retries."""
        return self.spent.above - self.answered_at + self.spent.reviewer

    @property
    def _last(self) -> _Attempt:
        return self.attempts[max(self.attempts)] if self.attempts else _Attempt()


class ControlSaid(NamedTuple):
    """When a control item was done (Unix seconds), whether its result is right, and the verdict; None: the call failed."""

    at: float
    is_right: bool
    verdict: ReviewVerdict | None


@dataclass(slots=True)
class RunRecord:
    """A run. `versions`: of the words that its roles were asked in, as far as they are on record. `controls`: of control items.

    `asked`: requests by role, those of control items apart ("control").
    """

    id: str
    policy: str
    last: float
    versions: dict[str, str] = field(default_factory=dict[str, str])
    subtasks: dict[str, SubtaskRecord] = field(default_factory=dict[str, SubtaskRecord])
    spent: Spent = field(default_factory=Spent)
    controls: list[ControlSaid] = field(default_factory=list[ControlSaid])
    asked: Counter[str] = field(default_factory=Counter[str])


def runs_of(
    records: Iterable[RequestRecord], *, idle_s: float = _IDLE_S, most: int = _MOST_HELD
) -> Iterator[RunRecord]:
    """The runs that these requests are parts of, each once it is complete. `records`: as `ledger.requests.gather` gives them.

    At most `most` subtasks are held.
    """
    running: dict[str, RunRecord] = {}  # the one heard of last stands last
    held = 0
    for one in records:
        part = one.request.plan
        if part is None:
            continue
        at = one.ended if one.ended is not None else one.at
        run = running.pop(part.run, None) or RunRecord(part.run, one.request.policy, at)
        held -= len(run.subtasks)
        _add(run, one, part)
        run.last = max(run.last, at)
        running[part.run] = run
        held += len(run.subtasks)
        while held > most or next(iter(running.values())).last < at - idle_s:
            done = running.pop(next(iter(running)))
            held -= len(done.subtasks)
            yield done
            if not running:
                break
    yield from running.values()


def _add(run: RunRecord, one: RequestRecord, part: PlanBody) -> None:
    arm, cost = one.request.arm, sum(step.cost for _, step in one.steps)
    run.versions.update({role: version for role, version in one.request.prompts.items() if role in ROLES})
    run.asked["control" if part.control is not None else arm] += 1
    said = one.outcome.review if one.outcome is not None else None
    if part.control is not None:
        run.spent.control += cost
        if one.outcome is not None:
            verdict = None if one.outcome.error is not None else cast("ReviewVerdict | None", said)
            run.controls.append(ControlSaid(one.ended or one.at, part.control == "right", verdict))
        return
    if arm == "planner":
        run.spent.planner += cost
        return
    subtask = run.subtasks.get(part.subtask)
    if subtask is None:
        subtask = run.subtasks[part.subtask] = SubtaskRecord(part.subtask, one.request.task, part.assigned)
    attempt = subtask.attempts.setdefault(part.attempt, _Attempt())
    if arm == "reviewer":
        run.spent.reviewer += cost
        subtask.spent.reviewer += cost
        attempt.review = cast("ReviewVerdict | None", said) or attempt.review
        return
    subtask.kind, subtask.assigned = (
        one.request.task,
        part.assigned,
    )  # a review may come first: it is of the same task, as a rule
    steps = [step for _, step in one.steps]
    spent = _split(steps, part)
    run.spent.add(spent)
    subtask.spent.add(spent)
    if part.attempt == 0:
        _add_first(subtask, steps, one.outcome)
    elif subtask.higher is None and steps:
        subtask.higher = _of_rung(steps, steps[0].index)
    if one.outcome is not None:
        attempt.ended, attempt.final, attempt.degraded = True, one.outcome.rung, one.outcome.degraded


def _split(steps: list[StepBody], part: PlanBody) -> Spent:
    """What an executor's climb cost below the assigned rung, and from there on. A retry starts above it."""
    at = _place(steps, part.assigned)
    if at is None:
        at = -1 if part.attempt else len(steps) and max(step.index for step in steps) + 1
    below = sum(step.cost for step in steps if step.index < at)
    return Spent(below=below, above=sum(step.cost for step in steps) - below)


def _add_first(subtask: SubtaskRecord, steps: list[StepBody], outcome: OutcomeBody | None) -> None:
    """What the first attempt tells. One that was cut off does not undo what an earlier one told."""
    if subtask.began and outcome is None:
        return
    subtask.began = True
    at = _place(steps, subtask.assigned)
    done = {step.index: step for step in steps if _completes(step)}
    subtask.fate, subtask.reason, subtask.escalated = "unknown", None, False
    if at is None:
        return
    subtask.answered_at = _of_rung(steps, at) or 0
    subtask.higher = _of_rung(steps, at + 1)
    subtask.escalated = subtask.higher is not None
    below = done.get(at - 1)
    subtask.below_stood = None if below is None else below.reason == "floor"
    step = done.get(at)
    if step is None or outcome is None:
        return
    subtask.fate, subtask.reason = _fate(step, outcome)


def _fate(step: StepBody, outcome: OutcomeBody) -> tuple[Fate, str | None]:
    """What became of the assigned rung's answer. The last step of a climb has no reason: what stopped the climb has one."""
    why = step.reason or outcome.degraded or outcome.abstained
    if why in _DIDNT_STAND:
        return "climbed", why
    stood = why is None and outcome.rung == step.rung
    return ("stood" if stood else "unknown"), why


def _completes(step: StepBody) -> bool:
    """Whether the entry is a rung's own, and has its step's reason."""
    return not (step.more or step.review or step.auxiliary is not None)


def _place(steps: list[StepBody], rung: str) -> int | None:
    return next((step.index for step in steps if step.rung == rung), None)


def _of_rung(steps: list[StepBody], index: int) -> int | None:
    """What all calls of the rung at `index` cost; None if it was not asked."""
    costs = [step.cost for step in steps if step.index == index]
    return sum(costs) if costs else None
