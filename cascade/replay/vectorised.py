"""The rule of `core.decision`, for a whole corpus at once: its one licensed twin, held equal to it by a property test.

Every rung is decided for all items that reach it. Nothing an item does touches another one, but through the storm
guard; where a policy has one and the items have arrival times, the climbs are walked one by one in the order of
arrival, over the same columns, with the guard's own statistic (`core.storm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cascade.core.errors import CorpusError
from cascade.core.policy import StormGuard
from cascade.core.storm import Change, Guard
from cascade.replay.arrays import np
from cascade.replay.columns import DECLINED, FAILED, MISSING, NO_COST, Columns, View, no_cost
from cascade.replay.outcomes import NOBODY, REASONS, STOPS, Outcomes, Storms

if TYPE_CHECKING:
    from cascade.replay.arrays import Small, Truths, Whole

__all__ = ["NOT_COUNTED", "Rule", "evaluate", "in_order"]

_MALFORMED, _DECLINED = REASONS.index("malformed"), REASONS.index("declined")
_CHECK_FAILED, _LOW = REASONS.index("check_failed"), REASONS.index("low_confidence")
_FLOOR, _STORM = REASONS.index("floor"), REASONS.index("storm")
_ERROR, _OVERFLOW = REASONS.index("error"), REASONS.index("overflow")
_CEILING, _HELD = STOPS.index("ceiling"), STOPS.index("storm")
_NEVER = 2.0  # above every confidence
# What an answer's code is as a reason; the top is asked plainly, so that there an empty answer is one.
_BELOW = [0, 0, 0, _DECLINED, *(REASONS.index("error" if kind == "failed" else kind) for kind in FAILED)]
_AT_TOP = [0, 0, 0, 0, *_BELOW[len(_BELOW) - len(FAILED) :]]
_STOP_OF = [STOPS.index(reason) if reason in STOPS else 0 for reason in REASONS]  # at the top, where nothing is left

Rows = Any
"""Row numbers, or a slice of all rows: what a column is indexed with."""

NOT_COUNTED = (_ERROR, _OVERFLOW)
"""Reasons that the storm guard does not count: they say nothing of a rung's confidence."""

_ALL = slice(None)
_PIECE = 1 << 16  # rows of which the storms' walk holds Python's own numbers at once


def evaluate(columns: Columns, view: View) -> Outcomes:
    """What becomes of every item. Raises CorpusError where the rule reaches a reply that was not recorded or priced."""
    rule = Rule(columns, view)
    guard = view.lens.plan.policy.storm_guard
    if guard is None:
        return _climb_calmly(rule, Storms(off="no storm guard in the policy"))
    order = in_order(columns)
    if not len(order):
        return _climb_calmly(rule, Storms(off="no arrival times"))
    return _Storm(rule, guard).climb(order)


def in_order(columns: Columns) -> Whole:
    """The rows in order of arrival, those without one left out; of two at once the first in the file goes first."""
    order = np.argsort(columns.at, kind="stable")  # NaN goes last
    return order[: int(np.count_nonzero(np.isfinite(columns.at)))]


class Rule:
    """The policy as arrays, and what it makes of the replies of a rung."""

    def __init__(self, columns: Columns, view: View) -> None:
        policy = view.lens.plan.policy
        self.columns, self.view = columns, view
        self.names = view.lens.names
        self.rungs = [columns.rungs[rung] for rung in view.lens.rungs]
        self.top = len(self.rungs) - 1
        self.routes = [policy.route(task) for task in view.tasks]
        self.raised = view.floor if view.floor is not None and view.floor.any() else None
        self.has_floors = self.raised is not None or any(route.floor for route in self.routes)
        self.has_ceilings = any(route.ceiling != self.top for route in self.routes)
        self.floors = np.array([route.floor for route in self.routes], np.int8)
        self.ceilings = np.array([route.ceiling for route in self.routes], np.int8)

    def replies(self, index: int, rows: Rows) -> Small:
        """Why a reply does not stand by itself, whatever the thresholds say; 0 where it may ship."""
        failed, answer = self.view.failed[index], self.rungs[index].answer[rows]
        reasons = np.zeros(len(answer), np.int8)
        if failed is not None:
            reasons[failed[rows]] = _CHECK_FAILED
        if index != self.top:
            silent = np.isnan(self.rungs[index].confidence[rows])
            if silent.any():
                reasons[silent] = _MALFORMED
                answer = np.where(silent & (answer == DECLINED), np.int8(0), answer)
        odd = answer >= DECLINED
        if odd.any():
            codes = np.array(_AT_TOP if index == self.top else _BELOW, np.int8)[answer[odd]]
            reasons[odd] = np.where(codes != 0, codes, reasons[odd])
        return reasons

    def natural(self, index: int, rows: Rows, replies: Small) -> Small:
        """`replies`, and low_confidence where only the threshold stands against it."""
        if index == self.top:
            return replies
        # The twin of the comparison in core.decision. NaN ships nowhere, and neither does anything at `never`.
        confident = self.view.confidence[index][rows] >= self._thresholds(index, rows)
        return np.where(confident | (replies != 0), replies, np.int8(_LOW))

    def _thresholds(self, index: int, rows: Rows) -> Any:
        by_task = [_NEVER if (x := route.thresholds[index]) is None else x for route in self.routes]
        if len(set(by_task)) <= 1:
            return by_task[0] if by_task else _NEVER
        return np.array(by_task)[self.view.task[rows]]

    def floored(self, index: int, rows: Rows, natural: Small) -> Small:
        """`natural`, and floor where only that stands against the reply."""
        if not self.has_floors or index == self.top:
            return natural
        below = self.floors[self.view.task[rows]] > index
        if self.raised is not None:
            below |= self.raised[rows] > index
        return np.where(below & (natural == 0), np.int8(_FLOOR), natural)

    def capped(self, index: int, rows: Rows) -> Truths:
        """Whose ceiling the rung is at or above."""
        return self.ceiling(rows) <= index

    def ceiling(self, rows: Rows) -> Small:
        """The task's, or the floor that the request itself raises above it."""
        own = self.ceilings[self.view.task[rows]]
        return own if self.raised is None else np.maximum(own, self.raised[rows])

    def require(self, last: Small) -> Whole:
        """What every item cost, in nano-USD. Raises CorpusError where a reply that was asked for is not there."""
        cost = np.zeros(len(last), np.int64)
        faults: list[tuple[int, CorpusError]] = []
        for index, (replies, own) in enumerate(zip(self.rungs, self.view.cost, strict=True)):
            asked = last >= index
            cost += own * asked
            for lacking, error in ((replies.answer == MISSING, self._missing), (own == NO_COST, self._unpriced)):
                missed = lacking & asked
                if missed.any():
                    row = int(missed.argmax())
                    faults.append((row, error(index, row)))
        if faults:
            raise min(faults, key=lambda fault: fault[0])[1]
        return cost

    def _missing(self, index: int, row: int) -> CorpusError:
        problem = f"no reply of rung {self.view.lens.rungs[index]!r} was recorded"
        return self.columns.error(row, problem, "record it, or leave the item out (--skip-bad does)")

    def _unpriced(self, index: int, row: int) -> CorpusError:
        where = f"{self.columns.source}:{self.columns.line[row]}"
        return no_cost(self.view.lens, index, self.columns.ids[row], where)


def _climb_calmly(rule: Rule, storms: Storms | None = None) -> Outcomes:
    """All climbs, rung by rung; without `storms` they are not the last word, and nothing is required of them yet."""
    n, top = len(rule.columns), rule.top
    shipped, last, stopped = np.full(n, NOBODY, np.int8), np.zeros(n, np.int8), np.zeros(n, np.int8)
    held = np.full(n, NOBODY, np.int8)
    reasons = tuple(np.zeros(n, np.int8) for _ in range(top))
    rows: Rows = _ALL  # who is at the rung
    for index in range(top + 1):
        last[rows] = index
        replies = rule.replies(index, rows)
        why = rule.floored(index, rows, rule.natural(index, rows, replies))
        held[rows] = np.where(replies == 0, np.int8(index), held[rows])
        shipped[rows] = np.where(why == 0, np.int8(index), shipped[rows])
        going = why != 0
        if index == top or rule.has_ceilings:
            stop = going if index == top else going & rule.capped(index, rows)
            at = _at(rows, stop)
            shipped[at] = held[at]
            stopped[at] = np.array(_STOP_OF, np.int8)[why[stop]] if index == top else _CEILING
            going &= ~stop
        if index == top:
            break
        rows, why = _at(rows, going), why[going]
        reasons[index][rows] = why
    cost = rule.require(last) if storms else np.zeros(n, np.int64)
    return Outcomes(shipped, last, stopped, cost, reasons, storms or Storms())


def _at(rows: Rows, which: Truths) -> Rows:
    found = np.flatnonzero(which)
    return found if rows is _ALL else rows[found]


class _Storm:
    """The climbs one by one, for the guard: what each item does to the next cannot be said of all at once."""

    def __init__(self, rule: Rule, settings: StormGuard) -> None:
        self._rule, self._guard = rule, Guard(settings, rule.view.lens.plan.escalation)
        self._changes: list[tuple[str, Change]] = []
        self._counted = [[threshold is not None for threshold in route.thresholds] for route in rule.routes]

    def climb(self, order: Whole) -> Outcomes:
        """Those that arrive at a known time through the storms, the others calmly."""
        rule = self._rule
        calm = _climb_calmly(rule)
        arrays = (calm.shipped, calm.last, calm.stopped, *calm.reasons)
        for start in range(0, len(order), _PIECE):
            rows = order[start : start + _PIECE]
            for kept, made in zip(arrays, zip(*self._walk(rows), strict=True), strict=True):
                kept[rows] = made
        storms = Storms(None, tuple(self._changes), len(rule.columns) - len(order))
        return Outcomes(calm.shipped, calm.last, calm.stopped, rule.require(calm.last), calm.reasons, storms)

    def _walk(self, rows: Whole) -> Iterator[tuple[int, ...]]:
        """Each row's (shipped, last, stopped, reasons …), one after the other."""
        rule, columns = self._rule, self._rule.columns
        by_rung: list[list[Any]] = []
        for index, cost in enumerate(rule.view.cost):
            replies = rule.replies(index, rows)
            natural = rule.natural(index, rows, replies)
            why = rule.floored(index, rows, natural)
            by_rung.append([one.tolist() for one in (replies, natural, why, cost[rows])])
        signs = [list(zip(*one, strict=True)) for one in by_rung]
        tasks: list[int] = rule.view.task[rows].tolist()
        ceilings: list[int] = rule.ceiling(rows).tolist()
        at: list[float] = columns.at[rows].tolist()
        numbers: list[int] = rows.tolist()
        for place, row in enumerate(numbers):
            replies_of = [sign[place] for sign in signs]
            yield self._one(tasks[place], ceilings[place], at[place], replies_of, columns.ids[row])

    def _one(
        self, task: int, ceiling: int, now: float, signs: list[tuple[int, int, int, int]], name: str
    ) -> tuple[int, ...]:
        rule, top = self._rule, self._rule.top
        counted = self._counted[task]
        reasons, held, holding, index = [0] * top, NOBODY, False, 0
        while True:
            reply, natural, why, cost = signs[index]
            action, changes = self._guard.observe(
                rule.view.tasks[task],
                rule.names[index],
                natural=natural != 0 if index != top and counted[index] and natural not in NOT_COUNTED else None,
                failed=natural == _ERROR,
                storm_cost=cost if _STORM in reasons[:index] else 0,
                now=now,
            )
            self._changes += [(name, change) for change in changes]
            holding = holding or action == "hold"
            if reply == 0:
                held = index
            if why == 0 and index != top and action == "escalate" and not holding:
                why = _STORM
            if why == 0:
                return (index, index, 0, *reasons)
            if index == top or index >= ceiling or (holding and index + 1 == top):
                stop = _STOP_OF[why] if index == top else _CEILING if index >= ceiling else _HELD
                return (held, index, stop, *reasons)
            reasons[index] = why
            index += 1
