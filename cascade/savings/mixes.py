"""Which rung answers what share of the requests: told by the user, or taken from a corpus replayed under the policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cascade.core import prices
from cascade.core.climb import Plan
from cascade.core.errors import AllRungsFailed, CorpusError, UsageExportError
from cascade.core.trail import Answer
from cascade.corpora import CorpusReader, Item, RecordedReply, replay_item
from cascade.savings.bill import Basis

__all__ = ["Mix", "Observed", "observe", "read_mix"]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a replayed corpus says of the policy, beside its mix. Rates are over all items, qualities mean scores.

    `cost`: what its answers cost in nano-USD, at the policy's prices where the usage was recorded, and `single_costs`
    every rung's alone; None where a reply has neither usage nor cost. `auroc`: the chance that a right answer of the first rung says more than a wrong one; None where it cannot be told.
    """

    corpus: str
    items: int
    synthetic: bool
    quality: float
    wrong: float
    singles: tuple[tuple[float, float], ...]
    cost: int | None
    single_costs: tuple[int | None, ...]
    auroc: float | None
    tasks: int


@dataclass(frozen=True, slots=True)
class Mix:
    """`shares`: of the requests, answered by each rung. `reached`: that ask each rung, the first one all of them."""

    shares: tuple[Fraction, ...]
    reached: tuple[Fraction, ...]
    basis: Basis
    observed: Observed | None = None

    @property
    def escalation(self) -> tuple[Fraction, ...]:
        """Of the requests that reach a rung (all but the last), the share that asks the next one."""
        pairs = zip(self.reached[:-1], self.reached[1:], strict=True)
        return tuple(above / here if here else Fraction(0) for here, above in pairs)


def read_mix(text: str, rungs: Sequence[str]) -> Mix:
    """What `--mix 80/15/5` says, a share for each rung, in per cent or adding up to 1. Raises UsageExportError."""
    try:
        parts = [Fraction(part.strip().removesuffix("%")) for part in text.split("/")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if len(parts) != len(rungs) or any(part < 0 for part in parts) or sum(parts) not in (1, 100):
        mend = f"a share for each of {', '.join(rungs)} that add up to 100, e.g. 80/15/5"
        raise UsageExportError(f"{text!r} is no mix", where="--mix", mend=mend)
    shares = tuple(part / sum(parts) for part in parts)
    return Mix(shares, tuple(sum(shares[k:], Fraction(0)) for k in range(len(shares))), "estimate")


def observe(reader: CorpusReader, plan: Plan) -> Mix:
    """The mix of a corpus replayed item by item through the very rule that runs live.

    Raises CorpusError where the corpus lacks a rung of the policy, or has no items.
    """
    rungs = tuple(rung.rung for rung in plan.policy.ladder)
    if unknown := [rung for rung in rungs if rung not in reader.manifest.rungs]:
        has = ", ".join(reader.manifest.rungs)
        problem = f"has no rung {unknown[0]!r}, which policy {plan.policy.name!r} asks"
        raise CorpusError(problem, where=reader.source, mend=f"it has {has}: give a --policy with these rungs")
    tally = _Tally(plan, reader.manifest.right_at)
    for item in reader:
        try:
            tally.count(item, replay_item(plan, item, cost_of="policy"))
        except AllRungsFailed as failed:
            tally.count_failed(item, tuple(step.rung for step in failed.steps))
    if not tally.items:
        raise CorpusError("has no items", where=reader.source, mend="record some")
    n = tally.items
    shares = tuple(Fraction(tally.shipped[rung], n) for rung in rungs)
    reached = tuple(Fraction(tally.reached[rung], n) for rung in rungs)
    observed = Observed(
        reader.manifest.name,
        n,
        reader.manifest.synthetic,
        tally.score / n,
        tally.wrong / n,
        tuple((tally.single_score[rung] / n, tally.single_wrong[rung] / n) for rung in rungs),
        tally.cost,
        tuple(tally.single_cost.values()),
        _auroc(tally.said),
        len(tally.tasks),
    )
    return Mix(shares, reached, "measured", observed)


class _Tally:
    def __init__(self, plan: Plan, right_at: float) -> None:
        rungs = tuple(rung.rung for rung in plan.policy.ladder)
        self._rates = dict(zip(rungs, plan.rates, strict=True))
        self._rungs, self._right_at = rungs, right_at
        self.items = 0
        self.score = 0.0
        self.wrong = 0
        self.shipped: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.single_score: dict[str, float] = dict.fromkeys(rungs, 0.0)
        self.single_wrong: Counter[str] = Counter()
        self.cost: int | None = 0
        self.single_cost: dict[str, int | None] = dict.fromkeys(rungs, 0)
        self.said: list[tuple[float, bool]] = []
        self.tasks: set[str | None] = set()

    def count(self, item: Item, answer: Answer) -> None:
        self._count(item, (step.rung for step in answer.steps))
        if answer.rung is None:
            self.wrong += 1
            self._count_unanswered()
            return
        score = _score(item, answer.rung)
        self.score += score
        self.wrong += score < self._right_at
        self.shipped[answer.rung] += 1

    def count_failed(self, item: Item, asked: Iterable[str]) -> None:
        self._count(item, asked)
        self.wrong += 1
        self._count_unanswered()

    def _count_unanswered(self) -> None:
        """No answer: for the mix it is the top rung's, which is what asking without a cascade would have paid."""
        self.shipped[self._rungs[-1]] += 1

    def _count(self, item: Item, asked: Iterable[str]) -> None:
        self.items += 1
        self.tasks.add(item.task)
        costs = {rung: self._cost_of(item.reply(rung), rung) for rung in self._rungs}
        for rung in asked:
            self.reached[rung] += 1
            self.cost = _plus(self.cost, costs[rung])
        for rung in self._rungs:
            self.single_cost[rung] = _plus(self.single_cost[rung], costs[rung])
            score = _score(item, rung)
            self.single_score[rung] += score
            self.single_wrong[rung] += score < self._right_at
        first = item.reply(self._rungs[0])
        if first.confidence is not None and first.answer is not None:
            self.said.append((first.confidence, _score(item, self._rungs[0]) >= self._right_at))

    def _cost_of(self, reply: RecordedReply, rung: str) -> int | None:
        if reply.usage:
            return prices.cost(self._rates[rung], reply.tokens)
        return None if reply.cost_usd is None else round(reply.cost_usd * 1e9)


def _plus(total: int | None, cost: int | None) -> int | None:
    return None if total is None or cost is None else total + cost


def _score(item: Item, rung: str) -> float:
    score = item.reply(rung).score
    if score is None:
        raise CorpusError(f"the reply of {rung!r} has no score", item=item.id, mend="grade it, or leave the item out")
    return score


def _auroc(said: Sequence[tuple[float, bool]]) -> float | None:
    """Mann and Whitney's statistic over the levels, ties half; None where there are no right, or no wrong answers."""
    right, wrong = Counter(sure for sure, ok in said if ok), Counter(sure for sure, ok in said if not ok)
    pairs = right.total() * wrong.total()
    if not pairs:
        return None
    below = won = 0
    for level in sorted(right.keys() | wrong.keys()):
        won += right[level] * (2 * below + wrong[level])
        below += wrong[level]
    return won / (2 * pairs)
