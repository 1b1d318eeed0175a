"""Corpora whose signals are known, because they are drawn so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cascade.calibration.signal_table import SignalCollector, SignalTable, measure_signals
from cascade.core.policy.samples import Same
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping

__all__ = ["MANIFEST", "drawn", "measured"]

MANIFEST = Manifest("told", (LadderEntry("low"), LadderEntry("top")), synthetic=True)


def drawn(n: int, seed: int = 1, *, steady: float = 0.9, check: float = 0.95, groups: int = 0) -> Corpus:
    """A low rung that is right on three of five and says so to no purpose; the top is right on 19 of 20, for twenty times as much.

    It has four samples. Where the low rung is right, each is the right answer with probability `steady`; where it is wrong, each is
    one of nine wrong answers, or the right one as often as one of them. `check`: with this probability the check says the truth
    of the first sample.
    """
    chance = random.Random(seed)
    items: list[Item] = []
    for number in range(n):
        knows = chance.random() < 0.6
        samples: list[RecordedReply] = []
        for _ in range(4):
            answer = 0 if knows and chance.random() < steady else chance.randint(0, 9)
            right = answer == 0
            sure = round(chance.uniform(0.6, 0.99), 2)
            told = right if chance.random() < check else not right
            samples.append(
                RecordedReply(
                    confidence=sure, answer=str(answer), score=float(right), cost_usd=0.001, checks={"tests": told}
                )
            )
        first, *others = samples
        top = RecordedReply(answer="0", score=float(chance.random() < 0.95), cost_usd=0.02)
        replies = {"low": _with(first, others), "top": top}
        group = f"g{number % groups}" if groups else None
        items.append(Item(f"i{number}", f"question {number}", replies, group=group, line=number + 2))
    return Corpus(MANIFEST, tuple(items))


def _with(first: RecordedReply, others: Sequence[RecordedReply]) -> RecordedReply:
    return RecordedReply(
        first.confidence, first.answer, first.score, cost_usd=first.cost_usd, checks=first.checks, samples=tuple(others)
    )


def measured(corpus: Corpus, is_tune: Any = None, **how: Any) -> SignalTable:
    """The table of a corpus, of the rows in `is_tune`, or of all."""
    mapping = replace(own_mapping(corpus.manifest), same=Same())
    collector = SignalCollector(mapping)
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [mapping], on_items=collector.add)
    tunes = np.ones(len(columns), np.bool_) if is_tune is None else is_tune
    return measure_signals(columns, view, tunes, collector, **how)
