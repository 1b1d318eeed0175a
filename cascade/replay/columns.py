"""A corpus as columns, of which replay and calibration count: `building` makes them while the corpus is read.

No text is kept, only what depends on it under a policy (`MappedColumns`): each item's task, which answers fail their
checks, and which samples have the same answer. A corpus of a million items and three rungs therefore takes about 300 MB,
however long its texts are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import CorpusError
from cascade.core.policy.samples import Same
from cascade.core.trail import VerdictKind
from cascade.corpora.items import Manifest
from cascade.corpora.sources import place_of
from cascade.replay.closing import CostOf
from cascade.replay.reviews import ReviewColumns
from cascade.replay.votes import SampleColumns, VotedColumns

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Int8s, Ints

__all__ = [
    "ANSWERED",
    "DECLINED",
    "FAILED",
    "MISSING",
    "NO_CHECK",
    "NO_COST",
    "NO_HEAD",
    "UNCHECKED",
    "UNRECORDED",
    "Columns",
    "MappedColumns",
    "PolicyMapping",
    "RungColumns",
    "missing_cost",
]

MISSING, ANSWERED, UNRECORDED, DECLINED = range(4)
"""Codes in `RungColumns.answer`: no reply, an answer, an answer whose text was not recorded, a declined one."""

FAILED: dict[VerdictKind, int] = {
    "malformed": 4, "truncated": 5, "refused": 6, "overflow": 7, "failed": 8,
}  # fmt: skip
"""Further codes there: replies without an answer whose recorded verdict says why."""

NO_COST = -1
"""Marks a cost that was not recorded."""

NO_HEAD = -2
"""Marks, in `MappedColumns.left`, a reply that does not begin with its confidence and an answer: it is always read whole."""

UNCHECKED, NO_CHECK = 1, 2
"""Codes in `MappedColumns.stuck`: an external check could not say, or its result was not recorded."""


@dataclass(frozen=True, slots=True)
class PolicyMapping:
    """A plan applied to a corpus: `rungs` names the corpus's rung for each rung of the plan, in the ladder's order.

    `cost_of`: whether a reply's cost is the recorded one, or its usage at the policy's prices. `same`: keep the recorded
    samples of every rung below the top, compared in this way, so that other votes can be tried on them.
    """

    plan: BoundPolicy
    rungs: tuple[str, ...]
    cost_of: CostOf = "recorded"
    same: Same | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The plan's names of its rungs."""
        return tuple(rung.rung for rung in self.plan.policy.ladder)

    @property
    def by_agreement(self) -> frozenset[str]:
        """The rungs, by the plan's names, where the agreement of the samples alone decides for requests without a task."""
        alone = self.plan.policy.route("").by_agreement
        return frozenset(rung for rung, own in zip(self.names, alone, strict=True) if own)


@dataclass(frozen=True, slots=True, eq=False)
class RungColumns:
    """One rung's replies. `confidence` and `score`: NaN if absent. `cost`: nano-USD or NO_COST. `answer`: a code."""

    confidence: Floats
    score: Floats
    cost: Ints
    answer: Int8s


@dataclass(frozen=True, slots=True, eq=False)
class MappedColumns:
    """The columns that depend on a policy. `task` indexes `tasks`; `floor` is set by tampering flags (None: by none).

    By rung of the plan: `failed` marks the answers that fail a check (None: the policy has no checks), `cost` is
    nano-USD, and `confidence` is what the threshold is compared with: the recorded confidence, or the policy's scorer
    applied to it (NaN if there is no answer to score). `stuck`: UNCHECKED or NO_CHECK where an external check could not say
    or its result was not recorded, else 0 (empty: nowhere). `votes`: of the rungs that are asked more than once, whose cost
    and confidence are the vote's. `samples`: their recorded samples. `alone_cost`: of one call. `climb_cost`: of one call after
    a climb, where that differs (`replay.cold`; empty: nowhere). `left`: of a call that
    early stop closes at its confidence, NO_COST or NO_HEAD where there is none (None: it never does at this rung; empty: nowhere).
    `reviews`: of the rungs whose answers a review gate may have read (empty: of none), whose cost is not in `cost`.
    """

    mapping: PolicyMapping
    tasks: tuple[str, ...]
    task: Codes
    floor: Int8s | None
    failed: tuple[Bools | None, ...]
    cost: tuple[Ints, ...]
    confidence: tuple[Floats, ...]
    stuck: tuple[Int8s, ...] = ()
    votes: tuple[VotedColumns | None, ...] = ()
    samples: tuple[SampleColumns | None, ...] = ()
    alone_cost: tuple[Ints, ...] = ()
    climb_cost: tuple[Ints, ...] = ()
    left: tuple[Ints | None, ...] = ()
    reviews: tuple[ReviewColumns | None, ...] = ()

    def vote(self, index: int) -> VotedColumns | None:
        """The votes at a rung; None if it is asked once."""
        return self.votes[index] if self.votes else None

    def score(self, columns: Columns, index: int) -> Floats:
        """(N,): the scores of the rung's own answers; NaN where not graded."""
        ballot = self.vote(index)
        return columns.rungs[self.mapping.rungs[index]].score if ballot is None else ballot.score

    def single_cost(self, index: int) -> Ints:
        """(N,): nano-USD of one call of the rung, if it answers alone."""
        return self.alone_cost[index] if self.alone_cost else self.cost[index]

    def call_cost(self, index: int) -> Ints:
        """(N,): nano-USD of one call of the rung, as the climb comes to it."""
        return self.climb_cost[index] if self.climb_cost else self.single_cost(index)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A corpus in file order. `group` numbers the groups from 0, in an order that does not depend on the file's.

    `at` is the arrival in seconds, NaN if not known. `line` is the item's line in the file.
    """

    source: str
    manifest: Manifest
    ids: list[str]
    line: Codes
    group: Codes
    at: Floats
    rungs: dict[str, RungColumns]

    def __len__(self) -> int:
        return len(self.ids)

    def error(self, row: int, problem: str, hint: str = "") -> CorpusError:
        """A CorpusError that names the item at `row`."""
        return CorpusError(problem, where=place_of(self.source, int(self.line[row])), item=self.ids[row], hint=hint)


def missing_cost(mapping: PolicyMapping, index: int, item: str, where: str, *, closed: bool = False) -> CorpusError:
    """The error for a reply whose cost is not known. An unknown cost is never counted as 0.

    `closed`: only its share up to the confidence is not known, for which early stop needs the usage.
    """
    what = "cost_usd" if mapping.cost_of == "recorded" and not closed else "usage"
    return CorpusError(
        f"the reply of {mapping.rungs[index]!r} has no {what}",
        where=where,
        item=item,
        hint="record it, or replay without early stop"
        if closed
        else "record it, or leave the item out (--skip-bad does)",
    )
