"""What the audit keeps of each sampled request, as values: samples, grades, leases, control items, ratchets, marks.

`ledger.audit` stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.core.auditing import Why

__all__ = ["Control", "Grading", "Leased", "Mark", "Ratchet", "Relation", "Sample", "State"]

State = Literal["open", "graded", "skipped"]
Relation = Literal["agree", "disagree", "cannot_tell"]
"""How the shipped answer relates to the shadow answer."""


@dataclass(frozen=True, slots=True)
class Grading:
    """What was found of a sampled request. Money in nano-USD.

    `score`: of the shipped answer, 0 (wrong) to 1 (right); None where nobody could tell. `grader`: its name, as a certificate has it
    ("exact", "judge:opus"), "outcome" for a real outcome, "top" for an answer of the top rung, which the loss never counts.
    `relation`: to the shadow answer, where a judge said it. `reason`: the judge's, in words; content, so it is kept only where the
    ledger keeps content. `skipped`: why it was not graded (a short code such as "no_content", "tools", "shadow_failed"); None if it was.
    """

    grader: str
    score: float | None = None
    relation: Relation | None = None
    reason: str | None = None
    skipped: str | None = None
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A sampled request, as it was shipped, and what was found of it so far.

    `at`: Unix seconds of its outcome. `epoch`: see `core.auditing.Sampled`. `rung`: who answered, "" if nobody did (it abstained);
    `index`: its place on the ladder, -1 for nobody. `is_top`: that is the last rung. `cost`: of the climb; `estimate`: of the
    baseline alone, None if not known; both in nano-USD. `number`: the order in which it was graded, from 1; 0 if it was not.
    `outcome`: the newest real outcome that was reported, 0..1; it outranks `grading`. `shadow`: the shadow answer, where content is kept.
    `executed_by`: the rung that answered by the plan of `rung`; "": that one answered itself.
    """

    request: str
    at: float
    policy: str
    epoch: str
    task: str
    why: Why
    rung: str
    index: int
    is_top: bool
    confidence: float | None
    source: str | None
    cost: int
    estimate: int | None = None
    workflow: str = ""
    flags: tuple[str, ...] = ()
    degraded: str | None = None
    has_content: bool = False
    state: State = "open"
    graded_at: float = 0.0
    number: int = 0
    grading: Grading | None = None
    shadow: str | None = None
    shadow_cost: int = 0
    outcome: float | None = None
    executed_by: str = ""

    @property
    def is_below(self) -> bool:
        """Whether the answer is not the top rung's own: what the loss counts. One by the top rung's plan is not."""
        return bool(self.rung) and not (self.is_top and not self.executed_by)

    @property
    def answered_by(self) -> str:
        """Who answered, as reports name it: the rung, with the one that answered by its plan. "" for nobody."""
        return f"{self.rung}, answered by {self.executed_by}" if self.executed_by else self.rung

    @property
    def is_uniform(self) -> bool:
        """Whether it counts in rates."""
        return self.why != "lowest"

    @property
    def score(self) -> float | None:
        """The score of the shipped answer: the real outcome, else what the grader found."""
        if self.outcome is not None:
            return self.outcome
        return self.grading.score if self.grading is not None else None


@dataclass(frozen=True, slots=True)
class Leased:
    """A sampled request that this worker may grade, until `until` (Unix seconds). `tries`: how often it was leased before."""

    sample: Sample
    owner: str
    until: float
    tries: int


@dataclass(frozen=True, slots=True)
class Control:
    """A judgement of a known answer: `is_right`: what it is, `relation`: what the judge said (None: it said nothing usable)."""

    judge: str
    is_right: bool
    relation: Relation | None
    at: float
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Ratchet:
    """How far a policy was ratcheted. `certificate`: the digest of the certificate that it goes with, "" without one.

    `step`: steps taken; 0: none. `at`: Unix seconds of the last.
    """

    policy: str
    certificate: str
    step: int
    at: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to a policy's audit: an alarm, a ratchet step, a reset. `details`: JSON values, without content."""

    policy: str
    at: float
    kind: Literal["alarm", "step", "reset"]
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
