"""Votes on recorded samples: what a curtailed vote gives, and whether what `--samples auto` certifies holds on fresh items.

    python benchmarks/votes.py [CORPUS] [--vote cheap=3/4] [--max-risk 0.15] [--splits 20]

CORPUS is a recorded corpus with samples (default: ../shared/corpora/date-samples.jsonl.gz, beside the checkout). First the
vote of `--vote` on all items. Then, for each split into three equal parts by group: samples and thresholds are searched on
the first part, certified on the second, and replayed on the third, which nothing has read. The bound counts as broken where
the rate on the third part is above `--max-risk`: that rate has a sampling error of its own, which is printed.

Beside it, on the same third parts: thresholds without further samples, and every single model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean

from msgspec.structs import replace

from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.calibration.sampling import SampleSearch
from cascade.corpora import Corpus, Item, read_corpus, write_corpus
from cascade.corpora.splits import Split
from cascade.replay.mapping import parse_override
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from cascade.replay.samples import SamplesOverride, parse_samples, variant_names

__all__ = ["Fresh", "main", "on_fresh_items"]

DATE_SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "date-samples.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Fresh:
    """One split: what was certified on two parts, on the third. `cost` and `singles` are shares of the top's cost there.

    `chosen` is empty if nothing was certified. `singles`: by model (cost, quality, share of wrong answers).
    """

    chosen: str
    cost: float
    quality: float
    false_confident: float
    plain: float
    top_quality: float
    singles: dict[str, tuple[float, float, float]]


def main(arguments: list[str] | None = None) -> None:
    """Print the vote on all items, then the splits."""
    parser = argparse.ArgumentParser(description="Votes on recorded samples, and certified votes on fresh items.")
    parser.add_argument("corpus", nargs="?", type=Path, default=DATE_SAMPLES)
    parser.add_argument("--vote", default="cheap=3/4")
    parser.add_argument("--max-risk", type=float, default=0.15)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args(arguments)
    if not options.corpus.exists():
        parser.error(f"there is no corpus {options.corpus}: name one with samples")
    whole = replay_corpus(options.corpus, ReplayOptions(samples=(parse_samples(options.vote),)))
    top = whole.figures.singles[whole.mapping.names[-1]]
    calls = {rung: f"{one['calls_per_item']:.2f} calls an item" for rung, one in whole.samples.items()}
    print(
        f"{options.vote} on all {whole.figures.items} items: cost {whole.figures.cost / top.cost:.3f} of the top's,"
        f" quality {whole.figures.quality:.3f} (top {top.quality:.3f}), confidently wrong"
        f" {whole.figures.false_confident_rate:.3f}, {', '.join(f'{rung} {text}' for rung, text in calls.items())}"
    )
    corpus = read_corpus(options.corpus)
    found = [on_fresh_items(corpus, options.max_risk, seed) for seed in range(options.splits)]
    print("\n".join(_summary(found, options.max_risk, len(corpus.items) // 3)))


def on_fresh_items(corpus: Corpus, alpha: float, seed: int) -> Fresh:
    """Search on one third of the groups, certify on the second, replay on the third."""
    third = Split(2 / 3, seed + 1000)
    read = [item for item in corpus.items if third.part_of(item) == "tune"]
    fresh = [item for item in corpus.items if third.part_of(item) == "certify"]
    with tempfile.TemporaryDirectory() as folder:
        known, unread = Path(folder, "known.jsonl"), Path(folder, "unread.jsonl")
        _write(known, corpus, read)
        _write(unread, corpus, fresh)
        target, split = Target("false_confident", alpha), Split(0.5, seed)
        voted = calibrate([known], CalibrationOptions(target, split=split, samples=SampleSearch(auto=True)))
        plain = calibrate([known], CalibrationOptions(target, split=split))
        after, once = _replayed(unread, voted), _replayed(unread, plain)
    singles = after.figures.singles
    top = singles[after.mapping.names[-1]]
    return Fresh(
        ", ".join(f"{rung} {one.agree}/{one.max}" for rung, one in voted.samples.items()) if voted.feasible else "",
        after.figures.cost / top.cost,
        after.figures.quality,
        after.figures.false_confident_rate,
        once.figures.cost / top.cost,
        top.quality,
        {
            name: (one.cost / top.cost, one.quality, one.wrong / after.figures.items if one is not top else 0.0)
            for name, one in singles.items()
        },
    )


def _write(path: Path, corpus: Corpus, items: Sequence[Item]) -> None:
    write_corpus(path, corpus.manifest, [replace(item, split=None) for item in items])


def _replayed(path: Path, result: Calibration) -> Replay:
    """What was chosen, on other items; every threshold `never` if nothing was."""
    alone, policy = result.by_agreement, result.mapping.plan.policy
    samples = tuple(
        SamplesOverride(rung, one.agree, one.max, tuple(dict.fromkeys(variant_names(policy, one))))
        for rung, one in result.samples.items()
    )
    chosen = result.thresholds or dict.fromkeys(result.held_out.rungs[:-1])
    overrides = [
        parse_override(f"{rung}={'never' if x is None else x}")
        for rung, x in chosen.items()
        if rung not in alone or x is None
    ]
    return replay_corpus(path, ReplayOptions(overrides=tuple(overrides), samples=samples))


def _summary(found: Sequence[Fresh], alpha: float, third: int) -> list[str]:
    certified = [one for one in found if one.chosen]
    broken = sum(one.false_confident > alpha for one in certified)
    error = sqrt(alpha * (1 - alpha) / third)
    lines = [
        f"{len(found)} splits in three parts of about {third} items, confidently wrong <= {alpha:g} at 0.95:",
        (
            f"  a vote was certified in {len(certified)} of {len(found)}; on the third part its rate was above {alpha:g} in {broken}"
            f" (a rate there has a standard error of {error:.3f})"
        ),
    ]
    if certified:
        lines += [
            (
                f"  where certified, on the third part: cost {mean(one.cost for one in certified):.3f} of the top's, quality"
                f" {mean(one.quality for one in certified):.3f} (top {mean(one.top_quality for one in certified):.3f}), confidently"
                f" wrong {mean(one.false_confident for one in certified):.3f} (mean over splits)"
            ),
            f"  votes chosen: {_counted([one.chosen for one in certified])}",
        ]
    lines.append(f"  thresholds without further samples: cost {mean(one.plain for one in found):.3f} of the top's")
    for name in found[0].singles:
        cost, quality, wrong = (mean(one.singles[name][place] for one in found) for place in range(3))
        lines.append(f"  {name} alone: cost {cost:.3f}, quality {quality:.3f}, confidently wrong {wrong:.3f}")
    return lines


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(sorted(names)))


if __name__ == "__main__":
    main()
