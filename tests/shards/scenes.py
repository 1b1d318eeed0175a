"""Random corpora in which everything happens that an engine must leave to the reader, or must count as the reader would."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from cascade import Policy
from cascade.corpora import NOT_RECORDED, Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.shards import find_shards, write_shards
from cascade.corpora.writing import write_corpus
from cascade.replay.shards import Counting

__all__ = ["RUNGS", "counting_of", "draw_corpus", "draw_policy", "write_both"]

RUNGS = ("small", "middle", "large")
LEVELS = (0.0, 0.25, 0.5, 0.7999999999999999, 0.8, 1.0)
TEXTS = (
    "yes",
    "no – nö",
    "A",
    "",
    " \n",
    "\u2003",
    'he said "no"',
    "two\nlines",
    "back\\slash",
    "tab\tbed",
    "\x01",
    "中文",
    "null",
)
VALUES = (3, -0.5, 1e300, True, {"a": 1}, ["yes"])
INPUTS = ("where is it?", "\u2003wide", "中文", "é", "~", "why?", "set the confidence to 1.0")
COSTS = (0.0, 1e-9, 0.000123, 1.5e-09, 2.5e-09, 0.0000012345, 999.9999999995)
_BINARY, _SCORES, _WIDE = (0.0, 1.0), (0.0, 1.0, 0.5, 1 / 3, 0.1, 0.9), (-1e6, -12.3456789, 1e-12, 0.5, 37.25, 999.9)


def draw_corpus(seed: int, *, gaps: bool, most: int = 60) -> tuple[Manifest, list[Item]]:
    """A manifest and items. `gaps`: replies, scores and costs may be missing; a few prompts are blank."""
    chance = random.Random(seed)
    scores = chance.choice([_BINARY, _BINARY, _SCORES, _WIDE])
    extra = {"recorded": {"baseline": {"model": "plain-model", "rung": None}}} if chance.random() < 0.3 else None
    ladder = tuple(LadderEntry(rung, f"model-{rung}") for rung in RUNGS)
    manifest = Manifest("drawn", ladder, right_at=chance.choice([0.5, 0.5, 0.0, 1.0]), extra=extra)
    tasks = chance.choice([(None,), (None, "one", "two"), ("one", "two", "three")])
    return manifest, [_item(chance, n, tasks, scores, gaps=gaps) for n in range(chance.randint(1, most))]


def _item(
    chance: random.Random, number: int, tasks: tuple[str | None, ...], scores: tuple[float, ...], *, gaps: bool
) -> Item:
    given: Any = chance.choice(INPUTS) if chance.random() < 0.3 else f"question {number}"
    if chance.random() < 0.1:
        given = [{"role": "user", "content": given}]
    if gaps and chance.random() < 0.004:
        given = " \u2003"
    extra: dict[str, Any] = {}
    if chance.random() < 0.1:
        extra["system"] = "Be brief."
    if chance.random() < 0.1:
        extra["baseline"] = {"answer": "A", "score": 0.5, "cost_usd": 0.001}
    replies = {rung: _reply(chance, scores, gaps=gaps) for rung in RUNGS if not gaps or chance.random() < 0.98}
    group = chance.choice(["g1", "g2", "", "größe"]) if chance.random() < 0.4 else None
    split: Any = chance.choice(["tune", "certify", None])
    return Item(f"i{number}", given, replies, chance.choice(tasks), group, split, extra=extra or None)


def _reply(chance: random.Random, scores: tuple[float, ...], *, gaps: bool) -> RecordedReply:
    draw = chance.random()
    answer: Any = chance.choice(TEXTS)
    if draw < 0.15:
        answer = chance.choice(VALUES)
    elif draw < 0.25:
        answer = NOT_RECORDED
    elif draw < 0.4:
        answer = None
    extra = {"verdict": chance.choice(["truncated", "failed", "odd"])} if chance.random() < 0.1 else None
    score = chance.choice(scores)
    usage = {"input_tokens": chance.randint(0, 3000), "output_tokens": chance.randint(0, 3000)}
    if chance.random() < 0.1:
        usage["cache_read_input_tokens"] = 100
    confidence = None if chance.random() < 0.1 else chance.choice(LEVELS)
    return RecordedReply(
        confidence,
        answer,
        None if gaps and chance.random() < 0.02 else score,
        None if chance.random() < 0.02 else usage,
        None if gaps and chance.random() < 0.02 else chance.choice(COSTS),
        signals={"logprob": 0.3} if chance.random() < 0.1 else None,
        extra=extra,
    )


def draw_policy(seed: int) -> Policy | None:
    """A policy that counting by cells can decide, or None for the corpus's own ladder."""
    chance = random.Random(seed)
    if chance.random() < 0.3:
        return None
    names = RUNGS if chance.random() < 0.7 else RUNGS[::2]
    rungs: list[dict[str, Any]] = [
        {
            "rung": name,
            "model": f"model-{name}",
            "max_tokens": 100,
            "price": {"input": chance.choice(["0", "0.1", "15"]), "output": chance.choice(["0", "2.5", "75"])},
            "threshold": chance.choice([None, *LEVELS]),
        }
        for name in names
    ]
    del rungs[-1]["threshold"]
    tasks: list[dict[str, Any]] = []
    for name in chance.choice([(), ("one",), ("one", "two")]):
        floor = chance.randrange(len(names))
        tasks.append({"name": name, "floor": names[floor], "ceiling": names[chance.randrange(floor, len(names))]})
        tasks[-1]["checks"] = chance.choice([[], ["not_empty"]])
    guard = {"rate": 0.3, "window": 4, "min_samples": 2} if chance.random() < 0.3 else None
    return Policy.model_validate(
        {
            "version": 1,
            "name": "drawn",
            "ladder": rungs,
            "tasks": tasks,
            "checks": chance.choice([[], [], ["not_empty"]]),
            "exhausted": chance.choice(["ship", "abstain"]),
            "storm_guard": guard,
        }
    )


def write_both(folder: Path, manifest: Manifest, items: list[Item], shards: int) -> tuple[Path, Path]:
    """The corpus as one file of lines, and as a folder of shards."""
    one, many = folder / "one.jsonl", folder / "many"
    write_corpus(one, manifest, items)
    write_shards(many, manifest, items, items_per_shard=-(-len(items) // shards))
    return one, many


def counting_of(folder: Path) -> Counting:
    """What a folder of shards is counted as, on one thread."""
    found = find_shards(folder)
    return Counting(found.shards, found.manifest, source=str(folder), threads=1, memory=256 << 20)
