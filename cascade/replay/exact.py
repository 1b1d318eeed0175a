"""Replay through the engine's own path: `replay_item` for every item, its answer encoded as `Outcomes`.

Slower than `vectorised`, with the same results: a property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.core.errors import CorpusError
from cascade.core.storm import Change, Guard
from cascade.core.trail import Step
from cascade.core.triage import triage_name
from cascade.corpora.items import Item, RecordedReply
from cascade.corpora.sources import place_of
from cascade.replay.arrays import np
from cascade.replay.columns import PolicyMapping, missing_cost
from cascade.replay.driver import OnChange, replay_item
from cascade.replay.early import early_rungs
from cascade.replay.outcomes import NO_RUNG, REASONS, STOPS, Outcomes, Storms
from cascade.replay.reviews import ACCEPTED, REJECTED, UNUSABLE, has_reviews
from cascade.replay.samples import places_of

if TYPE_CHECKING:
    from cascade.replay.arrays import Ints

__all__ = ["ExactRun"]

_REASONS = {reason: code for code, reason in enumerate(REASONS)}
_SAID = {True: ACCEPTED, False: REJECTED, None: UNUSABLE}
_STOPS = {stop: code for code, stop in enumerate(STOPS)}


class ExactRun:
    """Replays a corpus given in chunks, in file order. With a storm guard, items climb in order of arrival, at the end.

    Raises CorpusError if the rule reaches a reply that was not recorded or priced.
    """

    def __init__(self, mapping: PolicyMapping, source: str = "corpus") -> None:
        self._mapping, self._source = mapping, source
        # A climb that ends without an answer must not stop the others: it abstains instead of raising.
        policy = mapping.plan.policy.model_copy(update={"exhausted": "abstain"})
        self._plan = replace(mapping.plan, policy=policy)
        self._settings = mapping.plan.policy.storm_guard
        self._kept: list[Item] = []
        self._rows: list[tuple[int, ...]] = []

    def take(self, items: Sequence[Item]) -> None:
        """Climb for these items, or keep them until `outcomes`."""
        if self._settings is not None:
            self._kept += items
        else:
            self._rows += [self._climb(item) for item in items]

    def outcomes(self) -> Outcomes:
        """The outcomes of all items."""
        storms = Storms(off="no storm guard in the policy")
        if self._settings is not None:
            storms = self._climb_in_order(Guard(self._settings, self._plan.escalation))
        below = len(self._mapping.rungs) - 1
        table: Ints = np.array(self._rows, np.int64).reshape(len(self._rows), 4 + 3 * below)
        shipped, last, stopped, *rest = (table[:, n].astype(np.int8) for n in range(3 + 3 * below))
        early = any(early_rungs(self._plan.policy))
        closed = tuple(one.astype(np.bool_) for one in rest[below : 2 * below]) if early else ()
        reviews = tuple(rest[2 * below :]) if has_reviews(self._plan) else ()
        return Outcomes(shipped, last, stopped, table[:, -1].copy(), tuple(rest[:below]), storms, closed, reviews)

    def _climb_in_order(self, guard: Guard) -> Storms:
        timed = [(item.at, row) for row, item in enumerate(self._kept) if item.at is not None]
        encoded: dict[int, tuple[int, ...]] = {}
        changes: list[tuple[str, Change]] = []
        for _, row in sorted(timed):
            item = self._kept[row]
            encoded[row] = self._climb(item, guard, lambda change, name=item.id: changes.append((name, change)))
        self._rows = [encoded.get(row) or self._climb(item) for row, item in enumerate(self._kept)]
        if not timed:
            return Storms(off="no arrival times")
        return Storms(None, tuple(changes), len(self._kept) - len(timed))

    def _climb(self, item: Item, guard: Guard | None = None, on_change: OnChange | None = None) -> tuple[int, ...]:
        mapping = self._mapping
        try:
            answer = replay_item(
                self._plan, item, cost_of=mapping.cost_of, guard=guard, rungs=mapping.rungs, on_change=on_change
            )
        except CorpusError as problem:  # an item does not know its file
            raise CorpusError(
                problem.problem, where=place_of(self._source, item.line), item=problem.item, hint=problem.hint
            ) from None
        for step in answer.steps:
            if step.samples:
                self._require_costs(item, step)
                continue
            reply = item.reply(mapping.rungs[step.index])
            has_cost = self._has_cost(reply)
            if not has_cost or (step.verdict.closed and not reply.can_be_priced):
                raise missing_cost(mapping, step.index, item.id, place_of(self._source, item.line), closed=has_cost)
        return _encode(answer.steps, answer.rung, answer.degraded or answer.abstained, mapping)

    def _has_cost(self, reply: RecordedReply) -> bool:
        return reply.cost_usd is not None if self._mapping.cost_of == "recorded" else reply.can_be_priced

    def _require_costs(self, item: Item, step: Step) -> None:
        """Raises CorpusError for a sample of the step whose cost is not known."""
        rung, policy = self._mapping.rungs[step.index], self._plan.policy
        every = item.reply(rung).every
        wanted = [sample.variant for sample in step.samples if not sample.is_judge]
        for number, place in enumerate(places_of([one.variant for one in every], wanted, triage_name(policy))):
            if not self._has_cost(every[place or 0]):
                problem = f"sample {number + 1} of rung {rung!r} (variant {wanted[number]}) has no cost"
                where = place_of(self._source, item.line)
                raise CorpusError(problem, where=where, item=item.id, hint="record it, or ask for fewer samples")


def _encode(steps: tuple[Step, ...], rung: str | None, stop: str | None, mapping: PolicyMapping) -> tuple[int, ...]:
    reasons, closed, reviews = ([0] * (len(mapping.rungs) - 1) for _ in range(3))
    shipped, cost = NO_RUNG, 0
    for step in steps:
        cost += step.cost_nanousd
        if step.reason is not None:
            reasons[step.index] = _REASONS[step.reason]
            closed[step.index] = step.verdict.closed
        if step.review is not None:
            reviews[step.index] = _SAID[step.review.accepted]
        if step.rung == rung:
            shipped = step.index
    return (shipped, steps[-1].index, _STOPS[stop or ""], *reasons, *closed, *reviews, cost)
