"""What the audit keeps beside the ledger's entries, in the ledger's database: sampled requests, their grades, ratchets, and marks.

A sampled request is written in the transaction of its outcome (`records.Batch.samples`). The rest is written by the audit's workers and
commands: small rows, a connection of its own for each call, every change one transaction. Every method raises LedgerDown if it fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.core.auditing import Why

__all__ = ["AuditTables", "Control", "Grading", "Leased", "Mark", "Ratchet", "Sample", "State"]

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

    `at`: Unix seconds of its outcome. `epoch`: see `core.auditing.Sampled`. `rung`: who answered, "" if nobody did; `index`: its
    place on the ladder. `is_top`: that is the last rung. `cost`: of the climb; `estimate`: of the baseline alone, None if not known;
    both in nano-USD. `number`: the order in which it was graded, from 1; 0 if it was not. `outcome`: the newest real outcome that was
    reported, 0..1; it outranks `grading`. `shadow`: the shadow answer, where content is kept.
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


class AuditTables:
    """The tables at a ledger's address (default: as for the ledger). Raises ConfigurationError if the address is invalid."""

    def __init__(self, address: str | None = None) -> None:
        raise NotImplementedError

    def lease(
        self, policy: str, owner: str, now: float, seconds: float, *, bound: int, cap: int | None, day: float
    ) -> Leased | Literal["none", "cap"]:
        """Take the oldest open sample whose lease is free or over, for `seconds`.

        `bound`: the most that grading it may cost; it is reserved with the lease. `cap`: what the audit may spend from `day` (Unix
        seconds) on: what the ledger has of arm "audit" since then, with the bounds of all running leases and this one; None: no
        cap. "none": no sample is open. "cap": there is one, and no room for it.
        """
        raise NotImplementedError

    def keep_shadow(self, leased: Leased, shadow: str | None, cost: int, now: float, seconds: float) -> bool:
        """Keep the shadow answer, so that it is not paid for again, and renew the lease. False if the lease is lost."""
        raise NotImplementedError

    def finish(self, leased: Leased, grading: Grading, now: float) -> bool:
        """Put the grading on record; the sample is graded, or skipped. False, and nothing is changed, if the lease is lost."""
        raise NotImplementedError

    def release(self, leased: Leased, *, retry_at: float = 0.0) -> None:
        """Give a lease back without a grading; the sample is not leased again before `retry_at`."""
        raise NotImplementedError

    def samples(self, policy: str | None = None, *, since: float = 0.0, until: float | None = None) -> Sequence[Sample]:
        """The samples by `at`, each with the newest real outcome that was reported (`ledger.gateway`'s feedback)."""
        raise NotImplementedError

    def counts(self, policy: str) -> Mapping[str, int]:
        """How many samples are open, leased (of the open ones), graded and skipped."""
        raise NotImplementedError

    def add_control(self, policy: str, control: Control) -> None:
        """Put a judgement of a control item on record."""
        raise NotImplementedError

    def controls(self, policy: str, *, since: float = 0.0) -> Sequence[Control]:
        """The judgements of control items, oldest first."""
        raise NotImplementedError

    def ratchet(self, policy: str) -> Ratchet | None:
        """How far a policy was ratcheted; None: never. Does not make a ledger where there is none."""
        raise NotImplementedError

    def step_ratchet(self, before: Ratchet | None, after: Ratchet) -> bool:
        """Replace `before` by `after`. False, and nothing is changed, if another worker was first."""
        raise NotImplementedError

    def add_mark(self, mark: Mark) -> None:
        """Put something that happened on record."""
        raise NotImplementedError

    def marks(self, policy: str, *, since: float = 0.0) -> Sequence[Mark]:
        """What happened, oldest first."""
        raise NotImplementedError
