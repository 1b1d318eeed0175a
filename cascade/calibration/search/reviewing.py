"""What a review gate changes for a search: what the reviews cost, and which answers they keep from shipping.

An answer is read by the reviewer where it would ship: where its confidence reaches the threshold and is below the gate's `below`.
So its review is paid at every threshold up to the answer's own level, which takes a row of its own in the table of counts, whose
code is that level and whose only cost is the review's. An answer that the reviewer turns down never ships: its code is 0, as of a
failed check.

Where a climb ends without an answer that stands (at a task's ceiling, or because the top rung has none), the best held answer is
returned. An answer that was turned down is held no more; one that would have been, but was not confident enough to be read, still
is. So what is returned depends on the thresholds, as a polynomial in the indicators "not read": each of its terms is a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.calibration.search.counts import Counts, joined
from cascade.replay.arrays import np
from cascade.replay.outcomes import NO_RUNG
from cascade.replay.reviews import NOT_REVIEWED, UNUSABLE
from cascade.replay.rule import ALL, Rule, is_turned_down

if TYPE_CHECKING:
    from cascade.calibration.search.closing import AtConfidence
    from cascade.calibration.search.levels import CodedCorpus
    from cascade.replay.arrays import Bools, Codes, Floats, Int8s, Ints

__all__ = ["Gate", "Reviewed", "gates_of", "read_levels", "with_reviews"]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """One rung's answers and their reviews, (N,) each: what the review says if it is read, a code; nano-USD of it."""

    code: Int8s
    cost: Ints

    @property
    def turned_down(self) -> Bools:
        """Which answers never ship, because the review, where it is read, keeps them from it."""
        return is_turned_down(self.code)


@dataclass(frozen=True, slots=True, eq=False)
class Reviewed:
    """The reviews of N items at K-1 rungs; the matrices are stored column by column.

    level    as `CodedCorpus.codes`: the review is read, and paid, up to this level as the threshold; 0: never
    cost     nano-USD of the review
    unusable whether the review, where it is read, says nothing: an error, which the storm guard does not count
    lost     whether the answer may be held where its review is not read, and is not where it is
    late     (N, K): whether the best held answer is returned if the climb ends at that rung
    """

    level: Codes
    cost: Ints
    unusable: Bools
    lost: Bools
    late: Bools

    def rows(self, chosen: Ints) -> Reviewed:
        """Some of the items."""
        parts: list[Any] = [self.level, self.cost, self.unusable, self.lost, self.late]
        return Reviewed(*(np.asfortranarray(part[chosen]) for part in parts))

    def costs(self, ends: Int8s, levels: Any) -> Ints:
        """(N,): nano-USD of the reviews that are read, for climbs that end at these rungs. `levels`: of the thresholds, by rung."""
        spent = np.zeros(len(ends), np.int64)
        for index in range(self.level.shape[1]):
            spent += self.cost[:, index] * ((ends >= index) & (self.level[:, index] >= levels[index]))
        return spent

    def returned(self, returned: Int8s, ends: Int8s, levels: Any) -> Int8s:
        """(N,): whose answer is returned. `returned`: if every review is read."""
        late = np.take_along_axis(self.late, ends.astype(np.intp)[:, None], 1)[:, 0]
        for index in range(self.lost.shape[1]):
            held = late & self.lost[:, index] & (ends >= index) & (self.level[:, index] < levels[index])
            returned = np.where(held, np.maximum(returned, np.int8(index)), returned)
        return returned


def gates_of(rule: Rule, replies: Sequence[Int8s]) -> list[Gate | None]:
    """By rung below the top: what the gate would say of each answer that it may read; None without a gate.

    `replies`: by rung why a reply cannot ship whatever the thresholds are.
    """
    made: list[Gate | None] = []
    for index in range(rule.top):
        said = rule.reviews(index, ALL, replies[index])
        own = rule.mapped.reviews[index] if said is not None else None
        made.append(None if said is None or own is None else Gate(said, own.cost))
    return made


def read_levels(
    rule: Rule, gates: Sequence[Gate | None], levels: Sequence[Floats], held: Sequence[Bools], ceiling: Int8s | None,
    early: Sequence[AtConfidence | None],
) -> Reviewed | None:  # fmt: skip
    """The reviews for a search; None without a gate. `held`: by rung, whose answer may be held if it is not read."""
    if all(gate is None for gate in gates):
        return None
    n, top = len(rule.columns), rule.top
    level = np.zeros((n, top), np.int32, order="F")
    cost = np.zeros((n, top), np.int64, order="F")
    unusable, lost = (np.zeros((n, top), np.bool_, order="F") for _ in range(2))
    late = np.zeros((n, top + 1), np.bool_, order="F")
    late[:, top] = ~held[top]
    for index, gate in enumerate(gates):
        if ceiling is not None:
            late[:, index] = ceiling == index
        if gate is None:
            continue
        read = gate.code != NOT_REVIEWED
        level[read, index] = np.searchsorted(levels[index], rule.mapped.confidence[index][read], "right")
        cost[read, index] = gate.cost[read]
        unusable[:, index] = gate.code == UNUSABLE
        lost[:, index] = gate.turned_down & held[index]
        if (one := early[index]) is not None:  # what is not read is closed, unless the climb ends there
            lost[:, index] &= ~one.closes | late[:, index]
    return Reviewed(level, cost, unusable, lost, late)


def with_reviews(coded: CodedCorpus, reviewed: Reviewed, counts: Counts) -> Counts:
    """The counts with the reviews: what they cost, and what they change of what is returned at the end of a climb."""
    made = [replace(counts, left=counts.passed)]
    for index in range(coded.top):
        rows = np.flatnonzero((reviewed.level[:, index] > 0) & (reviewed.cost[:, index] > 0))
        codes = _ending(coded, coded.codes[rows], index)
        codes[:, index] = reviewed.level[rows, index]
        cost = np.zeros((len(rows), coded.top + 1), np.int64)
        cost[:, index] = reviewed.cost[rows, index]
        made.append(replace(_empty(counts, codes), cost=cost))
    if coded.returned is not None:
        for end in range(coded.top + 1):
            made += _returned_at(coded, coded.returned, reviewed, counts, end)
    return joined(made)


def _returned_at(coded: CodedCorpus, returned: Int8s, reviewed: Reviewed, counts: Counts, end: int) -> list[Counts]:
    """Rows for what is returned at the end of a climb, less what is if every review is read."""
    lost = reviewed.lost & (np.arange(coded.top) <= end)
    reached = np.all(coded.codes[:, :end] <= [len(own) for own in coded.levels[:end]], axis=1)  # no ceiling below it
    rows = np.flatnonzero(reviewed.late[:, end] & reached & lost.any(axis=1))
    if not len(rows):
        return []
    lost, before = lost[rows], returned[rows, end]
    terms: dict[tuple[int, ...], Any] = {(): _worth(coded, rows, before)}
    for index in range(min(end + 1, coded.top)):
        counted = (lost[:, index] & (before < index))[:, None]
        own = _worth(coded, rows, np.full(len(rows), index, np.int8))
        for unread, value in list(terms.items()):
            terms[(*unread, index)] = np.where(counted, (0 if unread else own) - value, 0.0)
    made: list[Counts] = []
    for unread, value in terms.items():
        codes = _ending(coded, coded.codes[rows], end)
        below = [index for index in unread if index != end]
        for index in below:
            codes[:, index] = reviewed.level[rows, index]
        if not unread:
            continue
        made.append(_worth_rows(counts, codes, value, end))
        if end in unread:  # "not read" where the climb ends anyway: the whole, less where it is read
            codes = codes.copy()
            codes[:, end] = reviewed.level[rows, end]
            made.append(_worth_rows(counts, codes, -value, end))
    return made


def _worth(coded: CodedCorpus, rows: Ints, returned: Int8s) -> Any:
    """(n, 4): score, wrong, false_confident and regressed of what is returned."""
    none, top = returned == NO_RUNG, returned == coded.top
    score = np.where(none, 0.0, coded.alone[rows, np.maximum(returned, 0)])
    wrong = score < coded.right_at
    regressed = wrong & (coded.alone[rows, coded.top] >= coded.right_at)
    return np.stack([score, wrong, wrong & ~none & ~top, regressed], axis=1).astype(np.float64)


def _worth_rows(counts: Counts, codes: Codes, value: Any, end: int) -> Counts:
    matrices: list[Any] = []
    for place, kind in enumerate((np.float64, np.int8, np.int8, np.int8)):
        matrix = np.zeros((len(codes), len(counts.rungs)), kind)
        matrix[:, end] = value[:, place]
        matrices.append(matrix)
    score, wrong, false_confident, regressed = matrices
    return replace(
        _empty(counts, codes), score=score, wrong=wrong, false_confident=false_confident, regressed=regressed
    )


def _empty(counts: Counts, codes: Codes) -> Counts:
    return counts.without_items(codes, np.zeros((len(codes), len(counts.rungs) - 1), np.int64))


def _ending(coded: CodedCorpus, codes: Codes, end: int) -> Codes:
    """The codes with those from `end` on replaced, so that every climb that gets there ends there."""
    made = codes.copy()
    for index in range(end, coded.top):
        made[:, index] = len(coded.levels[index]) + 1
    return made
