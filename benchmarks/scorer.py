"""What a learned scorer is worth: the cost of the same quality on the held half, against the raw confidence's thresholds.

    python benchmarks/scorer.py [CORPUS…] [--share 0.9 …] [--seeds 5]

CORPUS is a recorded corpus (default: mmlupro-gpt41 and coding-claims, beside the checkout under ../shared/corpora). For
each seed the groups part in two: the tune half, and the held half, of which the scorer knows nothing. The target is a
share of the gap between the first rung's quality and the top's, on the held half. Two readings:

held frontier     the scorer is learned on the tune half; the cost is that of the cheapest thresholds that reach the target
                  on the held half: all raw levels, or 50 quantiles a rung of the tune half's scores. What a confidence
                  can do; both are read where they are chosen, so both a little too good.
tuned path        as one would live it: the tune half's frontier is a path of thresholds; the cost is that of its first
                  point, cheapest first, that reaches the target on the held half. The raw confidences tune on all of the
                  tune half; the scorer is learned on a half of it, and tunes on the other.

Nothing is interpolated: between two clumps there is no threshold. 95 % intervals: the groups are drawn, 500 times, and
every draw chooses anew; that of the mean is over all seeds' reading of the same draws.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration.coded import Coded, code_columns
from cascade.calibration.frontier import frontier
from cascade.calibration.scorer import Gatherer, learn, rescored
from cascade.corpora import read_corpus
from cascade.corpora.columns import read_columns
from cascade.corpora.lenses import own_lens
from cascade.corpora.splits import Split

__all__ = ["Comparison", "compare", "main"]

CORPORA = ("mmlupro-gpt41", "coding-claims")
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"
MOST = 50  # levels a rung of the scorer's, and points of a path: about as many as the raw path has
DRAWS = 500
Reading = tuple[Any, Any, int, int]
"""Costs of the raw side and of the scorer's, a draw each; items and groups of the held half."""

READINGS = ("held frontier", "tuned path")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One seed's, or the mean: costs as shares of all-top, and the difference's interval. `items` of the held half."""

    raw: float
    scored: float
    difference_ci95: tuple[float, float]
    items: int
    groups: int


def main(arguments: list[str] | None = None) -> None:
    """Print the tables; exit 1 where the mean on the held frontier is not below the raw one."""
    parser = argparse.ArgumentParser(description="The scorer against raw thresholds, at equal quality on held groups.")
    parser.add_argument("corpora", nargs="*", type=Path, default=[RECORDED / f"{name}.jsonl.gz" for name in CORPORA])
    parser.add_argument("--share", type=float, nargs="+", default=[0.9], help="of the gap recovered")
    parser.add_argument("--seeds", type=int, default=5)
    wish = parser.parse_args(arguments)
    worse = False
    for path in wish.corpora:
        if not path.is_file():
            print(f"{path.name}: not there, skipped")
            continue
        made = compare(path, wish.share, wish.seeds)
        for (reading, share), rows in made.items():
            name = path.name.removesuffix(".jsonl.gz")
            print(f"\n{name}, {reading}: cost at {share:.0%} of the gap recovered, held half, all-top = 1")
            print(
                f"{'seed':>6} {'items':>7} {'groups':>7} {'raw':>7} {'scorer':>7} {'scorer / raw':>13}  difference, 95 %"
            )
            for name, row in rows.items():
                low, high = row.difference_ci95
                ratio = row.scored / row.raw
                print(
                    f"{name:>6} {row.items:>7} {row.groups:>7} {row.raw:>7.3f} {row.scored:>7.3f} {ratio:>13.3f}"
                    f"  {row.scored - row.raw:+.3f} [{low:+.3f}, {high:+.3f}]"
                )
            worse |= reading == READINGS[0] and rows["mean"].scored >= rows["mean"].raw
    sys.exit(worse)


def compare(
    path: Path, shares: list[float], seeds: int, draws: int = DRAWS
) -> dict[tuple[str, float], dict[str, Comparison]]:
    """By reading and share of the gap: each seed's comparison, and their mean's."""
    corpus = read_corpus(path)
    lens = own_lens(corpus.manifest)
    gatherer = Gatherer(lens)
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [lens], each=gatherer.take)
    material, raw = gatherer.material(view), code_columns(columns, view)
    weights = _weights(int(columns.group.max()) + 1, draws)
    made: dict[tuple[str, float], list[Reading]] = {(reading, share): [] for reading in READINGS for share in shares}
    for seed in range(seeds):
        split = Split(0.5, seed)
        tunes = np.array([split.part_of(item) == "tune" for item in corpus.items])
        trains = np.array([split.trains(item) for item in corpus.items])
        by_half, by_quarter = (
            code_columns(columns, rescored(view, learn(material, columns, view, on, seed).scorer, material))
            for on in (tunes, trains)
        )
        ways = {
            READINGS[0]: ((raw, _grid(raw, tunes)), (by_half, _grid(by_half, tunes))),
            READINGS[1]: ((raw, _path(raw.rows(tunes))), (by_quarter, _path(by_quarter.rows(tunes & ~trains)))),
        }
        held = raw.rows(~tunes)
        first, top, spent = _singles(held, weights)
        for reading, sides in ways.items():
            figures = [_on(coded.rows(~tunes), ats, weights) for coded, ats in sides]
            for share in shares:
                target = first + share * (top - first)
                of_raw, of_scored = (_cheapest(quality, cost, target, reading) / spent for quality, cost in figures)
                made[reading, share].append((of_raw, of_scored, len(held), len(np.unique(held.group))))
    return {key: _rows(found) for key, found in made.items()}


def _weights(groups: int, draws: int) -> Any:
    """(draws, groups): how often each is drawn; the first row is what was seen."""
    chance = np.random.default_rng(20_260_105)
    drawn = [np.bincount(chance.integers(0, groups, groups), minlength=groups) for _ in range(draws)]
    return np.stack([np.ones(groups, np.int64), *drawn]).astype(np.float64)


def _grid(coded: Coded, tunes: Any) -> list[tuple[int, ...]]:
    """All vectors of at most MOST levels a rung: all there are, or quantiles of the tune half."""
    axes: list[list[int]] = []
    for index, own in enumerate(coded.levels):
        steps = np.arange(1, len(own) + 1)
        if len(own) > MOST:
            codes = np.sort(coded.codes[tunes & (coded.codes[:, index] > 0), index])
            steps = np.unique(codes[(np.arange(MOST) * len(codes)) // MOST])
            steps[0] = 1
        axes.append([*steps.tolist(), len(own) + 1])
    return list(product(*axes))


def _path(coded: Coded) -> list[tuple[int, ...]]:
    """The frontier, cheapest first, thinned evenly in quality; then nothing but the top, which always reaches it."""
    points = [*frontier(coded.counts())]
    if len(points) > MOST:
        quality = np.array([point.quality for point in points])
        wanted = np.linspace(quality[0], quality[-1], MOST)
        points = [points[at] for at in np.unique(np.searchsorted(quality, wanted)).tolist()]
    return [*(point.at for point in points), tuple(len(own) + 1 for own in coded.levels)]


def _on(held: Coded, ats: list[tuple[int, ...]], weights: Any) -> tuple[Any, Any]:
    """(draws, points): quality, and nano-USD an item, of every vector of levels on the held rows."""
    there, which = np.unique(held.group, return_inverse=True)
    score = np.stack([np.bincount(which, held.scores(at)) for at in ats], axis=1)
    cost = np.stack([np.bincount(which, held.costs(at)) for at in ats], axis=1)
    drawn = weights[:, there]
    n = (drawn @ np.bincount(which))[:, None]
    return (drawn @ score) / n, (drawn @ cost) / n


def _singles(held: Coded, weights: Any) -> tuple[Any, Any, Any]:
    """(draws,): the first rung's and the top's quality, and the top's nano-USD an item."""
    groups, n = weights.shape[1], weights @ np.bincount(held.group, minlength=weights.shape[1])
    columns = (held.alone[:, 0], held.alone[:, held.top], held.cost[:, held.top])
    first, top, cost = ((weights @ np.bincount(held.group, one, groups)) / n for one in columns)
    return first, top, cost


def _cheapest(quality: Any, cost: Any, target: Any, reading: str) -> Any:
    """(draws,): the cost of the cheapest, or of the first point of a path, that reaches the target; else of the last."""
    reached = quality >= target[:, None]
    reached[:, -1] |= ~reached.any(1)
    if reading == READINGS[0]:
        return np.where(reached, cost, np.inf).min(1)
    return cost[np.arange(len(cost)), reached.argmax(1)]


def _rows(found: list[Reading]) -> dict[str, Comparison]:
    rows = {str(seed): _row(*one) for seed, one in enumerate(found)}
    raw, scored = (np.mean([one[side] for one in found], axis=0) for side in (0, 1))
    items, groups = (round(float(np.mean([one[side] for one in found]))) for side in (2, 3))
    return {**rows, "mean": _row(raw, scored, items, groups)}


def _row(raw: Any, scored: Any, items: int, groups: int) -> Comparison:
    low, high = np.quantile(scored[1:] - raw[1:], (0.025, 0.975))
    return Comparison(float(raw[0]), float(scored[0]), (float(low), float(high)), items, groups)


if __name__ == "__main__":
    main()
