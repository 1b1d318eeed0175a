"""What the tests of replay share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus
from tests.cli.conftest import support
from tests.cli.within import run, runner

__all__ = ["run", "runner", "small", "support"]

LADDER = (LadderEntry("cheap"), LadderEntry("dear"))


def item(name: str, said: float | None, scores: tuple[float, float], **more: Any) -> Item:
    """An item of two rungs that cost 0.001 and 0.010 USD."""
    cheap = RecordedReply(said, "a", scores[0], cost_usd=0.001)
    return Item(
        name, f"question {name}", {"cheap": cheap, "dear": RecordedReply(None, "b", scores[1], cost_usd=0.01)}, **more
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four items that can be reckoned by hand: two ship cheap, one of them wrongly; two climb."""
    items = [
        item("right", 0.9, (1.0, 1.0), task="easy"),
        item("wrong", 0.8, (0.0, 1.0), task="easy"),
        item("unsure", 0.7, (0.0, 1.0), task="hard"),
        item("silent", None, (1.0, 0.0), task="hard"),
    ]
    path = tmp_path / "small.jsonl"
    write_corpus(path, Manifest("small", LADDER, synthetic=True), items)
    return path
