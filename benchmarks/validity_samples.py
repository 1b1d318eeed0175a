"""The validity of `--samples auto`: `python benchmarks/validity_samples.py [--runs N] [--seed S] [--json]`.

Corpora are drawn (synthetic, seeded) in which a cheap rung was asked five times. An item is easy, hard or treacherous; its
kind decides how often a sample is right, and how often it gives the item's one popular wrong answer, on which samples can
agree. So the true rate of confident mistakes of every vote at every threshold is known exactly, by going through all
patterns of five samples. Each corpus is split, and votes and thresholds are searched and certified as by `cascade calibrate
--samples auto`: alpha 4 %, delta 5 %.

A procedure that always climbs is valid too, so the table also shows in how many runs the certified vote ships anything at the
cheap rung, what it costs against the cheapest vote and threshold that truly meet alpha, and how often the common practice
breaks its bound: the cheapest of all votes and thresholds with few enough losses on the data.

Exits with 1 if the certified bound is broken in more runs than delta allows, within three binomial standard errors, or if
fewer than 80 % of the runs ship anything at the cheap rung.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from cascade.calibration.candidates import Way
from cascade.calibration.choice import prove
from cascade.calibration.halves import ItemHalf, JointHalf
from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.sampling import Sought, sampled_ways
from cascade.calibration.search.frontier import Point
from cascade.calibration.search.levels import code_columns
from cascade.core.policy import Variant
from cascade.core.policy.samples import Same
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping

TARGET = Target("false_confident", 0.04, 0.05)
ITEMS = 1_000
SAMPLES = 5
LEVELS = (0.6, 0.8, 0.9)
CALL, TOP = 1_000, 20_000
"""Nano-USD of a call of the cheap rung, and of the one above."""
_LEAST_POWER = 0.80
_MANIFEST = Manifest("drawn", (LadderEntry("cheap"), LadderEntry("top")), synthetic=True)

Vote = tuple[int, int]
"""At most so many samples, of which so many must be the same; (1, 1) for a rung that is asked once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of item: its share, how often a sample is right or the popular wrong answer, and how sure the model says it is.

    Any other sample is a wrong answer of its own. `levels`: the distribution over LEVELS, the same for all of an item's samples.
    """

    share: float
    right: float
    popular: float
    levels: tuple[float, float, float]


KINDS = (
    Kind(0.60, 0.95, 0.03, (0.1, 0.3, 0.6)),
    Kind(0.25, 0.45, 0.25, (0.4, 0.4, 0.2)),
    Kind(0.15, 0.20, 0.65, (0.5, 0.4, 0.1)),
)


class Truth:
    """The true risk and cost (nano-USD a request) of every vote at every threshold."""

    def __init__(self) -> None:
        votes = [
            (1, 1),
            *((most, agree) for most in range(2, SAMPLES + 1) for agree in range(most // 2 + 1, most + 1) if agree > 1),
        ]
        self.risk: dict[tuple[Vote, float | None], float] = {}
        self.cost: dict[tuple[Vote, float | None], float] = {}
        for vote in votes:
            outcomes = [self._of(kind, vote) for kind in KINDS]
            for threshold in (*LEVELS, None):
                risk = cost = 0.0
                for kind, (right, wrong, calls) in zip(KINDS, outcomes, strict=True):
                    sure = (
                        0.0
                        if threshold is None
                        else sum(p for level, p in zip(LEVELS, kind.levels, strict=True) if level >= threshold)
                    )
                    risk += kind.share * sure * wrong
                    cost += kind.share * (calls * CALL + (1 - sure * (right + wrong)) * TOP)
                self.risk[vote, threshold], self.cost[vote, threshold] = risk, cost
        self.oracle = min(cost for key, cost in self.cost.items() if self.risk[key] <= TARGET.alpha)

    @staticmethod
    def _of(kind: Kind, vote: Vote) -> tuple[float, float, float]:
        """How often enough samples agree on the right answer, and on a wrong one; and the calls made, on average."""
        if vote == (1, 1):
            return kind.right, 1 - kind.right, 1.0
        most, agree = vote
        right = wrong = calls = 0.0
        chances = {"right": kind.right, "popular": kind.popular, "own": 1 - kind.right - kind.popular}
        for pattern in product(chances, repeat=most):
            chance = math.prod(chances[one] for one in pattern)
            counts = {"right": 0, "popular": 0}
            for asked, one in enumerate(pattern, 1):
                if one != "own":
                    counts[one] += 1
                largest = max(*counts.values(), 1)  # any single answer is a group of one
                if largest >= agree or largest + most - asked < agree:
                    break
            right += chance * (counts["right"] >= agree)
            wrong += chance * (counts["popular"] >= agree)
            calls += chance * asked
        return right, wrong, calls


def draw(chance: np.random.Generator, items: int = ITEMS) -> list[Item]:
    """A corpus: each item with five samples of the cheap rung. The right answer is "right"."""
    made: list[Item] = []
    kinds = chance.choice(len(KINDS), items, p=[kind.share for kind in KINDS]).tolist()
    rolls = chance.random((items, SAMPLES)).tolist()
    says = chance.random(items).tolist()
    for number, (code, row, said) in enumerate(zip(kinds, rolls, says, strict=True)):
        kind = KINDS[code]
        level = LEVELS[sum(said >= edge for edge in (kind.levels[0], kind.levels[0] + kind.levels[1]))]
        first, *others = [_sample(kind, roll, place, level) for place, roll in enumerate(row)]
        cheap = RecordedReply(first.confidence, first.answer, first.score, cost_usd=CALL / 1e9, samples=tuple(others))
        top = RecordedReply(None, "right", 1.0, cost_usd=TOP / 1e9)
        made.append(Item(str(number), str(number), {"cheap": cheap, "top": top}, group=str(number), line=number + 2))
    return made


def _sample(kind: Kind, roll: float, place: int, level: float) -> RecordedReply:
    answer = "right" if roll < kind.right else "popular" if roll < kind.right + kind.popular else f"wrong {place}"
    return RecordedReply(level, answer, float(answer == "right"), cost_usd=CALL / 1e9)


@dataclass(slots=True)
class Tally:
    """What came of one procedure: its runs, in how many something ships at the cheap rung, and in how many the bound is broken."""

    runs: int = 0
    ships: int = 0
    broken: int = 0
    costs: list[float] = field(default_factory=list[float])

    def count(self, ways: Sequence[Way], point: Point | None, truth: Truth) -> None:
        """Note one run; None: nothing was certified."""
        self.runs += 1
        if point is None:
            return
        way = ways[point.way]
        assert way.mapping is not None
        samples = way.mapping.plan.policy.ladder[0].samples
        key = (1, 1) if samples is None else (samples.max, samples.agree), point.thresholds[0]
        self.ships += point.thresholds[0] is not None
        self.broken += truth.risk[key] > TARGET.alpha
        self.costs.append(truth.cost[key] / truth.oracle)

    @property
    def broken_rate(self) -> float:
        """The share of runs in which the bound is broken."""
        return self.broken / max(1, self.runs)

    @property
    def power(self) -> float:
        """The share of runs in which something ships at the cheap rung under the bound."""
        return self.ships / max(1, self.runs)

    @property
    def keeps_its_word(self) -> bool:
        """Broken in no more runs than delta allows, within three binomial standard errors."""
        delta = TARGET.delta
        return self.broken_rate <= delta + 3 * math.sqrt(delta * (1 - delta) / max(1, self.runs))


@dataclass(slots=True)
class Result:
    """The runs, by procedure."""

    certified: Tally = field(default_factory=Tally)
    counted: Tally = field(default_factory=Tally)


def simulate(runs: int, seed: int) -> Result:
    """Draw `runs` corpora; search and certify each, and choose by counting."""
    truth, result = Truth(), Result()
    sought = Sought({"cheap": (Variant(),)}, Same())
    for run in range(runs):
        chance = np.random.default_rng([seed, run])
        columns, (view,) = read_columns(draw(chance), _MANIFEST, [replace(own_mapping(_MANIFEST), same=Same())])
        tunes = chance.random(len(columns)) < 0.5
        ways, _ = sampled_ways(columns, view, sought, tunes)
        whole = JointHalf(tuple(ItemHalf(code_columns(columns, way.view)) for way in ways))
        found = prove(whole.rows(tunes), whole.rows(~tunes), TARGET)
        point = found.point if isinstance(found, Certified) and isinstance(found.point, Point) else None
        result.certified.count(ways, point, truth)
        few = [one for one in whole.risk_path(TARGET.counted) if one.losses <= TARGET.alpha * len(columns)]
        result.counted.count(ways, few[-1] if few else None, truth)
    return result


def main() -> int:
    """Print the figures; returns 1 if a certificate is not valid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    started = time.perf_counter()
    result = simulate(asked.runs, asked.seed)
    own, counted = result.certified, result.counted
    good = own.keeps_its_word and own.power >= _LEAST_POWER
    cost = float(np.mean(own.costs)) if own.costs else None
    fields = {
        "synthetic": True, "alpha": TARGET.alpha, "delta": TARGET.delta, "runs": own.runs, "items": ITEMS, "kept": good,
        "ships": own.power, "broken": own.broken_rate, "cost_vs_oracle": cost, "broken_as_counted": counted.broken_rate,
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if asked.json:
        print(json.dumps(fields, indent=2))
    else:
        print(
            f"synthetic, {own.runs:,} runs of {ITEMS:,} items: false-confident <= {TARGET.alpha:.0%} at {1 - TARGET.delta:.0%}"
        )
        print(
            f"certified: broken in {own.broken_rate:.1%}, ships below the top in {own.power:.1%}, cost/oracle {cost:.3f}"
        )
        print(f"chosen by counting: broken in {counted.broken_rate:.1%}")
        print(f"{fields['seconds']:.0f} s; {'the bound holds' if good else 'the bound is broken'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
