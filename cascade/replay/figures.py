"""Figures of a run over a corpus: quality, cost, confidently wrong answers, and each model alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cascade.core.errors import CorpusError
from cascade.core.policy.samples import ORDERS
from cascade.core.trail import NATURAL, Answer, Step
from cascade.corpora.items import Item, RecordedReply
from cascade.replay.samples import places_of

__all__ = ["Figures", "Single", "answering_reply", "figures_of"]


@dataclass(frozen=True, slots=True)
class Single:
    """One model alone, answering every item: its mean score, cost in nano-USD, and number of wrong answers.

    `recorded_as` is its name in the corpus; "" if that is the same.
    """

    quality: float
    cost: int
    wrong: int
    recorded_as: str = ""


@dataclass(frozen=True)
class Figures:
    """The figures of `items` answered requests.

    `quality`: mean score; abstained counts 0. `cost`: nano-USD of all steps. `false_confident`: shipped below the top
    rung, and wrong. By rung: `reached` counts the requests it was asked, `escalations` those it did not ship, `natural`
    those escalated for natural reasons. `singles`: each model alone, from the same replies.
    """

    items: int
    quality: float
    cost: int
    shipped: Mapping[str, int]
    reached: Mapping[str, int]
    escalations: Mapping[str, int]
    natural: Mapping[str, int]
    reasons: Mapping[str, int]
    false_confident: int
    wrong: int
    degraded: int
    abstained: int
    singles: Mapping[str, Single]

    @cached_property
    def cost_usd(self) -> float:
        """The cost in USD."""
        return self.cost / 1e9

    @property
    def cost_per_request_usd(self) -> float:
        """The mean cost, in USD."""
        return self.cost / 1e9 / self.items if self.items else 0.0

    @property
    def escalation_rates(self) -> dict[str, float]:
        """For each rung, the share of the requests it was asked that were escalated; 0 if there were none."""
        return {rung: self.escalations[rung] / max(1, reached) for rung, reached in self.reached.items()}

    @property
    def savings_vs_top(self) -> float | None:
        """The share of the top model's cost that is saved; None if that cost is unknown or 0."""
        top = self.singles.get([*self.shipped][-1])
        return 1 - self.cost / top.cost if top is not None and top.cost else None

    @property
    def random_mix(self) -> tuple[float, int] | None:
        """Expected quality and cost (nano-USD) if as many requests, drawn at random, climbed as far.

        The cascade's difference from this is the gain from confidence. None if a single model's figures are unknown.
        """
        if not self.items or any(rung not in self.singles for rung in self.shipped):
            return None
        quality = sum(count / self.items * self.singles[rung].quality for rung, count in self.shipped.items())
        cost = sum(count * self.singles[rung].cost for rung, count in self.reached.items())
        return quality, round(cost / self.items)

    @property
    def nearest(self) -> str | None:
        """The single model closest to the cascade in quality."""
        return min(self.singles, key=lambda rung: abs(self.singles[rung].quality - self.quality), default=None)

    @property
    def cheapest_as_good(self) -> str | None:
        """The cheapest single model that is at least as good; None if there is none."""
        good = [rung for rung, single in self.singles.items() if single.quality >= self.quality]
        return min(good, key=lambda rung: self.singles[rung].cost, default=None)

    def single_false_confident(self, rung: str) -> int | None:
        """How many wrong answers one model alone ships below the top rung: all its wrong ones, or 0 for the top model.

        None for a model that is not a rung of the ladder. `calibrate` counts in the same way.
        """
        if rung not in self.shipped:
            return None
        return 0 if rung == [*self.shipped][-1] else self.singles[rung].wrong

    @property
    def false_confident_rate(self) -> float:
        """The share of all requests."""
        return self.false_confident / self.items if self.items else 0.0


def figures_of(
    items: Sequence[Item],
    answers: Sequence[Answer],
    ladder: Sequence[str],
    *,
    right_at: float = 0.5,
    own: str = ORDERS[0],
) -> Figures:
    """The figures of `answers`, one for each of `items`; `ladder` names the rungs, cheapest first.

    `own`: the name of the policy's triage prompt, for samples that were recorded without a variant's name.

    Raises CorpusError if a shipped reply has no score, or a reply's cost was not recorded.
    """
    shipped, reached, escalations, natural, reasons = (Counter[str]() for _ in range(5))
    total, false_confident, wrong, degraded, abstained, cost = 0.0, 0, 0, 0, 0, 0
    for item, answer in zip(items, answers, strict=True):
        cost += answer.cost_nanousd
        for step in answer.steps:
            reached[step.rung] += 1
            if step.reason is not None:
                escalations[step.rung] += 1
                natural[step.rung] += step.reason in NATURAL
                reasons[step.reason] += 1
        degraded += answer.degraded is not None
        if answer.rung is None:
            abstained += 1
            wrong += 1
            continue
        score = _score(item, answer.rung, _shipped(item, answer, own))
        total += score
        shipped[answer.rung] += 1
        if score < right_at:
            wrong += 1
            false_confident += answer.rung != ladder[-1]
    n = len(items)
    return Figures(
        n,
        total / n if n else 0.0,
        cost,
        {rung: shipped[rung] for rung in ladder},
        {rung: reached[rung] for rung in ladder},
        {rung: escalations[rung] for rung in ladder},
        {rung: natural[rung] for rung in ladder},
        dict(reasons.most_common()),
        false_confident,
        wrong,
        degraded,
        abstained,
        {rung: _single(items, rung, right_at) for rung in ladder},
    )


def answering_reply(item: Item, step: Step, own: str = ORDERS[0]) -> RecordedReply:
    """The recorded reply that a step's answer is; of a vote, the first sample that agrees. `own` as in `figures_of`."""
    reply, vote = item.reply(step.rung), step.verdict.vote
    if vote is None or not vote.members:
        return reply
    every = reply.every
    asked = [sample.variant for sample in step.samples if not sample.is_judge]
    place = places_of([sample.variant for sample in every], asked, own)[vote.members[0]]
    return every[place or 0]


def _shipped(item: Item, answer: Answer, own: str) -> RecordedReply:
    return answering_reply(item, next(step for step in reversed(answer.steps) if step.rung == answer.rung), own)


def _score(item: Item, rung: str, reply: RecordedReply) -> float:
    if reply.score is None:
        raise CorpusError(f"the reply of {rung!r} has no score", item=item.id, hint="grade it, or leave the item out")
    return reply.score


def _single(items: Sequence[Item], rung: str, right_at: float) -> Single:
    costs = [item.reply(rung).cost_usd for item in items]
    if any(cost is None for cost in costs):
        raise CorpusError(f"a reply of {rung!r} has no cost_usd", hint="record its cost")
    scores = [_score(item, rung, item.reply(rung)) for item in items]
    quality = sum(scores) / len(scores) if scores else 0.0
    wrong = sum(score < right_at for score in scores)
    return Single(quality, sum(round((cost or 0.0) * 1e9) for cost in costs), wrong)
