"""What a cascade must beat: every single model, a mix drawn at random, and the shorter ladders that obey the rules.

A single model is counted as if it stood where it stands on the whole ladder: one below the top ships every answer below
the top, so all that it gets wrong is `false_confident`; the top itself has no loss of either kind. A ladder that ends
below the top is counted alike: what its last rung gets wrong is lost. Else leaving rungs out would look safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from cascade.calibration.coded import Coded, Loss
from cascade.calibration.counts import Counts
from cascade.calibration.frontier import Point, frontier
from cascade.core.ladder import Rung, ladder_faults
from cascade.core.policy import Policy
from cascade.corpora.arrays import np

if TYPE_CHECKING:
    from cascade.corpora.arrays import Truths

__all__ = [
    "Shorter",
    "Single",
    "cheapest_single",
    "lost_alone",
    "random_mix",
    "shorter_counts",
    "shorter_frontiers",
    "shorter_ladders",
    "singles",
]


@dataclass(frozen=True, slots=True)
class Single:
    """One model asked everything: mean score, nano-USD for all items, how many are wrong, and how many are lost."""

    rung: str
    items: int
    quality: float
    cost: int
    wrong: int
    losses: int

    @property
    def loss_rate(self) -> float:
        """The share of all items that is lost."""
        return self.losses / self.items if self.items else 0.0

    @property
    def cost_per_request_usd(self) -> float:
        """The mean cost, in USD."""
        return self.cost / 1e9 / self.items if self.items else 0.0

    def fields(self) -> dict[str, Any]:
        """As the commands' JSON has it."""
        return {"quality": self.quality, "cost_usd": self.cost / 1e9}


@dataclass(frozen=True, slots=True)
class Shorter:
    """A ladder with rungs left out: their names, its frontier over its own thresholds, cheapest first."""

    rungs: tuple[str, ...]
    frontier: tuple[Point, ...]


def lost_alone(coded: Coded, index: int, loss: Loss) -> Truths:
    """(N,): which items one model alone loses, asked everything."""
    wrong = coded.alone[:, index] < coded.right_at
    if index == coded.top:
        return np.zeros(len(coded), np.bool_)
    return wrong & (coded.alone[:, coded.top] >= coded.right_at) if loss == "regression" else wrong


def singles(coded: Coded, loss: Loss = "false_confident") -> dict[str, Single]:
    """Every model of the ladder by itself, from the same replies."""
    made: dict[str, Single] = {}
    for index, rung in enumerate(coded.rungs):
        alone = coded.alone[:, index]
        wrong, lost = int((alone < coded.right_at).sum()), int(lost_alone(coded, index, loss).sum())
        quality = float(alone.mean()) if len(coded) else 0.0
        made[rung] = Single(rung, len(coded), quality, int(coded.cost[:, index].sum()), wrong, lost)
    return made


def random_mix(shipped: Sequence[int], alone: Mapping[str, Single]) -> tuple[float, int]:
    """Quality and nano-USD to expect if as many requests climbed as far, but drawn at random.

    `shipped`: at how many items the climb ends at each rung; `alone`: the single models, in the ladder's order.
    """
    items, reached, quality, cost = sum(shipped), sum(shipped), 0.0, 0.0
    for count, single in zip(shipped, alone.values(), strict=True):
        quality += count / items * single.quality
        cost += reached / items * single.cost
        reached -= count
    return quality, round(cost)


def cheapest_single(
    alone: Mapping[str, Single],
    *,
    quality: float | None = None,
    risk: float | None = None,
    rate: Callable[[Single], float] | None = None,
) -> Single | None:
    """The cheapest single model that meets the target; None where none does.

    `quality`: a mean score of at least this. `risk`: a joint loss of at most this: of the observed rate, or of
    whatever bound on it `rate` gives. The top meets every risk: it is what losses are counted against.
    """
    top = [*alone][-1]

    def meets(single: Single) -> bool:
        if quality is not None and single.quality < quality:
            return False
        if risk is None or single.rung == top:
            return True
        return (rate(single) if rate else single.loss_rate) <= risk

    return min(filter(meets, alone.values()), key=lambda single: single.cost, default=None)


def shorter_ladders(policy: Policy) -> tuple[tuple[int, ...], ...]:
    """The ladders that come of leaving rungs out of the policy's, as indices into it; the longest first.

    Each starts at the first rung and obeys the ladder's rules, so none of them jumps to Opus. A rung that a task names
    as its floor or its ceiling stays.
    """
    ladder = policy.ladder
    named = {name for task in policy.tasks for name in (task.floor, task.ceiling) if name is not None}
    held = {index for index, rung in enumerate(ladder) if rung.rung in named}
    return tuple(
        kept
        for size in range(len(ladder) - 1, 1, -1)
        for rest in combinations(range(1, len(ladder)), size - 1)
        if held <= set(kept := (0, *rest)) and _is_a_ladder([ladder[index] for index in kept])
    )


def shorter_counts(counts: Counts, kept: Sequence[int]) -> Counts:
    """The counts as a ladder with only these rungs has them. Its last rung is asked plainly, and ships whatever it says.

    Losses stay those of the whole ladder. What the last rung would say without the triage's rules was not recorded: its
    recorded reply stands for it.
    """
    every, asked = list(kept), list(kept[:-1])
    return replace(
        counts,
        rungs=tuple(counts.rungs[index] for index in every),
        levels=tuple(counts.levels[index] for index in asked),
        codes=np.asfortranarray(counts.codes[:, asked]),
        score=np.asfortranarray(counts.score[:, every]),
        cost=np.asfortranarray(counts.cost[:, every]),
        wrong=np.asfortranarray(counts.wrong[:, every]),
        false_confident=np.asfortranarray(counts.false_confident[:, every]),
        regressed=np.asfortranarray(counts.regressed[:, every]),
        alone=counts.alone[every],
        alone_wrong=counts.alone_wrong[every],
    ).merged()


def shorter_frontiers(counts: Counts, policy: Policy, loss: Loss = "false_confident") -> Iterator[Shorter]:
    """Every shorter ladder that obeys the rules, with its frontier."""
    for kept in shorter_ladders(policy):
        less = shorter_counts(counts, kept)
        yield Shorter(less.rungs, frontier(less, loss))


def _is_a_ladder(rungs: Sequence[Rung]) -> bool:
    """By the order of its models alone: a rung that becomes the last one just loses its threshold."""
    *below, last = (Rung.model_construct(rung=rung.rung, model=rung.model, max_tokens=1) for rung in rungs)
    with_thresholds = (rung.model_copy(update={"threshold": 1.0}) for rung in below)
    return next(ladder_faults((*with_thresholds, last)), None) is None
