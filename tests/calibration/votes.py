"""Corpora with samples, drawn by a seed: a first rung that was asked six times in two ways, and a rung above."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.writing import write_corpus

__all__ = ["MANIFEST", "VARIANTS", "drawn_votes", "write_votes"]

VARIANTS = ("confidence_first", "steps")
"""Of the samples, in turn."""

MANIFEST = Manifest(
    "votes",
    (LadderEntry("haiku", "claude-haiku-5-5"), LadderEntry("sonnet", "claude-sonnet-5-5")),
    synthetic=True,
)


def drawn_votes(
    seed: int,
    items: int = 40,
    *,
    reports: bool = True,
    variants: Sequence[str] = VARIANTS,
    samples: int = 6,
    odd: bool = False,
) -> list[Item]:
    """Items whose right answer is "a". Hard ones get one wrong answer often, or any; the rung above is nearly always right.

    `reports`: whether the samples have confidences. `odd`: some samples are declined or failed, too.
    """
    chance = random.Random(seed)
    return [_item(chance, number, reports, variants, samples, odd=odd) for number in range(items)]


def write_votes(path: Path, items: Sequence[Item], manifest: Manifest = MANIFEST) -> Path:
    """The items as a corpus at `path`, which is returned."""
    write_corpus(path, manifest, items)
    return path


def _item(
    chance: random.Random, number: int, reports: bool, variants: Sequence[str], samples: int, *, odd: bool
) -> Item:
    hard = chance.random() < 0.4
    first, *others = [
        _sample(chance, hard, reports, variants[place % len(variants)], odd=odd) for place in range(samples)
    ]
    haiku = RecordedReply(
        first.confidence, first.answer, first.score, cost_usd=first.cost_usd, variant=first.variant,
        samples=tuple(others), extra=first.extra,
    )  # fmt: skip
    right = chance.random() < (0.85 if hard else 0.99)
    sonnet = RecordedReply(None, "a" if right else "b", float(right), cost_usd=0.02)
    return Item(f"i{number}", f"question {number}", {"haiku": haiku, "sonnet": sonnet}, line=number + 2)


def _sample(chance: random.Random, hard: bool, reports: bool, variant: str, *, odd: bool) -> RecordedReply:
    answer = chance.choice("abcdef") if hard else chance.choice("aaaaaab")
    said = chance.choice((0.5, 0.8, 0.8) if hard else (0.8, 0.9, 0.9)) if reports else None
    cost = chance.choice((0.001, 0.0012))
    if odd and chance.random() < 0.15:
        failed = chance.choice((None, {"verdict": "failed"}, {"verdict": "malformed"}))
        return RecordedReply(None, None, 0.0, cost_usd=cost, variant=variant, extra=failed)
    return RecordedReply(said, answer, float(answer == "a"), cost_usd=cost, variant=variant)
