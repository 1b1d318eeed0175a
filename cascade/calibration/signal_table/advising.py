"""In which order signals are worth turning on: greedily, by the cost at 90 % of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cascade.calibration.signal_table.costs import Sweep, Yardstick
from cascade.calibration.signal_table.deciding import Decision, TuneHalf, coded_with
from cascade.calibration.signal_table.figures import SHARES, AdviceStep

__all__ = ["Offer", "advise"]

_DECIDING = SHARES[1]


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
    taken: dict[int, Decision] = {}
    now, left = plain, list(offers)
    while left:
        ways = [_beside(taken, offer) for offer in left]
        sweeps = [yard.sweep([coded_with(half, way) for way in some]) for some in ways]
        found = [
            (offer, some, sweep, yard.difference(sweep, now, _DECIDING))
            for offer, some, sweep in zip(left, ways, sweeps, strict=True)
        ]
        shown = [one for one in found if one[3].is_less]
        offer, some, sweep, less = min(shown or found, key=lambda one: one[3].value)
        if not shown and less.value >= 0:
            break
        way = yard.way(sweep, _DECIDING)
        before, after = yard.cost(now, _DECIDING).cost, yard.cost(sweep, _DECIDING).cost
        steps.append(
            AdviceStep(
                offer.rung, offer.signal, offer.settings[way], before, after, less.value, less.ci95, shown=less.is_less
            )
        )
        if not shown:
            break
        taken, now = some[way], sweep
        left = [one for one in left if one is not offer]
    return tuple(steps)


def _beside(taken: Mapping[int, Decision], offer: Offer) -> list[dict[int, Decision]]:
    if offer.everywhere:
        return [{**way, **taken} for way in offer.ways]
    return [{**taken, **way} for way in offer.ways]
