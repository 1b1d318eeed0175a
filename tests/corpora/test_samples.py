"""Samples and reviews in the corpus format: kept whole, checked as replies are, and refused where they contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, read_corpus, write_corpus
from cascade.corpora.decoding import MAX_DEPTH, MAX_SAMPLES
from cascade.corpora.items import RecordedCheck, RecordedGroups, RecordedReview

MANIFEST: dict[str, Any] = {"corpus": "c", "version": 1, "ladder": [{"rung": "haiku"}], "temperature": 0.7}
REPLY: dict[str, Any] = {"confidence": 0.9, "answer": "yes", "score": 1.0}


def read_one(folder: Path, reply: dict[str, Any]) -> RecordedReply:
    """The reply that is read where an item's is this."""
    path = folder / "c.jsonl"
    item = {"id": "i-1", "input": "secret", "replies": {"haiku": reply}}
    path.write_text(f"{json.dumps(MANIFEST)}\n{json.dumps(item)}\n")
    return read_corpus(path).items[0].reply("haiku")


def test_everything_a_sample_says_is_read_and_written_back(tmp_path: Path) -> None:
    """Also what this version does not know, of a sample, a check and a grouping; nothing is added or lost."""
    usage = {"input_tokens": 3, "output_tokens": 2}
    further: dict[str, Any] = {
        "confidence": None, "answer": {"city": "Lima"}, "score": 0.0, "variant": "steps", "usage": usage, "cost_usd": 0.1,
        "checks": {"tests": {"passed": None, "seconds": 1.5, "log": "…"}, "lint": True}, "region": "eu",
    }  # fmt: skip
    groups = [{"of": [0, 1], "groups": [[1], [0]], "usage": usage, "cost_usd": 0.2, "by": "haiku"}]
    raw = {**REPLY, "variant": "doubt", "seconds": 2, "samples": [further], "groups": groups}
    raw["review"] = {"rung": "sonnet", "accepted": None, "usage": usage, "cost_usd": 0.3, "why": "…"}
    reply = read_one(tmp_path, raw)
    assert reply.extra == {"seconds": 2}
    _, sample = reply.every
    assert (sample.variant, sample.answer, sample.extra) == ("steps", {"city": "Lima"}, {"region": "eu"})
    assert sample.check("tests") == RecordedCheck(None, 1.5, {"log": "…"})
    assert reply.groups == (RecordedGroups((0, 1), ((1,), (0,)), usage, 0.2, {"by": "haiku"}),)
    assert reply.review == RecordedReview("sonnet", None, usage, 0.3, {"why": "…"})
    write_corpus(tmp_path / "again.jsonl", Manifest("c", (LadderEntry("haiku"),)), [Item("i", "q", {"haiku": reply})])
    assert json.loads((tmp_path / "again.jsonl").read_text().splitlines()[1])["replies"]["haiku"] == raw


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"samples": {}}, "replies.haiku.samples: "),
    ({"samples": ["yes"]}, "replies.haiku.samples[0]: "),
    ({"samples": [REPLY, {"score": "secret"}]}, "replies.haiku.samples[1].score: "),
    ({"samples": [REPLY, {"confidence": 2, "unknown": 1}]}, "replies.haiku.samples[1].confidence: "),
    ({"samples": [{"usage": {"input_tokens": -1}}]}, "replies.haiku.samples[0].usage.input_tokens: "),
    ({"samples": [{"checks": {"tests": "secret"}}]}, "replies.haiku.samples[0].checks.tests: "),
    ({"samples": [{"checks": {"tests": {"seconds": -1}}}]}, "replies.haiku.samples[0].checks.tests.seconds: "),
    ({"samples": [{"samples": []}]}, "replies.haiku.samples[0].samples: a sample has none of its own"),
    ({"samples": [{"groups": [{"of": [0]}]}]}, "replies.haiku.samples[0].groups: a sample has none of its own"),
    ({"samples": [REPLY] * MAX_SAMPLES}, f"replies.haiku.samples: there are more than {MAX_SAMPLES - 1}"),
    ({"samples": [{**REPLY, "x": 1}] * MAX_SAMPLES}, f"replies.haiku.samples: there are more than {MAX_SAMPLES - 1}"),
    ({"groups": [{"of": [0, 1]}]}, "replies.haiku.groups[0].of: there is no sample 1, the reply has 1"),
    ({"samples": [REPLY], "groups": [{"of": []}]}, "replies.haiku.groups[0].of: "),
    ({"samples": [REPLY], "groups": [{"of": [0, -1]}]}, "replies.haiku.groups[0].of.1: "),
    ({"samples": [REPLY], "groups": [{"of": [0, 2]}]}, "replies.haiku.groups[0].of: there is no sample 2"),
    ({"samples": [REPLY], "groups": [{"of": [0, 0]}]}, "replies.haiku.groups[0].of: a sample is named twice"),
    ({"samples": [REPLY], "groups": [{"of": [0, 1], "groups": [[0]]}]}, "replies.haiku.groups[0].groups: not every"),
    ({"samples": [REPLY], "groups": [{"of": [0, 1], "groups": [[0, 1], [1]]}]}, "replies.haiku.groups[0].groups: not every"),
    ({"samples": [REPLY], "groups": [{"of": [0, 1], "groups": [[0, 1], []]}]}, "replies.haiku.groups[0].groups: not every"),
    ({"samples": [REPLY], "groups": [{"of": [0, 1]}, {"of": [0, 1]}]}, "replies.haiku.groups[1].of: the same samples"),
    ({"samples": [REPLY], "groups": [{"of": [0, 1], "usage": {"input_tokens": 0.5}}]}, "replies.haiku.groups[0].usage.input"),
    ({"variant": ""}, "replies.haiku.variant: "),
    ({"review": True}, "replies.haiku.review: "),
    ({"review": {"rung": "sonnet"}}, "replies.haiku.review.accepted: is missing"),
    ({"review": {"rung": "", "accepted": True}}, "replies.haiku.review.rung: "),
    ({"review": {"rung": "sonnet", "accepted": "secret", "x": 1}}, "replies.haiku.review.accepted: "),
    ({"review": {"rung": "s", "accepted": True, "cost_usd": -1}}, "replies.haiku.review.cost_usd: "),
    ({"review": {"rung": "s", "accepted": True, "usage": {"input_tokens": -1}}}, "replies.haiku.review.usage.input_tokens: "),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_a_broken_sample_is_named_by_its_place(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """One error with file, line, item, rung, sample and key, that quotes nothing of what users wrote."""
    with pytest.raises(CorpusError) as caught:
        read_one(tmp_path, {**REPLY, **changes})
    assert f"c.jsonl:2: item 'i-1': {problem}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_grouping_that_contradicted_itself_is_kept_as_such(tmp_path: Path) -> None:
    """`groups: null`: the judge was asked and paid for, and its answer was no grouping."""
    reply = read_one(tmp_path, {**REPLY, "samples": [REPLY], "groups": [{"of": [1, 0], "groups": None}]})
    assert reply.groups == (RecordedGroups((1, 0)),)


@pytest.mark.parametrize("where", ["answer", "extra", "usage", "checks", "review"])
def test_samples_too_deep_to_be_written_everywhere_are_not_read(tmp_path: Path, where: str) -> None:
    """What is read can be written as Parquet too, where all samples of a rung are one cell."""
    pytest.importorskip("pyarrow")
    refused = 0
    for depth in range(MAX_DEPTH - 6, MAX_DEPTH + 2):
        deep: Any = json.loads("[" * depth + "]" * depth)
        sample = {
            "answer": {"answer": deep},
            "extra": {"seconds": deep},
            "usage": {"usage": {"other": deep}},
            "checks": {"checks": {"tests": {"passed": True, "log": deep}}},
            "review": {"review": {"rung": "sonnet", "accepted": True, "log": deep}},
        }[where]
        try:
            reply = read_one(tmp_path, {**REPLY, "samples": [{**REPLY, **sample}]})
        except CorpusError:
            refused += 1
            continue
        assert not refused
        item = Item("i", "q", {"haiku": reply})
        for name in ("again.jsonl", "again.parquet"):
            write_corpus(tmp_path / name, Manifest("c", (LadderEntry("haiku"),)), [item])
            assert read_corpus(tmp_path / name).items == (item,)
    assert 0 < refused < 8
    with pytest.raises(CorpusError, match="it nests deeper than 200 levels"):
        read_one(tmp_path, {**REPLY, "samples": [{"answer": json.loads("[" * 200 + "]" * 200)}]})


@pytest.mark.parametrize("name", ["again.jsonl.gz", "again.parquet"])
def test_a_real_corpus_with_samples_survives_a_round_trip(
    tmp_path: Path, name: str, real_corpus: Callable[[str], Path]
) -> None:
    """Twelve samples of four variants, as both forms hold them."""
    corpus = read_corpus(real_corpus("date-samples"))
    assert {len(item.reply("cheap").every) for item in corpus.items} == {12}
    write_corpus(tmp_path / name, corpus.manifest, corpus.items)
    again = read_corpus(tmp_path / name)
    assert (again.manifest, again.items) == (corpus.manifest, corpus.items)
