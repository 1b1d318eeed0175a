"""The rule of `core.decision` for a whole corpus at once. It repeats the rule; a property test holds the two equal.

Each rung is decided for all items that reach it. Items affect each other only through the storm guard: if the policy
has one and items have arrival times, they climb one by one in order of arrival, on the same columns and with the
guard's own statistic (`core.storm`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

from cascade.core.errors import CorpusError
from cascade.core.policy import StormGuard
from cascade.core.storm import Action, Change, Guard
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
from cascade.replay.outcomes import NO_RUNG, REASONS, STOPS, Outcomes, Storms

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Int8s, Ints

__all__ = ["NOT_COUNTED", "Rule", "evaluate", "in_order"]

_MALFORMED, _DECLINED = REASONS.index("malformed"), REASONS.index("declined")
_CHECK_FAILED, _LOW = REASONS.index("check_failed"), REASONS.index("low_confidence")
_FLOOR, _STORM = REASONS.index("floor"), REASONS.index("storm")
_DISAGREEMENT = REASONS.index("disagreement")
_ERROR, _OVERFLOW = REASONS.index("error"), REASONS.index("overflow")
_CEILING, _HELD = STOPS.index("ceiling"), STOPS.index("storm")
_NEVER = 2.0  # above every confidence
# The reason for each code of an answer. The top rung is asked plainly, so an empty answer is valid there.
_BELOW = [0, 0, 0, _DECLINED, *(REASONS.index("error" if kind == "failed" else kind) for kind in FAILED)]
_AT_TOP = [0, 0, 0, 0, *_BELOW[len(_BELOW) - len(FAILED) :]]
_STOP_OF = [STOPS.index(reason) if reason in STOPS else 0 for reason in REASONS]  # by reason, at the top rung

Rows = Any
"""An index of columns: row numbers, or the slice of all rows."""

NOT_COUNTED = (_ERROR, _OVERFLOW)
"""Reasons that the storm guard does not count: they say nothing about a rung's confidence."""

_AtHead = tuple[int, int, bool, int]
"""Of one reply at its confidence: natural reason, reason with floor, `Heads.ships` and `Heads.ended`."""

_AtRung = tuple[bool, int, int, int, int, _AtHead | None]
"""Of one reply: whether its answer may be held, natural reason, reason with floor, nano-USD, the same if its stream is closed, and
what is decided early."""

_ALL = slice(None)
_PIECE = 1 << 16  # rows converted to Python numbers at once, to bound memory


def evaluate(columns: Columns, mapped: MappedColumns) -> Outcomes:
    """The outcome of every item. Raises CorpusError if the rule reaches a reply that was not recorded or priced."""
    rule = Rule(columns, mapped)
    guard = mapped.mapping.plan.policy.storm_guard
    if guard is None:
        return _climb_unguarded(rule, Storms(off="no storm guard in the policy"))
    order = in_order(columns)
    if not len(order):
        return _climb_unguarded(rule, Storms(off="no arrival times"))
    return _GuardedClimbs(rule, guard).climb(order)


def in_order(columns: Columns) -> Ints:
    """The rows in order of arrival, in file order if equal. Rows without an arrival time are left out."""
    order = np.argsort(columns.at, kind="stable")  # NaN goes last
    return order[: int(np.count_nonzero(np.isfinite(columns.at)))]


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

    def require(self, last: Int8s, closed: Sequence[Bools] = ()) -> Ints:
        """Each item's cost in nano-USD. Raises CorpusError if a reply that was asked for is missing or has no cost."""
        cost = np.zeros(len(last), np.int64)
        faults: list[tuple[int, CorpusError]] = []
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
            for lacking, error in kinds:
                missed = lacking & asked
                if missed.any():
                    row = int(missed.argmax())
                    faults.append((row, error(index, row)))
        if faults:
            raise min(faults, key=lambda fault: fault[0])[1]
        return cost

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

    def _unpriced(self, index: int, row: int) -> CorpusError:
        where = f"{self.columns.source}:{self.columns.line[row]}"
        return missing_cost(self.mapped.mapping, index, self.columns.ids[row], where)

    def _unpriced_closed(self, index: int, row: int) -> CorpusError:
        where = f"{self.columns.source}:{self.columns.line[row]}"
        return missing_cost(self.mapped.mapping, index, self.columns.ids[row], where, closed=True)


def _climb_unguarded(rule: Rule, storms: Storms | None = None) -> Outcomes:
    """All climbs, rung by rung. Without `storms` the result is preliminary: costs are 0, missing replies no error."""
    n, top = len(rule.columns), rule.top
    shipped, last, stopped = np.full(n, NO_RUNG, np.int8), np.zeros(n, np.int8), np.zeros(n, np.int8)
    fallback = np.full(n, NO_RUNG, np.int8)  # the last rung whose reply may be returned where the climb stops
    reasons = tuple(np.zeros(n, np.int8) for _ in range(top))
    closed = tuple(np.zeros(n, np.bool_) for _ in range(top)) if rule.mapped.left else ()
    rows: Rows = _ALL  # the items at this rung
    for index in range(top + 1):
        last[rows] = index
        replies = rule.reply_reasons(index, rows)
        why = rule.with_floor(index, rows, rule.natural_reasons(index, rows, replies))
        held = rule.held(index, rows, replies)
        if (heads := rule.heads(index, rows)) is not None:
            early = rule.with_floor(index, rows, rule.early_reasons(index, rows, heads))
            closes = heads.known & (early != 0) & (~rule.capped(index, rows) if rule.early.may_close else np.False_)
            begun = heads.ships & (early == 0)
            closed[index][rows] = closes
            stopped[rows] = np.where(begun, heads.ended, stopped[rows])
            why = np.where(closes, early, np.where(begun, np.int8(0), why))
            held &= ~closes
        fallback[rows] = np.where(held, np.int8(index), fallback[rows])
        shipped[rows] = np.where(why == 0, np.int8(index), shipped[rows])
        climbs_on = why != 0
        if index == top or rule.has_ceilings:
            stop = climbs_on if index == top else climbs_on & rule.capped(index, rows)
            at = _at(rows, stop)
            shipped[at] = fallback[at]
            stopped[at] = np.array(_STOP_OF, np.int8)[why[stop]] if index == top else _CEILING
            climbs_on &= ~stop
        if index == top:
            break
        rows, why = _at(rows, climbs_on), why[climbs_on]
        reasons[index][rows] = why
    cost = rule.require(last, closed) if storms else np.zeros(n, np.int64)
    return Outcomes(shipped, last, stopped, cost, reasons, storms or Storms(), closed)


def _at(rows: Rows, which: Bools) -> Rows:
    found = np.flatnonzero(which)
    return found if rows is _ALL else rows[found]


class _GuardedClimbs:
    """The climbs one by one, for the storm guard: each item can change the guard's state for the next."""

    def __init__(self, rule: Rule, settings: StormGuard) -> None:
        self._rule, self._guard = rule, Guard(settings, rule.mapped.mapping.plan.escalation)
        self._changes: list[tuple[str, Change]] = []
        self._counted = [[route.decides(index) for index in range(len(route.thresholds))] for route in rule.routes]

    def climb(self, order: Ints) -> Outcomes:
        """Items with an arrival time climb under the guard, in `order`; the others without it."""
        rule = self._rule
        outcomes = _climb_unguarded(rule)
        arrays = (outcomes.shipped, outcomes.last, outcomes.stopped, *outcomes.reasons, *outcomes.closed)
        for start in range(0, len(order), _PIECE):
            rows = order[start : start + _PIECE]
            for array, values in zip(arrays, zip(*self._climb_rows(rows), strict=True), strict=True):
                array[rows] = values
        storms = Storms(None, tuple(self._changes), len(rule.columns) - len(order))
        cost = rule.require(outcomes.last, outcomes.closed)
        return replace(outcomes, cost=cost, storms=storms)

    def _climb_rows(self, rows: Ints) -> Iterator[tuple[int, ...]]:
        """For each row: (shipped, last, stopped, reasons …), and with early stop (closed …)."""
        rule, columns = self._rule, self._rule.columns
        by_rung: list[list[Any]] = []
        for index, cost in enumerate(rule.mapped.cost):
            replies = rule.reply_reasons(index, rows)
            natural = rule.natural_reasons(index, rows, replies)
            why = rule.with_floor(index, rows, natural)
            held = rule.held(index, rows, replies)
            early = repeat(None) if (heads := rule.heads(index, rows)) is None else self._early(index, rows, heads)
            closed = rule.mapped.left[index] if index < len(rule.mapped.left) else None
            left = repeat(0) if closed is None else closed[rows].tolist()
            by_rung.append([*(one.tolist() for one in (held, natural, why, cost[rows])), left, early])
        by_row = [list(zip(*one, strict=False)) for one in by_rung]  # what is the same for all rows repeats
        tasks: list[int] = rule.mapped.task[rows].tolist()
        ceilings: list[int] = rule.ceiling(rows).tolist()
        at: list[float] = columns.at[rows].tolist()
        numbers: list[int] = rows.tolist()
        for place, row in enumerate(numbers):
            rungs = [rung[place] for rung in by_row]
            yield self._climb_one(tasks[place], ceilings[place], at[place], rungs, columns.ids[row])

    def _early(self, index: int, rows: Ints, heads: Heads) -> Iterator[_AtHead | None]:
        """By row what is decided at the confidence; None where nothing is."""
        natural = self._rule.early_reasons(index, rows, heads)
        why = self._rule.with_floor(index, rows, natural)
        values = zip(*(one.tolist() for one in (natural, why, heads.ships, heads.ended)), strict=True)
        return (own if known else None for known, own in zip(heads.known.tolist(), values, strict=True))

    def _climb_one(self, task: int, ceiling: int, now: float, rungs: list[_AtRung], name: str) -> tuple[int, ...]:
        """One row's values."""
        top, may_close = self._rule.top, self._rule.early.may_close
        closed = [0] * top if self._rule.mapped.left else []
        reasons, fallback, holding, index = [0] * top, NO_RUNG, False, 0
        while True:
            held, natural, why, cost, left, early = rungs[index]
            extra = cost if _STORM in reasons[:index] else 0
            if early is None:
                action = self._observe(task, index, natural, extra, now, name)
            else:
                at_head, decided, ships, ended = early
                is_stopped = index >= ceiling or (holding and index + 1 == top)
                # As `core.climb`: what only the whole answer can tell is observed after it.
                is_early = ships or (may_close and decided != 0 and not is_stopped)
                action = self._observe(
                    task, index, at_head if is_early else natural, 0 if is_early else extra, now, name
                )
                if is_early and decided == 0 and action == "escalate" and not holding:
                    decided = _STORM
                is_stopped = is_stopped or (action == "hold" and index + 1 == top)
                is_closed = is_early and decided != 0 and may_close and not is_stopped
                self._observe_end(task, index, (left if is_closed else cost) if is_early and extra else 0, now, name)
                if is_closed:
                    reasons[index], closed[index], holding = decided, 1, holding or action == "hold"
                    index += 1
                    continue
                if ships and decided == 0:
                    return (index, index, ended, *reasons, *closed)
            holding = holding or action == "hold"
            if held:
                fallback = index
            if why == 0 and index != top and action == "escalate" and not holding:
                why = _STORM
            if why == 0:
                return (index, index, 0, *reasons, *closed)
            if index == top or index >= ceiling or (holding and index + 1 == top):
                stop = _STOP_OF[why] if index == top else _CEILING if index >= ceiling else _HELD
                return (fallback, index, stop, *reasons, *closed)
            reasons[index] = why
            index += 1

    def _observe_end(self, task: int, index: int, storm_cost: int, now: float, name: str) -> None:
        """Count what a step cost that was observed at its confidence, if a storm caused it: its cost is known at its end."""
        if storm_cost:
            self._observe(task, index, _OVERFLOW, storm_cost, now, name)

    def _observe(self, task: int, index: int, natural: int, storm_cost: int, now: float, name: str) -> Action | None:
        rule = self._rule
        is_counted = index != rule.top and self._counted[task][index] and natural not in NOT_COUNTED
        action, changes = self._guard.observe(
            rule.mapped.tasks[task],
            rule.names[index],
            natural=natural != 0 if is_counted else None,
            failed=natural == _ERROR,
            storm_cost=storm_cost,
            now=now,
        )
        self._changes += [(name, change) for change in changes]
        return action
