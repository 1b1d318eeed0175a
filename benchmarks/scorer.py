"""The value of a learned score: cost at equal quality on held-out groups, against thresholds on the raw confidence.

    python benchmarks/scorer.py [CORPUS…] [--seeds 0 1 2 3 4]

CORPUS is a recorded corpus (default: mmlupro-gpt41 and coding-claims, beside the checkout under ../shared/corpora). Each
seed splits the groups as `calibrate --scorer` does: one half trains the scorer, and tunes on scores of models that did
not see the row's group; the other half is held out. The target quality is a share of the gap between the first rung and
the top on the held half. 90 % is the headline. The mean over 50 to 100 % is shown too, because raw confidences clump: the
next threshold may cost half as much again, so that one share depends on where it falls between two clumps. Empty answers
ship in no case, as live; otherwise the scorer would be credited for what `not_empty` does.

Three ways: the raw confidence, a score of being right (`--scorer`), and a score of what the best rung above would gain
(`--scorer-target gain`). Confidently wrong (shipped below the top, and wrong) is a share of the held half's items at the same
thresholds: equal quality for less money may mean more of it. Two readings:

held frontier     the cost of the cheapest thresholds that reach the target on the held half: all raw levels, or 50
                  quantiles of the score per rung. It shows what a confidence can do; but thresholds are chosen on the
                  data that measures them, so both look slightly too good, and more so with more thresholds.
tuned path        nothing is chosen on the held half: the frontier of the tuning rows is a path of thresholds, cheapest
                  first; the cost is that of its first point that reaches the target on the held half, else the top's
                  alone. Realistic but noisy: a share of the gap is known to a few hundredths at 3,300 items, to a tenth
                  at 56 groups.

Nothing is interpolated. 95 % intervals are bootstrap percentiles over 500 resamples of the groups, with the same scorers
and paths; for a mean over seeds the seeds share the resamples, because their halves overlap. They do not include the
variation from training on another half: for that, compare the seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration.scorer import FeatureCollector, learn, rescored
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.core.policy import Check
from cascade.core.policy.scorer import ScoringTarget
from cascade.corpora import Manifest, read_corpus
from cascade.corpora.splits import Split
from cascade.policy.checks import bind_check
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.mapping import own_mapping

__all__ = ["MEAN", "READINGS", "WAYS", "Comparison", "compare", "main"]

CORPORA = ("mmlupro-gpt41", "coding-claims")
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"
SHARES = tuple(share / 100 for share in range(50, 101, 5))
HEADLINE = SHARES.index(0.9)
READINGS = ("held frontier", "tuned path")
MEAN, RANGE = "mean", "50-100 %"
MOST = 50  # levels a rung of the scorer's
DRAWS = 500


TARGETS: tuple[ScoringTarget, ...] = ("right", "gain")
WAYS = ("raw", *TARGETS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """By way: the cost, a share of the top's alone, and how much is confidently wrong. `groups`: how many are held out.

    against_raw, against_right  the 95 % intervals of the differences in cost: right - raw and gain - raw; gain - right
    """

    groups: int
    cost: Mapping[str, float]
    false_confident: Mapping[str, float]
    against_raw: Mapping[str, tuple[float, float]]
    against_right: tuple[float, float]


def main(arguments: list[str] | None = None) -> None:
    """Print the tables; exits with 1 if the mean over the seeds, on the held frontier, is not below the raw one."""
    parser = argparse.ArgumentParser(description="The scorer against raw thresholds, at equal quality on held groups.")
    parser.add_argument("corpora", nargs="*", type=Path, default=[RECORDED / f"{name}.jsonl.gz" for name in CORPORA])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args(arguments)
    worse = False
    for path in options.corpora:
        if not path.is_file():
            print(f"{path.name}: not found, skipped")
            continue
        for reading, rows in compare(path, options.seeds).items():
            print(f"\n{path.name.removesuffix('.jsonl.gz')}, {reading}: cost at a share of the gap, held half; top = 1")
            print(
                f"{'seed':>6} {'groups':>7} {'share':>9} {'raw':>7} {'right':>7} {'gain':>7}  right - raw, 95 %       "
                "gain - right, 95 %       confidently wrong"
            )
            for (seed, share), row in rows.items():
                costs = " ".join(f"{row.cost[way]:>7.3f}" for way in WAYS)
                wrong = " ".join(f"{row.false_confident[way]:.1%}" for way in WAYS)
                right = _difference(row, "right", "raw", row.against_raw["right"])
                gain = _difference(row, "gain", "right", row.against_right)
                print(f"{seed:>6} {row.groups:>7} {share:>9} {costs}  {right}  {gain}  {wrong}")
            headline = rows[MEAN, _percent(HEADLINE)]
            worse |= reading == READINGS[0] and headline.cost["right"] >= headline.cost["raw"]
    sys.exit(worse)


def _difference(row: Comparison, way: str, other: str, ci95: tuple[float, float]) -> str:
    return f"{row.cost[way] - row.cost[other]:+.3f} [{ci95[0]:+.3f}, {ci95[1]:+.3f}]"


def compare(path: Path, seeds: list[int], draws: int = DRAWS) -> dict[str, dict[tuple[str, str], Comparison]]:
    """By reading, then by seed (or MEAN) and share of the gap (or RANGE, the mean over all shares).

    Raises ConfigurationError if there is too little to learn a score from.
    """
    corpus = read_corpus(path)
    mapping = _mapping(corpus.manifest)
    collector = FeatureCollector(mapping)
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=collector.add)
    table, raw = collector.table(view), code_columns(columns, view)
    weights = _weights(int(columns.group.max()) + 1, draws)
    costs: dict[str, list[list[Any]]] = {reading: [] for reading in READINGS}
    groups: list[int] = []
    for seed in seeds:
        split = Split(0.5, seed)
        held = np.array([split.part_of(item) == "certify" for item in corpus.items])
        groups.append(len(np.unique(columns.group[held])))
        ways = [raw]
        for target in TARGETS:
            learned = learn(table, columns, view, ~held, seed, target=target)
            ways.append(code_columns(columns, rescored(view, learned.scorer, table, learned.out_of_fold)))
        for reading, candidates in zip(READINGS, (_grid, _path), strict=True):
            costs[reading].append(
                [_costs(one.rows(held), candidates(one.rows(~held)), weights, reading) for one in ways]
            )
    return {reading: _rows(seeds, groups, np.array(made)) for reading, made in costs.items()}


def _mapping(manifest: Manifest) -> PolicyMapping:
    """The corpus's own ladder with the check `not_empty`, which every live policy has."""
    mapping = own_mapping(manifest)
    return replace(mapping, plan=replace(mapping.plan, shared_checks=(bind_check(Check(not_empty=True)),)))


def _weights(groups: int, draws: int) -> Any:
    """(draws + 1, groups): how often each group is drawn; the first row is the data itself."""
    chance = np.random.default_rng(20_260_105)
    drawn = [np.bincount(chance.integers(0, groups, groups), minlength=groups) for _ in range(draws)]
    return np.stack([np.ones(groups, np.int64), *drawn]).astype(np.float64)


def _grid(tunes: CodedCorpus) -> list[tuple[int, ...]]:
    """All vectors of levels: for each rung all levels, or MOST quantiles of the tuning rows; and `never`."""
    axes: list[list[int]] = []
    for own, codes in zip(tunes.levels, tunes.codes.T, strict=True):
        steps = np.arange(1, len(own) + 1)
        if len(own) > MOST:
            ships = np.sort(codes[codes > 0])
            steps = np.unique(ships[(np.arange(MOST) * len(ships)) // MOST])
            steps[0] = 1
        axes.append([*steps.tolist(), len(own) + 1])
    return list(product(*axes))


def _path(tunes: CodedCorpus) -> list[tuple[int, ...]]:
    """The frontier of the grid on the tuning rows, cheapest first."""
    grid = _grid(tunes)
    score, spent, ends = _by_rung(tunes.score), _by_rung(tunes.cost.cumsum(1)), _ends(tunes, grid)
    quality, cost = (np.array([of[at].sum() for at in ends]) for of in (score, spent))
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    return [grid[at] for at in order[np.diff(best, prepend=-1.0) > 0].tolist()]


def _by_rung(matrix: Any) -> Any:
    """(N, K) as one row, rung by rung: `_ends` are places in it."""
    return np.ascontiguousarray(matrix.T).ravel()


def _ends(coded: CodedCorpus, ats: list[tuple[int, ...]]) -> list[Any]:
    """For each of `ats` where its items' climbs end: found once, and read three times."""
    items = np.arange(len(coded))
    return [coded.shipped(at).astype(np.intp) * len(coded) + items for at in ats]


def _costs(held: CodedCorpus, ats: list[tuple[int, ...]], weights: Any, reading: str) -> Any:
    """(draws, shares, 2): of the cheapest or first of `ats` that reaches each share, the cost over the top's alone.

    And how much of the held half is confidently wrong there.
    """
    there, which = np.unique(held.group, return_inverse=True)
    drawn = weights[:, there]

    def summed(values: Iterable[Any]) -> Any:
        return drawn @ np.stack([np.bincount(which, value) for value in values], axis=1)

    score, paid_in_all, lost = map(_by_rung, (held.score, held.cost.cumsum(1), held.lost("false_confident")))
    ends = _ends(held, ats)
    quality, cost = summed(score[at] for at in ends), summed(paid_in_all[at] for at in ends)
    first, top, spent = summed((held.alone[:, 0], held.alone[:, held.top], held.cost[:, held.top])).T
    wrong = np.array([lost[at].mean() for at in ends])
    found: list[Any] = []
    for share in SHARES:
        reached = quality >= (first + share * (top - first) - 1e-9)[:, None]
        cheapest = np.where(reached, cost, np.inf) if reading == READINGS[0] else ~reached
        at, any_of = cheapest.argmin(1), reached.any(1)
        paid = np.where(any_of, cost[np.arange(len(cost)), at], spent) / spent
        found.append(np.stack([paid, np.where(any_of, wrong[at], 0.0)], axis=1))
    return np.stack(found, axis=1)


def _rows(seeds: list[int], groups: list[int], figures: Any) -> dict[tuple[str, str], Comparison]:
    """From (seeds, ways, draws, shares, 2): each seed at the headline, and the means."""
    headline, mean, held = _percent(HEADLINE), figures.mean(0), round(sum(groups) / len(groups))
    each = zip(seeds, groups, figures[..., HEADLINE, :], strict=True)
    rows = {(str(seed), headline): _row(number, one) for seed, number, one in each}
    rows |= {(MEAN, _percent(place)): _row(held, mean[..., place, :]) for place in range(len(SHARES))}
    return rows | {(MEAN, RANGE): _row(held, mean.mean(-2))}


def _row(groups: int, figures: Any) -> Comparison:
    """From (ways, draws, 2); the first draw is the data itself."""
    costs: dict[str, Any] = dict(zip(WAYS, figures[..., 0], strict=True))

    def ci95(way: str, other: str) -> tuple[float, float]:
        low, high = np.quantile(costs[way][1:] - costs[other][1:], (0.025, 0.975))
        return float(low), float(high)

    return Comparison(
        groups,
        {way: float(own[0]) for way, own in costs.items()},
        {way: float(own) for way, own in zip(WAYS, figures[:, 0, 1], strict=True)},
        {way: ci95(way, "raw") for way in TARGETS},
        ci95("gain", "right"),
    )


def _percent(place: int) -> str:
    return f"{SHARES[place]:.0%}"


if __name__ == "__main__":
    main()
