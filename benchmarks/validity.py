"""The validity of certificates: `python benchmarks/validity.py [--runs N] [--seed S] [--json]`.

Corpora are drawn (synthetic, seeded) from populations whose true loss rate is known exactly for every vector of
thresholds. Each is split, calibrated and certified as by `cascade calibrate`: alpha 2 %, delta 5 %. A procedure that never
certifies is valid too, so the table also shows how often it certifies, what its thresholds cost against the cheapest that
truly meet alpha, and how often simpler procedures break their bound: choosing the cheapest thresholds with few enough
losses on the data; testing them on the same data; and treating the items of a group as independent.

Exits with 1 if the certified bound is broken in more runs than delta allows, within three binomial standard errors, or if
the good signal is certified in fewer than 80 % of the runs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade.calibration.bounds import Sample, passes, sample_of
from cascade.calibration.choice import prove
from cascade.calibration.halves import ItemHalf
from cascade.calibration.proof.pareto_testing import Certified, Target
from cascade.calibration.search.frontier import Point, risk_path
from cascade.calibration.search.levels import CodedCorpus
from cascade.replay.arrays import Floats

TARGET = Target("false_confident", 0.02, 0.05)
RUNGS = ("haiku", "sonnet", "opus")
COST = np.array([1_000, 3_000, 5_000])
"""Nano-USD per call, at 1 : 3 : 5, the same for every item."""
LEVELS = np.array([0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99])
_LEAST_POWER = 0.80


def _spread(*weights: float) -> np.ndarray:
    return np.array(weights) / sum(weights)


_RIGHT = _spread(0.2, 0.4, 0.6, 1, 2, 4, 8, 16, 30, 38)
_WRONG = _spread(6, 12, 14, 18, 16, 14, 10, 6, 3, 1)
_CLUMPED = _spread(0.2, 0.3, 0.5, 1, 1, 2, 5, 15, 45, 30)
_PROUD = _spread(6, 10, 12, 14, 13, 11, 9, 8, 8, 9)
_FLAT = _spread(8, 10, 12, 13, 13, 12, 11, 9, 7, 5)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of item: its share, each rung's error rate at the mean difficulty, and the distribution of its levels.

    `right`, `wrong`: the distribution over LEVELS of the confidence of right and of wrong answers, the same on both
    rungs below the top.
    """

    share: float
    errs: tuple[float, float, float]
    right: np.ndarray
    wrong: np.ndarray


@dataclass(frozen=True, slots=True)
class Scene:
    """A population: its kinds of items, drawn as corpora of n items in groups of `size` of one kind."""

    name: str
    n: int
    kinds: tuple[Kind, ...]
    size: int = 1


SCENES = (
    Scene("good signal", 3_000, (Kind(1.0, (0.30, 0.15, 0.08), _RIGHT, _WRONG),)),
    Scene("overconfident at the top", 3_000, (Kind(1.0, (0.30, 0.12, 0.08), _CLUMPED, _PROUD),)),
    Scene("useless signal", 3_000, (Kind(1.0, (0.30, 0.15, 0.08), _FLAT, _FLAT),)),
    # On three groups in a hundred the lower rungs are often wrong, and as confident as when right.
    Scene(
        "clustered groups",
        16_000,
        (
            Kind(0.97, (0.05, 0.03, 0.02), _RIGHT, _WRONG),
            Kind(0.03, (0.55, 0.50, 0.20), _RIGHT, _RIGHT),
        ),
        size=20,
    ),
)

_EASE = np.linspace(0.25, 1.75, 31)
"""Difficulties, equally likely, as multiples of the mean error rate. They correlate the rungs' errors."""


class Truth:
    """The true `risk` and `cost` (nano-USD per request) of every vector of thresholds, by levels - 1."""

    def __init__(self, scene: Scene) -> None:
        m = len(LEVELS)
        lost_1, lost_2, both = np.zeros(m), np.zeros((m, m)), np.zeros((m, m))
        for kind in scene.kinds:
            for ease in _EASE:
                weight = kind.share / len(_EASE)
                wrong_1, wrong_2 = (_errs(kind, rung) * ease for rung in (0, 1))
                level_1 = wrong_1 * kind.wrong + (1 - wrong_1) * kind.right
                level_2 = wrong_2 * kind.wrong + (1 - wrong_2) * kind.right
                lost_1 += weight * wrong_1 * kind.wrong
                lost_2 += weight * np.outer(level_1, wrong_2 * kind.wrong)
                both += weight * np.outer(level_1, level_2)
        size = m + 1
        self.risk, self.cost = np.empty((size, size)), np.empty((size, size))
        for i in range(size):  # rung 1 ships from level i on, rung 2 from level j on
            for j in range(size):
                self.risk[i, j] = lost_1[i:].sum() + lost_2[:i, j:].sum()
                up, top = both[:i].sum(), both[:i, :j].sum()
                self.cost[i, j] = COST[0] + COST[1] * up + COST[2] * top
        self.oracle = float(self.cost[self.risk <= TARGET.alpha].min())

    def breaks(self, at: Sequence[int]) -> bool:
        """Whether the true loss rate exceeds the certified bound."""
        return bool(self.risk[at[0] - 1, at[1] - 1] > TARGET.alpha)

    def cost_of(self, at: Sequence[int]) -> float:
        """The true cost, in nano-USD per request."""
        return float(self.cost[at[0] - 1, at[1] - 1])


def _errs(kind: Kind, rung: int) -> float:
    return min(kind.errs[rung], 1 / float(_EASE[-1]))


def draw(scene: Scene, chance: np.random.Generator) -> CodedCorpus:
    """Draw a corpus of the scene, as codes and scores."""
    groups = scene.n // scene.size
    kind = np.repeat(chance.choice(len(scene.kinds), groups, p=[one.share for one in scene.kinds]), scene.size)
    ease = chance.choice(_EASE, scene.n)
    wrong = np.empty((scene.n, 3), np.bool_)
    codes = np.empty((scene.n, 2), np.int32)
    for rung in range(3):
        errs = np.array([_errs(one, rung) for one in scene.kinds])
        wrong[:, rung] = chance.random(scene.n) < errs[kind] * ease
        if rung < 2:
            odds = np.stack([np.stack([one.right, one.wrong]) for one in scene.kinds]).cumsum(axis=-1)
            drawn = chance.random(scene.n)[:, None] > odds[kind, wrong[:, rung].astype(int)]
            codes[:, rung] = np.minimum(drawn.sum(axis=1), len(LEVELS) - 1) + 1
    score: Floats = np.asfortranarray((~wrong).astype(np.float64))
    cost = np.asfortranarray(np.tile(COST, (scene.n, 1)))
    group = np.repeat(np.arange(groups, dtype=np.int32), scene.size)
    task = np.zeros(scene.n, np.int32)
    return CodedCorpus(
        RUNGS, (LEVELS, LEVELS), np.asfortranarray(codes), score, score, cost, None, group, task, ("other",), 0.5
    )


def halves(coded: CodedCorpus, chance: np.random.Generator) -> tuple[CodedCorpus, CodedCorpus]:
    """Tune and certify, by group."""
    tunes = chance.random(int(coded.group.max()) + 1) < 0.5
    mask = tunes[coded.group]
    return coded.rows(mask), coded.rows(~mask)


def proved(coded: CodedCorpus, chance: np.random.Generator) -> tuple[int, ...] | None:
    """The levels certified as by `calibrate`; None if there are none."""
    tune, held = halves(coded, chance)
    found = prove(ItemHalf(tune), ItemHalf(held), TARGET)
    return found.point.at if isinstance(found, Certified) and isinstance(found.point, Point) else None


def counted(path: Sequence[Point], coded: CodedCorpus) -> tuple[int, ...] | None:
    """The cheapest levels with few enough losses on the data they were chosen on: the common practice."""
    few = [point.at for point in path if point.losses <= TARGET.alpha * len(coded)]
    return few[-1] if few else None


def tested_on_the_same(path: Sequence[Point], coded: CodedCorpus) -> tuple[int, ...] | None:
    """The cheapest levels that pass the test on the data they were chosen on: an invalid certificate."""
    few = [point.at for point in path if point.losses < TARGET.alpha * len(coded)]  # more would not pass
    return next((at for at in reversed(few) if _seems_proved(coded, at)), None)


def _seems_proved(coded: CodedCorpus, at: Sequence[int]) -> bool:
    sample = sample_of(coded.losses(at, TARGET.counted), coded.group)
    return passes(sample, TARGET.alpha, TARGET.delta)


def proved_by_rows(coded: CodedCorpus, chance: np.random.Generator) -> tuple[int, ...] | None:
    """The certified walk, with every item treated as its own group."""
    tune, held = halves(coded, chance)
    best: tuple[int, ...] | None = None
    for point in risk_path(tune.counts(), TARGET.counted):
        lost = held.losses(point.at, TARGET.counted)
        if not passes(Sample("items", lost.astype(float), int(lost.sum())), TARGET.alpha, TARGET.delta):
            break
        best = point.at
    return best


@dataclass(slots=True)
class Tally:
    """The results of one procedure over the runs of a scene."""

    runs: int = 0
    certified: int = 0
    broken: int = 0
    costs: list[float] = field(default_factory=list[float])

    def count(self, at: tuple[int, ...] | None, truth: Truth) -> None:
        """Note one run."""
        self.runs += 1
        if at is not None:
            self.certified += 1
            self.broken += truth.breaks(at)
            self.costs.append(truth.cost_of(at) / truth.oracle)

    @property
    def broken_rate(self) -> float:
        """The share of runs in which the certified bound is broken."""
        return self.broken / max(1, self.runs)

    @property
    def power(self) -> float:
        """The share of the runs in which something was certified."""
        return self.certified / max(1, self.runs)

    @property
    def cost_vs_oracle(self) -> float | None:
        """The mean true cost of the certified thresholds, over that of the cheapest that truly meet alpha."""
        return float(np.mean(self.costs)) if self.costs else None

    @property
    def keeps_its_word(self) -> bool:
        """Broken in no more runs than delta allows, within three binomial standard errors."""
        delta = TARGET.delta
        return self.broken_rate <= delta + 3 * math.sqrt(delta * (1 - delta) / max(1, self.runs))


@dataclass(slots=True)
class Result:
    """A scene's runs, by procedure."""

    scene: Scene
    certified: Tally = field(default_factory=Tally)
    counted: Tally = field(default_factory=Tally)
    same_data: Tally = field(default_factory=Tally)
    by_rows: Tally = field(default_factory=Tally)


def simulate(scene: Scene, runs: int, seed: int) -> Result:
    """Draw `runs` corpora of a scene, and calibrate each by every procedure."""
    truth, result = Truth(scene), Result(scene)
    for chance in _chances(runs, seed, scene.name):
        coded = draw(scene, chance)
        result.certified.count(proved(coded, chance), truth)
        path = risk_path(coded.counts(), TARGET.counted)
        result.counted.count(counted(path, coded), truth)
        result.same_data.count(tested_on_the_same(path, coded), truth)
        if scene.size > 1:
            result.by_rows.count(proved_by_rows(coded, chance), truth)
    return result


def _chances(runs: int, seed: int, name: str) -> Iterator[np.random.Generator]:
    for run in range(runs):
        yield np.random.default_rng([seed, run, *name.encode()])


def fields_of(result: Result) -> dict[str, Any]:
    """The figures of one scene."""
    own, scene = result.certified, result.scene
    units = "items" if scene.size == 1 else f"items in {scene.n // scene.size:,} groups"
    return {
        "scene": scene.name, "corpus": f"{scene.n:,} {units}, half of them certify", "runs": own.runs,
        "certified": own.power, "broken": own.broken_rate, "cost_vs_oracle": own.cost_vs_oracle,
        "broken_as_counted": result.counted.broken_rate,
        "broken_same_data": result.same_data.broken_rate,
        "broken_by_rows": result.by_rows.broken_rate if result.by_rows.runs else None,
    }  # fmt: skip


def main() -> int:
    """Print the table; returns 1 if a certificate is not valid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    started = time.perf_counter()
    results = [simulate(scene, asked.runs, asked.seed) for scene in SCENES]
    seconds = time.perf_counter() - started
    rows = [fields_of(result) for result in results]
    good = all(one.certified.keeps_its_word for one in results) and results[0].certified.power >= _LEAST_POWER
    if asked.json:
        print(json.dumps({"synthetic": True, "alpha": TARGET.alpha, "delta": TARGET.delta, "kept": good,
                          "seconds": round(seconds, 1), "scenes": rows}, indent=2))  # fmt: skip
        return 0 if good else 1
    print(f"synthetic, {asked.runs:,} runs per scene: false-confident <= {TARGET.alpha:.0%} at {1 - TARGET.delta:.0%}")
    print(
        f"{'':26}{'certified':>10}{'broken':>9}{'cost/oracle':>13}{'as counted':>12}{'same data':>11}{'by rows':>9}  corpus"
    )
    for row in rows:
        cost, by_rows = row["cost_vs_oracle"], row["broken_by_rows"]
        print(
            f"{row['scene']:26}{row['certified']:>10.1%}{row['broken']:>9.1%}{cost if cost is None else f'{cost:.3f}':>13}"
            f"{row['broken_as_counted']:>12.1%}{row['broken_same_data']:>11.1%}{'' if by_rows is None else f'{by_rows:.1%}':>9}  {row['corpus']}"
        )
    print(f"{seconds:.0f} s; {'every bound holds' if good else 'a bound is broken'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
