"""Tables of counts add up, and come back from a file as they were, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.calibration.coded import Coded, code_columns
from cascade.calibration.counts import Counts
from cascade.calibration.frontier import frontier, point_at, risk_path
from cascade.calibration.tabulating import (
    COUNTS_KEY,
    Tabulated,
    read_counts,
    tabulate_coded,
    tabulate_corpus,
    write_counts,
)
from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, read_corpus, write_corpus
from cascade.corpora.columns import read_columns
from cascade.corpora.splits import Split
from tests.cli.conftest import Run, run, runner

from .chance import coded_of, drawn_items, lens_at

__all__ = ["run", "runner"]

MANIFEST = Manifest("drawn", tuple(LadderEntry(f"r{n}", f"model-{n}") for n in range(3)), synthetic=True)


def same(one: Counts, two: Counts) -> bool:
    """Every row, sum and level is the same."""
    assert one.rungs == two.rungs
    assert [own.tolist() for own in one.levels] == [own.tolist() for own in two.levels]
    for name in ("codes", "items", "cost", "wrong", "false_confident", "regressed", "alone_wrong"):
        assert getattr(one, name).tolist() == getattr(two, name).tolist(), name
    for name in ("score", "alone"):
        assert getattr(one, name) == pytest.approx(getattr(two, name)), name
    return True


def parts_of(seed: int, cut: int) -> tuple[Counts, Counts, Counts]:
    """A corpus counted whole, and in two parts that were read apart: each knows only the levels it has seen."""
    _, items = drawn_items(seed, 3, items=60)

    def count(some: list[Item]) -> Counts:
        columns, (view,) = read_columns(some, MANIFEST, [lens_at(MANIFEST.rungs, (), (None, None))])
        return code_columns(columns, view).counts()

    return count(items), count(items[:cut]), count(items[cut:])


@pytest.mark.parametrize("cut", [1, 3, 30, 59])
def test_parts_counted_apart_add_up_to_the_whole(cut: int) -> None:
    """Also where one part has levels that the other has not: they are united."""
    for seed in range(20):
        whole, first, second = parts_of(seed, cut)
        assert same(first + second, whole)
        assert same(second + first, whole)
    assert len(first.levels[0]) < len(whole.levels[0]) or cut > 3


def test_rows_of_items_add_up_as_rows_of_counts_do() -> None:
    """Where each item is a row, merging them makes the same table as counting by cell."""
    coded = coded_of(2, 3, items=60)
    rows = {name: getattr(coded, name) for name in ("score", "cost")}
    losses = {
        "wrong": coded.wrong.view(np.int8),
        "false_confident": coded.lost("false_confident").view(np.int8),
        "regressed": coded.lost("regression").view(np.int8),
    }
    counts = coded.counts()
    loose: dict[str, Any] = {**rows, **losses, "items": np.ones(60, np.int64)}
    one_each = Counts(coded.rungs, coded.levels, coded.codes, **loose, alone=counts.alone,
                      alone_wrong=counts.alone_wrong, right_at=0.5)  # fmt: skip
    assert same(one_each.merged(), counts)
    codes, sums = one_each._by_order()
    assert codes.tolist() == counts.codes.tolist()
    assert {name: column.tolist() for name, column in sums.items()} == {
        name: getattr(counts, name).tolist() for name in sums
    }
    assert frontier(one_each) == frontier(counts)


def test_counts_of_another_ladder_do_not_add() -> None:
    """Other rungs, or another mark of what is right: an error that names both."""
    one, other = coded_of(1, 3).counts(), coded_of(1, 2).counts()
    with pytest.raises(CorpusError, match=r"r0 → r1 → r2 .*, those of r0 → r1 "):
        _ = one + other


def table_of(seed: int = 1, items: int = 80) -> tuple[Coded, Tabulated]:
    """A drawn corpus as a table, a third of it to tune on."""
    coded = coded_of(seed, 3, items=items)
    parts = tabulate_coded(coded, np.arange(items) % 3 == 0)
    return coded, Tabulated(parts, ("m0", None, "m2"), ("drawn",), grouped=True, synthetic=True)


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    """Both parts, levels, codes, sums and what is told of them; with ceilings, declined replies and best helds."""
    for seed in range(8):
        _, table = table_of(seed)
        rows = write_counts(tmp_path / "t.parquet", table)
        back = read_counts(tmp_path / "t.parquet")
        assert rows == sum(len(part) for part in table.parts.values())
        for part, counts in table.parts.items():
            assert same(back.parts[part], counts)
        assert (back.rungs, back.models, back.corpora) == (table.rungs, table.models, table.corpora)
        assert (back.grouped, back.synthetic) == (True, True)
        assert frontier(back.whole) == frontier(table.whole)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_tables_of_two_files_add_up() -> None:
    """Part by part, with united levels, so that a point holds for both parts."""
    (_, one), (_, two) = table_of(1), table_of(2)
    both = one + two
    assert both.corpora == ("drawn", "drawn")
    assert same(both.whole, one.whole + two.whole)
    assert [own.tolist() for own in both.parts["tune"].levels] == [own.tolist() for own in both.parts["certify"].levels]
    for point in risk_path(both.parts["tune"], "false_confident"):
        held = point_at(both.parts["certify"], point.at)
        assert held.thresholds == point.thresholds
        apart = [point_at(part.parts["certify"], at_of(part, held.thresholds)).losses for part in (one, two)]
        assert held.losses == sum(apart)


def at_of(table: Tabulated, thresholds: tuple[float | None, ...]) -> list[int]:
    """The level numbers that these thresholds are in a table."""
    levels = table.parts["certify"].levels
    return [
        len(own) + 1 if x is None else int(np.searchsorted(own, x)) + 1
        for own, x in zip(levels, thresholds, strict=True)
    ]


@pytest.fixture
def grouped(tmp_path: Path) -> pa.Table:
    """What an engine's GROUP BY makes of four items: no part, no metadata, sums as decimals, nothing that may be left out."""
    rows = [
        {"small.confidence": 0.9, "items": 2, "small.score": 1.0, "large.score": 2.0, "small.cost_nano_usd": 20,
         "large.cost_nano_usd": 200, "small.wrong": 1, "large.wrong": 0, "small.regressed": 1},
        {"small.confidence": None, "items": 2, "small.score": 1.0, "large.score": 1.0, "small.cost_nano_usd": 20,
         "large.cost_nano_usd": 200, "small.wrong": 1, "large.wrong": 1, "small.regressed": 1},
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    place = table.column_names.index("small.wrong")
    return table.set_column(place, "small.wrong", table.column("small.wrong").cast(pa.decimal128(38, 0)))


def test_any_engines_group_by_is_a_table(tmp_path: Path, grouped: pa.Table) -> None:
    """Without a part it all tunes, without metadata nothing is claimed of groups; the points are right."""
    pq.write_table(grouped, tmp_path / "sql.parquet")
    table = read_counts(tmp_path / "sql.parquet")
    assert (table.rungs, table.models, table.corpora, table.grouped) == (
        ("small", "large"), (None, None), ("sql",), True,
    )  # fmt: skip
    assert (table.parts["tune"].n, table.parts["certify"].n) == (4, 0)
    ship, never = point_at(table.parts["tune"], (1,)), point_at(table.parts["tune"], (2,))
    assert (ship.thresholds, ship.quality, ship.cost, ship.losses, ship.shipped) == ((0.9,), 0.5, 240, 1, (2, 2))
    assert (never.thresholds, never.quality, never.cost, never.losses) == ((None,), 0.75, 440, 0)
    assert frontier(table.whole) == (ship, never)


@pytest.mark.parametrize(
    ("hurt", "told"),
    [
        (lambda t: t.drop(["items"]), "has no column 'items'"),
        (lambda t: t.drop(["small.cost_nano_usd"]), "has no two rungs"),
        (lambda t: t.append_column("part", pa.array(["tune", "test"])), "there is a part 'test'"),
        (lambda t: t.set_column(1, "items", pa.array([1, None])), "column 'items' has empty cells"),
        (lambda t: t.set_column(1, "items", pa.array([1, -1])), "column 'items' has a count below 0"),
        (lambda t: t.set_column(1, "items", pa.array(["a", "b"])), "column 'items' does not hold numbers"),
        (lambda t: t.replace_schema_metadata({COUNTS_KEY: b"{"}), "metadata is damaged"),
        (lambda t: t.replace_schema_metadata({COUNTS_KEY: json.dumps({"rungs": ["a", "b"]})}), "metadata is damaged"),
    ],
)
def test_what_is_no_table_of_counts_is_refused(
    tmp_path: Path, grouped: pa.Table, hurt: Callable[[pa.Table], pa.Table], told: str
) -> None:
    """One line that names the file, the column and the mend."""
    path = tmp_path / "bad.parquet"
    pq.write_table(hurt(grouped), path)
    with pytest.raises(CorpusError, match=told) as caught:
        read_counts(path)
    assert caught.value.where == str(path)
    assert caught.value.mend


def support_like(path: Path, groups: int | None) -> Path:
    """A corpus file of 90 items; each a group of its own, or in so many groups."""
    _, items = drawn_items(3, 3, items=90, calm=True)
    made = [
        Item(one.id, str(one.input), one.replies, group=f"g{n % groups}" if groups else None)
        for n, one in enumerate(items)
    ]
    write_corpus(path, MANIFEST, made)
    return path


def test_tabulate_writes_what_the_corpus_counts_to(tmp_path: Path, run: Run) -> None:
    """The command's file, read back, has the corpus's figures; --json says what is in it."""
    path, out = support_like(tmp_path / "c.jsonl", None), tmp_path / "c.parquet"
    told = run("tabulate", str(path), "-o", str(out), "--split-seed", "7", "--tune", "0.3", "--json").json
    table = read_counts(out)
    items = {part: counts.n for part, counts in table.parts.items()}
    assert told == {
        "counts": str(out), "corpora": ["drawn"], "rungs": ["r0", "r1", "r2"], "items": items,
        "rows": sum(len(part) for part in table.parts.values()),
        "levels": {"r0": len(table.whole.levels[0]), "r1": len(table.whole.levels[1])}, "grouped": False,
    }  # fmt: skip
    wanted = sum(Split(0.3, 7).part_of(item) == "tune" for item in read_corpus(path).items)
    assert items == {"tune": wanted, "certify": 90 - wanted}
    assert 0 < wanted < 45
    assert table.models == ("model-0", "model-1", "model-2")
    assert table.synthetic
    columns, (view,) = read_columns(read_corpus(path).items, MANIFEST, [lens_at(MANIFEST.rungs, (), (None, None))])
    assert frontier(table.whole) == frontier(code_columns(columns, view).counts())


def test_tabulate_adds_corpora_and_tells_groups(tmp_path: Path, run: Run) -> None:
    """Two corpora make one table; where a group has several items that is told, for no certificate can come of it."""
    one, two = support_like(tmp_path / "a.jsonl", None), support_like(tmp_path / "b.jsonl", 30)
    done = run("tabulate", str(one), str(two), "-o", "t.parquet")
    assert "180 items" in done.out
    assert "carry no certificate" in done.err
    assert same(read_counts(tmp_path / "t.parquet").whole, (tabulate_corpus(one) + tabulate_corpus(two)).whole)


def test_tabulate_refuses_what_it_cannot_make(tmp_path: Path, run: Run) -> None:
    """Another ending, and a corpus that lacks a score: one line, exit 2, no file."""
    path = support_like(tmp_path / "c.jsonl", None)
    done = run("tabulate", str(path), "-o", "c.csv")
    assert done.code == 2
    assert "ends in .parquet" in done.err
    bare = Item("x", "x", {f"r{n}": RecordedReply(0.5, "a", None if n else 1.0, cost_usd=0.1) for n in range(3)})
    write_corpus(tmp_path / "bare.jsonl", MANIFEST, [bare])
    done = run("tabulate", "bare.jsonl", "-o", "c.parquet")
    assert done.code == 2
    assert "the reply of 'r1' has no score" in done.err
    assert not (tmp_path / "c.parquet").exists()
