"""The rule of `core.decision` for a whole corpus at once. It repeats the rule; a property test holds the two equal.

Each rung is decided for all items that reach it. Items affect each other only through the storm guard: if the policy
has one and items have arrival times, they climb one by one in order of arrival, on the same columns and with the
guard's own statistic (`core.storm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

from cascade.core.policy import StormGuard
from cascade.core.storm import Action, Change, Guard
from cascade.replay.arrays import np
from cascade.replay.columns import Columns, MappedColumns
from cascade.replay.early import Heads
from cascade.replay.outcomes import NO_RUNG, REASONS, STOPS, Outcomes, Storms
from cascade.replay.reviews import NOT_REVIEWED
from cascade.replay.rule import ALL, NOT_COUNTED, Rows, Rule, after_review, is_turned_down

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools, Ints

__all__ = ["evaluate", "in_order"]

_STORM, _ERROR, _OVERFLOW = (REASONS.index(reason) for reason in ("storm", "error", "overflow"))
_CEILING, _HELD = STOPS.index("ceiling"), STOPS.index("storm")
_STOP_OF = [STOPS.index(reason) if reason in STOPS else 0 for reason in REASONS]  # by reason, at the top rung

_AtHead = tuple[int, int, bool, int]
"""Of one reply at its confidence: natural reason, reason with floor, `Heads.ships` and `Heads.ended`."""

_AtRung = tuple[bool, int, int, int, int, _AtHead | None]
"""Of one reply: whether its answer may be held, natural reason, reason with floor, nano-USD, the same if its stream is closed, and
what is decided early."""

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


def _climb_unguarded(rule: Rule, storms: Storms | None = None) -> Outcomes:
    """All climbs, rung by rung. Without `storms` the result is preliminary: costs are 0, missing replies no error."""
    n, top = len(rule.columns), rule.top
    shipped, last, stopped = np.full(n, NO_RUNG, np.int8), np.zeros(n, np.int8), np.zeros(n, np.int8)
    fallback = np.full(n, NO_RUNG, np.int8)  # the last rung whose reply may be returned where the climb stops
    reasons = tuple(np.zeros(n, np.int8) for _ in range(top))
    closed = tuple(np.zeros(n, np.bool_) for _ in range(top)) if rule.mapped.left else ()
    rows: Rows = ALL  # the items at this rung
    for index in range(top + 1):
        last[rows] = index
        replies = rule.reply_reasons(index, rows)
        natural, held = rule.natural_reasons(index, rows, replies), rule.held(index, rows, replies)
        if (said := rule.reviews(index, rows, natural)) is not None:
            natural, held = after_review(natural, said), held & ~is_turned_down(said)
        why = rule.with_floor(index, rows, natural)
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
    cost, reviews = rule.require(last, closed) if storms else (np.zeros(n, np.int64), ())
    return Outcomes(shipped, last, stopped, cost, reasons, storms or Storms(), closed, reviews)


def _at(rows: Rows, which: Bools) -> Rows:
    found = np.flatnonzero(which)
    return found if rows is ALL else rows[found]


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
        cost, reviews = rule.require(outcomes.last, outcomes.closed)
        return replace(outcomes, cost=cost, storms=storms, reviews=reviews)

    def _climb_rows(self, rows: Ints) -> Iterator[tuple[int, ...]]:
        """For each row: (shipped, last, stopped, reasons …), and with early stop (closed …)."""
        rule, columns = self._rule, self._rule.columns
        by_rung: list[list[Any]] = []
        for index, cost in enumerate(rule.mapped.cost):
            replies = rule.reply_reasons(index, rows)
            natural, held, paid = (
                rule.natural_reasons(index, rows, replies),
                rule.held(index, rows, replies),
                cost[rows],
            )
            if (said := rule.reviews(index, rows, natural)) is not None and (
                own := rule.mapped.reviews[index]
            ) is not None:
                natural, held = after_review(natural, said), held & ~is_turned_down(said)
                paid = paid + np.where(said != NOT_REVIEWED, own.cost[rows], 0)
            why = rule.with_floor(index, rows, natural)
            early = repeat(None) if (heads := rule.heads(index, rows)) is None else self._early(index, rows, heads)
            closed = rule.mapped.left[index] if index < len(rule.mapped.left) else None
            left = repeat(0) if closed is None else closed[rows].tolist()
            by_rung.append([*(one.tolist() for one in (held, natural, why, paid)), left, early])
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
