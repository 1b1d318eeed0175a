"""Corpora with groups and tasks, drawn by a seed: three rungs whose confidence is worth something."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus

__all__ = ["RUNGS", "drawn_groups", "write_groups"]

RUNGS = ("r0", "r1", "r2")
TASKS = ("refund", "delivery", "other things")


def drawn_groups(
    items: int, seed: int, *, sizes: Sequence[int] = (1, 1, 2, 6), tasks: Sequence[str] = TASKS, known: float = 1.0
) -> tuple[Item, ...]:
    """Groups of these sizes, each mostly with one task. `known`: how well a confidence says whether its answer is right."""
    chance = random.Random(seed)
    made: list[Item] = []
    customer = left = 0
    for number in range(items):
        if not left:
            customer, left = customer + 1, chance.choice(sizes)
        left -= 1
        replies: dict[str, RecordedReply] = {}
        for index, (rung, usd) in enumerate(zip(RUNGS, (0.0001, 0.002, 0.01), strict=True)):
            said = chance.choice((0.5, 0.7, 0.9, 0.99))
            sure = known * said + (1 - known) * 0.8
            right = chance.random() < sure + (1 - sure) * index / 2
            replies[rung] = RecordedReply(confidence=said, answer=f"{rung} {right}", score=float(right), cost_usd=usd)
        task = tasks[(customer + (chance.random() < 0.2)) % len(tasks)]
        made.append(
            Item(f"i{number}", f"question {number}", replies, task=task, group=f"customer {customer}", line=number + 2)
        )
    return tuple(made)


def write_groups(path: Path, items: Sequence[Item]) -> Path:
    """The items as a corpus at `path`, which is returned."""
    write_corpus(path, Manifest("drawn", tuple(LadderEntry(rung) for rung in RUNGS), synthetic=True), items)
    return path
