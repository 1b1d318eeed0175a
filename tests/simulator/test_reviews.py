"""The reviews of the simulator: they change nothing else of a corpus, and are as good as they are said to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from cascade.corpora import Item, RecordedReply, read_corpus

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def without_review(item: Item) -> Item:
    """The item as it is without reviews."""
    replies = {rung: replace(reply, review=None) for rung, reply in item.replies.items()}
    return replace(item, replies=replies)


def test_reviews_are_added_beside_the_replies_of_the_rungs_below(tmp_path: Path) -> None:
    """Every answer of haiku has one at Sonnet's list price; the rest is the shipped corpus."""
    path = tmp_path / "reviewed.jsonl"
    command = [sys.executable, str(BENCHMARKS / "simulate.py"), "coding", "--reviews", "sonnet", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    items, shipped = read_corpus(path).items, read_corpus(BENCHMARKS / "corpora" / "coding.jsonl.gz").items
    assert tuple(map(without_review, items)) == shipped
    answers: list[RecordedReply] = [item.reply("haiku") for item in items if item.reply("haiku").answer is not None]
    assert all(item.reply(rung).review is None for item in items for rung in ("sonnet", "opus"))
    said = {True: list[bool | None](), False: list[bool | None]()}
    for reply in answers:
        assert reply.review is not None
        tokens = reply.review.tokens
        assert reply.review.cost_usd == pytest.approx((2 * tokens.input_tokens + 10 * tokens.output_tokens) / 1e6)
        said[reply.score == 1.0].append(reply.review.accepted)
    assert said[True].count(True) / len(said[True]) == pytest.approx(0.95, abs=0.03)
    assert said[False].count(True) / len(said[False]) == pytest.approx(0.30, abs=0.08)
