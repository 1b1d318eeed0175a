"""Intervals and splits: groups are what is drawn and what is never split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import Item, LadderEntry, Manifest
from cascade.corpora.splits import Split
from cascade.replay.building import read_columns
from cascade.replay.intervals import MOST_FOR_BOOTSTRAP, interval_of
from cascade.replay.mapping import own_mapping

from .conftest import LADDER, item


def test_the_bootstrap_and_the_standard_error_say_the_same() -> None:
    """At the size where one takes over from the other their widths differ by little."""
    chance = np.random.default_rng(5)
    n = 4_000
    group = np.repeat(np.arange(n // 8, dtype=np.int32), 8)
    values = (chance.random(n // 8)[group] + chance.random(n) > 1.0).astype(np.float64)
    low, high = interval_of(values, group) or (0.0, 0.0)
    times = MOST_FOR_BOOTSTRAP // n + 1
    many = np.concatenate([group + np.int32(k * n) for k in range(times)])
    narrow_low, narrow_high = interval_of(np.tile(values, times), many) or (0.0, 0.0)
    assert low < values.mean() < high
    assert (high - low) / (narrow_high - narrow_low) == pytest.approx(np.sqrt(times), rel=0.1)


def test_intervals_know_that_rows_of_a_group_tell_less() -> None:
    """Ten copies of each item leave the interval as wide as it was; taken for strangers they would narrow it."""
    chance = np.random.default_rng(6)
    values = (chance.random(300) > 0.3).astype(np.float64)
    groups = np.arange(300, dtype=np.int32)
    alone = interval_of(values, groups)
    copied = interval_of(np.repeat(values, 10), np.repeat(groups, 10))
    assert alone is not None
    assert copied == pytest.approx(alone)
    strangers = interval_of(np.repeat(values, 10), np.arange(3000, dtype=np.int32)) or (0.0, 1.0)
    assert strangers[1] - strangers[0] < 0.5 * (alone[1] - alone[0])


def test_intervals_cover() -> None:
    """Of 400 samples of a known share about 95 % of the intervals hold it (a 99.9 % band around that)."""
    chance = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        group = np.repeat(np.arange(60, dtype=np.int32), 5)
        values = (chance.random(60)[group] < 0.7).astype(np.float64)
        low, high = interval_of(values, group) or (0.0, 0.0)
        held += low <= 0.7 <= high
    assert 0.90 <= held / 400 <= 0.985


def test_an_interval_of_one_group_is_not_known() -> None:
    """There is nothing to draw from, and that is not an interval of width 0."""
    assert interval_of(np.array([1.0, 0.0]), np.array([3, 3], np.int32)) is None


def test_an_interval_is_the_same_each_time() -> None:
    """The bootstrap is seeded."""
    values = np.random.default_rng(8).random(50)
    group = np.arange(50, dtype=np.int32)
    assert interval_of(values, group) == interval_of(values, group)


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.booleans()), min_size=1), st.integers(0, 5))
def test_a_split_never_parts_a_group(drawn: list[tuple[str, bool]], seed: int) -> None:
    """Items of one group, and identical inputs without one, go the same way; the two halves make the whole."""
    items = [
        replace(item(str(n), 0.9, (1.0, 1.0)), input=f"text {name}", group=name if grouped else None)
        for n, (name, grouped) in enumerate(drawn)
    ]
    split = Split(0.5, seed)
    parts: dict[tuple[str, bool], set[str]] = {}
    for (name, grouped), one in zip(drawn, items, strict=True):
        parts.setdefault((name, grouped), set()).add(split.part_of(one))
    assert all(len(part) == 1 for part in parts.values())
    both = [*split.only("tune", items), *split.only("certify", items)]
    assert sorted(one.id for one in both) == sorted(one.id for one in items)
    assert list(split.only("all", items)) == items


def test_a_split_is_the_share_that_was_asked_for_and_stays() -> None:
    """Another seed parts another way; the same seed the same way on every machine (six known items)."""
    items = [item(str(n), 0.9, (1.0, 1.0)) for n in range(4000)]
    for share in (0.0, 0.25, 1.0):
        assert len(list(Split(share).only("tune", items))) / 4000 == pytest.approx(share, abs=0.03)
    first, second = ([Split(0.5, seed).part_of(one) for one in items] for seed in (0, 1))
    assert first != second
    assert [Split(0.5, 0).part_of(one) for one in items[:6]] == KNOWN


KNOWN = ["certify", "certify", "certify", "tune", "tune", "tune"]


def test_an_items_own_split_counts() -> None:
    """Whatever the hash would say."""
    assert Split(1.0).part_of(item("x", 0.9, (1.0, 1.0), split="certify")) == "certify"
    with pytest.raises(ConfigurationError, match="not between 0 and 1"):
        Split(float("nan"))


def test_columns_number_groups_as_they_appear() -> None:
    """A group's name, else the input; a group that is called like an input is not that input."""
    asked: list[Item] = [
        item("1", 0.9, (1.0, 1.0), group="g"),
        replace(item("2", 0.9, (1.0, 1.0)), input="g"),
        replace(item("3", 0.9, (1.0, 1.0)), input="g"),
        item("4", 0.9, (1.0, 1.0), group="g"),
        replace(item("5", 0.9, (1.0, 1.0)), input=[{"role": "user", "content": "g"}]),
    ]
    columns, _ = read_columns(asked, Manifest("m", LADDER))
    assert columns.group.tolist() == [0, 1, 1, 0, 2]


@pytest.mark.parametrize("asked", ["", " \n", [{"role": "assistant", "content": "hello"}]])
def test_an_input_that_cannot_be_asked_is_refused_by_name(asked: object) -> None:
    """Live it would be an error before anything is paid; a replay must not answer it."""
    bad = replace(item("b", 0.9, (1.0, 1.0)), input=asked, line=7)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=r"file\.jsonl:7: item 'b': "):
        read_columns([bad], Manifest("m", LADDER), source="file.jsonl")
    skipped: list[CorpusError] = []
    columns, _ = read_columns([bad, item("c", 0.9, (1.0, 1.0))], Manifest("m", LADDER), on_bad_item=skipped.append)
    assert (columns.ids, len(skipped)) == (["c"], 1)


def test_a_ladder_of_one_rung_is_no_ladder() -> None:
    """There is nothing to climb."""
    with pytest.raises(CorpusError, match="its ladder has one rung"):
        own_mapping(Manifest("m", (LadderEntry("only"),)))
