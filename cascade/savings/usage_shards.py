"""Count a usage export in Parquet with DuckDB: it adds up the rows that are priced alike, and what a text means is decided here.

A file whose columns are of other types than an engine and `usage` read alike (texts with numbers, decimals, nested cells), or that has a
cell that `usage` would refuse, is read row by row instead: the sums, or the error, are the same.
"""

# ruff: noqa: S608 - names and texts are quoted, and the rest of a query is ours

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Final, cast

from cascade.cluster import Cluster, InProcess, Task
from cascade.core.errors import CorpusError, UsageExportError
from cascade.core.messages import Usage
from cascade.corpora.parquet import load_pyarrow, open_table
from cascade.corpora.shards.duckdb import Limits, QueryFailed, files, open_engine, quoted, text
from cascade.savings.columns import Field, check_columns, find_columns, is_usage, plain
from cascade.savings.files import USAGE_CELLS
from cascade.savings.sums import SIZE_STEP, UsageExport, UsageSums, total_of
from cascade.savings.usage import count_usage, day_of, is_batch_tier, is_total, usage_files

__all__ = ["count_usage_by_engine", "read_usage_by_engine"]

_TOKENS: Final[tuple[Field, ...]] = (
    "input", "prompt", "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "requests", "total",
)  # fmt: skip
_MOST: Final = 10**18  # a cell from here on is refused, as by `usage`
_SPACES: Final = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_NONE, _LEFT_OUT, _INCLUDED = range(3)  # a row has no cached tokens, or its input leaves them out, or includes them
_REFUSED: Final = 9


def read_usage_by_engine(
    path: str | os.PathLike[str], given: Mapping[Field, str], limits: Limits, cluster: Cluster | None = None
) -> UsageExport:
    """As `read_usage`, to the digit, for Parquet: each file is a task of the cluster (None: of this process).

    Raises UsageExportError, and for another format too; MissingExtra without DuckDB.
    """
    names = usage_files(path)
    for name in names:
        if not name.endswith(".parquet"):
            hint = "leave --engine out, or write it as Parquet"
            raise UsageExportError("is no Parquet file, which is what an engine counts", where=name, hint=hint)
    tasks = [Task(f"usage {name}", count_usage_by_engine, (name, dict(given), limits)) for name in names]
    found = {done.name: done.result for done in (cluster or InProcess()).run(tasks)}
    return total_of(found[task.name] for task in tasks).export(os.fspath(path), given)


def count_usage_by_engine(file: str, given: Mapping[Field, str], limits: Limits) -> UsageSums:
    """As `count_usage`. Raises UsageExportError and MissingExtra."""
    names, kinds = _columns_of(file)
    found = find_columns(names, given)
    with open_engine(limits) as engine:
        if not is_usage(found) or not _is_countable(names, kinds, found):
            return count_usage(file, given)
        check_columns(found, names, file, given)
        try:
            rows = cast("list[dict[str, Any]]", engine.table(_query(file, names[0], kinds, found, given)).to_pylist())
        except QueryFailed as failed:
            if failed.kind == "memory":
                hint = "give more --memory, or leave --engine out"
                raise UsageExportError(f"does not fit: {failed.told}", where=file, hint=hint) from failed
            return count_usage(file, given)  # it says which row cannot be read
    if any(row["code"] == _REFUSED for row in rows):
        return count_usage(file, given)
    try:
        return _sums_of(rows, file, names, found)
    except UsageExportError:
        return count_usage(file, given)


def _columns_of(file: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    try:
        with closing(open_table(file)) as table:
            schema = table.schema_arrow
            return tuple(schema.names), {field.name: field.type for field in schema}
    except CorpusError as error:
        raise UsageExportError(error.problem, where=file, hint=error.hint) from None


def _is_countable(names: tuple[str, ...], kinds: Mapping[str, Any], found: Mapping[Field, str]) -> bool:
    """Whether the engine reads every column that is read as `usage` does."""
    types = load_pyarrow().types
    nested = any(types.is_nested(kind) for kind in kinds.values())
    if (
        nested
        or len({name.casefold() for name in names}) < len(names)
        or any(plain(name) in USAGE_CELLS for name in names)
    ):
        return False
    for field, name in found.items():
        kind, is_text = kinds[name], _is_text(kinds[name])
        if field in _TOKENS:
            suits = types.is_integer(kind) or types.is_null(kind)
        elif field == "date":
            suits = is_text or types.is_date(kind) or (types.is_timestamp(kind) and kind.tz is None)
        else:
            suits = is_text or (field == "request_id" and types.is_integer(kind))
        if not suits:
            return False
    return True


def _is_text(kind: Any) -> bool:
    types = load_pyarrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _query(
    file: str, first: str, kinds: Mapping[str, Any], found: Mapping[Field, str], given: Mapping[Field, str]
) -> str:
    def cell(field: Field) -> str:
        return quoted(found[field]) if field in found else "NULL"

    def tokens(field: Field) -> str:
        return f"TRY_CAST({cell(field)} AS BIGINT)"

    there = [quoted(found[field]) for field in _TOKENS if field in found]
    fits = f"coalesce(TRY_CAST({{0}} AS BIGINT) BETWEEN 0 AND {_MOST - 1}, false)"
    bad = " OR ".join(f"({one} IS NOT NULL AND NOT {fits.format(one)})" for one in there) or "false"
    field: Field = "input" if "input" in found else "prompt"
    by_name = _INCLUDED if field == "prompt" else _LEFT_OUT
    by_total = (
        f"CASE WHEN coalesce(total, 0) = 0 THEN {by_name} WHEN total = tokens + cached + output THEN {_LEFT_OUT}"
        f" WHEN total = tokens + output THEN CASE WHEN cached <= tokens THEN {_INCLUDED} ELSE {_LEFT_OUT} END"
        f" ELSE {_REFUSED} END"
    )
    settles = field in found and not given.keys() & {"input", "prompt"}
    requests = f"nullif({tokens('requests')}, 0)" if "requests" in found else _one_if(cell("request_id"))
    return f"""
        WITH cells AS (
            SELECT file_row_number AS at, {cell("model")} AS model, {cell("tier")} AS tier,
                {_day(kinds.get(found.get("date", "")), cell("date"))} AS day,
                {quoted(first) if _is_text(kinds[first]) else "NULL"} AS first_cell, {requests} AS requests,
                {tokens("total")} AS total, coalesce({tokens(field)}, 0) AS tokens, coalesce({tokens("output")}, 0) AS output,
                coalesce({tokens("cache_read")}, 0) AS read, coalesce({tokens("cache_write_1h")}, 0) AS hour,
                greatest(coalesce({tokens("cache_write_5m")}, 0),
                    coalesce({tokens("cache_write")}, 0) - coalesce({tokens("cache_write_1h")}, 0)) AS five, ({bad}) AS bad
            FROM {files([file])}
        ), summed AS (
            SELECT *, five + hour + read AS cached, trim(coalesce(model, ''), {text(_SPACES)}) = '' AS blank FROM cells
        ), told AS (
            SELECT *, CASE WHEN bad THEN {_REFUSED} WHEN cached = 0 THEN {_NONE} ELSE {by_total if settles else by_name} END AS code
            FROM summed
        ), net AS (
            SELECT *, CASE WHEN code = {_INCLUDED} THEN tokens - cached ELSE tokens END AS net FROM told
        ), sized AS (
            SELECT *, net = 0 AND output = 0 AND cached = 0 AS empty,
                CASE WHEN NOT bad THEN (greatest(net + cached, 1) - 1) // (requests::HUGEINT * {SIZE_STEP}) END AS size
            FROM net
        )
        SELECT model, tier, day, CASE WHEN blank AND NOT empty THEN first_cell END AS first_cell, blank, empty, size,
            CASE WHEN net < 0 THEN {_REFUSED} ELSE code END AS code, coalesce(requests = 1, false) AS single,
            requests IS NULL AS uncounted, min(at) AS at, count(*) AS rows, sum(requests) AS requests, sum(net) AS net,
            sum(output) AS output, sum(five) AS five, sum(hour) AS hour, sum(read) AS read, {"true" if settles else "false"} AS settles
        FROM sized GROUP BY ALL ORDER BY at"""


def _one_if(request_id: str) -> str:
    return f"CASE WHEN trim(CAST({request_id} AS VARCHAR), {text(_SPACES)}) <> '' THEN 1::BIGINT END"


def _day(kind: Any, cell: str) -> str:
    """The text of a date. Of a time it is the day, or each row would be a group of its own."""
    types = load_pyarrow().types
    if kind is None or types.is_null(kind):
        return "NULL"
    if types.is_date(kind) or types.is_timestamp(kind):
        return f"CAST(CAST({cell} AS DATE) AS VARCHAR)"
    return (
        f"CASE WHEN regexp_matches({cell}, '^[0-9]{{4}}[-/][0-9]{{2}}[-/][0-9]{{2}}') THEN {cell}[1:10] ELSE {cell} END"
    )


def _sums_of(
    rows: Iterable[Mapping[str, Any]], file: str, names: tuple[str, ...], found: Mapping[Field, str]
) -> UsageSums:
    sums = UsageSums()
    for row in rows:
        sums.names[names] = None
        where, count, model = f"{file}:row {row['at'] + 1}", int(row["rows"]), (row["model"] or "").strip()
        if row["settles"] and row["code"] in (_LEFT_OUT, _INCLUDED):
            column = found["input" if "input" in found else "prompt"]
            sums.settle(column, where, includes=row["code"] == _INCLUDED)
        if row["blank"] and row["empty"]:
            sums.skipped += count
            continue
        if is_total(model or row["first_cell"] or ""):
            sums.totals += count
            continue
        if not model:
            raise UsageExportError("has tokens but no model", where=where)
        sums.rows += count
        net, output, five, hour, read = (int(row[name]) for name in ("net", "output", "five", "hour", "read"))
        usage = Usage(net, output, five, hour, read)
        size, requests = row["size"], row["requests"]
        tier = None if row["tier"] is None else row["tier"].strip()
        key = model, is_batch_tier(tier), None if size is None else int(size), bool(row["single"])
        sums.add(key, None if requests is None else int(requests), usage, where)
        if row["day"] is not None and row["day"].strip():
            sums.see_day(day_of(row["day"].strip(), found["date"], where))
    return sums
