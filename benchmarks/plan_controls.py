"""How often control items call a reviewer of plans faulty: `python benchmarks/plan_controls.py`.

Exact, by the library's own rule: a table of how many errors a reviewer may have made so far, and how probable that is.
"""

from __future__ import annotations

from collections import defaultdict

from cascade.core.control_items import FEWEST
from cascade.core.planning.controls import ControlDone, standing_of


def called_faulty(rate: float, items: int) -> float:
    """The probability that a reviewer that errs on this share of right and wrong results alike is called faulty within so many items.

    A table of the errors so far on right and on wrong items; at most 60 items, which all count.
    """
    alive, faulty = {(0, 0): 1.0}, 0.0
    for number in range(items):
        is_right = number % 2 == 0
        following: dict[tuple[int, int], float] = defaultdict(float)
        for (rejected, accepted), weight in alive.items():
            for error, chance in ((0, 1 - rate), (1, rate)):
                if not chance:
                    continue
                state = (rejected + error, accepted) if is_right else (rejected, accepted + error)
                if _is_faulty(*state, asked=number + 1):
                    faulty += weight * chance
                else:
                    following[state] += weight * chance
        alive = following
    return faulty


def _is_faulty(rejected: int, accepted: int, *, asked: int) -> bool:
    right, wrong = (asked + 1) // 2, asked // 2
    done = (
        *[ControlDone(is_right=True, verdict="retry")] * rejected,
        *[ControlDone(is_right=True, verdict="accept")] * (right - rejected),
        *[ControlDone(is_right=False, verdict="accept")] * accepted,
        *[ControlDone(is_right=False, verdict="retry")] * (wrong - accepted),
    )
    return not standing_of(done).believed


def main() -> None:
    """Print the table that docs/plans.md shows."""
    print("| the reviewer errs on | called faulty within 12 items | within 24 | within 60 |\n|---|---|---|---|")
    for rate in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0):
        cells = (f"{called_faulty(rate, items):.2%}" for items in (FEWEST, 24, 60))
        print(f"| {rate:.0%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
