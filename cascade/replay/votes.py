"""Votes of a whole corpus at once. It repeats `core.voting`; a property test holds the two equal.

A rung's samples are matrices, one row per item, one column per sample. `vote` takes those of a policy in their order and
gives what each item's vote comes to: how many samples were asked, whether enough agree, and on whose answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.core.policy import Samples
from cascade.core.voting import VOTE_DECIMALS
from cascade.replay.arrays import np
from cascade.replay.samples import places_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Int8s, Ints

__all__ = [
    "AGREES_WITH_NONE",
    "CANNOT_SAY",
    "CAN_AGREE",
    "NOT_RECORDED_HERE",
    "NO_CHECK",
    "NO_TEXT",
    "OVERFLOWS",
    "SampleColumns",
    "Voted",
    "VotedColumns",
    "in_order_of",
    "vote",
]

CAN_AGREE, AGREES_WITH_NONE, CANNOT_SAY, OVERFLOWS, NOT_RECORDED_HERE, NO_TEXT, NO_CHECK = range(7)
"""What a recorded sample is to a vote: it has an answer that can agree; it has none; the call or a check failed; the prompt did
not fit; it was not recorded; its answer's text was not recorded; the result of a check was not recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleColumns:
    """The recorded samples of one rung: S columns of n items each, in the order of recording.

    variant     into `names`, -1 for a sample that was not recorded
    state       CAN_AGREE, … under the policy's checks
    key         numbers of equal answers within an item, by `Samples.same` as text; -1 for an answer that equals no other
    confidence  NaN if none was reported; score: NaN if not graded; cost: nano-USD or a negative number
    """

    names: tuple[str, ...]
    variant: tuple[Codes, ...]
    state: tuple[Int8s, ...]
    key: dict[str, tuple[Codes, ...]]
    confidence: tuple[Floats, ...]
    score: tuple[Floats, ...]
    cost: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.variant)

    def rows(self, which: Any) -> SampleColumns:
        """Some of the items."""

        def some(columns: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[which] for column in columns)

        keys = {same: some(columns) for same, columns in self.key.items()}
        return SampleColumns(
            self.names, some(self.variant), some(self.state), keys, some(self.confidence), some(self.score), some(self.cost)
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Voted:
    """What the vote of each item comes to.

    reached     whether enough samples agree
    asked       how many samples were asked
    first       the sample whose answer it is, -1 if no sample has one
    agreed      how many agree on it: `Samples.agree` if reached
    failed      how many of those asked could not say
    overflow    whether the prompt did not fit, and so ended a vote that was not reached
    confidence  mean self-report of those that agree, NaN if none reported
    score       of the answer; 0 without one
    cost        nano-USD of all samples asked
    lacking     the first sample that was asked and cannot be used, as it is not recorded or has no text, check or cost; -1
    """

    reached: Bools
    asked: Int8s
    first: Int8s
    agreed: Int8s
    failed: Int8s
    overflow: Bools
    confidence: Floats
    score: Floats
    cost: Ints
    lacking: Int8s

    @property
    def has_answer(self) -> Bools:
        """Whether there is an answer that may be held."""
        return self.first >= 0


@dataclass(frozen=True, slots=True, eq=False)
class VotedColumns:
    """One rung of a policy on a corpus, where some or all items are put to a vote. (n,) each.

    rows    which items are; None for all
    reason  why the vote does not stand, as a code in `outcomes.REASONS`; 0 if it does
    held    whether its answer may be held
    alone   where agreement alone decides
    score   of the rung's answer, of the items that are not put to a vote, too
    asked   calls made; 1 for an item that is not put to a vote
    agreed  how many samples agree
    lacking as in `Voted`
    wanted  the variants asked for, by sample
    """

    rows: Bools | None
    reason: Int8s
    held: Bools
    alone: Bools
    score: Floats
    asked: Int8s
    agreed: Int8s
    lacking: Int8s
    wanted: tuple[str, ...]


def in_order_of(samples: SampleColumns, wanted: Sequence[str], own: str, same: str) -> SampleColumns:
    """The samples in a policy's order: column k is the next unread recorded sample of variant `wanted[k]`.

    `own`: the name of the policy's own triage prompt. Only the keys of `same` are kept.
    """
    n = len(samples.variant[0])
    layouts = np.stack(samples.variant, axis=1)
    distinct, which = _distinct_rows(layouts)
    places = np.full((len(distinct), len(wanted)), -1, np.int64)
    for number, layout in enumerate(distinct.tolist()):
        codes: list[int] = layout
        found = places_of([samples.names[code] or None for code in codes if code >= 0], wanted, own)
        places[number] = [-1 if place is None else place for place in found]
    keys = samples.key[same]
    made: list[list[Any]] = [[] for _ in range(6)]  # as `sources`
    fills = (-1, NOT_RECORDED_HERE, -1, np.nan, np.nan, 0)
    for k in range(len(wanted)):
        sources: tuple[Any, ...] = (
            samples.variant,
            samples.state,
            keys,
            samples.confidence,
            samples.score,
            samples.cost,
        )
        column = places[:, k]
        if len(set(column.tolist())) == 1:  # the usual case: every item has the same layout
            place = int(column[0])
            for columns, source, fill in zip(made, sources, fills, strict=True):
                columns.append(source[place] if place >= 0 else np.full(n, fill, source[0].dtype))
            continue
        at = column[which]
        for columns, source, fill in zip(made, sources, fills, strict=True):
            gathered = np.full(n, fill, source[0].dtype)
            some: list[int] = np.unique(at[at >= 0]).tolist()
            for place in some:
                np.copyto(gathered, source[place], where=at == place)
            columns.append(gathered)
    variant, state, key, confidence, score, cost = (tuple(columns) for columns in made)
    return SampleColumns(samples.names, variant, state, {same: key}, confidence, score, cost)


def _distinct_rows(layouts: Any) -> tuple[Any, Any]:
    first = layouts[:1]
    if (layouts == first).all():
        return first, np.zeros(len(layouts), np.intp)
    distinct, which = np.unique(layouts, axis=0, return_inverse=True)
    return distinct, which.reshape(-1)


def vote(samples: Samples, ordered: SampleColumns) -> Voted:
    """The vote of every item, on samples in the policy's order (`in_order_of`)."""
    most, agree, wave = samples.max, samples.agree, samples.at_once
    ((_, keys),) = ordered.key.items()
    states = ordered.state
    n = len(states[0])
    group = _groups(keys, states)
    # rank: how many samples so far, this one included, have its answer. The largest rank so far is the largest group.
    largest = np.zeros(n, np.int8)
    ends = np.full(n, most - 1, np.int8)  # the sample after which the vote is decided
    reach = np.full(n, most, np.int8)  # the sample with which enough agree
    open_ = np.ones(n, np.bool_)
    ranks: list[Int8s] = []
    for k in range(most):
        rank = np.ones(n, np.int8)
        for j in range(k):
            rank += group[j] == group[k]
        rank[group[k] < 0] = 0
        ranks.append(rank)
        np.maximum(largest, rank, out=largest)
        reached_now = (rank == agree) & (reach == most)
        reach[reached_now] = k
        over = (reach < most) | (states[k] == OVERFLOWS) | (largest + np.int8(most - k - 1) < agree)
        ends[over & open_] = k
        open_ &= ~over
    asked = np.minimum(most, (ends // wave + 1) * wave).astype(np.int8)
    reached = reach < asked
    best, size = np.full(n, -1, np.int8), np.zeros(n, np.int8)
    failed, cost = np.zeros(n, np.int8), np.zeros(n, np.int64)
    overflow, lacking = np.zeros(n, np.bool_), np.full(n, -1, np.int8)
    for k in range(most):
        here = asked > k
        better = here & ~reached & ((ranks[k] > size) | ((ranks[k] == size) & (size > 0) & (group[k] < best)))
        best[better], size[better] = group[k][better], ranks[k][better]
        failed += here & (states[k] == CANNOT_SAY)
        overflow |= here & (states[k] == OVERFLOWS)
        np.copyto(lacking, np.int8(k), where=here & (lacking < 0) & ((states[k] > OVERFLOWS) | (ordered.cost[k] < 0)))
        cost += np.where(here, ordered.cost[k], 0)
        at_reach = reached & (reach == k)
        best[at_reach], size[at_reach] = group[k][at_reach], agree
    last = np.where(reached, reach, asked - 1)
    total, reports, score = np.zeros(n), np.zeros(n, np.int8), np.zeros(n)
    for k in range(most):
        member = (group[k] == best) & (best >= 0) & (last >= k)
        reported = member & ~np.isnan(ordered.confidence[k])
        np.add(total, ordered.confidence[k], out=total, where=reported)
        reports += reported
        np.copyto(score, ordered.score[k], where=best == k)
    return Voted(
        reached, asked, best, size, failed, overflow & ~reached, _means(total, reports), score, cost, lacking
    )  # fmt: skip


def _groups(keys: Sequence[Codes], states: Sequence[Int8s]) -> list[Int8s]:
    """For each sample the first one with the same answer; -1 if it agrees with nothing."""
    made: list[Int8s] = []
    for k, key in enumerate(keys):
        group = np.full(len(key), k, np.int8)
        for j in reversed(range(k)):
            np.copyto(group, np.int8(j), where=(keys[j] == key) & (key >= 0) & (made[j] >= 0))
        group[states[k] != CAN_AGREE] = -1
        made.append(group)
    return made


def _means(total: Floats, reports: Int8s) -> Floats:
    """Rounded by Python, as `core.voting.mean_report` does: numpy rounds some numbers differently."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total / reports
    distinct, inverse = np.unique(means, return_inverse=True)
    rounded: Any = np.array([round(mean, VOTE_DECIMALS) for mean in distinct.tolist()])
    return rounded[inverse.reshape(-1)]
