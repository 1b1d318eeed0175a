"""In which order signals are worth turning on: greedily, by the cost at 90 % of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cascade.calibration.signal_table.costs import Sweep, Yardstick
from cascade.calibration.signal_table.deciding import Decision, TuneHalf, coded_with
from cascade.calibration.signal_table.figures import SHARES, AdviceStep

__all__ = ["Offer", "advise"]

_DECIDING = SHARES[1]
_MOST_TOGETHER = (
    16  # ways of what is taken that are searched together with each further signal; else the one taken at 90 %
)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A signal that a policy can turn on: ways to decide on one rung, or on every rung that has no other signal.

    rung, signal  what it is called
    ways          the decisions by the rung's index; `settings`: what turns each on
    everywhere    whether it is of every rung: then it leaves rungs alone that another signal decides on
    """

    rung: str
    signal: str
    ways: tuple[Mapping[int, Decision], ...]
    settings: tuple[str, ...]
    everywhere: bool = False


def advise(half: TuneHalf, yard: Yardstick, plain: Sweep, offers: Sequence[Offer]) -> tuple[AdviceStep, ...]:
    """The signals to turn on after the self-reports (`plain`), each beside those before it.

    Each step takes the signal of least cost among those whose whole interval of the difference is below 0. If there is none, the
    cheapest that remains is the last step, not shown to help.
    """
    steps: list[AdviceStep] = []
    taken: list[Mapping[int, Decision]] = [{}]
    now, left = plain, list(offers)
    while left:
        ways = [_beside(taken, offer) for offer in left]
        sweeps = [yard.sweep([coded_with(half, way) for way in some]) for some in ways]
        found = [(place, sweep, yard.difference(sweep, now, _DECIDING)) for place, sweep in enumerate(sweeps)]
        shown = [one for one in found if one[2].is_less]
        place, sweep, less = min(shown or found, key=lambda one: one[2].value)
        if not shown and less.value >= 0:
            break
        offer, way = left[place], yard.way(sweep, _DECIDING) % len(left[place].ways)
        before, after = yard.cost(now, _DECIDING).cost, yard.cost(sweep, _DECIDING).cost
        steps.append(
            AdviceStep(
                offer.rung, offer.signal, offer.settings[way], before, after, less.value, less.ci95, shown=less.is_less
            )
        )
        if not shown:
            break
        taken, now = ways[place], sweep
        if len(taken) > _MOST_TOGETHER:
            taken = [taken[yard.way(sweep, _DECIDING)]]
        decided = set(taken[0])
        left = [one for one in left if one is not offer and not (one.everywhere and set(one.ways[0]) <= decided)]
    return tuple(steps)


def _beside(taken: Sequence[Mapping[int, Decision]], offer: Offer) -> list[Mapping[int, Decision]]:
    """The offer's ways beside each of those taken; the offer's own number varies fastest."""
    if offer.everywhere:
        return [{**way, **before} for before in taken for way in offer.ways]
    return [{**before, **way} for before in taken for way in offer.ways]
