"""Scenario `storm`: a long day at the support scenario's desk, with three storms of different kinds.

Assumptions, each a constant below; none was measured:

- 3,000 requests: 80 % `routine`, 13 % `single_tool`, 7 % `multi_step`, in a random order, one per 2 s on average
  (Poisson). Outside the storms accuracies and shares of unsure replies are those of the support scenario.
- All storms fall on the routine questions; the other tasks go on as before, so that a guard which mixes tasks shows.
- **Sudden** (SUDDEN): a payment outage begins at once and ends at once. Haiku is unsure of nine in ten.
- **Slow** (SLOW): a points programme that the rules do not know yet. The share of questions about it rises over RAMP
  requests, until haiku is unsure of four in ten: too little for a test on sudden changes.
- **Upper** (UPPER): customs rules change overnight. Haiku is unsure of nine in ten, sonnet of eight in ten: what goes
  up from haiku has to go up from there as well.
- Between and after the storms there are enough calm requests for every trip to release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .draws import Draws
from .replies import Item, Profile, Ticket, answer_all, draw_new
from .storm_texts import ask_about_customs, ask_about_points
from .support import MEAN_GAP_S, OUTAGE, PROFILES
from .support_orders import ask_multi_step, ask_single_tool
from .support_routine import ask_about_outage, ask_routine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["NOTES", "SLOW", "SUDDEN", "UPPER", "simulate_storm"]

ITEMS = 3_000
MIX = {"routine": 0.80, "single_tool": 0.13, "multi_step": 0.07}
CUSTOMERS = 1_500
SUDDEN = range(300, 400)
SLOW = range(850, 1_700)
RAMP = 250  # of SLOW's requests
UPPER = range(2_250, 2_340)

NOTES = (
    "made by `python benchmarks/simulate.py storm`; every figure is an assumption of that file, none was measured; "
    f"storms of routine requests: items {SUDDEN.start}-{SUDDEN.stop - 1} sudden, {SLOW.start}-{SLOW.stop - 1} slow, "
    f"{UPPER.start}-{UPPER.stop - 1} on sonnet too; single-model baselines are approximated from the same replies"
)

CUSTOMS: Mapping[str, Profile] = {
    "haiku": Profile(0.40, 0.90),
    "sonnet": Profile(0.50, 0.80),
    "opus": Profile(0.93),
}
POINTS: Mapping[str, Profile] = {
    "haiku": Profile(0.55, 0.60),
    "sonnet": Profile(0.90, 0.08),
    "opus": Profile(0.95),
}
POINTS_SHARE = 0.60  # of the routine questions, once the ramp is over: .60 x .60 + .40 x .13 = .41 unsure


def simulate_storm(seed: int) -> list[Item]:
    """The items of the scenario, in order of arrival."""
    texts, outcomes, traffic = Draws(seed, "texts"), Draws(seed, "outcomes"), Draws(seed, "traffic")
    tasks = traffic.shuffled([task for task, share in MIX.items() for _ in range(round(ITEMS * share))])
    items: list[Item] = []
    seen: set[str] = set()
    at = 0.0
    for place, task in enumerate(tasks):
        # Drawn whether it is needed or not, so that the storms' places do not change what comes after them.
        about_points = traffic.chance(POINTS_SHARE * min(1.0, max(0, place - SLOW.start) / RAMP))
        ask, profiles = _episode(place, about_points) if task == "routine" else (_ASK[task], PROFILES[task])
        ticket = draw_new(ask, texts, seen)
        at += traffic.gap(MEAN_GAP_S)
        items.append({
            "id": f"w-{place:04d}",
            "task": task,
            "group": f"customer-{traffic.below(CUSTOMERS):04d}",
            "split": None,
            "at": round(at, 2),
            "input": ticket.input,
            "expected": ticket.expected,
            "replies": answer_all(ticket, profiles, outcomes),
        })  # fmt: skip
    return items


_ASK: Mapping[str, Callable[[Draws], Ticket]] = {"single_tool": ask_single_tool, "multi_step": ask_multi_step}


def _episode(place: int, about_points: bool) -> tuple[Callable[[Draws], Ticket], Mapping[str, Profile]]:
    """What a routine question is about at this place, and how the rungs do on it."""
    if place in SUDDEN:
        return ask_about_outage, OUTAGE
    if place in UPPER:
        return ask_about_customs, CUSTOMS
    if place in SLOW and about_points:
        return ask_about_points, POINTS
    return ask_routine, PROFILES["routine"]
