"""Scenario `history`: what the desk of the scenario `support` was asked before, and had graded.

Assumptions, each a constant below; none was measured:

- 2,400 requests: four shifts of 600, each with the mix, the arrivals, the accuracies and one outage of 75 tickets as the
  first 600 of `support` have them. So a policy that is calibrated here is asked traffic like its corpus there.
- Other customers: 1,400, none of whom writes in `support`. No last user turn is one of `support`, whatever its seed says
  here: those of its shipped seed are never drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .samples import NOTES as ABOUT_SAMPLES
from .support import HALF, STORM, arrivals, last_turn, simulate_support

if TYPE_CHECKING:
    from .replies import Item

__all__ = ["NOTES", "simulate_history"]

SHIFTS = 4
CUSTOMERS = 1_400
SUPPORT_SEED = 29

NOTES = (
    "made by `python benchmarks/simulate.py history`; every figure is an assumption of that file, none was measured; "
    f"{SHIFTS} shifts of {HALF} like the first {HALF} of `support`, of other customers, each with a payment outage; "
    f"{ABOUT_SAMPLES}; "
    "single-model baselines are approximated from the same replies"
)


def simulate_history(seed: int) -> list[Item]:
    """The items of the scenario, in order of arrival."""
    seen = {last_turn(item) for item in simulate_support(SUPPORT_SEED)}
    storm = {place for place in range(SHIFTS * HALF) if place % HALF in STORM}
    return arrivals(seed, "h-{:04d}", ("earlier-{:04d}", CUSTOMERS), SHIFTS, storm, seen)
