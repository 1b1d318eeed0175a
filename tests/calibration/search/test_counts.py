"""Tables of counts add up, and come back from a file as they were, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cascade.calibration.search.counts import Counts
from cascade.calibration.search.frontier import frontier, point_at, risk_path
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.tables.parquet import (
    COUNTS_KEY,
    CountsTable,
    read_counts,
    tabulate_coded,
    tabulate_corpus,
    write_counts,
)
from cascade.core.errors import CorpusError
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, read_corpus, write_corpus
from cascade.corpora.splits import Split
from cascade.replay.building import read_columns
from tests.calibration.chance import coded_of, drawn_items, mapping_at
from tests.cli.conftest import Run, run, runner

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
        columns, (view,) = read_columns(some, MANIFEST, [mapping_at(MANIFEST.rungs, (), (None, None))])
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
    with pytest.raises(CorpusError, match=r"r0 → r1 → r2 .*r0 → r1 "):
        _ = one + other


def table_of(seed: int = 1, items: int = 80) -> tuple[CodedCorpus, CountsTable]:
    """A drawn corpus as a table, a third of it to tune on."""
    coded = coded_of(seed, 3, items=items)
    parts = tabulate_coded(coded, np.arange(items) % 3 == 0)
    return coded, CountsTable(parts, ("m0", None, "m2"), ("drawn",), grouped=True, synthetic=True)


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


def at_of(table: CountsTable, thresholds: tuple[float | None, ...]) -> list[int]:
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


def put(name: str, *values: float | None) -> Callable[[pa.Table], pa.Table]:
    """A table's column in place of its own, or beside the others."""

    def hurt(table: pa.Table) -> pa.Table:
        if name not in table.column_names:
            return table.append_column(name, pa.array(values))
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return hurt


def telling(**told: Any) -> Callable[[pa.Table], pa.Table]:
    """A table with these metadata."""
    return lambda table: table.replace_schema_metadata({COUNTS_KEY: json.dumps(told)})


@pytest.mark.parametrize(
    ("hurt", "told"),
    [
        (lambda t: t.drop(["items"]), "has no column 'items'"),
        (lambda t: t.drop(["small.regressed"]), "has no column 'small.regressed'"),
        (lambda t: t.drop(["small.cost_nano_usd"]), "has no two rungs"),
        (lambda t: t.append_column("part", pa.array(["tune", "test"])), "part: is 'test', must be tune or certify"),
        (lambda t: t.append_column("items", t.column("items")), "two columns are called 'items'"),
        (put("items", 1, None), "column 'items', row 2: an empty cell is not a number"),
        (put("items", 2, -1), "column 'items', row 2: -1 is below 0"),
        (put("items", 2.5, 2), "column 'items', row 1: 2.5 is not whole"),
        (put("items", 2, 2**60), "column 'items' sums to more than 2"),
        (lambda t: t.set_column(1, "items", pa.array(["a", "b"])), "column 'items' does not hold numbers"),
        (put("small.wrong", 0.3, 1), "column 'small.wrong', row 1: 0.3 is not whole"),
        (put("small.wrong", 1, 3), "column 'small.wrong', row 2: 3 is more than its items"),
        (put("large.wrong", 3, 1), "column 'large.wrong', row 1: 3 is more than its items"),
        (put("small.regressed", 1, 2), "column 'small.regressed', row 2: 2 is more than its 'small.wrong'"),
        (put("large.regressed", 1, 0), "column 'large.regressed', row 1: 1 is more than its 'large.wrong'"),
        (put("small.false_confident", 1, None), "column 'small.false_confident', row 2: an empty cell is not a number"),
        (put("small.false_confident", -1, 1), "column 'small.false_confident', row 1: -1 is below 0"),
        (put("small.false_confident", 0.5, 1), "column 'small.false_confident', row 1: 0.5 is not whole"),
        (put("small.false_confident", 2, 1), "column 'small.false_confident', row 1: 2 is more than its 'small.wrong'"),
        (put("small.confidence", None, 95.0), "column 'small.confidence', row 2: 95 is not a confidence"),
        (put("small.confidence", float("-inf"), 0.5), "column 'small.confidence', row 1: -inf is not a confidence"),
        (put("small.score", -0.5, 1.0), "column 'small.score', row 1: -0.5 is less than its items can score"),
        (put("large.score", 2.0, 2.1), "column 'large.score', row 2: 2.1 is more than its items can score"),
        (put("large.score", 2.0, float("inf")), "column 'large.score', row 2: inf is not a number"),
        (put("small.cost_nano_usd", 20, -1), "column 'small.cost_nano_usd', row 2: -1 is below 0"),
        (put("small.cost_nano_usd", 0.5, 20), "column 'small.cost_nano_usd', row 1: 0.5 is not whole"),
        (lambda t: t.replace_schema_metadata({COUNTS_KEY: b"{"}), "metadata is damaged"),
        (telling(rungs=["a", "b"]), "metadata is damaged"),
        (telling(grouped="no"), "metadata is damaged"),
        (telling(scores=[0, 1e300]), "metadata is damaged"),
        (telling(rungs=[{"rung": "small"}] * 2), "has no two rungs"),
        (telling(items={"tune": 4}, alone={"tune": {"score": [2.0], "wrong": [2]}}), "metadata is damaged: `alone`"),
        (
            telling(items={"tune": 4}, alone={"tune": {"score": [2, 5], "wrong": [2, 0]}}),
            "metadata is damaged: `alone`",
        ),
        (put("large.false_confident", 0, 1), "part tune: its 4 items include held answers"),
    ],
)
def test_what_is_no_table_of_counts_is_refused(
    tmp_path: Path, grouped: pa.Table, hurt: Callable[[pa.Table], pa.Table], told: str
) -> None:
    """One line that names the file, the column, the row and the hint."""
    path = tmp_path / "bad.parquet"
    pq.write_table(hurt(grouped), path)
    with pytest.raises(CorpusError) as caught:
        read_counts(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "told",
    [
        put("small.false_confident", 1.0, 1.0),  # whole, though a float
        put("small.confidence", 0, 1),
        put("small.confidence", None, float("inf")),
        put("small.confidence", None, None),
        put("large.score", 2.0 + 1e-12, 1.0),  # a sum of floats
    ],
)
def test_what_can_be_is_read(tmp_path: Path, grouped: pa.Table, told: Callable[[pa.Table], pa.Table]) -> None:
    """Ints floats, the ends of a confidence, a ceiling, no confidence at all, a sum that is off by rounding."""
    pq.write_table(told(grouped), tmp_path / "t.parquet")
    assert read_counts(tmp_path / "t.parquet").whole.wrong.sum() == 3


def test_scores_beyond_0_and_1_are_counted_as_they_are(tmp_path: Path) -> None:
    """A corpus may have them: its table says between which they lie, and so does the sum of it and another."""
    item = Item("x", "x", {f"r{n}": RecordedReply(0.5, "a", 7.0 * n - 5, cost_usd=0.1) for n in range(3)})
    write_corpus(tmp_path / "far.jsonl", MANIFEST, [item])
    write_counts(tmp_path / "far.parquet", tabulate_corpus(tmp_path / "far.jsonl"))
    table = read_counts(tmp_path / "far.parquet")
    assert table.scores == (-5.0, 9.0)
    assert table.whole.score.tolist() == [[-5.0, 2.0, 9.0]]
    near = tabulate_corpus(support_like(tmp_path / "near.jsonl", None))
    assert near.scores == (0.0, 1.0)
    assert (near + table).scores == (-5.0, 9.0)


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
        "named_groups": False,
    }  # fmt: skip
    wanted = sum(Split(0.3, 7).part_of(item) == "tune" for item in read_corpus(path).items)
    assert items == {"tune": wanted, "certify": 90 - wanted}
    assert 0 < wanted < 45
    assert table.models == ("model-0", "model-1", "model-2")
    assert table.synthetic
    columns, (view,) = read_columns(read_corpus(path).items, MANIFEST, [mapping_at(MANIFEST.rungs, (), (None, None))])
    assert frontier(table.whole) == frontier(code_columns(columns, view).counts())


def test_tabulate_adds_corpora_and_tells_groups(tmp_path: Path, run: Run) -> None:
    """Two corpora make one table; where a group has several items that is told, for no certificate can come of it."""
    one, two = support_like(tmp_path / "a.jsonl", None), support_like(tmp_path / "b.jsonl", 30)
    done = run("tabulate", str(one), str(two), "-o", "t.parquet")
    assert "180 items" in done.out
    assert "no certificate" in done.err
    assert same(read_counts(tmp_path / "t.parquet").whole, (tabulate_corpus(one) + tabulate_corpus(two)).whole)


def test_tabulate_refuses_what_it_cannot_make(tmp_path: Path, run: Run) -> None:
    """Another ending, and a corpus that lacks a score: one line, exit 2, no file."""
    path = support_like(tmp_path / "c.jsonl", None)
    done = run("tabulate", str(path), "-o", "c.csv")
    assert done.code == 2
    assert ".parquet" in done.err
    bare = Item("x", "x", {f"r{n}": RecordedReply(0.5, "a", None if n else 1.0, cost_usd=0.1) for n in range(3)})
    write_corpus(tmp_path / "bare.jsonl", MANIFEST, [bare])
    done = run("tabulate", "bare.jsonl", "-o", "c.parquet")
    assert done.code == 2
    assert "the reply of 'r1' has no score" in done.err
    assert not (tmp_path / "c.parquet").exists()


def test_files_that_both_name_groups_may_share_them(tmp_path: Path, run: Run) -> None:
    """Each group once in either file: alone they may certify, added they may not; a file that names none takes nothing."""
    paths = [support_like(tmp_path / f"{name}.jsonl", groups) for name, groups in (("named", 90), ("bare", None))]
    paths.append(tmp_path / "again.jsonl")
    paths[-1].write_text(paths[0].read_text().replace('"text ', '"another text '))
    for path in paths:
        write_counts(path.with_suffix(".parquet"), tabulate_corpus(path))
    named, bare, again = (read_counts(path.with_suffix(".parquet")) for path in paths)
    assert [(table.grouped, table.named_groups) for table in (named, again, bare)] == [
        (False, True), (False, True), (False, False),
    ]  # fmt: skip
    assert ((named + bare).grouped, (named + bare).named_groups) == (False, True)
    assert (named + again).grouped
    assert (named + bare + again).grouped
    told = run("tabulate", "named.jsonl", "bare.jsonl", "-o", "one.parquet", "--json").json
    assert (told["grouped"], told["named_groups"]) == (False, True)
    told = run("tabulate", "named.jsonl", "again.jsonl", "-o", "two.parquet", "--json").json
    assert (told["grouped"], told["named_groups"]) == (True, True)


@pytest.mark.parametrize(
    ("metadata", "named"), [({}, True), ({"grouped": False}, False), ({"grouped": False, "named_groups": True}, True)]
)
def test_what_another_engine_promises_of_groups(
    tmp_path: Path, grouped: pa.Table, metadata: dict[str, bool], named: bool
) -> None:
    """Without a word groups may be shared; `grouped: false` is of all tables, unless it says that groups are named."""
    pq.write_table(telling(**metadata)(grouped), tmp_path / "sql.parquet")
    table = read_counts(tmp_path / "sql.parquet")
    assert table.named_groups is named
    assert (table + table).grouped is named


def test_some_rows_of_a_table_are_a_table_where_singles_are_theirs(tmp_path: Path) -> None:
    """Without best helds the rows' sums are the single models'; no sums of the whole are left over."""
    path = tmp_path / "t.parquet"
    write_counts(path, tabulate_corpus(support_like(tmp_path / "c.jsonl", None)))
    whole = pq.read_table(path)
    for few in (whole.filter(pc.field("part") == "certify"), whole.slice(0, 5), whole.slice(0, 0)):
        pq.write_table(few, path)
        counts = read_counts(path).whole
        assert counts.n == sum(few.column("items").to_pylist())
        assert counts.alone_wrong.tolist() == [sum(few.column(f"r{n}.wrong").to_pylist()) for n in range(3)]
        assert counts.alone == pytest.approx([sum(few.column(f"r{n}.score").to_pylist()) for n in range(3)])


def test_sums_of_single_models_are_taken_only_for_their_own_rows(tmp_path: Path) -> None:
    """With best helds: a whole part keeps its sums, a piece of it is refused, for nobody told what is right of it."""
    path, (_, table) = tmp_path / "t.parquet", table_of()
    assert (table.whole.alone != table.whole.score.sum(axis=0)).any()
    write_counts(path, table)
    whole = pq.read_table(path)
    pq.write_table(whole.filter(pc.field("part") == "certify"), path)
    assert same(read_counts(path).parts["certify"], table.parts["certify"])
    pq.write_table(whole.slice(0, len(whole) - 1), path)
    with pytest.raises(CorpusError, match=r"part \w+: .* single models.*`alone`"):
        read_counts(path)


def test_concatenated_tables_are_refused(tmp_path: Path) -> None:
    """Their metadata are the first one's: neither its sums nor what it says of groups and sources is of all rows."""
    paths = [support_like(tmp_path / f"{name}.jsonl", groups) for name, groups in (("a", 90), ("b", None))]
    for path in paths:
        write_counts(path.with_suffix(".parquet"), tabulate_corpus(path))
    both = pa.concat_tables([pq.read_table(path.with_suffix(".parquet")) for path in paths])
    pq.write_table(both, tmp_path / "both.parquet")
    with pytest.raises(CorpusError, match=r"part \w+: its rows count \d+ items, its metadata \d+.*--counts"):
        read_counts(tmp_path / "both.parquet")
