"""Read a usage export (`files` reads its rows).

A row is one request, or a sum of many (a day of one model). Rows are added up as they are read, by model, batch and size of
the average prompt, since prices depend on those; memory does not grow with the file. A blank token cell is 0. Any other
cell that is not a whole number is an error that names its line. Prompts and answers are neither kept nor quoted.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cascade.core.errors import CorpusError, UsageExportError
from cascade.core.messages import Usage
from cascade.corpora.shards import files_of
from cascade.savings.columns import Field, check_columns, find_columns, is_usage, plain
from cascade.savings.files import rows_of
from cascade.savings.sums import SIZE_STEP, Slice, UsageExport, UsageSums, map_hint, total_of

__all__ = [
    "count_usage",
    "day_of",
    "is_batch_tier",
    "is_total",
    "read_usage",
    "size_of",
    "usage_files",
    "with_requests",
]

# 1200, 1,200 and 1200.0; not 1.200 or 1,5, which mean different numbers in different countries.
_WHOLE = re.compile(r"[0-9]{1,18}(?:\.0{1,2})?|[0-9]{1,3}(?:,[0-9]{3}){1,5}")
_TOTALS: Final = {"total", "sum", "grandtotal"}


def read_usage(path: str | os.PathLike[str], given: Mapping[Field, str] | None = None) -> UsageExport:
    """Read an export; a folder or a pattern of Parquet files is one.

    `given`: columns by field, from `--map`, in addition to the known names. Raises UsageExportError with file and line if it cannot be read; MissingExtra for Parquet without pyarrow.
    """
    files = usage_files(path)
    return total_of(count_usage(file, given) for file in files).export(os.fspath(path), given or {})


def usage_files(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files of an export, by name. Raises UsageExportError."""
    try:
        return files_of(path)
    except CorpusError as error:
        raise UsageExportError(error.problem, where=error.where, hint=error.hint) from None


def count_usage(file: str, given: Mapping[Field, str] | None = None) -> UsageSums:
    """Add up the rows of one file of an export. Raises as `read_usage`."""
    sums = UsageSums()
    column_map = _ColumnMap(given or {}, sums)
    for line, row in rows_of(Path(file), file):
        where = f"{file}:{line}"
        columns = column_map.columns(row, where)
        read = _Reader(row, columns, where, column_map)
        usage, model = read.usage(), read.text("model")
        if model is None and usage == Usage():
            sums.skipped += 1  # a span, or a total, without tokens
            continue
        if is_total(model or str(next(iter(row.values())))):
            sums.totals += 1
            continue
        if model is None:
            raise UsageExportError("has tokens but no model", where=where, hint="group the export by model")
        sums.rows += 1
        requests = read.requests()
        sums.add((model, read.is_batch(), size_of(usage, requests), requests == 1), requests, usage, where)
        if (day := read.date()) is not None:
            sums.see_day(day)
    return sums


def with_requests(export: UsageExport, requests: int) -> UsageExport:
    """The export with a total number of requests, distributed by tokens over the slices without a count.

    This sets the average prompt, and so the price tier. Raises UsageExportError if the export already counts as many.
    """
    counted = sum(part.requests or 0 for part in export.slices)
    open_ = [part for part in export.slices if part.requests is None]
    if not open_ or requests <= counted:
        problem = f"the export already gives the number of requests, {counted:,}" + (
            " for a part of it" if open_ else ""
        )
        raise UsageExportError(
            problem,
            where="--requests",
            hint="leave it out" if not open_ else "give the number of all requests, above that",
        )
    weights = [part.usage.prompt_tokens + part.usage.output_tokens for part in open_]
    total, given, known = sum(weights) or 1, 0, list[Slice]()
    for place, part in enumerate(open_, 1):
        upto = (requests - counted) * sum(weights[:place]) // total
        known.append(replace(part, requests=upto - given, size=size_of(part.usage, upto - given)))
        given = upto
    return replace(export, slices=(*(part for part in export.slices if part.requests is not None), *known))


def size_of(usage: Usage, requests: int | None) -> int | None:
    """Which step of `SIZE_STEP` tokens the average prompt is in; None if the number of requests is not known."""
    return (max(usage.prompt_tokens, 1) - 1) // (requests * SIZE_STEP) if requests else None


def is_total(name: str) -> bool:
    """Whether a row of this model, or with this first cell, is the sum of others."""
    return plain(name) in _TOTALS


def is_batch_tier(tier: str | None) -> bool:
    """Whether a row of this tier was billed as a batch."""
    return (tier or "").casefold() in ("batch", "batches", "true", "message_batch")


def day_of(text: str, column: str, where: str) -> dt.date:
    """The day, from an ISO date or time, or from Unix seconds. Raises UsageExportError."""
    try:
        if text.replace(".", "", 1).isdigit() and len(text.partition(".")[0]) >= 9:
            seconds = float(text) / (1000 if len(text.partition(".")[0]) >= 12 else 1)
            return dt.datetime.fromtimestamp(seconds, dt.UTC).date()
        return dt.date.fromisoformat(text[:10].replace("/", "-"))
    except (ValueError, OverflowError, OSError):
        raise UsageExportError(
            f"{column!r} is not a date such as 2026-11-30",
            where=where,
            hint="correct it, or --map date=COLUMN with another column",
        ) from None


class _ColumnMap:
    """The column of each field, for rows whose keys may differ: a column that only a later row has counts, too."""

    def __init__(self, given: Mapping[Field, str], sums: UsageSums) -> None:
        self._given, self._sums = given, sums
        self._by_names: dict[tuple[str, ...], dict[Field, str]] = {}
        self.is_given = bool(given.keys() & {"input", "prompt"})

    def columns(self, row: Mapping[str, Any], where: str) -> dict[Field, str]:
        names = tuple(row)
        if (found := self._by_names.get(names)) is None:
            found = self._by_names[names] = find_columns(names, self._given)
            self._sums.names[names] = None
            if is_usage(found):
                check_columns(found, names, where, self._given)
        return found

    def settle(self, column: str, where: str, *, includes: bool) -> None:
        """Note whether an input column includes cached tokens. Raises UsageExportError if an earlier row differs."""
        self._sums.settle(column, where, includes=includes)


class _Reader:
    """One row, read by field."""

    def __init__(
        self, row: Mapping[str, Any], columns: Mapping[Field, str], where: str, column_map: _ColumnMap
    ) -> None:
        self._row, self._columns, self._where, self._map = row, columns, where, column_map

    def _value(self, field: Field) -> Any:
        return self._row.get(self._columns[field]) if field in self._columns else None

    def text(self, field: Field) -> str | None:
        """A text; None if blank."""
        value = self._value(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return str(value).strip()

    def tokens(self, field: Field) -> int:
        """A count of tokens; blank is 0."""
        return self._whole(field) or 0

    def usage(self) -> Usage:
        """The billed tokens."""
        five, hour, read = self.tokens("cache_write_5m"), self.tokens("cache_write_1h"), self.tokens("cache_read")
        # A write given both as a total and by lifetime is counted once, as in the API's usage object.
        five = max(five, self.tokens("cache_write") - hour)
        cached, output = five + hour + read, self.tokens("output")
        field: Field = "input" if "input" in self._columns else "prompt"
        tokens = self.tokens(field)
        if cached and self._includes(field, tokens, cached, output):
            tokens -= cached
            if tokens < 0:
                column = self._columns[field]
                raise UsageExportError(
                    f"{column!r} is less than the cached tokens, so it does not include them",
                    where=self._where,
                    hint=f"--map input={column}",
                )
        return Usage(tokens, output, five, hour, read)

    def _includes(self, field: Field, tokens: int, cached: int, output: int) -> bool:
        """Whether the input includes the cached tokens: by the row's total if it has one, else by the column's name.

        Raises UsageExportError if the total fits neither, or if the rows of a file disagree.
        """
        by_name = field == "prompt"
        total = self._whole("total")
        if field not in self._columns or self._map.is_given:
            return by_name
        column = self._columns[field]
        if not total:
            includes = by_name
        elif total == tokens + cached + output:
            includes = False
        elif total == tokens + output:
            # An input below the cached tokens cannot include them; then the total leaves them out.
            includes = cached <= tokens
        else:
            names = ", ".join(
                repr(self._columns[one])
                for one in (field, "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h")
                if one in self._columns
            )
            raise UsageExportError(
                f"{self._columns['total']!r} is {total:,}: neither {tokens + output:,} (cached tokens included in"
                f" {column!r}) nor {tokens + cached + output:,} (not included), the sums of {names}",
                where=self._where,
                hint=map_hint(column),
            )
        self._map.settle(column, self._where, includes=includes)
        return includes

    def requests(self) -> int | None:
        """How many requests the row stands for: its count, or 1 if it has a request id; else None."""
        if "requests" in self._columns:
            return self._whole("requests") or None
        return 1 if self.text("request_id") else None

    def is_batch(self) -> bool:
        """Whether it was billed as a batch."""
        return is_batch_tier(self.text("tier"))

    def date(self) -> dt.date | None:
        """The day, from an ISO date or time, or from Unix seconds."""
        text = self.text("date")
        return None if text is None else day_of(text, self._columns["date"], self._where)

    def _whole(self, field: Field) -> int | None:
        value = self._value(field)
        if value is None or value == "":
            return None
        number: float | int | None = None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            if _WHOLE.fullmatch(text):
                number = int(text.partition(".")[0].replace(",", ""))
        if number is None or not 0 <= number < 10**18 or number != int(number):
            raise UsageExportError(
                f"{self._columns[field]!r} is not a whole number of 0 or more",
                where=self._where,
                hint=f"correct it, or --map {field}=COLUMN with another column",
            )
        return int(number)
