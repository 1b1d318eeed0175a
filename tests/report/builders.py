"""What the tests of the report share: the shipped corpus as counts, and a table of counts made from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration.search.counts import Counts
from cascade.calibration.search.levels import code_columns
from cascade.corpora.reading import open_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping

__all__ = ["SUPPORT", "counts_of", "drawn"]

SUPPORT = Path(__file__).resolve().parents[2] / "benchmarks" / "corpora" / "support.jsonl.gz"


def counts_of(path: Path) -> Counts:
    """The table of counts of a corpus on its own ladder."""
    with open_corpus(path) as reader:
        columns, views = read_columns(reader, reader.manifest, [own_mapping(reader.manifest)], source=reader.source)
        return code_columns(columns, views[0]).counts()


def drawn(rungs: tuple[str, ...], items: int, levels: int, seed: int = 7) -> Counts:
    """So many items at chance, a row each, with so many levels on every rung below the top."""
    chance = np.random.default_rng(seed)
    k = len(rungs)
    score = chance.integers(0, 5, (items, k)) / 4.0
    wrong = (score < 0.5).astype(np.int64)
    lost = wrong.copy()
    lost[:, -1] = 0
    sums: dict[str, Any] = {
        "items": np.ones(items, np.int64),
        "score": score,
        "cost": chance.integers(1, 3_000_000, (items, k)),
        "wrong": wrong,
        "false_confident": lost,
        "regressed": lost * (1 - wrong[:, -1:]),
        "alone": score.sum(axis=0),
        "alone_wrong": wrong.sum(axis=0),
    }
    own = tuple(np.sort(chance.random(levels)) for _ in range(k - 1))
    codes = chance.integers(0, levels + 1, (items, k - 1)).astype(np.int32)
    return Counts(rungs, own, codes, **sums, right_at=0.5).merged()
