"""A usage export in Parquet shards: DuckDB adds up what one process adds up, row for row, and refuses what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.core.errors import UsageExportError
from cascade.savings import UsageExport, read_usage

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("duckdb")

from cascade.corpora.shards.duckdb import Limits  # noqa: E402
from cascade.savings.usage_shards import read_usage_by_engine  # noqa: E402

LIMITS = Limits(memory=256 << 20, threads=1)
COUNT = pa.int64()

_counts = st.none() | st.integers(0, 5) | st.integers(0, 5_000)
_ROW = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["claude-haiku-5-5", " claude-haiku-5-5", "claude-opus-5-5", "Total", "", None]),
        "input_tokens": _counts,
        "output_tokens": _counts,
        "cache_read_input_tokens": _counts,
        "cache_creation_input_tokens": st.none() | st.integers(0, 9),
        "cache_write_1h": st.none() | st.integers(0, 9),
        "service_tier": st.sampled_from(["standard", "batch", " Batch ", None]),
        "date": st.sampled_from(["2026-11-01", "2026-11-03T10:00:00Z", "2026/11/02", "1793836800", "", None]),
    }
)
_COUNTED = st.sampled_from(["requests", "request_id", None])


def shards_of(folder: Path, rows: list[dict[str, Any]], count: int = 2, **types: Any) -> Path:
    """The rows as that many Parquet files, in order."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    size = -(-len(rows) // count)
    for number in range(count):
        columns: dict[str, Any] = {}
        for name in rows[0]:
            cells = [row[name] for row in rows[number * size : (number + 1) * size]]
            kind = types.get(name, COUNT if name.endswith(("tokens", "1h", "requests", "total")) else pa.string())
            columns[name] = pa.array(cells, kind)
        parquet.write_table(pa.table(columns), folder / f"part-{number}.parquet")
    return folder


def told(read: Any) -> object:
    """The export, or what is said of it."""
    try:
        export: UsageExport = read()
    except UsageExportError as error:
        return str(error)
    return export


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.lists(_ROW, min_size=1, max_size=6), _COUNTED, st.booleans(), st.data())
def test_an_engine_reads_an_export_as_one_process_does(
    tmp_path: Path, rows: list[dict[str, Any]], counted: str | None, with_total: bool, data: st.DataObject
) -> None:
    """Slices in their order, counts, dates, skipped rows, places and every error are the same."""
    for row in rows:
        if counted is not None:
            row[counted] = data.draw(st.sampled_from([None, 1, 3] if counted == "requests" else [None, "r-1", " "]))
        if with_total:
            net, output = (row[name] or 0 for name in ("input_tokens", "output_tokens"))
            five, hour = row["cache_creation_input_tokens"] or 0, row["cache_write_1h"] or 0
            cached = (row["cache_read_input_tokens"] or 0) + max(five, hour)
            row["total_tokens"] = data.draw(st.sampled_from([None, net + output, net + output + cached]))
    folder = shards_of(tmp_path / "usage", rows)
    assert told(lambda: read_usage_by_engine(folder, {}, LIMITS)) == told(lambda: read_usage(folder))


def test_shards_are_the_same_export_as_one_csv(tmp_path: Path) -> None:
    """The sums of a folder are those of the rows in one file."""
    rows = [
        {"model": f"claude-{'haiku' if n % 3 else 'opus'}-5-5", "requests": 1 + n % 2, "input_tokens": 700 * n,
         "output_tokens": n, "date": f"2026-11-{1 + n % 9:02}"}
        for n in range(40)
    ]  # fmt: skip
    with (tmp_path / "usage.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    one = read_usage(tmp_path / "usage.csv")
    many = read_usage_by_engine(shards_of(tmp_path / "usage", rows, 5), {}, LIMITS)
    assert [(part.model, part.size, part.requests, part.usage) for part in many.slices] == [
        (part.model, part.size, part.requests, part.usage) for part in one.slices
    ]
    assert (many.rows, many.days, many.requests, many.usage) == (one.rows, one.days, one.requests, one.usage)


@pytest.mark.parametrize(
    ("name", "kind", "cells"),
    [
        ("input_tokens", pa.string(), ["1,200", "7"]),
        ("input_tokens", pa.float64(), [12.0, 7.0]),
        ("input_tokens", pa.decimal128(9, 2), [12, 7]),
        ("date", pa.timestamp("us"), [1_793_836_800_000_000, None]),
        ("date", pa.date32(), [20_000, 20_002]),
        ("request_id", pa.int64(), [17, None]),
    ],
)
def test_other_types_of_columns_are_read_as_they_are(tmp_path: Path, name: str, kind: Any, cells: list[Any]) -> None:
    """Texts with numbers, decimals, dates and times: an engine leaves to Python what it would read otherwise."""
    rows = [{"model": "claude-opus-5-5", "input_tokens": 1, "output_tokens": 1} | {name: cell} for cell in cells]
    folder = shards_of(tmp_path / "usage", rows, 1, **{name: kind})
    export = read_usage_by_engine(folder, {}, LIMITS)
    assert export == read_usage(folder)
    assert export.rows == 2


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"input_tokens": -1}, "part-1.parquet:row 2: 'input_tokens' is not a whole number of 0 or more"),
        ({"model": None}, "part-1.parquet:row 2: has tokens but no model"),
        ({"date": "yesterday"}, "part-1.parquet:row 2: 'date' is not a date such as"),
    ],
)
def test_a_cell_that_is_refused_is_named_with_its_shard(tmp_path: Path, cells: dict[str, Any], said: str) -> None:
    """By DuckDB as by one process."""
    row: dict[str, Any] = {"model": "claude-opus-5-5", "input_tokens": 9, "output_tokens": 1, "date": "2026-11-01"}
    folder = shards_of(tmp_path / "usage", [row, row, row | {"input_tokens": 8}, row | cells])
    with pytest.raises(UsageExportError, match=said):
        read_usage_by_engine(folder, {}, LIMITS)
    with pytest.raises(UsageExportError, match=said):
        read_usage(folder)


def test_a_damaged_shard_of_an_export_is_named(tmp_path: Path) -> None:
    """A part of an export is never taken for the whole."""
    row = {"model": "claude-opus-5-5", "input_tokens": 9, "output_tokens": 1}
    folder = shards_of(tmp_path / "usage", [row | {"input_tokens": n} for n in range(9)], 3)
    whole = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[:-40])
    with pytest.raises(UsageExportError, match=r"part-1\.parquet: is not Parquet"):
        read_usage_by_engine(folder, {}, LIMITS)


def test_an_engine_refuses_what_it_does_not_count(tmp_path: Path) -> None:
    """A CSV is read by one process; asked for an engine, the command says so."""
    (tmp_path / "usage.csv").write_text("model,input_tokens,output_tokens\nclaude-opus-5-5,1,1\n")
    with pytest.raises(UsageExportError, match="is no Parquet file"):
        read_usage_by_engine(tmp_path / "usage.csv", {}, LIMITS)
