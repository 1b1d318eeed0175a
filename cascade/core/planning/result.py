"""What became of a run, and of each of its subtasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from cascade.core.planning.graph import Plan
from cascade.core.planning.part import Role
from cascade.core.prepared import Assessment
from cascade.core.trail import Answer

__all__ = ["Attempt", "PlanReview", "Result", "ReviewVerdict", "ReviewerStanding", "Status", "SubtaskResult"]

Status = Literal["accepted", "unsettled", "failed", "skipped", "pending"]
"""accepted: the result stands. unsettled: there is one, but the reviewer could not settle it. failed: there is none. skipped: it rests on a
failed one. pending: not run yet, or not to its end."""

ReviewVerdict = Literal["accept", "retry", "escalate", "unusable"]
"""accept: the result does what its instruction says. retry: a stronger model could mend it. escalate: no model can, a person must look.
unusable: the reviewer's call failed, or its reply says none of these."""


@dataclass(frozen=True, slots=True)
class PlanReview:
    """What the reviewer said of a result. `reason`: in its words. `request_id`: of its call on the ledger.

    `failed`: there was no reply, which says nothing of the reviewer.
    """

    verdict: ReviewVerdict
    reason: str = ""
    request_id: str = ""
    cost_nanousd: int = 0
    failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One climb of a subtask, and its review, if it was reviewed.

    `error`: how the climb ended, if it has no result. `started_at`: the index of the rung that it began at, above 0 only where it goes on
    from the attempt before. `answer`: with its trail; None if there is none, and for what an earlier life of the run did.
    """

    number: int
    request_id: str
    cost_nanousd: int
    rung: str | None = None
    text: str | None = None
    data: Any = None
    confidence: float | None = None
    degraded: str | None = None
    assessment: Assessment | None = None
    review: PlanReview | None = None
    error: str = ""
    started_at: int = 0
    rungs: tuple[tuple[str, int], ...] = ()
    """What each step cost, in order: (rung, nano-USD). The steps below the assigned rung are the price of the ladder's law."""
    answer: Answer | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the trail's details."""
        values = asdict(replace(self, answer=None, data=None))  # it recurses, and data is nested as deep as JSON may be
        del values["answer"]
        return values | {"data": self.data}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Attempt:
        """The attempt that `to_dict` gave. Raises TypeError or KeyError for anything else."""
        said, review, given = values.get("assessment"), values.get("review"), dict(values)
        given |= {
            "assessment": None if said is None else Assessment(**said),
            "review": None if review is None else PlanReview(**review),
            "rungs": tuple((rung, cost) for rung, cost in values["rungs"]),
        }
        return cls(**given)


@dataclass(frozen=True, slots=True)
class SubtaskResult:
    """What became of one subtask. `why`: why it is unsettled, failed or skipped, in words.

    `rests_on`: the unsettled results that it rests on, directly or not.
    """

    id: str
    assigned: str
    status: Status
    text: str | None = None
    data: Any = None
    rung: str | None = None
    attempts: tuple[Attempt, ...] = ()
    why: str = ""
    rests_on: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        names = ("id", "assigned", "status", "text", "data", "rung", "why")
        return {
            **{name: getattr(self, name) for name in names},
            "rests_on": list(self.rests_on),
            "cost_nanousd": self.cost_nanousd,
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }

    @property
    def cost_nanousd(self) -> int:
        """What its climbs and reviews cost."""
        return sum(one.cost_nanousd + (one.review.cost_nanousd if one.review else 0) for one in self.attempts)

    @property
    def review(self) -> PlanReview | None:
        """The review of its last attempt."""
        return self.attempts[-1].review if self.attempts else None

    @property
    def assessment(self) -> Assessment | None:
        """Of its last attempt."""
        return self.attempts[-1].assessment if self.attempts else None


@dataclass(frozen=True, slots=True)
class ReviewerStanding:
    """Whether the reviewer is believed, by its control items: results of which it is known whether they are right.

    `controls`: how many count. `wrong_accepted` of the `wrong` ones it accepted, `right_rejected` of the `right` ones it did not, and of
    `unusable` ones of either kind it said nothing usable. `tested`: enough of them count, and it is believed by them. `why`: in words,
    why it is not believed; "" if it is, or is not tested yet.
    """

    controls: int = 0
    wrong_accepted: int = 0
    wrong: int = 0
    right_rejected: int = 0
    right: int = 0
    unusable: int = 0
    tested: bool = False
    why: str = ""

    @property
    def believed(self) -> bool:
        """Whether what it says counts. Before it is tested it does."""
        return not self.why

    def __str__(self) -> str:
        if self.why:
            return f"not believed: {self.why}"
        return f"{'believed' if self.tested else 'not tested yet'} ({self.controls} control items)"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made. `str(result)` is the text of the plan's final subtask.

    `stopped`: what ended it before everything was settled (`mode`: `cascade mode` was switched); it can be taken up again: `cascade.run(result)`, or the same `run=` name.
    `costs`: nano-USD by role, with what a limit or a deadline cut off. `notes`: what else the caller should know. `id`: of the run, on the ledger. `maybe_nanousd`: what calls
    whose reply never came may have cost beside that; it counts toward `max_usd`. `policy_hash`: of the policy that it was run under.
    """

    plan: Plan
    subtasks: Mapping[str, SubtaskResult]
    id: str = ""
    costs: Mapping[Role, int] = field(default_factory=dict[Role, int])
    stopped: Literal["budget", "deadline", "mode"] | None = None
    reviewer: ReviewerStanding = ReviewerStanding()
    notes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    maybe_nanousd: int = 0
    policy_hash: str = ""

    @property
    def final(self) -> SubtaskResult:
        """The subtask whose result is the run's."""
        return self.subtasks[self.plan.final]

    @property
    def text(self) -> str | None:
        """The final subtask's text; None if there is none."""
        return self.final.text

    @property
    def data(self) -> Any:
        """The final subtask's value, if it has a schema."""
        return self.final.data

    @property
    def ok(self) -> bool:
        """Whether every subtask's result was accepted and the reviewer is believed."""
        return self.reviewer.believed and all(one.status == "accepted" for one in self.subtasks.values())

    @property
    def cost_nanousd(self) -> int:
        """What the run cost, planning, reviews and control items included."""
        return sum(self.costs.values())

    @property
    def cost_usd(self) -> float:
        """The cost in USD; `cost_nanousd` is the exact value."""
        return self.cost_nanousd / 1e9

    def of(self, status: Status) -> tuple[str, ...]:
        """The ids of the subtasks with this status, in the plan's order."""
        return tuple(one.id for one in self.plan.subtasks if self.subtasks[one.id].status == status)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, money in nano-USD: what `from_dict` takes. The inputs' texts are in it."""
        return {
            "id": self.id,
            "ok": self.ok,
            "stopped": self.stopped,
            "text": self.text,
            "data": self.data,
            "cost_nanousd": self.cost_nanousd,
            "maybe_nanousd": self.maybe_nanousd,
            "costs": dict(self.costs),
            "notes": list(self.notes),
            "policy_hash": self.policy_hash,
            "reviewer": asdict(self.reviewer),
            "subtasks": [self.subtasks[one.id].to_dict() for one in self.plan.subtasks],
            "plan": self.plan.to_dict(),
            "inputs": dict(self.inputs),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The Result that `to_dict` gave, without its trails. Raises ValueError, TypeError or KeyError for anything else."""
        return cls(
            Plan.from_dict(values["plan"]),
            {one["id"]: _subtask_of(one) for one in values["subtasks"]},
            values["id"],
            values["costs"],
            values["stopped"],
            ReviewerStanding(**values["reviewer"]),
            tuple(values["notes"]),
            values["inputs"],
            values["maybe_nanousd"],
            values["policy_hash"],
        )

    def __str__(self) -> str:
        return self.text or ""


def _subtask_of(values: Mapping[str, Any]) -> SubtaskResult:
    given: dict[str, Any] = {name: value for name, value in values.items() if name != "cost_nanousd"}
    given |= {
        "attempts": tuple(Attempt.from_dict(one) for one in values["attempts"]),
        "rests_on": tuple(values["rests_on"]),
    }
    return SubtaskResult(**given)
