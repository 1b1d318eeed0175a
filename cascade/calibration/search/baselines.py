"""Baselines besides the single models: random escalation at the same rate, and shorter ladders that are valid.

A ladder that ends below the top is counted as a single model is (`halves.lost_alone`): wrong answers of its last rung are
losses. Otherwise leaving out rungs would look safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from cascade.calibration.search.counts import Counts
from cascade.calibration.search.frontier import Point, frontier
from cascade.calibration.search.levels import Loss
from cascade.core.policy import Policy
from cascade.core.policy.ladder import Rung, ladder_faults
from cascade.replay.arrays import np

__all__ = [
    "ShorterLadder",
    "random_mix",
    "shorter_counts",
    "shorter_frontiers",
    "shorter_ladders",
]


@dataclass(frozen=True, slots=True)
class ShorterLadder:
    """A ladder with rungs left out: the remaining rungs, and the frontier of its thresholds, cheapest first."""

    rungs: tuple[str, ...]
    frontier: tuple[Point, ...]


def random_mix(shipped: Sequence[int], alone: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Expected quality and cost if as many requests climbed to each rung, chosen at random; in the unit of `alone`.

    `shipped`: how many climbs end at each rung. `alone`: each rung's quality and cost if it answers every request.
    """
    items, reached, quality, cost = max(1, sum(shipped)), sum(shipped), 0.0, 0.0
    for count, single in zip(shipped, alone, strict=True):
        quality += count / items * single[0]
        cost += reached / items * single[1]
        reached -= count
    return quality, cost


def shorter_ladders(policy: Policy) -> tuple[tuple[int, ...], ...]:
    """The policy's ladder with rungs left out: indices into it, longest first.

    Each starts at the first rung and is a valid ladder, so none jumps to Opus. Rungs that are a task's floor or ceiling
    are kept, and so are those that review answers.
    """
    ladder = policy.ladder
    named = {name for task in policy.tasks for name in (task.floor, task.ceiling) if name is not None}
    named |= {check.rung for one in (policy, *policy.tasks) for check in one.checks if check.rung is not None}
    needed = {index for index, rung in enumerate(ladder) if rung.rung in named}
    return tuple(
        kept
        for size in range(len(ladder) - 1, 1, -1)
        for rest in combinations(range(1, len(ladder)), size - 1)
        if needed <= set(kept := (0, *rest)) and _is_a_ladder([ladder[index] for index in kept])
    )


def shorter_counts(counts: Counts, kept: Sequence[int]) -> Counts:
    """The counts of a ladder with only these rungs. Its last rung is asked without triage and always ships.

    Losses stay those of the whole ladder. The last rung's reply without the triage prompt was not recorded: its recorded
    reply is used.
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
        alone_cost=None if counts.alone_cost is None else counts.alone_cost[every],
        left=None if counts.left is None else np.asfortranarray(counts.left[:, asked]),
    ).merged()


def shorter_frontiers(counts: Counts, policy: Policy, loss: Loss = "false_confident") -> Iterator[ShorterLadder]:
    """Every valid shorter ladder with its frontier."""
    for kept in shorter_ladders(policy):
        less = shorter_counts(counts, kept)
        yield ShorterLadder(less.rungs, frontier(less, loss))


def _is_a_ladder(rungs: Sequence[Rung]) -> bool:
    """Whether the order of the models is valid; thresholds are set as each position requires."""
    *below, last = (Rung.model_construct(rung=rung.rung, model=rung.model, max_tokens=1) for rung in rungs)
    with_thresholds = (rung.model_copy(update={"threshold": 1.0}) for rung in below)
    return next(ladder_faults((*with_thresholds, last)), None) is None
