"""What of a run may be done now, and what came of what was done: pure, without a clock or I/O.

    schedule.ready(most) ─> Work …      handed out once: a subtask to execute, a result to review
    schedule.beside(request_id)         the control item that accompanies this review, if one is due
    schedule.settle(work, outcome)      an Attempt, or what the reviewer said
    schedule.give_back(work)            it could not be done now; it may be handed out again
    schedule.stop(why)                  nothing more is handed out
    schedule.results()

The state is the attempts that were made, each with its review, and nothing else: a run that is taken up again begins with those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from cascade.core.modes import share_of
from cascade.core.planning.controls import ControlDone, ControlItem, control_done, next_control, standing_of
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.result import Attempt, PlanReview, ReviewerStanding, Status, SubtaskResult
from cascade.core.policy import Policy
from cascade.core.policy.planning import Planning

__all__ = ["Control", "Execute", "Review", "Schedule", "Stop", "Work", "to_go_on_from"]

Stop = Literal["budget", "deadline", "mode"]


@dataclass(frozen=True, slots=True)
class Execute:
    """Have a subtask made. `attempt` counts from 0. `doubt`: why the reviewer sent the attempt before back; "" for the first one.

    `start`, `floor`: indices of the rung that the climb begins at, and of the lowest whose answer stands.
    """

    subtask: Subtask
    attempt: int = 0
    start: int = 0
    floor: int = 0
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """Have the result of an attempt reviewed."""

    subtask: Subtask
    attempt: int


@dataclass(frozen=True, slots=True)
class Control:
    """Have the reviewer read a result of which it is known whether it is right."""

    item: ControlItem


Work = Execute | Review | Control
_Key = tuple[type[Execute | Review], str, int]


@dataclass(frozen=True, slots=True)
class _State:
    """Where a subtask is. `shown`: the attempt whose result stands, if any. `work`: what is to be done next for it."""

    status: Status
    why: str = ""
    shown: Attempt | None = None
    work: Execute | Review | None = None


class Schedule:
    """The state of one run of a valid plan, under a policy that has a `plan` block. Not safe between threads.

    `attempts`: what was made before, by subtask. `review_share`: of a request's id, its place between 0 and 1: a result that its executor
    is sure of is reviewed where that is below `plan.review_high`. `controls`: what the reviewer said of control items so far, oldest first.
    `unbelieved`: why it was not believed in an earlier life of the run; that stays so to the run's end.
    """

    def __init__(
        self,
        plan: Plan,
        policy: Policy,
        *,
        attempts: Mapping[str, Sequence[Attempt]] | None = None,
        controls: Sequence[ControlDone] = (),
        unbelieved: str = "",
        review_share: Callable[[str], float] | None = None,
    ) -> None:
        self._plan, self._policy = plan, policy
        self._share = review_share or partial(share_of, "plan review")
        self._planning = policy.plan or Planning()
        self._index = {rung.rung: index for index, rung in enumerate(policy.ladder)}
        self._order = [subtask for level in plan.levels() for subtask in level]
        self._attempts = {one.id: list((attempts or {}).get(one.id, ())) for one in plan.subtasks}
        self._controls, self._unbelieved = list(controls), unbelieved or standing_of(controls).why
        self._out: set[_Key] = set()
        self._asked: list[ControlItem] = []
        self.stopped: Stop | None = None

    @property
    def standing(self) -> ReviewerStanding:
        """What is known of the reviewer."""
        latest = standing_of(self._controls)
        if not self._unbelieved:
            return latest
        return replace(latest, why=latest.why or self._unbelieved, tested=False)  # it stays so to the end of the run

    @property
    def is_finished(self) -> bool:
        """Whether nothing is under way and nothing more will be handed out."""
        return not self._out and not self._asked and (self.stopped is not None or not self._fresh())

    def ready(self, most: int | None = None) -> tuple[Execute | Review, ...]:
        """What may be done now, at most so much of it. It counts as under way from here on."""
        if self.stopped is not None:
            return ()
        fresh = self._fresh()[:most]
        self._out.update(map(_key, fresh))
        return fresh

    def beside(self, request_id: str) -> Control | None:
        """The control item to be asked beside the review with this id. It counts as under way."""
        item = next_control(self._controls, self._asked, request_id) if not self._unbelieved else None
        if item is None or self.stopped is not None:
            return None
        self._asked.append(item)
        return Control(item)

    def settle(self, work: Work, outcome: Attempt | PlanReview) -> None:
        """This came of a work. Raises ValueError for one that is not under way, TypeError for an outcome of another kind."""
        self.give_back(work)
        if isinstance(work, Control):
            assert isinstance(outcome, PlanReview)
            self._controls.append(control_done(work.item, outcome))
            self._unbelieved = self._unbelieved or standing_of(self._controls).why
            return
        attempts = self._attempts[work.subtask.id]
        if isinstance(work, Execute) and isinstance(outcome, Attempt):
            attempts.append(outcome)
        elif isinstance(work, Review) and isinstance(outcome, PlanReview):
            attempts[-1] = replace(attempts[-1], review=outcome)
        else:
            raise TypeError(f"{type(outcome).__name__} is no outcome of {type(work).__name__}")

    def give_back(self, work: Work) -> None:
        """A work was not done; it may be handed out again. Raises ValueError for one that is not under way."""
        if isinstance(work, Control):
            self._asked.remove(work.item)
            return
        if _key(work) not in self._out:
            raise ValueError(f"{work.subtask.id}: this was not handed out, or it is settled")
        self._out.remove(_key(work))

    def stop(self, why: Stop) -> None:
        """Hand out nothing more. What is under way may still be settled. The first reason holds."""
        self.stopped = self.stopped or why

    def results(self) -> dict[str, SubtaskResult]:
        """What became of each subtask so far, in the plan's order."""
        states = self._states()
        rests: dict[str, tuple[str, ...]] = {}
        for one in self._order:
            below = {name for need in self._plan.needs(one) for name in (*rests[need], *_marked(need, states[need]))}
            rests[one.id] = tuple(other.id for other in self._plan.subtasks if other.id in below)
        return {one.id: self._result(one, states[one.id], rests[one.id]) for one in self._plan.subtasks}

    def _result(self, subtask: Subtask, state: _State, rests_on: tuple[str, ...]) -> SubtaskResult:
        shown, attempts = state.shown, tuple(self._attempts[subtask.id])
        if shown is None:
            return SubtaskResult(subtask.id, subtask.rung, state.status, attempts=attempts, why=state.why)
        return SubtaskResult(
            subtask.id, subtask.rung, state.status, shown.text, shown.data, shown.rung, attempts, state.why, rests_on
        )  # fmt: skip

    def _fresh(self) -> tuple[Execute | Review, ...]:
        return tuple(state.work for state in self._states().values() if state.work is not None)

    def _states(self) -> dict[str, _State]:
        states: dict[str, _State] = {}
        for one in self._order:
            states[one.id] = self._state(one, states)
        return states

    def _state(self, subtask: Subtask, states: Mapping[str, _State]) -> _State:
        needs = {name: states[name].status for name in self._plan.needs(subtask)}
        lost = next((name for name, status in needs.items() if status in ("failed", "skipped")), None)
        if lost is not None:
            became = "failed" if needs[lost] == "failed" else "was skipped"
            return _State("skipped", f"it rests on {lost}, which {became}")
        attempts = self._attempts[subtask.id]
        if any(name == subtask.id for _, name, _ in self._out):
            return _State("pending")
        if attempts:
            return self._made(subtask, attempts)
        if "pending" in needs.values():
            return _State("pending")
        return _State("pending", work=Execute(subtask, floor=self._index[subtask.rung]))

    def _made(self, subtask: Subtask, attempts: Sequence[Attempt]) -> _State:
        last, review = attempts[-1], attempts[-1].review
        if last.error:
            return _failed(attempts)
        if not self._needs_review(last):
            return _State("accepted", shown=last)
        if self._unbelieved:
            return _State("unsettled", f"the reviewer is not believed: {self.standing.why}", last)
        if review is None:
            return _State("pending", work=Review(subtask, last.number))
        if review.verdict == "accept":
            return _State(
                "accepted", f"accepted by the reviewer, degraded: {last.degraded}" if last.degraded else "", last
            )
        if review.verdict == "escalate":
            return _State("unsettled", f"no model can settle it, says the reviewer: {review.reason}", last)
        if review.verdict == "unusable":
            return _State("unsettled", f"not reviewed: {review.reason}", last)
        return self._sent_back(subtask, last, review)

    def _needs_review(self, attempt: Attempt) -> bool:
        said = attempt.assessment
        return (
            attempt.number > 0  # the doubt is not settled by the one who was told of it
            or attempt.degraded is not None
            or said is None
            or said.level != "high"
            or self._share(attempt.request_id) < self._planning.review_high
        )

    def _sent_back(self, subtask: Subtask, last: Attempt, review: PlanReview) -> _State:
        """The reviewer wants it made again: exactly one rung up, if there is one and it may."""
        above = self._index[last.rung or subtask.rung] + 1
        if last.number >= self._planning.max_retries:
            return _State(
                "unsettled", f"sent back by the reviewer, and plan.max_retries is {last.number}: {review.reason}", last
            )
        if above > self._policy.route(subtask.kind).ceiling:
            return _State(
                "unsettled", f"sent back by the reviewer, and {last.rung} is the highest rung: {review.reason}", last
            )
        floor = max(above, self._index[subtask.rung])  # what a budget cut short may stand below the assigned rung
        return _State("pending", work=Execute(subtask, last.number + 1, above, floor, review.reason))


def to_go_on_from(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """What of a subtask's attempts counts where a run is taken up again.

    A subtask that failed without cost (no connection, no credentials, an overloaded endpoint) is run again: nothing was built on it.
    """
    first = attempts[0] if len(attempts) == 1 else None
    return () if first is not None and first.error and not first.cost_nanousd else tuple(attempts)


def _key(work: Execute | Review) -> _Key:
    return type(work), work.subtask.id, work.attempt


def _marked(name: str, state: _State) -> tuple[str, ...]:
    return (name,) if state.status == "unsettled" else ()


def _failed(attempts: Sequence[Attempt]) -> _State:
    """The last attempt has no result. One that was sent back is still there: it is passed on with the mark."""
    held = next((one for one in reversed(attempts) if not one.error), None)
    if held is None:
        return _State("failed", attempts[-1].error)
    reason = held.review.reason if held.review is not None else ""
    return _State(
        "unsettled", f"sent back by the reviewer ({reason}), and one rung up it failed: {attempts[-1].error}", held
    )
