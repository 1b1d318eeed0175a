"""What higher thresholds would have done on the audited sample: counted over the confidences of what was shipped.

A request that a higher threshold sends up is counted as answered by the top rung, at its shadow answer's cost: what the rungs
between would have made of it is not known. What a lower threshold would have shipped was never shipped, so it cannot be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cascade.audit.rates import Interval, Loss, is_below
from cascade.audit.sequence import interval_at_all_times
from cascade.ledger.audit import Sample

__all__ = ["Alternative", "alternatives_of"]

_MOST = 12
"""Levels of a rung; of more, evenly chosen ones are shown."""

_COMPARED = ("self_reported", "calibrated")  # confidences that a threshold is held against

_Step = tuple[float | None, int, int, float]  # threshold; sent up by it: requests, wrong answers, and what that costs


@dataclass(frozen=True, slots=True)
class Alternative:
    """A rung's threshold at `threshold`, an observed confidence, or None for `never`; the first of a rung is what was shipped.

    Over all `n` graded requests: `shipped`: the share that this rung still ships; `rate`: of the loss, with its interval; `extra_cost`:
    nano-USD for each request, None if no shadow answer's cost is known; `avoided`: wrong answers that are not shipped any more.
    """

    rung: str
    threshold: float | None
    is_present: bool
    n: int
    shipped: float
    rate: float
    interval: Interval
    avoided: int
    extra_cost: float | None

    @property
    def cost_of_avoiding(self) -> float | None:
        """What it costs to avoid one wrong answer, in nano-USD; None if none is avoided."""
        return self.extra_cost * self.n / self.avoided if self.avoided and self.extra_cost is not None else None


def alternatives_of(samples: Sequence[Sample], loss: Loss) -> tuple[Alternative, ...]:
    """For each rung below the top, from what was shipped up to `never`. `samples`: uniform, of one epoch.

    Only confidences that a threshold is held against are moved: agreement, tool calls and degraded answers stay as they were.
    """
    below = [one for one in samples if is_below(one)]
    known = [one for one in below if loss.judged(one) in ("right", "wrong")]
    if not known:
        return ()
    n = len(known) + round((len(samples) - len(below)) * len(known) / len(below))
    found: list[Alternative] = []
    for _, own in groupby(sorted(known, key=lambda one: one.index), lambda one: one.index):
        found += _of_rung(list(own), sum(map(loss.is_wrong, known)), n, loss)
    return tuple(found)


def _of_rung(own: Sequence[Sample], wrong: int, n: int, loss: Loss) -> list[Alternative]:
    """The rows of one rung. Each level's answers go up together, the lowest first, as its threshold rises."""
    costs = [one.shadow_cost for one in own if one.shadow_cost]
    mean = sum(costs) / len(costs) if costs else None
    movable = sorted((one for one in own if _is_movable(one)), key=lambda one: one.confidence or 0.0)
    levels = [(level, list(some)) for level, some in groupby(movable, lambda one: one.confidence)]
    moved = avoided = 0
    spent = 0.0
    steps: list[_Step] = []
    for level, going in levels:
        steps.append((level, moved, avoided, spent))
        moved += len(going)
        avoided += sum(map(loss.is_wrong, going))
        spent += sum(one.shadow_cost or mean or 0.0 for one in going)
    steps.append((None, moved, avoided, spent))
    return [
        Alternative(
            own[0].rung, threshold, gone == 0, n, (len(own) - gone) / n, (wrong - fewer) / n,
            interval_at_all_times(wrong - fewer, n), fewer, cost / n if mean is not None or not gone else None,
        )
        for threshold, gone, fewer, cost in _thinned(steps)
        if levels
    ]  # fmt: skip


def _is_movable(sample: Sample) -> bool:
    return sample.source in _COMPARED and sample.confidence is not None and sample.degraded is None


def _thinned(steps: Sequence[_Step]) -> Sequence[_Step]:
    if len(steps) <= _MOST:
        return steps
    apart = (len(steps) - 1) / (_MOST - 1)
    return [steps[round(number * apart)] for number in range(_MOST)]
