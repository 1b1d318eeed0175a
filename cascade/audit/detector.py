"""Has the rate of a loss risen above what was certified? An e-detector: sequential, with a guaranteed run length.

Shin, Ramdas, Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection. For each factor, with
q = factor x alpha, e(x) = (1 - x) (1 - q) / (1 - alpha) + x q / alpha is the likelihood ratio of q to alpha for a loss x of 0 or 1. It is
linear in x and rises with it, so its mean is at most 1 whenever the expected loss, given the past, is at most alpha; a loss between 0
and 1 is allowed too. R <- (R + 1) e(x) is the Shiryaev-Roberts statistic; R minus the number of results is a supermartingale, and so
is the mean of R over the factors minus that number. Capping R, which floats need, only lowers it.

The run length, if several detectors run (`Detectors`): each result is counted by the policy's detector and by at most one task's. So
while no detector's expected loss is above its own alpha, the sum S of all values satisfies E[S] <= 2 E[N] at any stopping time, N being
the number of results. At the first alarm S >= 2A, since no value is negative: E[N] >= A. One detector alone needs only A.
A task's alpha may be above the policy's: tasks differ, and only their mean is certified to be at most alpha. A task whose own rate
is certified gets the larger of both, so that a hard task is no alarm; below the policy's alpha a task's rate harms no one.
What "given the past" rules out: results that come in bursts, such as a customer's failing requests in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FACTORS", "Detectors", "EDetector"]

FACTORS: Final = (1.5, 2.0, 3.0, 5.0)
"""How many times alpha the rates are that a detector looks for."""

_MOST = 1e300  # a value that can still be multiplied


class EDetector:
    """One detector. `alpha`: the rate that is still right, in (0, 1). It alarms when `value` reaches `threshold`.

    `crossed_at`: the number of results at which it first did, None until then; it stays, whatever the value does later.
    """

    __slots__ = ("_ratios", "_values", "alpha", "count", "crossed_at", "losses", "threshold")

    def __init__(self, alpha: float, threshold: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
        self.alpha, self.threshold = alpha, threshold
        # Rates above 1 do not exist. Where 1.5 times alpha is one already, the middle between alpha and 1 is looked for.
        rates = [q for factor in FACTORS if (q := factor * alpha) < 1] or [(1 + alpha) / 2]
        self._ratios = [((1 - q) / (1 - alpha), q / alpha) for q in rates]
        self._values = [0.0] * len(rates)
        self.count, self.losses = 0, 0.0
        self.crossed_at: int | None = None

    @property
    def value(self) -> float:
        """The mean of R over the factors."""
        return sum(value / len(self._values) for value in self._values)

    def update(self, loss: float) -> bool:
        """Count a result, 0 (right) to 1 (wrong); returns whether it is the first to reach the threshold."""
        if not 0 <= loss <= 1:
            raise ValueError(f"a loss is between 0 and 1, not {loss}")
        for at, (without, with_loss) in enumerate(self._ratios):
            ratio = without + loss * (with_loss - without)
            self._values[at] = min((self._values[at] + 1) * ratio, _MOST)
        self.count += 1
        self.losses += loss
        if self.crossed_at is not None or self.value < self.threshold:
            return False
        self.crossed_at = self.count
        return True


class Detectors:
    """The policy's detector, and those of tasks. `run_length`: A, the least expected number of results until a false alarm.

    `alpha`: of the policy. `limits`: by task, the rate that is certified for it alone; other tasks have no detector of their own.
    """

    __slots__ = ("policy", "tasks")

    def __init__(self, alpha: float, limits: Mapping[str, float], run_length: float) -> None:
        threshold = 2.0 * run_length if limits else float(run_length)
        self.policy = EDetector(alpha, threshold)
        self.tasks = {
            task: EDetector(max(alpha, limit), threshold) for task, limit in limits.items() if max(alpha, limit) < 1
        }

    def update(self, task: str, loss: float) -> bool:
        """Count a result of a task; returns whether a detector alarms now."""
        own = self.tasks.get(task)
        alarms = [self.policy.update(loss), own is not None and own.update(loss)]
        return any(alarms)
