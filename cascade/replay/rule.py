"""A policy as arrays: what `core.decision` makes of each reply of a corpus, rung by rung. `vectorised` has the climbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cascade.core.errors import CorpusError
from cascade.corpora.sources import place_of
from cascade.replay.arrays import np
from cascade.replay.columns import (
    DECLINED,
    FAILED,
    MISSING,
    NO_CHECK,
    NO_COST,
    UNCHECKED,
    Columns,
    MappedColumns,
    missing_cost,
)
from cascade.replay.early import EarlyRule, Heads
from cascade.replay.outcomes import REASONS
from cascade.replay.reviews import (
    NO_REVIEW,
    NOT_REVIEWED,
    REJECTED,
    REVIEW_HINT,
    UNUSABLE,
    gates_at,
    no_review,
    no_review_cost,
)

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Int8s, Ints

__all__ = ["ALL", "NOT_COUNTED", "Rows", "Rule", "after_review", "is_turned_down"]

_MALFORMED, _DECLINED = REASONS.index("malformed"), REASONS.index("declined")
_CHECK_FAILED, _LOW = REASONS.index("check_failed"), REASONS.index("low_confidence")
_FLOOR, _DISAGREEMENT = REASONS.index("floor"), REASONS.index("disagreement")
_ERROR, _OVERFLOW = REASONS.index("error"), REASONS.index("overflow")
_NEVER = 2.0  # above every confidence
# The reason for each code of an answer. The top rung is asked plainly, so an empty answer is valid there.
_BELOW = [0, 0, 0, _DECLINED, *(REASONS.index("error" if kind == "failed" else kind) for kind in FAILED)]
_AT_TOP = [0, 0, 0, 0, *_BELOW[len(_BELOW) - len(FAILED) :]]

Rows = Any
"""An index of columns: row numbers, or the slice of all rows."""

ALL = slice(None)
"""All rows."""

NOT_COUNTED = (_ERROR, _OVERFLOW)
"""Reasons that the storm guard does not count: they say nothing about a rung's confidence."""


class Rule:
    """A policy as arrays, applied to a corpus's columns."""

    def __init__(self, columns: Columns, mapped: MappedColumns) -> None:
        policy = mapped.mapping.plan.policy
        self.columns, self.mapped = columns, mapped
        self.names = mapped.mapping.names
        self.rungs = [columns.rungs[rung] for rung in mapped.mapping.rungs]
        self.top = len(self.rungs) - 1
        self.routes = [policy.route(task) for task in mapped.tasks]
        self.raised = mapped.floor if mapped.floor is not None and mapped.floor.any() else None
        self.has_floors = self.raised is not None or any(route.floor for route in self.routes)
        self.has_ceilings = any(route.ceiling != self.top for route in self.routes)
        self.floors = np.array([route.floor for route in self.routes], np.int8)
        self.ceilings = np.array([route.ceiling for route in self.routes], np.int8)
        self.early = EarlyRule(mapped)
        self.has_reviews = bool(mapped.reviews)

    def reply_reasons(self, index: int, rows: Rows) -> Int8s:
        """Why each reply cannot ship whatever the thresholds are; 0 if it can."""
        failed, answer = self.mapped.failed[index], self.rungs[index].answer[rows]
        reasons = np.zeros(len(answer), np.int8)
        if failed is not None:
            reasons[failed[rows]] = _CHECK_FAILED
        if index != self.top:
            unscored = np.isnan(self.rungs[index].confidence[rows])
            if (ballot := self.mapped.vote(index)) is not None and ballot.rows is not None:
                unscored &= ~ballot.rows[rows]
            if unscored.any():
                reasons[unscored] = _MALFORMED
                answer = np.where(unscored & (answer == DECLINED), np.int8(0), answer)
        odd = answer >= DECLINED
        if odd.any():
            codes = np.array(_AT_TOP if index == self.top else _BELOW, np.int8)[answer[odd]]
            reasons[odd] = np.where(codes != 0, codes, reasons[odd])
        if self.mapped.stuck:
            reasons[(self.mapped.stuck[index][rows] == UNCHECKED) & (reasons == 0)] = _ERROR
        if index != self.top and (ballot := self.mapped.vote(index)) is not None:
            missing = self.rungs[index].answer[rows] == MISSING
            voted = ballot.reason[rows]
            reasons = voted if ballot.rows is None else np.where(ballot.rows[rows], voted, reasons)
            reasons = np.where(missing, np.int8(_DISAGREEMENT), reasons)  # an error, if the rule asks for it
        return reasons

    def held(self, index: int, rows: Rows, replies: Int8s) -> Bools:
        """Which replies may be returned where the climb stops: those that can ship, and answers that lost a vote."""
        if (ballot := self.mapped.vote(index)) is None:
            return replies == 0
        lost = ballot.held[rows]
        return (replies == 0) | (lost if ballot.rows is None else lost & ballot.rows[rows])

    def natural_reasons(self, index: int, rows: Rows, replies: Int8s) -> Int8s:
        """`replies`, plus low_confidence where only the threshold prevents shipping."""
        if index == self.top:
            return replies
        # The same comparison as in core.decision. NaN never ships, and nothing ships at `never`.
        confident = self.mapped.confidence[index][rows] >= self._thresholds(index, rows)
        if (ballot := self.mapped.vote(index)) is not None:
            confident |= ballot.alone[rows]
        return np.where(confident | (replies != 0), replies, np.int8(_LOW))

    def reviews(self, index: int, rows: Rows, natural: Int8s) -> Int8s | None:
        """What the review gate says of each answer that it reads, NOT_REVIEWED for the others; None without a gate.

        `natural`: as of `natural_reasons`: only an answer that would ship, at a rung that is not below the floor, is read.
        """
        if index == self.top or not self.has_reviews or (own := self.mapped.reviews[index]) is None:
            return None
        # The same comparison as in core.review: an answer without a confidence is not read.
        unsure = self.mapped.confidence[index][rows] < own.below[rows]
        read = unsure & (self.with_floor(index, rows, natural) == 0)
        return np.where(read, own.code[rows], np.int8(NOT_REVIEWED))

    def reviewed(self, index: int, rows: Rows) -> Int8s | None:
        """As `reviews`, from the columns alone."""
        if not self.has_reviews:
            return None
        return self.reviews(index, rows, self.natural_reasons(index, rows, self.reply_reasons(index, rows)))

    def heads(self, index: int, rows: Rows) -> Heads | None:
        """The replies at their confidence, where early stop decides; None if it never does at this rung."""
        return self.early.heads(index, rows, self.rungs[index])

    def early_reasons(self, index: int, rows: Rows, heads: Heads) -> Int8s:
        """As `natural_reasons`, of what is known at the confidence: declined or low_confidence; 0 where nothing is."""
        confident = self.mapped.confidence[index][rows] >= self._thresholds(index, rows)
        reasons = np.where(confident | ~heads.known, np.int8(0), np.int8(_LOW))
        return np.where(heads.declined, np.int8(_DECLINED), reasons)

    def _thresholds(self, index: int, rows: Rows) -> Any:
        by_task = [_NEVER if (x := route.thresholds[index]) is None else x for route in self.routes]
        if len(set(by_task)) <= 1:
            return by_task[0] if by_task else _NEVER
        return np.array(by_task)[self.mapped.task[rows]]

    def with_floor(self, index: int, rows: Rows, natural: Int8s) -> Int8s:
        """`natural`, plus floor where only the floor prevents shipping."""
        if not self.has_floors or index == self.top:
            return natural
        below = self.floors[self.mapped.task[rows]] > index
        if self.raised is not None:
            below |= self.raised[rows] > index
        return np.where(below & (natural == 0), np.int8(_FLOOR), natural)

    def capped(self, index: int, rows: Rows) -> Bools:
        """Which items have their ceiling at or below this rung."""
        return self.ceiling(rows) <= index

    def ceiling(self, rows: Rows) -> Int8s:
        """Each item's ceiling: its task's, or its own floor if that is higher."""
        own = self.ceilings[self.mapped.task[rows]]
        return own if self.raised is None else np.maximum(own, self.raised[rows])

    def require(self, last: Int8s, closed: Sequence[Bools] = ()) -> tuple[Ints, tuple[Int8s, ...]]:
        """Each item's cost in nano-USD, and by rung what the review gate said (empty without one).

        Raises CorpusError if a reply or a review that was asked for is missing or has no cost.
        """
        cost = np.zeros(len(last), np.int64)
        faults: list[tuple[int, CorpusError]] = []
        said: list[Int8s] = []
        for index, (replies, own) in enumerate(zip(self.rungs, self.mapped.cost, strict=True)):
            asked = last >= index
            kinds = [(replies.answer == MISSING, self._missing), (own == NO_COST, self._unpriced)]
            if index < len(closed) and (left := self.mapped.left[index]) is not None:
                cost += np.where(closed[index], left, own * asked)
                kinds.append(((left == NO_COST) & (own != NO_COST) & closed[index], self._unpriced_closed))
            else:
                cost += own * asked
            if (ballot := self.mapped.vote(index)) is not None:
                kinds[1] = (own == NO_COST) & (ballot.lacking < 0), self._unpriced
                kinds.append(((ballot.lacking >= 0) & (replies.answer != MISSING), self._lacking))
            if self.mapped.stuck:
                once = np.True_ if ballot is None else np.False_ if ballot.rows is None else ~ballot.rows
                kinds.append(((self.mapped.stuck[index] == NO_CHECK) & once, self._unchecked))
            if (codes := self.reviewed(index, ALL)) is not None:
                codes = np.where(asked, codes, np.int8(NOT_REVIEWED))
                said.append(codes)
                own_review = self.mapped.reviews[index]
                assert own_review is not None, "what is reviewed has columns"
                cost += np.where(codes != NOT_REVIEWED, own_review.cost, 0)
                kinds.append((codes == NO_REVIEW, self._unreviewed))
                kinds.append(((codes != NOT_REVIEWED) & (own_review.cost == NO_COST), self._unpriced_review))
            for lacking, error in kinds:
                missed = lacking & asked
                if missed.any():
                    row = int(missed.argmax())
                    faults.append((row, error(index, row)))
        if faults:
            raise min(faults, key=lambda fault: fault[0])[1]
        return cost, tuple(said)

    def _missing(self, index: int, row: int) -> CorpusError:
        problem = f"no reply of rung {self.mapped.mapping.rungs[index]!r} was recorded"
        return self.columns.error(row, problem, "record it, or leave the item out (--skip-bad does)")

    def _lacking(self, index: int, row: int) -> CorpusError:
        ballot = self.mapped.vote(index)
        assert ballot is not None
        rung, number = self.mapped.mapping.rungs[index], int(ballot.lacking[row])
        problem = f"sample {number + 1} of rung {rung!r} (variant {ballot.wanted[number]}) cannot be used"
        hint = "record it with its answer, cost and checks, or ask for fewer samples"
        return self.columns.error(row, problem, hint)

    def _unchecked(self, index: int, row: int) -> CorpusError:
        rung = self.mapped.mapping.rungs[index]
        problem = f"the reply of {rung!r} has no result of an external check"
        return self.columns.error(row, problem, "record it, or leave the check out")

    def _unreviewed(self, index: int, row: int) -> CorpusError:
        rungs, task = self.mapped.mapping.rungs, self.mapped.tasks[int(self.mapped.task[row])]
        gate = gates_at(self.mapped.mapping.plan, task, index)
        assert gate is not None, "what is reviewed has a gate"
        return self.columns.error(row, no_review(rungs[index], rungs[gate[0]]), REVIEW_HINT)

    def _unpriced_review(self, index: int, row: int) -> CorpusError:
        mapping = self.mapped.mapping
        return self.columns.error(row, no_review_cost(mapping.rungs[index], mapping.cost_of), REVIEW_HINT)

    def _unpriced(self, index: int, row: int) -> CorpusError:
        where = place_of(self.columns.source, int(self.columns.line[row]))
        return missing_cost(self.mapped.mapping, index, self.columns.ids[row], where)

    def _unpriced_closed(self, index: int, row: int) -> CorpusError:
        where = place_of(self.columns.source, int(self.columns.line[row]))
        return missing_cost(self.mapped.mapping, index, self.columns.ids[row], where, closed=True)


def is_turned_down(said: Int8s) -> Bools:
    """Which reviews keep an answer from shipping and from being held: a rejection, and one that could not be used."""
    return (said == REJECTED) | (said == UNUSABLE)


def after_review(natural: Int8s, said: Int8s) -> Int8s:
    """The reasons, with what the review gate said of the answers that it read."""
    natural = np.where(said == REJECTED, np.int8(_CHECK_FAILED), natural)
    return np.where(said == UNUSABLE, np.int8(_ERROR), natural)
