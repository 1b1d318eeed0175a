"""The path that a certificate stores: thresholds with fewer and fewer losses, for the audit to ratchet along.

It is the tune half's path from the certified point on, towards fewer losses. Points that the walk tested passed the same test
as the certified one. Those before its start were not tested by themselves: on both halves they lose no more. The last step
ships nothing below the top, so no loss is left but of tasks whose ceiling is there; it is there even if the corpus has nothing in
between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cascade.calibration.halves import OperatingPoint, SplitHalf
from cascade.calibration.proof.pareto_testing import Certified
from cascade.calibration.search.frontier import Point, spread
from cascade.core.policy.certificate import PathStep
from cascade.replay.arrays import np

__all__ = ["MOST_STEPS", "stored_path"]

MOST_STEPS = 8
"""With the last one. Each is taken after an alarm, and raises the cost about as much as the one before."""


def stored_path(
    proof: Certified, held_out: SplitHalf, never: PathStep, step_of: Callable[[OperatingPoint], PathStep | None]
) -> tuple[PathStep, ...]:
    """The steps from the certified point to `never`, the nearest first; none if the certified point already ships nothing.

    `step_of`: a point as a step, or None if a policy with the certified point's samples cannot express it. Steps that lose
    more than the one before on the certify half are left out, and so are those with the same thresholds.
    """
    before, rate = step_of(proof.point), proof.tested.rate
    steps: list[PathStep] = []
    for point in _thinned(proof):
        step, lost = step_of(point), held_out.sample(point, proof.target.counted).rate
        if step is not None and lost <= rate and not _alike(step, before):
            steps.append(step)
            before, rate = step, lost
    return tuple(steps) if _alike(never, before) else (*steps, never)


def _thinned(proof: Certified) -> Sequence[OperatingPoint]:
    """The points with fewer losses, the nearest first: at most MOST_STEPS - 1, their costs spread evenly."""
    own = proof.point
    # Another way to vote cannot be had by thresholds.
    fewer = [
        one for one in proof.fewer if not isinstance(one, Point) or not isinstance(own, Point) or one.way == own.way
    ]
    costs: Any = np.array([one.cost for one in (*reversed(fewer), own)], np.float64)
    kept: list[int] = spread(costs, MOST_STEPS)[:-1].tolist()
    return [fewer[len(fewer) - 1 - place] for place in reversed(kept)]


def _alike(one: PathStep, other: PathStep | None) -> bool:
    return other is not None and (one.thresholds, one.tasks) == (other.thresholds, other.tasks)
