"""A corpus under a policy, with each reply's confidence as the number of its level. Every search works on these codes.

Confidences clump, and `>=` ships a whole clump. So only the observed values, and `never`, differ as thresholds, and
comparing level numbers is exact. It is not a second rule: which replies may ship at all, with floors and ceilings, is
decided by `replay.vectorised`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

from cascade.calibration.search.closing import AtConfidence, at_confidence, left_costs
from cascade.calibration.search.counts import DENSE, GRID, Counts, Loss, joined, thresholds_of
from cascade.calibration.search.lacking import require_replies, require_reviews
from cascade.calibration.search.reviewing import Gate, Reviewed, gates_of, read_levels, with_reviews
from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns
from cascade.replay.outcomes import NO_RUNG
from cascade.replay.rule import NOT_COUNTED as NOT_COUNTED_REASONS
from cascade.replay.rule import Rule
from cascade.replay.sums import exact_sum

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Codes, Floats, Int8s, Ints

    At = Sequence[int] | Codes
    """Threshold levels: K-1 numbers for all items, or (N, K-1), each item its own."""

__all__ = ["NOT_COUNTED", "CodedCorpus", "code_columns", "code_levels"]

NOT_COUNTED = -1
"""In `CodedCorpus.natural`: a reply that carries no information on its rung's confidence."""

_FEW = 1024  # levels up to which searching them beats sorting the whole column
_SAMPLE = 8192
_ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class CodedCorpus:
    """N items on K rungs, named as in the plan, cheapest first. The matrices are stored column by column.

    levels   for each of K-1 rungs: the distinct confidences with which a reply could ship there, ascending
    codes    (N, K-1): j = the reply's confidence is levels[j-1]; 0 = it never ships there on its own (no or NaN
             confidence, declined, malformed, a failed check, below its floor); len(levels)+1 = the climb always ends
             there, whatever the threshold (the task's ceiling)
    score    (N, K): of the answer returned if the climb ends at that rung: the rung's own, or if that cannot ship the best
             held answer, with 0 if none was held
    alone    (N, K): of the rung's own reply; the same array as `score` if the two never differ
    cost     (N, K) nano-USD, each rung's own, with all of its samples
    single   (N, K) scores and nano-USD of one reply of each model alone: they differ from `alone` and `cost` only where a
             rung is asked more than once; None: nowhere
    returned (N, K): whose answer is returned if the climb ends at that rung, NO_RUNG for none; None: always its own
    group    (N,); task (N,) into `tasks`
    right_at a score below this is wrong
    left     (N, K-1) nano-USD: of a reply that early stop closes at its confidence, else as `cost`; None: as `cost` everywhere
    read     (N, K-1): as codes, for replies that never ship: up to this level as the threshold the reply is read whole before it
             escalates, above it the reply is closed; above every level where it is never closed; None with `left`
    reviews  what a review gate costs, and what it changes of what is returned; its costs are not in `cost`; None without a gate
    natural  (N, K-1): as codes, without floors and ceilings: the highest level at which the reply would ship by its own
             confidence, 0 for none, NOT_COUNTED for an error or an overflow; None: equal to codes
    """

    rungs: tuple[str, ...]
    levels: tuple[Floats, ...]
    codes: Codes
    score: Floats
    alone: Floats
    cost: Ints
    returned: Int8s | None
    group: Codes
    task: Codes
    tasks: tuple[str, ...]
    right_at: float
    natural: Codes | None = None
    single: tuple[Floats, Ints] | None = None
    left: Ints | None = None
    read: Codes | None = None
    reviews: Reviewed | None = None

    @property
    def model_score(self) -> Floats:
        """(N, K): the score of one reply of each model alone."""
        return self.alone if self.single is None else self.single[0]

    @property
    def model_cost(self) -> Ints:
        """(N, K): nano-USD of one reply of each model alone."""
        return self.cost if self.single is None else self.single[1]

    def __len__(self) -> int:
        return len(self.group)

    @property
    def top(self) -> int:
        """The index of the last rung."""
        return len(self.rungs) - 1

    @property
    def wrong(self) -> Bools:
        """(N, K): whether the answer returned if the climb ends at that rung is wrong; no answer counts as wrong."""
        return self.score < self.right_at

    def lost(self, loss: Loss) -> Bools:
        """(N, K): whether it is a loss if the climb ends at that rung."""
        wrong = self.wrong
        if loss == "regression":
            return wrong & (self.alone[:, self.top] >= self.right_at)[:, None]
        if self.returned is None:
            wrong[:, self.top] = False
            return wrong
        return wrong & (self.returned != NO_RUNG) & (self.returned != self.top)

    def shipped(self, at: At) -> Int8s:
        """(N,): the rung at which each climb ends under these levels; `score`, `wrong` and `lost` have its column."""
        ends = np.full(len(self), self.top, np.int8)
        levels = np.asarray(at).T  # one number per rung, or one per item
        for index in reversed(range(self.top)):
            ends[self.codes[:, index] >= levels[index]] = index
        return ends

    def scores(self, at: At) -> Floats:
        """(N,): what each item scores under these levels."""
        ends = self.shipped(at)
        if self.reviews is None or self.returned is None:
            return np.take_along_axis(self.score, ends.astype(np.intp)[:, None], 1)[:, 0]
        returned = self._returned(at, ends)
        own = np.take_along_axis(self.alone, np.maximum(returned, 0).astype(np.intp)[:, None], 1)[:, 0]
        return np.where(returned == NO_RUNG, 0.0, own)

    def _returned(self, at: At, ends: Int8s) -> Int8s:
        """(N,): whose answer is returned, of climbs that end at these rungs."""
        if self.returned is None:
            return ends
        returned = np.take_along_axis(self.returned, ends.astype(np.intp)[:, None], 1)[:, 0]
        return returned if self.reviews is None else self.reviews.returned(returned, ends, np.asarray(at).T)

    def costs(self, at: At) -> Ints:
        """(N,): what each item costs under these levels, in nano-USD: the sum over all rungs called."""
        ends, spent = self.shipped(at), self.cost[:, 0].copy()
        for index in range(1, len(self.rungs)):
            spent += self.cost[:, index] * (ends >= index)
        if self.left is not None:
            spent -= ((self.cost[:, :-1] - self.left) * self.closed(at)).sum(axis=1)
        if self.reviews is not None:
            spent += self.reviews.costs(ends, np.asarray(at).T)
        return spent

    def closed(self, at: At) -> Bools:
        """(N, K-1): which replies early stop closes under these levels."""
        closed = np.zeros((len(self), self.top), np.bool_)
        if self.read is not None:
            ends = self.shipped(at)
            for index, level in enumerate(np.asarray(at).T):
                closed[:, index] = (ends > index) & (self.read[:, index] < level)
        return closed

    def losses(self, at: At, loss: Loss) -> Bools:
        """(N,): which items are lost under these levels."""
        ends = self.shipped(at)
        if self.reviews is None or self.returned is None:
            return np.take_along_axis(self.lost(loss), ends.astype(np.intp)[:, None], 1)[:, 0]
        wrong, returned = self.scores(at) < self.right_at, self._returned(at, ends)
        if loss == "regression":
            return wrong & (self.alone[:, self.top] >= self.right_at)
        return wrong & (returned != NO_RUNG) & (returned != self.top)

    def thresholds(self, at: Sequence[int]) -> tuple[float | None, ...]:
        """The thresholds of these levels; None is `never`."""
        return thresholds_of(self.levels, at)

    def rows(self, which: Bools | Ints) -> CodedCorpus:
        """Some of the items, with the same levels: by mask or by row number."""
        chosen = np.flatnonzero(which) if which.dtype == np.bool_ else which

        def some(matrix: Any) -> Any:
            return np.asfortranarray(matrix[chosen])

        score = some(self.score)
        return CodedCorpus(
            self.rungs,
            self.levels,
            some(self.codes),
            score,
            score if self.alone is self.score else some(self.alone),
            some(self.cost),
            None if self.returned is None else some(self.returned),
            self.group[chosen],
            self.task[chosen],
            self.tasks,
            self.right_at,
            None if self.natural is None else some(self.natural),
            None if self.single is None else (some(self.single[0]), some(self.single[1])),
            None if self.left is None else some(self.left),
            None if self.read is None else some(self.read),
            None if self.reviews is None else self.reviews.rows(np.asarray(chosen, np.int64)),
        )

    def counts(self) -> Counts:
        """The table of counts, with one row per item if there could be too many code vectors to group by."""
        rows: dict[str, Any] = {
            "items": np.ones(len(self), np.int64),
            "score": self.score,
            "cost": self.cost,
            "wrong": self.wrong,
            "false_confident": self.lost("false_confident"),
            "regressed": self.lost("regression"),
            "alone": np.array([_sum_of_scores(own) for own in self.model_score.T]),
            "alone_wrong": np.count_nonzero(self.model_score < self.right_at, axis=0),
        }
        counts = Counts(self.rungs, self.levels, self.codes, **rows, right_at=self.right_at)
        if self.single is not None:
            counts = replace(counts, alone_cost=self.model_cost.sum(axis=0))
        if self.left is not None and self.read is not None:
            counts, rows = self._with_left(counts, self.left, self.read), {}
        if self.reviews is not None:
            counts = with_reviews(self, self.reviews, replace(counts, alone_cost=self.model_cost.sum(axis=0)))
        if prod(len(own) + 2 for own in self.levels) <= DENSE:
            return counts.merged()
        whole = {name: getattr(counts, name).astype(np.int8) for name in ("wrong", "false_confident", "regressed")}
        return replace(counts, **whole)

    def _with_left(self, counts: Counts, left: Ints, read: Codes) -> Counts:
        """The counts with what a climb pays at the rungs that it leaves.

        Where that depends on the threshold though the code does not (`read`), the item pays for a whole reply, and a row
        without an item, whose code is that of the confidence, takes back what closing saves.
        """
        depends = (read > 0) & (left != self.cost[:, :-1])
        passed, saved = left.copy(order="F"), [np.flatnonzero(depends[:, index]) for index in range(self.top)]
        made = [counts]
        for index, rows in enumerate(saved):
            passed[rows, index] = self.cost[rows, index]
            less = np.zeros((len(rows), self.top), np.int64)
            less[:, index] = left[rows, index] - self.cost[rows, index]
            codes = counts.codes[rows]
            codes[:, index] = read[rows, index]
            for above in range(index + 1, self.top):
                codes[:, above] = len(self.levels[above]) + 1
            made.append(counts.without_items(codes, less))
        made[0] = replace(counts, left=passed)
        return joined(made)


def code_columns(columns: Columns, view: MappedColumns) -> CodedCorpus:
    """Code a corpus under the policy of `view`. The storm guard is ignored.

    Raises CorpusError, naming item and rung, if a reply is missing, or has no score or no cost.
    """
    rule = Rule(columns, view)
    early = at_confidence(rule)
    require_replies(columns, view, early)
    n, top = len(columns), rule.top
    alone = _scores([view.score(columns, index) for index in range(top + 1)])
    codes = np.zeros((n, top), np.int32, order="F")
    replies = [rule.reply_reasons(index, _ALL) for index in range(top + 1)]
    stands = [why == 0 for why in replies]
    held = [rule.held(index, _ALL, replies[index]) for index in range(top + 1)]
    gates = gates_of(rule, replies)
    require_reviews(columns, view, gates)
    for index, gate in enumerate(gates):
        if gate is not None:
            stands[index] &= ~gate.turned_down
    ceiling = rule.ceiling(_ALL) if rule.has_ceilings else None
    levels: list[Floats] = []
    for index in range(top):
        may_ship = stands[index] if (one := early[index]) is None else stands[index] | one.begun
        ships = rule.with_floor(index, _ALL, np.where(may_ship, np.int8(0), np.int8(1))) == 0
        if view.vote(index) is not None:  # those that agree may have reported nothing
            ships &= ~np.isnan(view.confidence[index])
        found, codes[:, index] = code_levels(view.confidence[index], ships)
        levels.append(found)
        if ceiling is not None:
            codes[ceiling == index, index] = len(found) + 1
    reviews = read_levels(rule, gates, levels, held, ceiling, early)
    for index, gate in enumerate(gates):
        if gate is not None:
            held[index] = held[index] & ~gate.turned_down
    natural = _natural(rule, replies, gates, levels, codes, early)
    returned = _returned(held, ceiling, early)
    score = alone if returned is None else _scores_returned(alone, returned)
    cost = _stacked(view.cost, np.int64)
    right_at = columns.manifest.right_at
    names, tasks = view.mapping.names, view.tasks
    single = None
    if view.votes or view.climb_cost:
        own = _scores([columns.rungs[rung].score for rung in view.mapping.rungs])
        single = own, _stacked([view.single_cost(index) for index in range(top + 1)], np.int64)
    left, read = left_costs(rule, levels, codes, early)
    return CodedCorpus(
        names, tuple(levels), codes, score, alone, cost, returned, columns.group, view.task, tasks, right_at, natural,
        single, left, read, reviews,
    )  # fmt: skip


def _scores(scores: Sequence[Floats]) -> Floats:
    return _stacked([np.rint(score * GRID) / GRID for score in scores], np.float64)


def _sum_of_scores(scores: Floats) -> float:
    """The sum of scores on the grid, rounded once: beyond 2^23 one of floats would depend on the order of the items."""
    return exact_sum(np.rint(scores * GRID).astype(np.int64)) / int(GRID)


def code_levels(values: Floats, ships: Bools) -> tuple[Floats, Codes]:
    """The distinct values among those that may ship, ascending; and each value's number from 1, 0 for the others."""
    n = len(values)
    known = np.unique(values[:: max(1, n // _SAMPLE)])
    for _ in range(2):  # values missing from the sample are usually few
        known = known[: int(np.searchsorted(known, np.inf, "right"))]  # NaN is last
        if not len(known) or len(known) > _FEW:
            break
        place = np.searchsorted(known, values)
        place[place == len(known)] = 0
        strange = ships & (known[place] != values)
        if not strange.any():
            place += 1
            place[~ships] = 0
            return _only_used(known, place)
        known = np.union1d(known, np.unique(values[strange]))
    codes = np.zeros(n, np.int32)
    levels, inverse = np.unique(values[ships], return_inverse=True)
    codes[ships] = inverse + 1
    return levels, codes


def _only_used(known: Floats, codes: Ints) -> tuple[Floats, Codes]:
    used = np.bincount(codes, minlength=len(known) + 1)[1:] > 0
    if used.all():
        return known, codes.astype(np.int32)
    renumbered = np.concatenate([[0], np.where(used, np.cumsum(used), 0)]).astype(np.int32)
    return known[used], renumbered[codes]


def _stacked(columns: Sequence[Floats] | Sequence[Ints], kind: type) -> Any:
    matrix = cast("Any", np.empty((len(columns[0]), len(columns)), kind, order="F"))
    for index, column in enumerate(columns):
        matrix[:, index] = column
    return matrix


def _natural(
    rule: Rule,
    replies: Sequence[Int8s],
    gates: Sequence[Gate | None],
    levels: Sequence[Floats],
    codes: Codes,
    early: Sequence[AtConfidence | None],
) -> Codes | None:
    """`CodedCorpus.natural`: thresholds are levels, so a confidence between two levels ships where the lower one does."""
    below = range(rule.top)
    failed = [np.isin(replies[index], NOT_COUNTED_REASONS) for index in below]
    if not rule.has_floors and not rule.has_ceilings and not any(one.any() for one in failed):
        return None
    natural = codes.copy(order="F")
    for index in below:
        stands = replies[index] == 0
        if (one := early[index]) is not None:
            stands |= one.observed & ~one.declined
            failed[index] &= ~one.observed
        if (gate := gates[index]) is not None:
            stands &= ~gate.turned_down
        natural[:, index] = 0
        natural[stands, index] = np.searchsorted(levels[index], rule.mapped.confidence[index][stands], "right")
        natural[failed[index], index] = NOT_COUNTED
    return natural


def _returned(holds: Sequence[Bools], ceiling: Int8s | None, early: Sequence[AtConfidence | None]) -> Int8s | None:
    """Whose answer is returned if the climb ends at each rung; None if always the rung's own.

    `holds`: by rung, whose answer may be held. A reply that early stop closes is not. At its ceiling a reply that ended badly
    is taken to ship at its confidence, though at a higher threshold it does not: that counts rather too many losses.
    """
    top = len(holds) - 1
    if ceiling is None and holds[top].all():
        return None
    returned = np.empty((len(holds[0]), top + 1), np.int8, order="F")
    held = np.full(len(holds[0]), NO_RUNG, np.int8)
    for index, standing in enumerate(holds):
        before, one = held.copy() if early[index] is not None else held, early[index]
        held[standing if one is None else standing | one.begun] = index
        # Below the top a climb ends where the reply ships, or at the ceiling, where the best held answer is returned.
        returned[:, index] = held if index == top else index
        if ceiling is not None and index != top:
            returned[:, index] = np.where(ceiling == index, held, returned[:, index])
        if one is not None:
            held = np.where(one.closes | one.begun, before, held)
    return returned


def _scores_returned(alone: Floats, returned: Int8s) -> Floats:
    score = np.take_along_axis(alone, np.maximum(returned, 0).astype(np.intp), 1)
    score[returned == NO_RUNG] = 0.0
    return np.asfortranarray(score)
