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
    """The vote of every item, on samples in the policy's order (`in_order_of`).

    Counts are int8 and are added in place: at a million items the time goes into reading and writing memory.
    """
    most, agree, wave = samples.max, samples.agree, samples.at_once
    ((_, keys),) = ordered.key.items()
    states = ordered.state
    group, rank = _groups_and_ranks(keys, states)
    ends, reach = _ends(rank, states, agree)
    asked = (ends if wave == 1 else ends // wave * wave) + np.int8(wave)
    np.minimum(asked, most, out=asked)
    reached = reach < asked
    counted = asked if wave == 1 else np.where(reached, reach + np.int8(1), asked)  # samples that decide the answer
    best, size = _largest_group(group, rank, counted)
    failed, lacking = _failed_and_lacking(ordered, asked)
    overflow = _overflow(states, asked) & ~reached
    cost = ordered.cost[0].copy()
    total, reports, score = np.zeros(len(best)), np.zeros(len(best), np.int8), np.zeros(len(best))
    for k in range(most):
        here = asked > k
        if k and here.any():
            cost += ordered.cost[k] if here.all() else ordered.cost[k] * here
        member = (group[k] == best) & (counted > k)
        confidence = ordered.confidence[k]
        member &= ~np.isnan(confidence)
        total += np.where(member, confidence, 0.0)
        reports += member.view(np.int8)
        np.copyto(score, ordered.score[k], where=best == k)
    return Voted(reached, asked, best, size, failed, overflow, _means(total, reports), score, cost, lacking)


def _groups_and_ranks(keys: Sequence[Codes], states: Sequence[Int8s]) -> tuple[list[Int8s], list[Int8s]]:
    """For each sample the first one with the same answer, and how many there are up to it, itself included.

    A sample that agrees with nothing has group -2 and rank 0.
    """
    groups: list[Int8s] = []
    ranks: list[Int8s] = []
    known: list[Any] = []
    narrow = all(len(key) == 0 or key.max() <= _MOST_INT8 for key in keys)
    for k, (key, state) in enumerate(zip(keys, states, strict=True)):
        can_agree = state == CAN_AGREE
        own = key.astype(np.int8) if narrow else key.copy()
        np.copyto(own, own.dtype.type(-2 - k), where=(own < 0) | ~can_agree)  # equals no other sample's
        group, rank = np.full(len(key), k, np.int8), can_agree.view(np.int8).copy()
        for j in reversed(range(k)):
            alike = known[j] == own
            rank += alike.view(np.int8)
            np.copyto(group, np.int8(j), where=alike)
        np.copyto(group, np.int8(-2), where=~can_agree)
        known.append(own)
        groups.append(group)
        ranks.append(rank)
    return groups, ranks


def _ends(ranks: Sequence[Int8s], states: Sequence[Int8s], agree: int) -> tuple[Int8s, Int8s]:
    """The sample after which each vote is decided; and the one with which enough agree, else the number of samples.

    Each condition stays once it holds, so its first sample is the number of samples for which it did not hold.
    """
    n, most = len(ranks[0]), len(ranks)
    largest, overflown = np.zeros(n, np.int8), np.zeros(n, np.bool_)
    ends, reach = np.zeros(n, np.int8), np.zeros(n, np.int8)
    for k, (rank, state) in enumerate(zip(ranks, states, strict=True)):
        np.maximum(largest, rank, out=largest)
        overflown |= state == OVERFLOWS
        short = largest < agree
        reach += short.view(np.int8)
        short &= ~overflown
        short &= largest >= agree - (most - k - 1)
        ends += short.view(np.int8)
    return ends, reach


def _largest_group(groups: Sequence[Int8s], ranks: Sequence[Int8s], counted: Int8s) -> tuple[Int8s, Int8s]:
    """Of the samples that count: the first of the largest group, the earlier one on a tie, and its size; -1 and 0 without any.

    Size and place are compared in one number.
    """
    best = np.zeros(len(counted), np.int16)
    for k, (group, rank) in enumerate(zip(groups, ranks, strict=True)):
        place = rank.astype(np.int16)
        place *= _PLACES
        place -= group
        place *= (rank > 0) & (counted > k)
        np.maximum(best, place, out=best)
    # size * _PLACES - first, so that the size is rounded up
    size = (best + np.int16(_PLACES - 1)) // np.int16(_PLACES)
    first = (size * np.int16(_PLACES) - best).astype(np.int8)
    np.copyto(first, np.int8(-1), where=best == 0)
    return first, size.astype(np.int8)


def _failed_and_lacking(ordered: SampleColumns, asked: Int8s) -> tuple[Int8s, Int8s]:
    """How many of the samples asked could not say, and the first of them that cannot be used, else -1."""
    failed, lacking = np.zeros(len(asked), np.int8), np.full(len(asked), -1, np.int8)
    for k in reversed(range(len(ordered))):
        state, cost = ordered.state[k], ordered.cost[k]
        unsaid = state == CANNOT_SAY
        unsaid &= asked > k
        failed += unsaid.view(np.int8)
        if len(cost) and (cost.min() < 0 or state.max() > OVERFLOWS):
            np.copyto(lacking, np.int8(k), where=(asked > k) & ((state > OVERFLOWS) | (cost < 0)))
    return failed, lacking


def _overflow(states: Sequence[Int8s], asked: Int8s) -> Bools:
    """Whether the prompt did not fit for one of the samples asked."""
    found = np.zeros(len(asked), np.bool_)
    for k, state in enumerate(states):
        found |= (state == OVERFLOWS) & (asked > k)
    return found


_MOST_INT8, _PLACES = 127, 64
_UNIT = 10.0**VOTE_DECIMALS


def _means(total: Floats, reports: Int8s) -> Floats:
    """Rounded as Python does, and so `core.voting.mean_report`: numpy rounds otherwise near the half of a unit."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total / reports
        scaled = means * _UNIT
        nearest = np.rint(scaled)
        near_half = np.abs(np.abs(scaled - nearest) - 0.5) < 1e-6
    nearest /= _UNIT
    rows = np.flatnonzero(near_half)
    if len(rows):
        nearest[rows] = [round(mean, VOTE_DECIMALS) for mean in means[rows].tolist()]
    return nearest
